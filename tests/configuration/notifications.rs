//! Events to a receiver: beside those of distribution for the same session, and as administrators meet them.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use quinistry::oci::Digest;
use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};
use rustix::process::Signal;
use serde_json::Value;

use super::program::{Given, Place, Program, Registry};
use crate::support::certificates::{Certificates, Profile};
use crate::support::http::{Answer, Peer, TEST_TIMEOUT};
use crate::support::ports::reserved_address;

/// User of the sessions, whose password is that of [`PASSWORDS`](super::tls::PASSWORDS).
const AUTHORIZATION: (&str, &str) = ("Authorization", "Basic YWxpY2U6cmlnaHQtb3g0S3E=");

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Text in place of a value that differs each time.
const MASK: &str = "MASK";

/// Request to a receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Received {
    /// Header lines in lower case, without the request line.
    headers: Vec<String>,
    body: String,
}

/// Receiver that accepts everything, until the test ends.
struct Receiver {
    address: SocketAddr,
    requests: Arc<(Mutex<Vec<Received>>, Condvar)>,
}

// === impl Receiver ===

impl Receiver {
    fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let receiver = Self { address: listener.local_addr().unwrap(), requests: Arc::default() };
        let requests = receiver.requests.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, requests) = (stream.unwrap(), requests.clone());
                thread::spawn(move || receive(&stream, &requests));
            }
        });
        receiver
    }

    /// Waits for so many requests, and returns all that came.
    fn requests(&self, count: usize) -> Vec<Received> {
        let (requests, came) = &*self.requests;
        let requests = requests.lock().unwrap();
        let are_missing = |requests: &mut Vec<Received>| requests.len() < count;
        let (requests, result) = came.wait_timeout_while(requests, TEST_TIMEOUT, are_missing).unwrap();
        assert!(!result.timed_out(), "{} of {count} requests: {requests:?}", requests.len());
        requests.clone()
    }
}

/// Reads requests until the client ends the connection.
fn receive(stream: &TcpStream, (requests, came): &(Mutex<Vec<Received>>, Condvar)) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let line = line.trim_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            lines.push(line);
        }
        let length = lines.iter().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        reader.read_exact(&mut body)?;
        lines.remove(0);
        let body = String::from_utf8(body).unwrap();
        requests.lock().unwrap().push(Received { headers: lines, body });
        came.notify_all();
        (&mut &*stream).write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
    }
}

/// Client of a session, which counts the events that its requests make.
struct Session {
    peer: Peer,
    events: usize,
}

impl Session {
    fn ask(&mut self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let headers: Vec<_> = [AUTHORIZATION, ("User-Agent", "test/1 <&>")]
            .into_iter()
            .chain(headers.iter().copied())
            .collect();
        self.peer.ask(method, target, &headers, body)
    }

    /// Sends a request that must have this status, and makes so many events.
    fn expect(
        &mut self,
        (status, events): (u16, usize),
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) {
        let answer = self.ask(method, target, headers, body);
        assert_eq!(answer.status, status, "{method} {target}: {answer:?}");
        self.events += events;
    }

    fn push_blob(&mut self, repository: &str, bytes: &[u8]) -> Digest {
        let digest = Digest::sha256(bytes);
        let target = format!("/v2/{repository}/blobs/uploads/");
        let begun = self.ask("POST", &target, &[("Content-Length", "0")], b"");
        assert_eq!(begun.status, 202, "{begun:?}");
        let location = begun.header("location").unwrap();
        let path = location.split_once("://").map_or(location, |(_, rest)| &rest[rest.find('/').unwrap()..]);
        let separator = if path.contains('?') { '&' } else { '?' };
        let target = format!("{path}{separator}digest={digest}");
        self.expect((201, 1), "PUT", &target, &[("Content-Type", "application/octet-stream")], bytes);
        digest
    }
}

