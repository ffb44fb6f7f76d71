//! Tests of the lines, and of files that are rotated.

use super::*;
use crate::PeerProcess;
use crate::client_address::ClientAddress;
use std::time::SystemTime;

/// Longest wait for a condition that holds at once unless the code is wrong.
const PATIENCE: Duration = Duration::from_mins(1);

fn entry<'a>() -> AuditEntry<'a> {
    AuditEntry {
        time: SystemTime::UNIX_EPOCH + Duration::from_micros(1_136_214_245_123_456),
        request_id: Some("id-1"),
        client: Some(ClientAddress::Ip("192.0.2.1".parse().unwrap())),
        process: None,
        identity: Some("alice"),
        how: "password",
        actor: None,
        key: None,
        action: "push",
        repository: Some("team/app"),
        reference: Some("v1"),
        digest: None,
        decision: AuditDecision::Granted,
        rule: Some("config.yml:7:5"),
        status: Some(201),
        reason: None,
    }
}

fn line(entry: &AuditEntry<'_>) -> String {
    let mut text = Vec::new();
    entry.append_to(&mut text);
    String::from_utf8(text).unwrap()
}

#[test]
fn a_line_is_one_json_object() {
    assert_eq!(
        line(&entry()),
        "{\"time\":\"2006-01-02T15:04:05.123456Z\",\"request_id\":\"id-1\",\"client\":\"192.0.2.1\",\
         \"identity\":\"alice\",\"how\":\"password\",\"action\":\"push\",\"repository\":\"team/app\",\
         \"reference\":\"v1\",\"decision\":\"granted\",\"rule\":\"config.yml:7:5\",\"status\":201}\n"
    );
}

#[test]
fn an_action_of_the_registry_itself_names_the_part_that_acted() {
    let line = line(&AuditEntry { actor: Some("retention"), client: None, ..entry() });
    assert!(line.contains(r#""how":"password","actor":"retention","action""#), "{line}");
}

#[test]
fn a_client_of_a_unix_socket_has_its_process() {
    let unix = |pid| {
        let process = Some(PeerProcess { pid, uid: 1000, gid: 100 });
        line(&AuditEntry { client: Some(ClientAddress::Unix), process, ..entry() })
    };
    let told = unix(Some(4711));
    assert!(
        told.contains("\"client\":\"unix\",\"pid\":4711,\"uid\":1000,\"gid\":100,\"identity\""),
        "{told}"
    );
    let told = unix(None);
    assert!(told.contains("\"client\":\"unix\",\"uid\":1000,\"gid\":100,\"identity\""), "{told}");
}

#[test]
fn a_reload_is_granted_unless_it_is_refused() {
    let reload = |refusal| line(&AuditEntry::of_reload(entry().time, refusal));
    let time = "{\"time\":\"2006-01-02T15:04:05.123456Z\",\"how\":\"signal\",\"action\":\"reload\",";
    assert_eq!(reload(None), format!("{time}\"decision\":\"granted\"}}\n"));
    assert_eq!(
        reload(Some("no users")),
        format!("{time}\"decision\":\"denied\",\"reason\":\"no users\"}}\n")
    );
}

#[test]
fn row_103_names_are_escaped_and_cut_and_secrets_are_not_in_them() {
    let long = "x".repeat(1000);
    for (name, shown) in [
        ("a\0b\n\u{1b}[2J\u{202e}", "a\\u0000b\\n\\u001b[2J\\u202e"),
        (&*long, &long[..64]),
        ("qk_abc_s3cret", "***"),
        ("QK_ABC_S3CRET", "***"),
        ("eyJhbGciOi.s3cret", "***"),
    ] {
        let line = line(&AuditEntry { identity: Some(name), ..entry() });
        assert!(line.contains(&format!("\"identity\":\"{shown}\",")), "{line}");
        assert!(line.ends_with("}\n") && line.lines().count() == 1 && line.is_ascii(), "{line}");
    }
}

#[test]
fn a_key_is_masked_wherever_a_client_pastes_it() {
    let secret = "0123456789abcdef".repeat(5)[..72].to_owned();
    let key = format!("xqk_0123456789ab_{secret}");
    let upper = key.to_uppercase();
    let pasted = AuditEntry {
        identity: Some(&key),
        repository: Some(&key),
        reference: Some(&upper),
        reason: Some(&key),
        ..entry()
    };
    let line = line(&pasted);
    assert!(!line.to_lowercase().contains(&secret[..16]), "{line}");
    assert!(line.contains("\"repository\":\"xqk_0123456789ab_***\""), "{line}");
}

#[test]
fn lines_go_to_the_end_of_a_file_and_to_a_new_one_after_a_rotation() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    std::fs::write(&path, "before\n").unwrap();
    let log = AuditLog::start(AuditPlace::File(path.clone())).unwrap();
    let count = |path: &Path| std::fs::read_to_string(path).unwrap().lines().count();
    log.log(&entry());
    log.flush(PATIENCE);
    assert_eq!(count(&path), 2);
    let rotated = folder.path().join("audit.log.1");
    std::fs::rename(&path, &rotated).unwrap();
    log.log(&entry());
    log.reopen().unwrap();
    log.log(&entry());
    log.flush(PATIENCE);
    assert_eq!((count(&rotated), count(&path)), (3, 1));
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&path).unwrap());
    assert_eq!(mode & 0o777, 0o600);
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert!(log.reopen().is_err(), "the former file stays in use");
    log.log(&entry());
    log.flush(PATIENCE);
    assert_eq!(log.dropped(), 0);
}

#[test]
fn a_place_that_cannot_be_opened_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    assert!(AuditLog::start(AuditPlace::File(folder.path().to_owned())).is_err());
    assert!(AuditLog::start(AuditPlace::File(folder.path().join("absent/audit.log"))).is_err());
}

#[test]
fn a_pipe_is_refused_instead_of_blocking() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit");
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).unwrap();
    let error = AuditLog::start(AuditPlace::File(path)).unwrap_err();
    assert!(error.to_string().contains("is a pipe"), "{error}");
}
