//! Manifests and indexes: resolving, fetching and putting them, with their digests checked.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use quinistry_oci::{
    Descriptor, Digest, ImageIndex, ImageManifest, ImageReference, Reference, media_type, null_as_default,
};
use reqwest::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode};
use serde::Deserialize;

use super::request::{Call, Payload};
use super::{Client, ClientError, headers};

/// Length of the longest manifest that is fetched or pushed: the most that containerd, podman and oras
/// accept, and the least that the distribution-spec tells registries to accept.
pub const MAX_MANIFEST_BYTES: u64 = 4 * 1024 * 1024;

/// Media types of all manifests that this client reads; a registry converts to one of them, or names its own.
const ACCEPTED_MEDIA_TYPES: &str = "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json";

const DIGEST_HEADER: &str = "docker-content-digest";
/// Header with which a registry confirms that it lists a manifest among the referrers of its subject.
const SUBJECT_HEADER: &str = "oci-subject";

/// Time limit for one manifest with all retries: 4 MiB at some seven KiB in a second.
const MANIFEST_TIMEOUT: Duration = Duration::from_mins(10);

/// Manifest or index as the registry sent it; the bytes hash to the descriptor's digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Media type, digest and size of the bytes.
    pub descriptor: Descriptor,
    /// Bytes as the registry sent them.
    pub bytes: Bytes,
}

/// Parsed content of a [`Manifest`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "few are alive at a time, and every user matches on them")]
pub enum Document {
    /// Manifest of an image or an artifact.
    Image(ImageManifest),
    /// Index of several manifests.
    Index(ImageIndex),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ManifestFields {
    media_type: Option<String>,
    schema_version: u32,
    config: Option<serde::de::IgnoredAny>,
    layers: Option<serde::de::IgnoredAny>,
    manifests: Option<serde::de::IgnoredAny>,
}

/// Fields by which a manifest refers to another one.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ReferrerFields {
    subject: Option<SubjectField>,
    artifact_type: Option<String>,
    config: Option<ConfigField>,
    #[serde(deserialize_with = "null_as_default")]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct SubjectField {
    /// Digest as text, so that an unknown algorithm does not make the manifest unreadable.
    digest: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ConfigField {
    #[serde(deserialize_with = "null_as_default")]
    media_type: String,
}

/// Response to a manifest that was put.
#[derive(Clone, Copy, Debug)]
pub(super) struct PutResult {
    /// True if the registry itself lists the manifest among the referrers of its subject.
    pub(super) lists_referrers: bool,
}

// === impl Manifest ===

impl Manifest {
    /// Parses bytes that are known to hash to `digest`. `content_type` counts if the document names no type.
    pub(super) fn new(digest: Digest, content_type: &str, bytes: Bytes) -> Result<Self, String> {
        let fields: ManifestFields =
            serde_json::from_slice(&bytes).map_err(|error| format!("not a manifest: {error}"))?;
        if fields.schema_version != 2 {
            return Err(format!(
                "manifests of schema version {} are not supported: push the image again with a current client",
                fields.schema_version
            ));
        }
        if fields.manifests.is_some() && (fields.config.is_some() || fields.layers.is_some()) {
            // Two readers could see two images in such a document: CVE-2021-41190.
            return Err("a document that is both a manifest and an index".into());
        }
        // Go writes an empty type where its author forgot `omitempty`, and an empty list as null.
        let named = fields.media_type.filter(|named| !named.is_empty());
        let named = named.unwrap_or_else(|| headers::essence(content_type));
        let is_empty = fields.config.is_none() && fields.layers.is_none() && fields.manifests.is_none();
        let is_index = fields.manifests.is_some() || is_empty && media_type::is_index(&named);
        let media_type = match (is_index, named) {
            (true, named) if media_type::is_manifest(&named) => {
                return Err(format!("an index that calls itself {named}"));
            }
            (false, named) if media_type::is_index(&named) => {
                return Err(format!("a manifest that calls itself {named}"));
            }
            (_, named) if media_type::is_manifest(&named) || media_type::is_index(&named) => named,
            (true, _) => media_type::OCI_INDEX.into(),
            (false, _) => media_type::OCI_MANIFEST.into(),
        };
        let descriptor = Descriptor { digest, ..Descriptor::of(&media_type, b"") };
        Ok(Self { descriptor: Descriptor { size: bytes.len() as u64, ..descriptor }, bytes })
    }

