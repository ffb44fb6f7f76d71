//! `quinistry gc` on a bucket, as a user runs it.

use std::process::Output;
use std::time::Duration;

use quinistry::oci::Digest;
use serde_json::Value;

use crate::client::{Client, Way};
use crate::stores::Replica;
use crate::support::process::{isolated_command, output};
use crate::support::server::PROGRAM;
use crate::support::stub_store::{Shape, StubStore};

/// Runs a command of `quinistry gc` on the bucket of a stub.
fn gc(stub: &StubStore, before: &[&str], after: &[&str]) -> Output {
    let url = format!("s3://registry?region=us-east-1&pathstyle=true&endpoint={}", stub.endpoint());
    let mut command = isolated_command(PROGRAM);
    command.env("AWS_ACCESS_KEY_ID", "AKIDSTUB").env("AWS_SECRET_ACCESS_KEY", "stub-secret-key");
    output(command.arg("gc").args(before).arg(url).args(after)).unwrap()
}

/// Returns the result of a command that must succeed.
fn json(done: &Output) -> Value {
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    serde_json::from_slice(&done.stdout).unwrap()
}

fn has(stub: &StubStore, digest: &Digest) -> bool {
    stub.mem().keys().iter().any(|key| key.contains("/blobs/") && key.contains(digest.hex()))
}

#[test]
fn cycles_from_the_command_line_condemn_wait_and_free() {
    let stub = StubStore::start(Shape::S3);
    let replica = Replica::start(&stub.section(""));
    let client = Client::new(&[replica.peer()], "app");
    let garbage = client.push_blob(Way::Put, b"garbage");
    // A dry run works beside a leading replica, and changes nothing.
    replica.server.log_line("this replica leads");
    let keys = stub.mem().keys();
    stub.mem().clock().advance(Duration::from_hours(2));
    let dry = json(&gc(&stub, &[], &["--writers", "ours", "--dry-run", "-o", "json"]));
    assert_eq!((&dry["dryRun"], &dry["report"]["links"]["condemned"]), (&true.into(), &1.into()), "{dry}");
    let in_gc = |key: &String| key.contains("/_quinistry/gc/");
    assert_eq!(
        stub.mem().keys().iter().filter(|key| in_gc(key)).count(),
        keys.iter().filter(|key| in_gc(key)).count()
    );
    drop(replica);
    let missing = gc(&stub, &[], &[]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("--writers ours"), "{missing:?}");
    stub.mem().clock().advance(Duration::from_secs(31));
    let cycle = || {
        // The lead of the command before must have ended.
        stub.mem().clock().advance(Duration::from_secs(31));
        json(&gc(&stub, &[], &["--writers", "ours", "-o", "json"]))
    };
    let first = cycle();
    assert_eq!((&first["report"]["epoch"], &first["waitsUntil"]), (&1.into(), &Value::Null), "{first}");
    assert_eq!(first["report"]["links"]["condemned"], 1, "{first}");
    assert_eq!(json(&gc(&stub, &["status"], &["-o", "json"])), first["report"]);
    let early = cycle();
    assert!(early["report"].is_null() && early["waitsUntil"].is_string(), "{early}");
    assert!(has(&stub, &garbage));
    stub.mem().clock().advance(Duration::from_hours(12));
    let second = cycle();
    assert_eq!(second["report"]["links"]["doomed"], 1, "{second}");
    stub.mem().clock().advance(Duration::from_hours(12));
    cycle();
    assert!(!has(&stub, &garbage));
}