/// Pushes, mounts, pulls, asks and deletes. Returns the number of events.
fn session(peer: Peer, deletes_tags: bool) -> usize {
    let mut session = Session { peer, events: 0 };
    let config = session.push_blob("a/b", b"{}");
    let layer = session.push_blob("a/b", b"layer");
    let mount = format!("/v2/c/d/blobs/uploads/?mount={layer}&from=a/b");
    session.expect((201, 1), "POST", &mount, &[("Content-Length", "0")], b"");
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "application/x.y",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2},
        "layers": [{
            "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer, "size": 5,
            "annotations": {"b": "2", "a": "<x>& \u{2028}\u{e4}\""},
        }],
        "annotations": {"k": "v"},
    })
    .to_string();
    let digest = Digest::sha256(manifest.as_bytes());
    let by_digest = format!("/v2/a/b/manifests/{digest}");
    let accept = [("Accept", MANIFEST)];
    let content = [("Content-Type", MANIFEST)];
    session.expect((201, 1), "PUT", "/v2/a/b/manifests/v1", &content, manifest.as_bytes());
    session.expect((201, 1), "PUT", &by_digest, &content, manifest.as_bytes());
    let index = serde_json::json!({
        "schemaVersion": 2, "mediaType": INDEX,
        "manifests": [{
            "mediaType": MANIFEST, "digest": digest, "size": manifest.len(),
            "platform": {"architecture": "arm64", "os": "linux", "variant": "v8"},
        }],
    })
    .to_string();
    session.expect((201, 1), "PUT", "/v2/a/b/manifests/all", &[("Content-Type", INDEX)], index.as_bytes());
    for method in ["GET", "HEAD"] {
        session.expect((200, 1), method, "/v2/a/b/manifests/v1", &accept, b"");
        session.expect((200, 1), method, &by_digest, &accept, b"");
        session.expect((200, 1), method, &format!("/v2/a/b/blobs/{layer}"), &[], b"");
    }
    session.expect((206, 1), "GET", &format!("/v2/a/b/blobs/{layer}"), &[("Range", "bytes=0-1")], b"");
    session.expect((200, 0), "GET", "/v2/a/b/tags/list", &[], b"");
    session.expect((404, 0), "GET", "/v2/a/b/manifests/absent", &accept, b"");
    let etag = format!("\"{digest}\"");
    session.expect((304, 0), "GET", &by_digest, &[("Accept", MANIFEST), ("If-None-Match", &etag)], b"");
    if deletes_tags {
        session.expect((202, 1), "DELETE", "/v2/a/b/manifests/all", &[], b"");
    }
    // The manifest, and then its tag.
    session.expect((202, 2), "DELETE", &by_digest, &[], b"");
    session.expect((202, 1), "DELETE", &format!("/v2/a/b/blobs/{layer}"), &[], b"");
    session.events
}

/// Starts a program that sends events, and returns those of a session.
fn events_of(program: Program, endpoint: &str, deletes_tags: bool) -> Option<Vec<Received>> {
    let (place, receiver) = (Place::new(), Receiver::start());
    std::fs::write(place.path("htpasswd"), super::tls::PASSWORDS).unwrap();
    let file = format!(
        "version: 0.1\nstorage: {{filesystem: {{rootdirectory: '{{root}}'}}, delete: {{enabled: true}}}}\n\
         http: {{addr: '{{addr}}'}}\nauth: {{htpasswd: {{realm: Test, path: '{{folder}}/htpasswd'}}}}\n\
         notifications:\n  events: {{includereferences: true}}\n  endpoints:\n  - name: a\n    \
         url: 'http://user:password@{}/hook'\n    headers: {{X-Test: [one]}}\n    {endpoint}\n",
        receiver.address
    );
    let registry = place.serve(program, Given { file: Some(&file), ..Given::default() })?;
    let count = session(registry.peer, deletes_tags);
    let requests = receiver.requests(count);
    assert_eq!(requests.len(), count, "{program:?}: {requests:#?}");
    Some(requests)
}

/// Masks identifiers, times and addresses in an envelope, and nothing else.
fn normalised(request: &Received) -> String {
    let value: Value = serde_json::from_str(&request.body).unwrap();
    let event = &value["events"][0];
    let instance = &event["source"]["instanceID"];
    let mut body = request.body.clone();
    for masked in
        [&event["id"], &event["timestamp"], &event["request"]["id"], &event["request"]["addr"], instance]
    {
        body = body.replace(masked.as_str().unwrap(), MASK);
    }
    // The port is that of the registry, in several fields.
    let (_, port) = event["source"]["addr"].as_str().unwrap().rsplit_once(':').unwrap();
    body.replace(&format!(":{port}\""), &format!(":{MASK}\""))
}

fn header<'a>(request: &'a Received, name: &str) -> Option<&'a str> {
    request.headers.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

fn assert_same(ours: &[Received], theirs: &[Received]) {
    assert_eq!(ours.len(), theirs.len());
    for (ours, theirs) in ours.iter().zip(theirs) {
        assert_eq!(normalised(ours), normalised(theirs));
        for name in ["content-type", "authorization", "x-test"] {
            assert_eq!(header(ours, name), header(theirs, name), "{name}");
        }
    }
}