    /// Returns the digest of this manifest's subject, if any.
    #[must_use]
    pub fn subject(&self) -> Option<Digest> {
        serde_json::from_slice::<ReferrerFields>(&self.bytes).ok()?.subject?.digest.parse().ok()
    }

    /// Returns the descriptor under which this manifest is listed among the referrers of its subject: with
    /// its annotations, and its artifact type or that of its configuration. distribution-spec, section
    /// Pushing Manifests with Subject.
    pub(super) fn as_referrer(&self) -> Descriptor {
        let fields: ReferrerFields = serde_json::from_slice(&self.bytes).unwrap_or_default();
        let own = fields.artifact_type.filter(|own| !own.is_empty());
        let artifact_type = own.or_else(|| Some(fields.config?.media_type).filter(|kind| !kind.is_empty()));
        Descriptor { annotations: fields.annotations, artifact_type, ..self.descriptor.clone() }
    }

    /// Parses the content.
    pub fn document(&self) -> Result<Document, ClientError> {
        let malformed = |error: serde_json::Error| ClientError::Protocol {
            what: format!("read manifest {}", self.descriptor.digest),
            reason: error.to_string(),
        };
        if media_type::is_index(&self.descriptor.media_type) {
            serde_json::from_slice(&self.bytes).map(Document::Index).map_err(malformed)
        } else {
            serde_json::from_slice(&self.bytes).map(Document::Image).map_err(malformed)
        }
    }
}

impl Client {
    /// Fetches a manifest or an index, and checks it against the digest in the reference or in the response's
    /// header.
    pub async fn manifest(&self, image: &ImageReference) -> Result<Manifest, ClientError> {
        let what = format!("fetch manifest {image}");
        let endpoint = self.endpoint(image.host())?;
        let repository = endpoint.repository(image);
        let url = endpoint.url(&format!("/v2/{repository}/manifests/{}", image.reference()));
        let mut call = Call::new(&what, &endpoint, Method::GET, url).scope(&repository, "pull");
        call.headers.insert(ACCEPT, HeaderValue::from_static(ACCEPTED_MEDIA_TYPES));
        let fetched = tokio::time::timeout(MANIFEST_TIMEOUT, self.fetch(&call, MAX_MANIFEST_BYTES)).await;
        let late = |_| ClientError::Timeout { what: what.clone(), seconds: MANIFEST_TIMEOUT.as_secs() };
        let (headers, bytes) = fetched.map_err(late)??;
        let content_type = text(&headers, CONTENT_TYPE.as_str()).unwrap_or_default();
        let named = digest_in(&headers);
        let expected = match image.reference() {
            Reference::Digest(digest) => Some(digest),
            Reference::Tag(_) => named,
        };
        let digest = match expected {
            None => Digest::sha256(&bytes),
            Some(expected) => {
                let actual = Digest::of(expected.algorithm(), &bytes);
                if actual != expected {
                    return Err(ClientError::Digest { what, expected, actual });
                }
                expected
            }
        };
        Manifest::new(digest, content_type, bytes).map_err(|reason| ClientError::Protocol { what, reason })
    }

    /// Resolves a reference to a descriptor, by a HEAD request where that suffices.
    pub async fn resolve(&self, image: &ImageReference) -> Result<Descriptor, ClientError> {
        match self.head_manifest(image, "pull").await? {
            Some(Ok(descriptor)) => Ok(descriptor),
            // The manifest is missing, or the response has no digest: the response to a GET tells more either
            // way.
            _ => Ok(self.manifest(image).await?.descriptor),
        }
    }

