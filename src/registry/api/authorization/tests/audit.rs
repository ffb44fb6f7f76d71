//! Lines of the audit log.

use std::time::Duration;

use futures_util::FutureExt as _;
use quinistry_http::audit_log::{AuditLog, AuditPlace};
use quinistry_http::{Peer, PeerProcess};
use serde_json::Value;

use super::*;
use crate::{Audit, Observer};

/// Runs a session, and returns its lines.
async fn record(pulls: bool, session: &[(&str, &str, &str)]) -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let log = AuditLog::start(AuditPlace::File(path.clone())).unwrap();
    let audit = Some(Audit { log: log.clone(), pulls });
    let registry = Registry::new(Settings { audit, ..settings(rules(), own_tokens()) });
    registry.fill("team/app", &["old"]);
    registry.fill("public/app", &["v1"]);
    for (who, method, path) in session {
        let body = if *method == "PUT" { Body::from(manifest(2)) } else { Body::empty() };
        let answer = registry.send(method, path, who, body);
        if *who == "pending" {
            // The client leaves.
            assert!(answer.now_or_never().is_none());
        } else {
            answer.await;
        }
    }
    log.flush(Duration::from_mins(1));
    let text = std::fs::read_to_string(path).unwrap();
    for secret in [PASSWORD, "token-of-alice", "key-of-alice"] {
        assert!(!text.contains(secret), "{text}");
    }
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Returns the fields that tell what happened.
fn brief(lines: &[Value]) -> Vec<String> {
    let text = |line: &Value, field: &str| match &line[field] {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let fields = ["identity", "how", "action", "repository", "reference", "decision", "rule", "status"];
    lines.iter().map(|line| fields.map(|field| text(line, field)).join(" ")).collect()
}

#[tokio::test]
async fn writes_refusals_failed_logins_and_keys_are_recorded() {
    let session = [
        ("anonymous", "GET", "/v2/"),
        ("bob", "GET", "/v2/"),
        ("anonymous", "GET", "/v2/public/app/manifests/v1"),
        ("anonymous", "GET", "/v2/team/app/manifests/old"),
        ("stranger", "GET", "/v2/"),
        ("bob", "PUT", "/v2/team/app/manifests/new"),
        ("bob", "PUT", "/v2/team/app/manifests/old"),
        ("bob", "GET", "/v2/team/secret/app/manifests/v1"),
        ("bob", "DELETE", "/v2/team/app/manifests/new"),
        ("key-of-alice", "GET", "/v2/team/app/manifests/old"),
        // A token that was issued for a key.
        ("token-of-alice", "GET", "/v2/team/app/manifests/old"),
    ];
    let lines = record(false, &session).await;
    let expected = [
        "- anonymous pull team/app old denied - 401",
        "stranger none login - - denied - 401",
        "bob password push team/app new granted c.yml:4:5 201",
        "bob password push team/app old denied - 403",
        "bob password pull team/secret/app v1 denied - 403",
        "bob password delete team/app new granted c.yml:4:5 202",
        "alice key pull team/app old granted c.yml:3:5 200",
        "alice token pull team/app old granted c.yml:3:5 200",
    ];
    assert_eq!(brief(&lines), expected);
    assert_eq!((&lines[6]["key"], &lines[7]["key"]), (&"k1".into(), &"k2".into()));
    assert_eq!(lines[1]["reason"], "unknown");
    assert_eq!(lines[2]["digest"], Digest::sha256(&manifest(2)).to_string());
}

#[tokio::test]
async fn a_client_of_a_unix_socket_is_recorded_with_its_process_unless_a_proxy_stands_between() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let log = AuditLog::start(AuditPlace::File(path.clone())).unwrap();
    let trusted_proxies = TrustedProxies::parse(["unix"]).unwrap();
    let observer = Some(Arc::new(Observer { trusted_proxies, ..Observer::default() }));
    let audit = Some(Audit { log: log.clone(), pulls: false });
    let registry = Registry::new(Settings { audit, observer, ..settings(rules(), own_tokens()) });
    let process = PeerProcess { pid: Some(4711), uid: 1000, gid: 100 };
    let tcp = Peer::from("192.0.2.7:1".parse::<std::net::SocketAddr>().unwrap());
    for (peer, forwarded) in [
        (Peer::Unix(Some(process)), None),
        (Peer::Unix(Some(process)), Some("192.0.2.1")),
        (Peer::Unix(None), None),
        (tcp, None),
    ] {
        let request = Request::builder().method("PUT").uri("/v2/team/app/manifests/new").extension(peer);
        let request =
            forwarded.iter().fold(request, |request, client| request.header("x-forwarded-for", *client));
        registry.request(request.header(HOST, "registry.test").body(Body::empty()).unwrap()).await;
    }
    log.flush(Duration::from_mins(1));
    let text = std::fs::read_to_string(path).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<_> =
        lines.iter().map(|line| [&line["client"], &line["pid"], &line["uid"], &line["gid"]]).collect();
    let none = [Value::Null, Value::Null, Value::Null];
    let with = |client: &str, process: &[Value; 3]| {
        let [pid, uid, gid] = process.clone();
        [client.into(), pid, uid, gid]
    };
    let expected: [[Value; 4]; 4] = [
        with("unix", &[4711.into(), 1000.into(), 100.into()]),
        with("192.0.2.1", &none),
        with("unix", &none),
        with("192.0.2.7", &none),
    ];
    assert_eq!(told, expected.each_ref().map(<[Value; 4]>::each_ref), "{text}");
}

#[tokio::test]
async fn a_request_that_ends_before_the_decision_was_not_granted() {
    let session = [("pending", "PUT", "/v2/team/app/manifests/new")];
    assert_eq!(brief(&record(false, &session).await), ["- none push team/app new unknown - 499"]);
}

#[tokio::test]
async fn pulls_are_recorded_where_they_are_asked_for() {
    let session = [("anonymous", "GET", "/v2/"), ("carol", "GET", "/v2/public/app/manifests/v1")];
    assert_eq!(brief(&record(false, &session).await), [""; 0]);
    let expected = ["carol password pull public/app v1 granted c.yml:2:5 200"];
    assert_eq!(brief(&record(true, &session).await), expected);
}
