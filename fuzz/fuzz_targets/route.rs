//! Requests of any shape to a registry that holds an image, a referrer of the image, and an upload session.
//! Every response is one that the specification names, is the same under every spelling of the path, and is
//! the same for HEAD and GET. A registry that does not allow writes or deletes changes nothing.
//!
//! An input is a request as HTTP/1.1 writes it, lines ending in `\n`: a method and a target, headers, an
//! empty line, and a body. `{id}` stands for the session, `{image}` for the image's digest and `{blob}` for
//! that of its layer.

#![no_main]

use std::fmt::Write as _;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, EXPECT, RANGE};
use http::{HeaderName, HeaderValue, Method, Uri};
use libfuzzer_sys::{Corpus, fuzz_target};
use percent_encoding::percent_decode_str;
use quinistry::oci::{Digest, ErrorCode, Manifest, RepositoryName, Tag, media_type};
use quinistry::registry::Settings;
use quinistry::store::Tagged;
use quinistry_fuzz::{Answer, BodyTransfer, Registry, line, request, run};
use serde_json::{Value, json};

/// Limit of headers per request; more find nothing new.
const MAX_HEADERS: usize = 6;

struct RawRequest {
    method: Method,
    target: Vec<u8>,
    headers: Vec<(String, Vec<u8>)>,
    body: Bytes,
}

fuzz_target!(|input: &[u8]| -> Corpus {
    let Some(raw_request) = RawRequest::read(input) else { return Corpus::Reject };
    // No spelling of an ID is longer than 64 characters.
    let longest = String::from_utf8_lossy(&raw_request.target).replace("{id}", &"x".repeat(64));
    if longest.parse::<Uri>().is_err() {
        return Corpus::Reject;
    }
    run(raw_request.ask());
    Corpus::Keep
});

impl RawRequest {
    fn read(input: &[u8]) -> Option<Self> {
        let (first, mut rest) = line(input);
        let space = first.iter().position(|byte| *byte == b' ')?;
        let method = Method::from_bytes(&first[..space]).ok()?;
        let mut headers = Vec::new();
        while !rest.is_empty() {
            let (header, after) = line(rest);
            rest = after;
            if header.is_empty() {
                break;
            }
            let colon = header.iter().position(|byte| *byte == b':')?;
            let name = HeaderName::from_bytes(&header[..colon]).ok()?;
            let value = header[colon + 1..].trim_ascii();
            HeaderValue::from_bytes(value).ok()?;
            // The server sets the first one from the body; the second one makes the registry leave a body
            // unread.
            if name != CONTENT_LENGTH && name != EXPECT && headers.len() < MAX_HEADERS {
                headers.push((name.to_string(), value.to_vec()));
            }
        }
        Some(Self {
            method,
            target: first[space + 1..].to_vec(),
            headers,
            body: Bytes::copy_from_slice(rest),
        })
    }

    async fn ask(&self) {
        let stored = StoredImage::new();
        let Some(uri) = self.uri(&stored) else { return };
        let reads = matches!(self.method, Method::GET | Method::HEAD);

        if !reads {
            self.check_refused(Settings { read_only: true, ..Settings::default() }).await;
        }
        if self.method == Method::DELETE {
            self.check_refused(Settings { delete: false, ..Settings::default() }).await;
        }

        // A second registry, as the request may change the first.
        let other = StoredImage::new();
        let spelled = percent_encoded(&uri, &stored.id, &other.id);
        let answer = self.send(&stored.registry, self.method.clone(), uri.clone()).await;
        if let Some(spelled) = spelled {
            let second = self.send(&other.registry, self.method.clone(), spelled.clone()).await;
            let result = |answer: &Answer| (answer.status, answer.code());
            assert_eq!(result(&second), result(&answer), "{uri} and {spelled}");
        }
        if reads {
            // Ranges apply to GET only.
            if !self.headers.iter().any(|(name, _)| **name == RANGE) {
                let [whole, bare] = [Method::GET, Method::HEAD]
                    .map(|method| self.send(&stored.registry, method, uri.clone()));
                let (whole, bare) = (whole.await, bare.await);
                assert_eq!((whole.status, &whole.headers), (bare.status, &bare.headers));
                if whole.status == 200 {
                    assert_eq!(bare.header("content-length"), Some(&*whole.body.len().to_string()));
                }
            }
        } else {
            assert_ne!(answer.status, 200, "who changes something is told what: {answer:?}");
        }
        stored.assert_names().await;
    }

    fn uri(&self, stored: &StoredImage) -> Option<Uri> {
        let target = String::from_utf8_lossy(&self.target).replace("{id}", &stored.id);
        target.replace("{image}", stored.image.as_str()).replace("{blob}", stored.blob.as_str()).parse().ok()
    }

