//! Tests of a registry with an observer: the router in front, and the page, log and gate behind.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::task::Poll;
use std::time::Duration;

use axum::body::Bytes;
use http::header::{CONTENT_LENGTH, USER_AGENT};
use http::{HeaderMap, Method};
use http_body_util::BodyExt as _;
use quinistry_oci::Digest;
use quinistry_store::{Access, Filesystem, Memory, ObservedStorage, Storage, Store};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tower_service::Service as _;

use super::*;
use crate::health::{Check, Probe};
use crate::metrics::Driver;
use crate::{Limits, Settings, State, router};

const CLIENT: &str = "192.0.2.7:4711";

/// Output of an access log.
#[derive(Clone, Default)]
struct Output(Arc<Mutex<Vec<u8>>>);

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Write::write(&mut *self.0.lock().unwrap(), bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Registry with everything that an observer has.
struct Observed {
    state: State,
    metrics: Arc<RegistryMetrics>,
    log: AccessLog,
    output: Output,
}

impl Observed {
    fn new(format: AccessLogFormat, health: Option<Health>) -> Self {
        Self::on(Memory::new(8 << 20), format, health)
    }

    fn on(storage: impl Storage, format: AccessLogFormat, health: Option<Health>) -> Self {
        let metrics = Arc::<RegistryMetrics>::default();
        let storage = ObservedStorage::new(storage, metrics.storage_observer(Driver::InMemory));
        let store = Store::open(storage, false).unwrap();
        let output = Output::default();
        let log = AccessLog::start(output.clone(), format).unwrap();
        metrics.watch_store(store.clone());
        metrics.watch_access_log(log.clone());
        let observer = Observer {
            metrics: Some(metrics.clone()),
            access_log: Some(log.clone()),
            health,
            trusted_proxies: TrustedProxies::parse(["10.0.0.0/8"]).unwrap(),
            request_ids: false,
        };
        let state = State::stored(store, Settings::default()).with_observer(observer);
        Self { state, metrics, log, output }
    }

    /// Begins a request from `peer`.
    async fn send(
        &self,
        peer: &str,
        method: Method,
        uri: &str,
        headers: &[(&str, &[u8])],
        body: Body,
    ) -> Response {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(body).unwrap();
        request.extensions_mut().insert(Peer::Tcp(peer.parse::<SocketAddr>().unwrap()));
        router(self.state.clone()).call(request).await.unwrap()
    }

    /// Answers a request with all of its body.
    async fn ask(&self, method: Method, uri: &str, headers: &[(&str, &[u8])]) -> (u16, HeaderMap, Bytes) {
        let response = self.send(CLIENT, method, uri, headers, Body::empty()).await;
        let (parts, body) = response.into_parts();
        (parts.status.as_u16(), parts.headers, body.collect().await.unwrap().to_bytes())
    }

    /// Pushes a blob by one request.
    async fn push(&self, name: &str, bytes: &'static [u8]) -> String {
        let digest = Digest::sha256(bytes).to_string();
        let uri = format!("/v2/{name}/blobs/uploads/?digest={digest}");
        let length = bytes.len().to_string();
        let headers = [(CONTENT_LENGTH.as_str(), length.as_bytes())];
        let response = self.send(CLIENT, Method::POST, &uri, &headers, Body::from(bytes)).await;
        assert_eq!(response.status(), StatusCode::CREATED);
        digest
    }

    fn lines(&self) -> Vec<String> {
        self.log.flush(Duration::from_mins(1));
        let text = String::from_utf8(self.output.0.lock().unwrap().clone()).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    fn last(&self) -> serde_json::Value {
        serde_json::from_str(self.lines().last().unwrap()).unwrap()
    }

    #[track_caller]
    fn assert_series(&self, series: &str, value: &str) {
        let page = self.metrics.render();
        let found = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        assert_eq!(found, Some(value), "{series}");
    }
}

#[tokio::test]
async fn paths_below_a_prefix_are_counted_and_logged_as_those_without() {
    let mut registry = Observed::new(AccessLogFormat::Json, None);
    registry.state = registry.state.clone().with_prefix("/registry/".parse().unwrap());
    registry.ask(Method::GET, "/registry/v2/a/b/tags/list", &[]).await;
    assert_eq!(registry.last()["repository"], "a/b");
    let tags = "registry_http_requests_total{handler=\"tags\",code=\"404\",method=\"get\"}";
    registry.assert_series(tags, "1");
    registry.ask(Method::GET, "/v2/a/b/tags/list", &[]).await;
    registry.assert_series(tags, "1");
}

#[tokio::test]
async fn a_request_is_counted_when_its_answer_has_ended() {
    let registry = Observed::new(AccessLogFormat::Json, None);
    let digest = registry.push("a", b"content").await;
    let uri = format!("/v2/a/blobs/{digest}");
    let response = registry.send(CLIENT, Method::GET, &uri, &[], Body::empty()).await;
    let requests = "registry_http_requests_total{handler=\"blob\",code=\"200\",method=\"get\"}";
    registry.assert_series("registry_http_in_flight_requests{handler=\"blob\"}", "1");
    registry.assert_series(requests, "0");
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "content");
    registry.assert_series("registry_http_in_flight_requests{handler=\"blob\"}", "0");
    registry.assert_series(requests, "1");
    registry
        .assert_series("registry_http_request_duration_seconds_count{handler=\"blob\",method=\"get\"}", "1");
    registry.assert_series("registry_http_response_size_bytes_sum{handler=\"blob\"}", "7");
    registry.assert_series("registry_http_request_size_bytes_sum{handler=\"blob_upload\"}", "7");
    registry.assert_series("registry_storage_action_seconds_count{driver=\"inmemory\",action=\"Move\"}", "1");
    registry.assert_series("quinistry_store_cache_misses_total{cache=\"blobs\"}", "1");
    let entry = registry.last();
    assert_eq!((&entry["bytes"], &entry["complete"]), (&7.into(), &true.into()));
    assert_eq!((&entry["repository"], &entry["digest"]), (&"a".into(), &digest.into()));
    assert_eq!(entry["client"], "192.0.2.7");
}

#[tokio::test]
async fn an_answer_that_the_client_does_not_read_is_logged_as_incomplete() {
    let registry = Observed::new(AccessLogFormat::Json, None);
    let digest = registry.push("a", b"content").await;
    let uri = format!("/v2/a/blobs/{digest}");
    drop(registry.send(CLIENT, Method::GET, &uri, &[], Body::empty()).await);
    assert_eq!((&registry.last()["complete"], &registry.last()["bytes"]), (&false.into(), &0.into()));
    // The headers of HEAD are the whole answer.
    registry.ask(Method::HEAD, &uri, &[]).await;
    assert_eq!((&registry.last()["complete"], &registry.last()["bytes"]), (&true.into(), &0.into()));
}

#[tokio::test]
async fn a_file_is_logged_as_far_as_it_was_sent() {
    const LENGTH: usize = 1 << 20;
    let folder = tempfile::tempdir().unwrap();
    let storage = Filesystem::open(folder.path(), Access::Write).unwrap();
    let registry = Observed::on(storage, AccessLogFormat::Json, None);
    let digest = registry.push("a", vec![7; LENGTH].leak()).await;
    let limits = Limits::default();
    let listener = quinistry_http::bind("127.0.0.1:0".parse().unwrap(), limits).unwrap();
    let address = listener.local_addr().unwrap();
    let app = router(registry.state.clone());
    tokio::spawn(quinistry_http::serve(listener, app, limits, std::future::pending()));
    for reads_all in [true, false] {
        let lines = registry.lines().len();
        let client = TcpSocket::new_v4().unwrap();
        client.set_recv_buffer_size(4096).unwrap();
        let mut client = client.connect(address).await.unwrap();
        let request = format!("GET /v2/a/blobs/{digest} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        client.read_exact(&mut [0; 1000]).await.unwrap();
        if reads_all {
            client.read_to_end(&mut Vec::new()).await.unwrap();
        }
        drop(client);
        while registry.lines().len() == lines {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let entry = registry.last();
        let sent = entry["bytes"].as_u64().unwrap();
        assert!(entry["complete"] == reads_all && (sent == LENGTH as u64) == reads_all, "{entry}");
    }
}

#[tokio::test]
async fn a_client_that_leaves_before_the_answer_is_counted_and_logged() {
    let registry = Observed::new(AccessLogFormat::Json, None);
    // A body that never comes.
    let body = Body::from_stream(futures_util::stream::pending::<Result<Bytes, io::Error>>());
    let digest = Digest::sha256(b"x");
    let uri = format!("/v2/a/blobs/uploads/?digest={digest}");
    let mut request = Box::pin(registry.send(CLIENT, Method::POST, &uri, &[], body));
    let is_pending = std::future::poll_fn(|cx| Poll::Ready(request.as_mut().poll(cx).is_pending()));
    assert!(is_pending.await);
    registry.assert_series("registry_http_in_flight_requests{handler=\"blob_upload\"}", "1");
    drop(request);
    registry.assert_series("registry_http_in_flight_requests{handler=\"blob_upload\"}", "0");
    registry.assert_series(
        "registry_http_requests_total{handler=\"blob_upload\",code=\"499\",method=\"post\"}",
        "1",
    );
    assert_eq!(registry.last()["status"], 499);
}

#[tokio::test]
async fn while_a_health_check_fails_every_path_answers_503_and_names_no_check() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("down");
    std::fs::write(&file, "").unwrap();
    let interval = Duration::from_millis(1);
    let check = Check { name: "s3cret".into(), probe: Probe::File(file.clone()), interval, threshold: 1 };
    let health = Health::start([check]);
    let registry = Observed::new(AccessLogFormat::Combined, Some(health.clone()));
    for (method, uri) in [
        (Method::GET, "/v2/"),
        (Method::HEAD, "/v2/"),
        (Method::GET, "/"),
        (Method::GET, "/v2/a/manifests/x"),
        (Method::POST, "/v2/a/blobs/uploads/"),
        (Method::GET, "/elsewhere"),
        (Method::GET, "/v2/A/manifests/x"),
    ] {
        let (status, headers, body) = registry.ask(method.clone(), uri, &[]).await;
        assert_eq!((status, headers["retry-after"].to_str().unwrap()), (503, "5"), "{method} {uri}");
        if method != Method::HEAD {
            let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(body["errors"][0]["code"], "UNAVAILABLE");
            let message = body["errors"][0]["message"].as_str().unwrap();
            assert!(message.contains("/debug/health") && !message.contains("s3cret"), "{message}");
        }
    }
    std::fs::remove_file(&file).unwrap();
    let wait = async {
        while health.is_failing() {
            tokio::time::sleep(interval).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), wait).await.unwrap();
    assert_eq!(registry.ask(Method::GET, "/v2/", &[]).await.0, 200);
}

#[tokio::test]
async fn row_171_the_port_of_the_clients_shows_nothing_of_the_debug_listener() {
    let registry = Observed::new(AccessLogFormat::Combined, None);
    for path in [
        "/metrics",
        "/debug/vars",
        "/debug/health",
        "/debug/pprof/",
        "/livez",
        "/readyz",
        "/healthz",
        "/v2/metrics",
    ] {
        let (status, _, body) = registry.ask(Method::GET, path, &[]).await;
        assert_eq!(status, 404, "{path}");
        assert!(!String::from_utf8_lossy(&body).contains("registry_http"), "{path}");
    }
}

#[tokio::test]
async fn row_172_no_label_has_a_name_that_a_client_has_chosen() {
    let registry = Observed::new(AccessLogFormat::Json, None);
    let before = registry.metrics.render().lines().count();
    let digest = registry.push("n4me/s3cret", b"content").await;
    registry.ask(Method::GET, "/v2/n4me/s3cret/manifests/t4g", &[]).await;
    registry.ask(Method::GET, &format!("/v2/n4me/s3cret/blobs/{digest}"), &[]).await;
    registry.ask("N4ME".parse().unwrap(), "/n4me?n4me", &[(USER_AGENT.as_str(), b"n4me")]).await;
    let page = registry.metrics.render();
    for name in ["n4me", "s3cret", "t4g", "N4ME", &digest[7..]] {
        assert!(!page.contains(name), "{name}");
    }
    assert!(
        page.contains("handler=\"other\",code=\"405\",method=\"unknown\"")
            || page.contains("handler=\"other\",code=\"404\",method=\"unknown\"")
    );
    // One series, and the buckets of its durations, for the method that no endpoint has.
    let most = before + 1 + 16;
    assert!(page.lines().count() <= most, "{} > {most}", page.lines().count());
}

#[tokio::test]
async fn row_173_hostile_requests_are_one_line_each_without_control_characters() {
    for format in [AccessLogFormat::Combined, AccessLogFormat::Json] {
        let registry = Observed::new(format, None);
        let agent = [&b"\" 200 1 \"-\" \"\xc2\x9b2J\xe2\x80\xae\t"[..], &b"a".repeat(100_000)].concat();
        // hyper refuses other control characters in headers.
        let headers =
            [(USER_AGENT.as_str(), &*agent), ("referer", b"\xff\x9b"), ("x-forwarded-for", b"\xff")];
        registry.ask(Method::GET, "/v2/%0a%1b[2J%e2%80%ae/\"manifests\"/x?_state=s3cret", &headers).await;
        registry
            .ask(Method::GET, "/v2/_token?account=a&password=s3cret", &[("authorization", b"Bearer s3cret")])
            .await;
        let lines = registry.lines();
        assert_eq!(lines.len(), 2);
        for line in lines {
            assert!(line.len() < 8192 && line.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{line}");
            assert!(!line.contains("s3cret"), "{line}");
        }
    }
}

#[tokio::test]
async fn row_174_an_identifier_with_a_quotation_mark_is_replaced_and_a_proxys_own_stays() {
    let registry = Observed::new(AccessLogFormat::Json, None);
    for (peer, given, stays) in
        [("10.0.0.1:1", "a\"", false), ("10.0.0.1:1", "req-1", true), (CLIENT, "req-1", false)]
    {
        let headers = [("x-request-id", given.as_bytes()), ("x-forwarded-for", b"198.51.100.7")];
        let response = registry.send(peer, Method::GET, "/v2/", &headers, Body::empty()).await;
        let id = response.headers()[X_REQUEST_ID].to_str().unwrap().to_owned();
        assert_eq!(id == given, stays, "{peer} {given}");
        assert!(stays || id.len() == 36, "{id}");
        drop(response);
        let entry = registry.last();
        assert_eq!(entry["request_id"], id);
        assert_eq!(entry["client"], if peer == CLIENT { "192.0.2.7" } else { "198.51.100.7" });
    }
}

#[tokio::test]
async fn row_175_a_closed_output_does_not_end_the_service() {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let log = AccessLog::start(writer, AccessLogFormat::Combined).unwrap();
    let mut registry = Observed::new(AccessLogFormat::Combined, None);
    let observer = Observer { access_log: Some(log.clone()), ..Observer::default() };
    registry.state = registry.state.with_observer(observer);
    for _ in 0..10 {
        assert_eq!(registry.ask(Method::GET, "/v2/", &[]).await.0, 200);
    }
    log.flush(Duration::from_mins(1));
    assert_eq!(log.dropped(), 10);
}

#[tokio::test]
async fn without_a_log_or_the_option_answers_have_no_identifier() {
    let store = Store::open(Memory::new(1 << 20), false).unwrap();
    for request_ids in [false, true] {
        let observer = Observer { request_ids, ..Observer::default() };
        let state = State::stored(store.clone(), Settings::default()).with_observer(observer);
        let request = Request::get("/v2/").body(Body::empty()).unwrap();
        let response = router(state).call(request).await.unwrap();
        assert_eq!(response.headers().contains_key(X_REQUEST_ID), request_ids);
    }
}

#[tokio::test]
async fn observation_changes_no_header_and_no_body() {
    let observed = Observed::new(AccessLogFormat::Json, None);
    let store = Store::open(Memory::new(1 << 20), false).unwrap();
    let plain = Observed {
        state: State::stored(store, Settings::default()),
        ..Observed::new(AccessLogFormat::Json, None)
    };
    for registry in [&observed, &plain] {
        registry.push("a", b"content").await;
    }
    let digest = Digest::sha256(b"content");
    for uri in ["/v2/", "/v2/a/tags/list", &format!("/v2/a/blobs/{digest}"), "/elsewhere", "/v2/_catalog"] {
        for method in [Method::GET, Method::HEAD, Method::PUT] {
            let (status, mut headers, body) = observed.ask(method.clone(), uri, &[]).await;
            headers.remove(X_REQUEST_ID);
            assert_eq!((status, headers, body), plain.ask(method.clone(), uri, &[]).await, "{method} {uri}");
        }
    }
}
