//! `quinistry gc` on a bucket, as a user runs it.

use std::process::Output;
use std::time::Duration;

use quinistry::oci::Digest;
use quinistry_bucket::testing::{Fault, RequestKind, SentRequest};
use serde_json::Value;

use crate::client::{Client, Way};
use crate::stores::Replica;
use crate::support::process::{isolated_command, output};
use crate::support::server::PROGRAM;
use crate::support::stub_store::{ACCESS_KEY, SECRET_KEY, Shape, StubStore};

/// Returns the URL of a stub's bucket, and the variables by which its credentials are found.
fn place(stub: &StubStore) -> (String, Vec<(&'static str, String)>) {
    match stub.shape() {
        Shape::S3 => {
            let url = format!("s3://registry?region=us-east-1&pathstyle=true&endpoint={}", stub.endpoint());
            let keys =
                [("AWS_ACCESS_KEY_ID", ACCESS_KEY.into()), ("AWS_SECRET_ACCESS_KEY", SECRET_KEY.into())];
            (url, keys.to_vec())
        }
        Shape::Gcs => (stub.google_url("a"), vec![("GCE_METADATA_HOST", stub.address.to_string())]),
    }
}

/// Starts a replica on the bucket of a stub.
fn replica(stub: &StubStore) -> Replica {
    let (url, variables) = place(stub);
    let variables: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (*name, &value[..])).collect();
    Replica::on_url(&url, &variables)
}

/// Runs a command of `quinistry gc` on the bucket of a stub.
fn gc(stub: &StubStore, before: &[&str], after: &[&str]) -> Output {
    let (url, variables) = place(stub);
    let mut command = isolated_command(PROGRAM);
    command.envs(variables);
    output(command.arg("gc").args(before).arg(url).args(after)).unwrap()
}

/// Leads one cycle.
fn cycle(stub: &StubStore) -> Value {
    // The lead of the command before must have ended.
    stub.mem().clock().advance(Duration::from_secs(31));
    json(&gc(stub, &[], &["--writers", "ours", "-o", "json"]))
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
    condemn_wait_and_free(&StubStore::start(Shape::S3));
}

#[test]
fn cycles_on_google_storage_remove_versions_and_nothing_else() {
    let stub = StubStore::start(Shape::Gcs);
    condemn_wait_and_free(&stub);
    let is_content = |key: &str| key.contains("/blobs/") || key.contains("/_layers/");
    let sent = stub.log().take();
    let removals = sent.iter().filter(|sent| sent.kind == RequestKind::Delete && is_content(&sent.key));
    let conditions: Vec<bool> = removals.map(|removal| removal.is_conditional).collect();
    assert_eq!(conditions, [true, true]);
}

#[test]
fn a_removal_that_google_storage_carries_out_late_keeps_content_that_was_pushed_again() {
    let stub = StubStore::start(Shape::Gcs);
    let first = replica(&stub);
    let digest = Client::new(&[first.peer()], "app").push_blob(Way::Put, b"content");
    drop(first);
    for hours in [2, 12] {
        stub.mem().clock().advance(Duration::from_hours(hours));
        cycle(&stub);
    }
    stub.mem().clock().advance(Duration::from_hours(12));
    stub.log().take();
    stub.plan().spoil(RequestKind::Delete, "/blobs/", Fault::Stalled, 1);
    std::thread::scope(|scope| {
        let collector = scope.spawn(|| cycle(&stub));
        let is_removal =
            |sent: &SentRequest| sent.kind == RequestKind::Delete && sent.key.contains("/blobs/");
        while !stub.log().take().iter().any(is_removal) {
            assert!(!collector.is_finished(), "nothing is removed");
            std::thread::yield_now();
        }
        // Another collector has removed the content, and a client has pushed it again.
        let key = stub.mem().keys().into_iter().find(|key| key.contains(digest.hex())).unwrap();
        assert!(stub.mem().lose(&key));
        stub.mem().plant(&key, "content", stub.mem().clock().now());
        stub.plan().deliver();
    });
    assert!(has(&stub, &digest));
}

fn condemn_wait_and_free(stub: &StubStore) {
    let replica = replica(stub);
    let client = Client::new(&[replica.peer()], "app");
    let garbage = client.push_blob(Way::Put, b"garbage");
    // A dry run works beside a leading replica, and changes nothing.
    replica.server.log_line("this replica leads");
    let keys = stub.mem().keys();
    stub.mem().clock().advance(Duration::from_hours(2));
    let dry = json(&gc(stub, &[], &["--writers", "ours", "--dry-run", "-o", "json"]));
    assert_eq!((&dry["dryRun"], &dry["report"]["links"]["condemned"]), (&true.into(), &1.into()), "{dry}");
    let in_gc = |key: &String| key.contains("/_quinistry/gc/");
    assert_eq!(
        stub.mem().keys().iter().filter(|key| in_gc(key)).count(),
        keys.iter().filter(|key| in_gc(key)).count()
    );
    drop(replica);
    let missing = gc(stub, &[], &[]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("--writers ours"), "{missing:?}");
    stub.mem().clock().advance(Duration::from_secs(31));
    let first = cycle(stub);
    assert_eq!((&first["report"]["epoch"], &first["waitsUntil"]), (&1.into(), &Value::Null), "{first}");
    assert_eq!(first["report"]["links"]["condemned"], 1, "{first}");
    assert_eq!(json(&gc(stub, &["status"], &["-o", "json"])), first["report"]);
    let early = cycle(stub);
    assert!(early["report"].is_null() && early["waitsUntil"].is_string(), "{early}");
    assert!(has(stub, &garbage));
    stub.mem().clock().advance(Duration::from_hours(12));
    let second = cycle(stub);
    assert_eq!(second["report"]["links"]["doomed"], 1, "{second}");
    stub.mem().clock().advance(Duration::from_hours(12));
    cycle(stub);
    assert!(!has(stub, &garbage));
}
