//! Events of requests to a registry.

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::header::{CONTENT_TYPE, HOST, IF_NONE_MATCH, LOCATION, RANGE, USER_AGENT};
use http_body_util::BodyExt as _;
use quinistry_http::Peer;
use quinistry_oci::Digest;
use quinistry_store::{Memory, Store};
use serde_json::{Value, json};
use tower_service::Service as _;

use super::receiver::Receiver;
use super::{settings, started};
use crate::notifications::{EventSettings, Notifications};
use crate::{Settings, State};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Registry beside a receiver.
pub(super) struct Registry {
    state: State,
    pub(super) store: Store,
    pub(super) receiver: Receiver,
    _notifications: Notifications,
}

impl Registry {
    pub(super) fn start(includes_references: bool) -> Self {
        let receiver = Receiver::start();
        let (notifications, _) = started(settings("a", &receiver.url()));
        let notifier = notifications.apply(
            super::prepared(settings("a", &receiver.url())),
            EventSettings { includes_references, public_url: None },
        );
        let store = Store::open(Memory::new(1 << 20), false).unwrap();
        let state = State::stored(store.clone(), Settings { notifier, ..Settings::default() });
        Self { state, store, receiver, _notifications: notifications }
    }

    async fn ask(
        &self,
        method: &str,
        uri: &str,
        headers: &[(http::HeaderName, &str)],
        body: &[u8],
    ) -> Response {
        let mut request = Request::builder().method(method).uri(uri).header(HOST, "registry.example:5000");
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        let mut request = request.body(Body::from(body.to_vec())).unwrap();
        request.extensions_mut().insert(Peer::Tcp("192.0.2.1:4711".parse().unwrap()));
        let response = self.state.clone().call(request).await.unwrap();
        let (parts, body) = response.into_parts();
        body.collect().await.unwrap();
        Response::from_parts(parts, Body::empty())
    }

    pub(super) async fn status(&self, method: &str, uri: &str, body: &[u8]) -> u16 {
        self.ask(method, uri, &[(CONTENT_TYPE, MANIFEST)], body).await.status().as_u16()
    }

    pub(super) async fn push_blob(&self, repository: &str, bytes: &[u8]) -> Digest {
        let digest = Digest::sha256(bytes);
        let uri = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
        assert_eq!(self.status("POST", &uri, bytes).await, 201);
        digest
    }
}

pub(super) fn manifest(config: &Digest) -> Vec<u8> {
    json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "layers": [],
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2},
    })
    .to_string()
    .into_bytes()
}

/// Returns what tells an event from another one.
fn essence(event: &Value) -> (String, String, String, String) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let target = &event["target"];
    let subject = if target["tag"].is_null() { &target["digest"] } else { &target["tag"] };
    (text(&event["action"]), text(&event["request"]["method"]), text(&target["repository"]), text(subject))
}

