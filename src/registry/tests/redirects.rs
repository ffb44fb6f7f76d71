//! Pulls of blobs from a storage that has URLs.

use axum::body::Body;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, LOCATION, RANGE};
use http::{HeaderMap, Method, Request, StatusCode, request};
use http_body_util::BodyExt as _;
use quinistry_oci::{Content, Digest};
use quinistry_store::{Abilities, Key, Memory, ObjectTag, Storage, StorageError, Store};
use std::time::Duration;
use tower_service::Service as _;

use super::in_memory::forward_to_memory;
use crate::api::response::served_content::DIGEST;
use crate::{Redirects, Settings, State, router};

/// Memory with URLs, as a bucket has.
#[derive(Debug)]
struct WithUrls {
    memory: Memory,
    scheme: &'static str,
}

impl Storage for WithUrls {
    fn abilities(&self) -> Abilities {
        Abilities { is_persistent: true, is_shared: true, ..self.memory.abilities() }
    }

    fn open(&self, key: &Key) -> Result<Option<(Content, ObjectTag)>, StorageError> {
        self.memory.open(key)
    }

    fn redirect(&self, key: &Key, lifetime: Duration) -> Option<String> {
        Some(format!("{}://bucket.example/{key}?expires={}", self.scheme, lifetime.as_secs()))
    }

    forward_to_memory!();
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Option<Bytes>,
}

/// Pushes a blob, and asks for it.
async fn ask(
    memory: &Memory,
    bytes: &[u8],
    redirects: Option<Redirects>,
    method: Method,
    range: Option<&str>,
) -> Answer {
    let request = Request::builder().method(method);
    let request = range.into_iter().fold(request, |request, range| request.header(RANGE, range));
    send(memory, bytes, redirects, "https", request).await
}

/// Pushes a blob, and sends a request for it. The storage's URLs have the given scheme.
async fn send(
    memory: &Memory,
    bytes: &[u8],
    redirects: Option<Redirects>,
    scheme: &'static str,
    request: request::Builder,
) -> Answer {
    let (memory, pushed) = (memory.clone(), bytes.to_vec());
    let store = tokio::task::spawn_blocking(move || {
        let store = Store::open(WithUrls { memory, scheme }, false).unwrap();
        let digest = Digest::sha256(&pushed);
        if store.blob(&"a/b".parse().unwrap(), &digest).is_err() {
            let mut receiver = store.receive(&digest, None).unwrap();
            receiver.append(&pushed).unwrap();
            store.commit(&"a/b".parse().unwrap(), &mut receiver, &digest).unwrap();
        }
        store
    });
    let settings = Settings { redirects, ..Settings::default() };
    let mut registry = router(State::stored(store.await.unwrap(), settings));
    let request = request.uri(format!("/v2/a/b/blobs/{}", Digest::sha256(bytes)));
    let response = registry.call(request.body(Body::empty()).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.ok().map(http_body_util::Collected::to_bytes);
    Answer { status: parts.status, headers: parts.headers, body }
}

#[tokio::test]
async fn a_client_that_reads_a_long_blob_is_redirected() {
    let (memory, bytes) = (Memory::new(1 << 20), vec![7; 100_000]);
    for range in [None, Some("bytes=5-9")] {
        let answer = ask(&memory, &bytes, Some(Redirects::default()), Method::GET, range).await;
        assert_eq!(answer.status, StatusCode::TEMPORARY_REDIRECT);
        let location = answer.headers[LOCATION].to_str().unwrap();
        assert!(
            location.starts_with("https://bucket.example/docker/registry/v2/blobs/sha256/"),
            "{location}"
        );
        assert!(location.ends_with("?expires=1200"), "{location}");
        assert_eq!(answer.headers[DIGEST], Digest::sha256(&bytes).to_string());
        assert_eq!(answer.body.unwrap(), "");
    }
}

#[tokio::test]
async fn a_client_that_came_over_tls_is_sent_to_no_url_without() {
    let (memory, bytes) = (Memory::new(1 << 20), vec![7; 100_000]);
    for (proto, scheme, status) in [
        ("https", "https", StatusCode::TEMPORARY_REDIRECT),
        ("https", "http", StatusCode::OK),
        ("http", "http", StatusCode::TEMPORARY_REDIRECT),
    ] {
        let request = Request::builder().header("x-forwarded-proto", proto);
        let answer = send(&memory, &bytes, Some(Redirects::default()), scheme, request).await;
        assert_eq!(answer.status, status, "{proto} to {scheme}");
    }
}

#[tokio::test]
async fn short_blobs_and_questions_for_the_length_are_answered_here() {
    let (memory, long) = (Memory::new(1 << 20), vec![7; 100_000]);
    let answer = ask(&memory, &long, Some(Redirects::default()), Method::HEAD, None).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.headers[CONTENT_LENGTH], "100000");
    assert_eq!(answer.headers[DIGEST], Digest::sha256(&long).to_string());
    assert!(!answer.headers.contains_key(LOCATION));
    let answer = ask(&memory, b"short", Some(Redirects::default()), Method::GET, None).await;
    assert_eq!((answer.status, answer.body.unwrap()), (StatusCode::OK, "short".into()));
}

#[tokio::test]
async fn without_redirects_all_bytes_and_ranges_come_through_the_registry() {
    let memory = Memory::new(1 << 20);
    let bytes: Vec<u8> = (0..50_000_u32).flat_map(u32::to_le_bytes).collect();
    let whole = ask(&memory, &bytes, None, Method::GET, None).await;
    assert_eq!((whole.status, whole.body.unwrap()), (StatusCode::OK, bytes.clone().into()));
    let part = ask(&memory, &bytes, None, Method::GET, Some("bytes=100000-199999")).await;
    assert_eq!(part.status, StatusCode::PARTIAL_CONTENT);
    assert_eq!(part.body.unwrap(), bytes[100_000..]);
}

#[tokio::test]
async fn row_214_a_blob_whose_bytes_were_changed_does_not_come_to_its_end() {
    let (memory, bytes) = (Memory::new(1 << 20), vec![7; 100_000]);
    ask(&memory, &bytes, None, Method::HEAD, None).await;
    let hex = Digest::sha256(&bytes).hex().to_owned();
    let key = Key::of_path(format!("docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2])).unwrap();
    memory.write(&[&[(key, &vec![8; 100_000])]]).unwrap();
    let answer = ask(&memory, &bytes, None, Method::GET, None).await;
    assert!(answer.body.is_none(), "the client takes other bytes for a whole blob");
}
