//! Lines of the audit log.

use std::time::Duration;

use futures_util::FutureExt as _;
use quinistry_http::audit_log::{AuditLog, AuditPlace};
use serde_json::Value;

use super::*;
use crate::Audit;

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