#[test]
fn envelopes_are_those_of_distribution_3() {
    let ours = events_of(Program::Ours, "", true).expect("this program is there");
    let Some(theirs) = events_of(Program::Third, "", true) else { return };
    assert_same(&ours, &theirs);
    assert_eq!(header(&ours[0], "content-type"), Some("application/vnd.docker.distribution.events.v2+json"));
    let event: Value = serde_json::from_str(&ours[0].body).unwrap();
    assert_eq!(event["events"][0]["actor"]["name"], "alice");
}

#[test]
fn envelopes_of_version_1_are_those_of_distribution_2_8() {
    let ours = events_of(Program::Ours, "quinistry: {mediatype: v1}", false).expect("this program is there");
    let Some(theirs) = events_of(Program::Second, "", false) else { return };
    assert_same(&ours, &theirs);
}

/// Address on which no program listens, and which no other can take as long as the socket is there.
fn absent_receiver() -> (OwnedFd, SocketAddr) {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = SocketAddr::try_from(getsockname(&socket).unwrap()).unwrap();
    (socket, address)
}

/// Configuration with one endpoint, whose keys the test gives.
fn configuration(endpoint: &str) -> String {
    format!(
        "version: 0.1\nstorage: {{filesystem: {{rootdirectory: '{{root}}'}}, delete: {{enabled: true}}}}\n\
         http: {{addr: '{{addr}}', debug: {{addr: '{{debug}}', prometheus: {{enabled: true}}}}}}\n\
         notifications: {{endpoints: [{{name: hook, {endpoint}}}]}}\n"
    )
}

/// Starts the program on a configuration. Returns also the place of the debug listener.
fn serve(place: &Place, endpoint: &str) -> (Registry, Peer) {
    let debug = reserved_address();
    let file = configuration(endpoint).replace("{debug}", &debug.to_string());
    (place.serve_ours(Given { file: Some(&file), ..Given::default() }), Peer(debug))
}

fn push_blob(peer: Peer, bytes: &[u8]) -> Digest {
    let digest = Digest::sha256(bytes);
    let target = format!("/v2/a/blobs/uploads/?digest={digest}");
    assert_eq!(peer.ask("POST", &target, &[], bytes).status, 201);
    digest
}

fn digests(requests: &[Received]) -> Vec<String> {
    let digest = |request: &Received| {
        let envelope: Value = serde_json::from_str(&request.body).unwrap();
        envelope["events"][0]["target"]["digest"].as_str().unwrap().to_owned()
    };
    requests.iter().map(digest).collect()
}

#[test]
fn row_149_neither_log_nor_debug_listener_shows_a_secret() {
    let place = Place::new();
    let (_socket, away) = absent_receiver();
    let endpoint = format!(
        "url: 'http://user:hunter2@{away}/hunter2?token=hunter2', headers: {{Authorization: [Bearer hunter2]}}, \
         backoff: 10ms, threshold: 1"
    );
    let (registry, debug) = serve(&place, &endpoint);
    push_blob(registry.peer, b"{}");
    registry.wait_for_log("cannot send event", 1);
    let vars = debug.get("/debug/vars");
    let shown = &vars.json()["registry"]["notifications"]["endpoints"][0];
    assert_eq!((&shown["name"], &shown["Metrics"]["Pending"]), (&"hook".into(), &1.into()));
    assert_eq!(shown["url"], format!("http://{away}/***"));
    let page = debug.get("/metrics");
    assert!(page.text().contains("registry_notifications_pending_total{endpoint=\"hook\"} 1\n"));
    let everything = format!("{}{}{}", registry.log(), vars.text(), page.text());
    assert!(!everything.contains("hunter2") && everything.contains("endpoint=hook"), "{everything}");
}