    /// Requests a manifest's descriptor by HEAD. `None`: the registry has no such manifest. `Some(Err(()))`:
    /// the registry may have it, but the headers do not describe it, or the registry, or the store that it
    /// redirects to, supports GET only.
    pub(super) async fn head_manifest(
        &self,
        image: &ImageReference,
        actions: &str,
    ) -> Result<Option<Result<Descriptor, ()>>, ClientError> {
        let endpoint = self.endpoint(image.host())?;
        let repository = endpoint.repository(image);
        let url = endpoint.url(&format!("/v2/{repository}/manifests/{}", image.reference()));
        let what = format!("look up manifest {image}");
        let mut call = Call::new(what, &endpoint, Method::HEAD, url).scope(&repository, actions);
        call.headers.insert(ACCEPT, HeaderValue::from_static(ACCEPTED_MEDIA_TYPES));
        let answer = match self.send(&call).await {
            Ok(answer) => answer,
            Err(ClientError::NoCredentials { .. } | ClientError::Refused { .. }) => return Ok(Some(Err(()))),
            Err(error) => return Err(error),
        };
        let headers = answer.headers();
        match answer.status() {
            StatusCode::NOT_FOUND => Ok(None),
            StatusCode::OK => {
                let media_type =
                    text(headers, CONTENT_TYPE.as_str()).map(headers::essence).unwrap_or_default();
                let size = text(headers, CONTENT_LENGTH.as_str()).and_then(|size| size.parse().ok());
                let known = media_type::is_manifest(&media_type) || media_type::is_index(&media_type);
                let (Some(digest), Some(size), true) = (digest_in(headers), size, known) else {
                    return Ok(Some(Err(())));
                };
                if image.digest().is_some_and(|wanted| *wanted != digest) {
                    return Ok(Some(Err(())));
                }
                Ok(Some(Ok(Descriptor { digest, size, ..Descriptor::of(&media_type, b"") })))
            }
            _ => Ok(Some(Err(()))),
        }
    }

    /// Puts a manifest or an index under `image`'s tag or digest. The registry must have all content in it
    /// already.
    pub(super) async fn put_manifest(
        &self,
        image: &ImageReference,
        manifest: &Manifest,
    ) -> Result<PutResult, ClientError> {
        let endpoint = self.endpoint(image.host())?;
        let repository = endpoint.repository(image);
        let url = endpoint.url(&format!("/v2/{repository}/manifests/{}", image.reference()));
        let what = format!("put manifest {image}");
        let mut call = Call::new(&what, &endpoint, Method::PUT, url).scope(&repository, "pull,push");
        let media_type = HeaderValue::try_from(&manifest.descriptor.media_type)
            .expect("a manifest's type is one of those that are recognised");
        call.headers.insert(CONTENT_TYPE, media_type);
        call.payload = Payload::Bytes(manifest.bytes.clone());
        let answer =
            self.send_for(&call, &[StatusCode::CREATED, StatusCode::OK, StatusCode::ACCEPTED]).await?;
        match digest_in(answer.headers()) {
            Some(actual)
                if actual.algorithm() == manifest.descriptor.digest.algorithm()
                    && actual != manifest.descriptor.digest =>
            {
                Err(ClientError::Digest { what, expected: manifest.descriptor.digest.clone(), actual })
            }
            _ => Ok(PutResult { lists_referrers: answer.headers().contains_key(SUBJECT_HEADER) }),
        }
    }
}

fn digest_in(headers: &HeaderMap) -> Option<Digest> {
    text(headers, DIGEST_HEADER)?.parse().ok()
}

pub(super) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &'static str, content_type: &str) -> Result<String, String> {
        let bytes = Bytes::from_static(text.as_bytes());
        Manifest::new(Digest::sha256(&bytes), content_type, bytes)
            .map(|manifest| manifest.descriptor.media_type)
    }

    #[test]
    fn a_document_is_what_its_fields_say() {
        assert_eq!(read(r#"{"schemaVersion":2,"manifests":[]}"#, "x").unwrap(), media_type::OCI_INDEX);
        assert_eq!(
            read(r#"{"schemaVersion":2,"config":{},"layers":[]}"#, "").unwrap(),
            media_type::OCI_MANIFEST
        );
        let null =
            r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":null}"#;
        assert_eq!(read(null, "").unwrap(), media_type::OCI_INDEX);
        let docker = "application/vnd.docker.distribution.manifest.v2+json; charset=utf-8";
        assert_eq!(
            read(r#"{"schemaVersion":2,"mediaType":"","config":{}}"#, docker).unwrap(),
            media_type::DOCKER_MANIFEST
        );
        assert_eq!(read(r#"{"schemaVersion":2,"config":{}}"#, docker).unwrap(), media_type::DOCKER_MANIFEST);
    }

    #[test]
    fn ambiguous_and_ancient_documents_are_refused() {
        for (text, content_type) in [
            (r#"{"schemaVersion":2,"manifests":[],"layers":[]}"#, ""),
            (r#"{"schemaVersion":2,"manifests":[]}"#, media_type::OCI_MANIFEST),
            (r#"{"schemaVersion":2,"layers":[]}"#, media_type::DOCKER_LIST),
            (r#"{"schemaVersion":1,"fsLayers":[]}"#, ""),
            ("[]", ""),
            ("", ""),
        ] {
            assert!(read(text, content_type).is_err(), "{text}");
        }
    }
}