    /// Sends the request to a registry that does not allow it. A session may be cancelled where deletes are
    /// not allowed.
    async fn check_refused(&self, settings: Settings) {
        let stored = StoredImage::new();
        let Some(uri) = self.uri(&stored) else { return };
        let before = stored.all().await;
        let read_only = settings.read_only;
        let registry = Registry::of(stored.registry.store.clone(), settings);
        let answer = self.send(&registry, self.method.clone(), uri).await;
        let refused = matches!(answer.status.as_u16(), 400 | 404 | 405);
        assert!(refused || (answer.status == 204 && !read_only), "{answer:?}");
        assert_eq!(stored.all().await, before, "what may not be changed was");
    }

    async fn send(&self, registry: &Registry, method: Method, uri: Uri) -> Answer {
        let headers: Vec<(&str, &[u8])> =
            self.headers.iter().map(|(name, value)| (&**name, &**value)).collect();
        registry.ask(request(method, uri, &headers, BodyTransfer::Sized(self.body.clone()))).await
    }
}

/// Percent-encodes every byte of the target's components, and replaces the session's ID by another session's.
/// The path is decoded once (RFC 3986, section 2.3), so that the meaning is the same. Returns `None` where
/// the result is too long for a URI.
fn percent_encoded(uri: &Uri, id: &str, other: &str) -> Option<Uri> {
    let components = uri.path().strip_prefix("/v2/")?.split('/');
    let mut spelled = String::from("/v2");
    for component in components {
        spelled.push('/');
        let decoded: Vec<u8> = percent_decode_str(component).collect();
        let decoded = if decoded == id.as_bytes() { other.as_bytes().to_vec() } else { decoded };
        for byte in decoded {
            write!(spelled, "%{byte:02X}").unwrap();
        }
    }
    if let Some(query) = uri.query() {
        write!(spelled, "?{}", query.replace(id, other)).unwrap();
    }
    spelled.parse().ok()
}

/// A registry with an image, a referrer and a session.
struct StoredImage {
    registry: Registry,
    id: String,
    image: Digest,
    blob: Digest,
}

impl StoredImage {
    fn new() -> Self {
        let registry = Registry::new(false);
        let config = registry.with_blob("a/b", b"{}");
        let blob = registry.with_blob("a/b", b"layer");
        let name: RepositoryName = "a/b".parse().unwrap();
        let put = |document: &Value, tags: &[Tag]| {
            let bytes = Bytes::from(serde_json::to_vec(document).unwrap());
            let manifest = Manifest::parse(&bytes, Some(media_type::OCI_MANIFEST)).unwrap();
            let digest = Digest::sha256(&bytes);
            registry.store.put_manifest(&name, &bytes, &manifest, Tagged { digest: &digest, tags }).unwrap();
            digest
        };
        let config = json!({"mediaType": "application/x", "digest": config, "size": 2});
        let layer = json!({"mediaType": "application/y", "digest": blob, "size": 5});
        let document = json!({"schemaVersion": 2, "config": config, "layers": [layer]});
        let tags = ["latest", "v1", "v2"].map(|tag| tag.parse().unwrap());
        let image = put(&document, &tags);
        let subject = json!({"mediaType": media_type::OCI_MANIFEST, "digest": image, "size": 1});
        put(&json!({"schemaVersion": 2, "config": config, "layers": [], "subject": subject}), &[]);
        let session = registry.store.begin(&name, None).unwrap();
        Self { id: session.id().to_string(), image, blob, registry }
    }

    /// Returns all responses about the stored objects except the session.
    async fn all(&self) -> Vec<(u16, Bytes)> {
        let mut all = Vec::new();
        for path in [
            "/v2/_catalog",
            "/v2/a/b/tags/list",
            &format!("/v2/a/b/manifests/{}", self.image),
            "/v2/a/b/manifests/v1",
            &format!("/v2/a/b/blobs/{}", self.blob),
            &format!("/v2/a/b/referrers/{}", self.image),
        ] {
            let answer = self.registry.ask_for(Method::GET, path).await;
            all.push((answer.status.as_u16(), answer.body));
        }
        all
    }

    /// Checks that no object exists under an invalid name.
    async fn assert_names(&self) {
        let answer = self.registry.ask_for(Method::GET, "/v2/_catalog").await;
        let catalog: Value = serde_json::from_slice(&answer.body).unwrap();
        for name in catalog["repositories"].as_array().unwrap() {
            let name: RepositoryName = name.as_str().unwrap().parse().expect("a repository has a name");
            let answer = self.registry.ask_for(Method::GET, &format!("/v2/{name}/tags/list")).await;
            if answer.status != 200 {
                answer.assert_refused(&[404], ErrorCode::NameUnknown);
                continue;
            }
            let list: Value = serde_json::from_slice(&answer.body).unwrap();
            for tag in list["tags"].as_array().unwrap() {
                assert!(tag.as_str().unwrap().parse::<Tag>().is_ok(), "{tag} is no tag");
            }
        }
    }
}