#[tokio::test]
async fn each_request_makes_the_events_of_distribution() {
    let registry = Registry::start(false);
    let config = registry.push_blob("a/b", b"{}").await;
    let layer = Digest::sha256(b"layer");
    let begun = registry.ask("POST", "/v2/a/b/blobs/uploads/", &[], b"").await;
    let place = begun.headers()[LOCATION].to_str().unwrap().to_owned();
    assert_eq!(registry.status("PATCH", &place, b"la").await, 202);
    assert_eq!(registry.status("PUT", &format!("{place}?digest={layer}"), b"yer").await, 201);
    let mount = format!("/v2/c/d/blobs/uploads/?mount={config}&from=a/b");
    assert_eq!(registry.status("POST", &mount, b"").await, 201);
    let bytes = manifest(&config);
    let digest = Digest::sha256(&bytes);
    assert_eq!(registry.status("PUT", "/v2/a/b/manifests/v1?tag=v2&tag=v3", &bytes).await, 201);
    assert_eq!(registry.status("PUT", &format!("/v2/a/b/manifests/{digest}"), &bytes).await, 201);
    let by_digest = format!("/v2/a/b/manifests/{digest}");
    let blob = format!("/v2/a/b/blobs/{config}");
    assert_eq!(registry.status("GET", "/v2/a/b/manifests/v1", b"").await, 200);
    assert_eq!(registry.status("HEAD", &by_digest, b"").await, 200);
    assert_eq!(registry.status("HEAD", &blob, b"").await, 200);
    assert_eq!(registry.ask("GET", &blob, &[(RANGE, "bytes=0-0")], b"").await.status(), 206);
    // No events: unchanged content, no such range, lists, failures, and parts of uploads.
    let etag = format!("\"{digest}\"");
    assert_eq!(registry.ask("GET", &by_digest, &[(IF_NONE_MATCH, &etag)], b"").await.status(), 304);
    let etag = format!("\"{config}\"");
    assert_eq!(registry.ask("GET", &blob, &[(IF_NONE_MATCH, &etag)], b"").await.status(), 304);
    assert_eq!(registry.ask("GET", &blob, &[(RANGE, "bytes=9-")], b"").await.status(), 416);
    assert_eq!(registry.status("GET", "/v2/a/b/tags/list", b"").await, 200);
    assert_eq!(registry.status("GET", "/v2/a/b/manifests/absent", b"").await, 404);
    assert_eq!(registry.status("DELETE", "/v2/a/b/manifests/absent", b"").await, 404);
    assert_eq!(registry.status("PUT", "/v2/a/b/manifests/v9", b"{}").await, 400);
    assert_eq!(registry.status("DELETE", "/v2/a/b/manifests/v2", b"").await, 202);
    assert_eq!(registry.status("DELETE", &by_digest, b"").await, 202);
    assert_eq!(registry.status("DELETE", &blob, b"").await, 202);
    let events = registry.receiver.events(16).await;
    let found: Vec<_> = events.iter().map(essence).collect();
    let (config, layer, digest) = (config.as_str(), layer.as_str(), digest.as_str());
    let expected = [
        ("push", "POST", "a/b", config),
        ("push", "PUT", "a/b", layer),
        ("mount", "POST", "c/d", config),
        ("push", "PUT", "a/b", "v1"),
        ("push", "PUT", "a/b", "v2"),
        ("push", "PUT", "a/b", "v3"),
        ("push", "PUT", "a/b", digest),
        ("pull", "GET", "a/b", "v1"),
        ("pull", "HEAD", "a/b", digest),
        ("pull", "HEAD", "a/b", config),
        ("pull", "GET", "a/b", config),
        ("delete", "DELETE", "a/b", "v2"),
        ("delete", "DELETE", "a/b", digest),
        ("delete", "DELETE", "a/b", "v1"),
        ("delete", "DELETE", "a/b", "v3"),
        ("delete", "DELETE", "a/b", config),
    ];
    let expected = expected.map(|(a, b, c, d)| (a.to_owned(), b.to_owned(), c.to_owned(), d.to_owned()));
    assert_eq!(found, expected);
    let ids: Vec<_> = events.iter().map(|event| event["id"].as_str().unwrap()).collect();
    assert!(ids.is_sorted(), "{ids:?}");
    let target = |index: usize| events[index]["target"].clone();
    assert_eq!(target(1)["size"], 5);
    assert_eq!((&target(2)["fromRepository"], &target(2)["length"]), (&json!("a/b"), &json!(2)));
    assert_eq!((&target(3)["mediaType"], &target(3)["size"]), (&json!(MANIFEST), &json!(bytes.len())));
    assert_eq!(target(3)["url"], format!("http://registry.example:5000/v2/a/b/manifests/{digest}"));
    assert_eq!(target(10)["url"], format!("http://registry.example:5000/v2/a/b/blobs/{config}"));
    assert_eq!(target(10)["size"], 2, "of the blob, and not of the range");
    assert_eq!(target(3)["references"], Value::Null);
}

#[tokio::test]
async fn events_name_client_and_parts_if_the_configuration_says_so() {
    let registry = Registry::start(true);
    let config = registry.push_blob("a/b", b"{}").await;
    let agent = format!("docker/27 {}", "x".repeat(10_000));
    let headers = [(CONTENT_TYPE, MANIFEST), (USER_AGENT, &*agent)];
    let put = registry.ask("PUT", "/v2/a/b/manifests/v1", &headers, &manifest(&config)).await;
    assert_eq!(put.status(), 201);
    assert_eq!(registry.status("GET", "/v2/a/b/manifests/v1", b"").await, 200);
    let events = registry.receiver.events(3).await;
    let expected = json!([
        {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2},
    ]);
    assert_eq!(events[1]["target"]["references"], expected);
    assert_eq!(events[2]["target"]["references"], expected);
    let request = &events[1]["request"];
    assert_eq!(request["addr"], "192.0.2.1:4711");
    assert_eq!(request["host"], "registry.example:5000");
    assert_eq!(request["useragent"].as_str().unwrap().len(), 512, "row 152");
    assert_eq!(events[1]["actor"], json!({}));
}

#[tokio::test]
async fn a_push_is_announced_although_its_client_leaves() {
    let registry = Registry::start(false);
    let config = registry.push_blob("a/b", b"{}").await;
    let request = Request::put("/v2/a/b/manifests/v1")
        .header(CONTENT_TYPE, MANIFEST)
        .body(Body::from(manifest(&config)))
        .unwrap();
    let mut push = registry.state.clone().call(request);
    // All of the body is there, so that the call of the store begins at once.
    let _ = futures_util::poll!(&mut push);
    drop(push);
    let events = registry.receiver.events(2).await;
    assert_eq!(events[1]["target"]["tag"], "v1");
}