#[test]
fn pulls_through_an_upstream_are_events_whether_content_is_stored_or_not() {
    let (origin, place, receiver) = (Place::new(), Place::new(), Receiver::start());
    let served = "version: 0.1\nstorage: {inmemory: {}}\nhttp: {addr: '{addr}'}\n";
    let origin = origin.serve_ours(Given { file: Some(served), ..Given::default() });
    let config = push_blob(origin.peer, b"{}");
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","layers":[],"config":{{"digest":"{config}","size":2,
        "mediaType":"application/vnd.oci.image.config.v1+json"}}}}"#
    );
    let digest = Digest::sha256(manifest.as_bytes());
    let put =
        origin.peer.ask("PUT", "/v2/a/manifests/v1", &[("Content-Type", MANIFEST)], manifest.as_bytes());
    assert_eq!(put.status, 201);
    let file = format!(
        "{}quinistry: {{upstreams: [{{prefix: hub, remoteurl: 'http://{}', insecure: true}}]}}\n",
        configuration(&format!("url: 'http://{}/'", receiver.address))
            .replace("{debug}", &reserved_address().to_string()),
        origin.peer.0
    );
    let mirror = place.serve_ours(Given { file: Some(&file), ..Given::default() });
    for (method, path) in [
        ("HEAD", "manifests/v1".to_owned()),
        ("GET", format!("manifests/{digest}")),
        ("GET", "manifests/v1".to_owned()),
        ("HEAD", format!("blobs/{config}")),
        ("GET", format!("blobs/{config}")),
    ] {
        let target = format!("/v2/hub/a/{path}");
        assert_eq!(mirror.peer.ask(method, &target, &[], b"").status, 200, "{method} {path}");
    }
    let found: Vec<_> = receiver
        .requests(5)
        .iter()
        .map(|request| {
            let event: Value = serde_json::from_str::<Value>(&request.body).unwrap()["events"][0].take();
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let (request, target) = (&event["request"], &event["target"]);
            [&request["method"], &target["repository"], &target["digest"], &target["tag"]].map(text)
        })
        .collect();
    // As of local content, a pull by digest has no tag.
    let (digest, config) = (digest.as_str(), config.as_str());
    let expected = [
        ["HEAD", "hub/a", digest, "v1"],
        ["GET", "hub/a", digest, ""],
        ["GET", "hub/a", digest, "v1"],
        ["HEAD", "hub/a", config, ""],
        ["GET", "hub/a", config, ""],
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_reload_sends_what_waits_to_the_new_place() {
    let (place, receiver) = (Place::new(), Receiver::start());
    let (_socket, away) = absent_receiver();
    let (registry, debug) = serve(&place, &format!("url: 'http://{away}/', backoff: 1h, threshold: 1"));
    let mut pushed: Vec<String> =
        (0..3_u8).map(|byte| push_blob(registry.peer, &[byte]).to_string()).collect();
    registry.wait_for_log("cannot send event", 1);
    let file = configuration(&format!("url: 'http://{}/'", receiver.address));
    place.write_file(&file.replace("{debug}", &debug.0.to_string()), registry.peer);
    registry.signal(Signal::HUP);
    registry.wait_for_log("configuration reloaded", 1);
    pushed.push(push_blob(registry.peer, b"later").to_string());
    assert_eq!(digests(&receiver.requests(4)), pushed);
}

#[test]
fn a_stop_sends_what_waits_and_counts_the_rest() {
    let (place, receiver) = (Place::new(), Receiver::start());
    let (registry, _) = serve(&place, &format!("url: 'http://{}/'", receiver.address));
    let pushed: Vec<String> = (0..50_u8).map(|byte| push_blob(registry.peer, &[byte]).to_string()).collect();
    assert!(registry.stop().success());
    assert_eq!(digests(&receiver.requests(0)), pushed);

    let place = Place::new();
    let (_socket, away) = absent_receiver();
    let (registry, _) = serve(&place, &format!("url: 'http://{away}/', backoff: 1h, threshold: 1"));
    push_blob(registry.peer, b"1");
    push_blob(registry.peer, b"2");
    registry.signal(Signal::TERM);
    registry.wait_for_log("registry stops, events not sent events=2", 1);
}

#[test]
fn a_receiver_over_https_needs_an_authority_that_is_trusted() {
    let Some(certificates) = Certificates::new() else { return };
    let pair = certificates.self_signed("receiver", Profile::default());
    // A registry is a receiver, too: it has no such path.
    let other = Place::new();
    let receiver = super::tls::serve(&other, &pair, "");
    let url = format!("url: 'https://{}/hook', threshold: 1, backoff: 1h", receiver.peer.0);
    let ca = format!("{url}, quinistry: {{ca: '{}'}}", pair.certificate.display());
    for (endpoint, problem) in [(&url, "certificate"), (&ca, "receiver answered 404")] {
        let place = Place::new();
        let (registry, _) = serve(&place, endpoint);
        push_blob(registry.peer, b"{}");
        registry.wait_for_log("cannot send events", 1);
        let log = registry.log();
        let line = log.lines().find(|line| line.contains("cannot send events")).unwrap();
        assert!(line.contains(problem), "{line}");
    }

    let place = Place::new();
    let file =
        configuration("url: 'https://h', quinistry: {ca: /absent.pem}").replace("{debug}", "127.0.0.1:1");
    let (code, log) = place.refuse_ours(Given { file: Some(&file), ..Given::default() });
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("endpoint hook of notifications") && log.contains("/absent.pem"), "{log}");
}
