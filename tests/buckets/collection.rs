//! Collection on a bucket: `quinistry gc`, as a user runs it, and a replica whose clock is wrong.

use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use quinistry::oci::Digest;
use quinistry_bucket::testing::{RequestKind, StoreClock};
use serde_json::Value;

use crate::client::{Client, Way};
use crate::stores::{Replica, ReplicaSettings};
use crate::support::images::{Image, Packing};
use crate::support::process::{isolated_command, output};
use crate::support::server::PROGRAM;
use crate::support::stub_store::{ACCESS_KEY, SECRET_KEY, Shape, StubOptions, StubStore};

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

/// Policies of a registry that collects, but not by itself in these tests.
const POLICIES: &str = "quinistry: {gc: {writers: ours}, retention: {dryrun: false, maxdelete: 100%, policies: \
     [{repositories: [app], keeptags: [{patterns: ['v.*']}], untagged: {keepfor: 1h}}]}, protect: [{repositories: [app], \
     tags: [pr-protected]}], quotas: [{repositories: [app], bytes: 1GiB}]}\n";

/// Runs a command with a configuration file of a stub's bucket, an hour of grace after the former one.
fn configured(stub: &StubStore, arguments: &[&str]) -> Output {
    stub.mem().clock().advance(Duration::from_hours(13));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.yml");
    let text = format!(
        "version: 0.1\nlog: {{level: info}}\nstorage: {{{}}}\nhttp: {{addr: '127.0.0.1:0'}}\n{POLICIES}",
        stub.section("")
    );
    std::fs::write(&file, text).unwrap();
    let mut command = isolated_command(PROGRAM);
    output(command.args(arguments).arg(&file)).unwrap()
}

/// Returns true if some key has all of these parts.
fn has_key(stub: &StubStore, parts: &[&str]) -> bool {
    stub.mem().keys().iter().any(|key| parts.iter().all(|part| key.contains(part)))
}

#[test]
fn cycles_with_a_configuration_follow_its_policies_as_a_registry_does() {
    let stub = StubStore::start(Shape::S3);
    let replica = Replica::start(&stub.section(""));
    let (app, other) = (Client::new(&[replica.peer()], "app"), Client::new(&[replica.peer()], "other"));
    let image = |name: &str| Image::new(name, &[name], Packing::Plain);
    for tag in ["pr-7", "pr-protected", "v1"] {
        app.push(Way::Put, tag, &image(tag));
    }
    let untagged = image("untagged");
    let digest = Digest::sha256(&untagged.manifest).to_string();
    app.push(Way::Put, &digest, &untagged);
    other.push(Way::Put, &digest, &untagged);
    drop(replica);
    let is_tagged = |tag: &str| has_key(&stub, &["/app/_manifests/tags/", &format!("/{tag}/current/link")]);
    // A preview changes nothing, and policies that are new are only judged once.
    let keys = stub.mem().keys();
    let preview = configured(&stub, &["garbage-collect", "--dry-run"]);
    assert!(preview.status.success(), "{}", String::from_utf8_lossy(&preview.stderr));
    assert_eq!(stub.mem().keys(), keys);
    let first = json(&configured(&stub, &["gc", "-o", "json", "--config"]));
    assert_eq!(first["report"]["revisions"]["condemned"], 0, "{first}");
    assert!(is_tagged("pr-7"));
    // The next cycle deletes the tag that no rule keeps, and condemns by the policies.
    let second = json(&configured(&stub, &["gc", "-o", "json", "--config"]));
    assert!(!is_tagged("pr-7") && is_tagged("pr-protected") && is_tagged("v1"));
    let condemned = |report: &Value, repository: &str| {
        report["report"]["byRepository"][repository]["revisions"]["condemned"].as_u64().unwrap_or(0)
    };
    assert_eq!((condemned(&second, "app"), condemned(&second, "other")), (2, 0), "{second}");
    assert!(has_key(&stub, &["/_quinistry/audit/"]), "the deletion has a record");
    assert!(has_key(&stub, &["/_quinistry/usage/marked"]), "quotas have a base");
    // With -m, manifests without a tag go where no policy decides.
    let third = configured(&stub, &["garbage-collect", "-m"]);
    assert!(third.status.success(), "{}", String::from_utf8_lossy(&third.stderr));
    let report = json(&gc(&stub, &["status"], &["-o", "json"]));
    assert_eq!(report["byRepository"]["app"]["revisions"]["doomed"], 2, "{report}");
    assert_eq!(report["byRepository"]["other"]["revisions"]["condemned"], 1, "{report}");
    // A configuration names the storage of the other commands, too.
    let status = json(&configured(&stub, &["gc", "status", "-o", "json", "--config"]));
    assert_eq!(status, report);
    let fsck = configured(&stub, &["fsck", "--config"]);
    assert!(fsck.status.success(), "{}", String::from_utf8_lossy(&fsck.stdout));
}

#[test]
fn a_command_refuses_writers_that_differ_from_its_configuration() {
    let stub = StubStore::start(Shape::S3);
    let refused = configured(&stub, &["gc", "--writers", "foreign", "--config"]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains("--writers differs from quinistry.gc.writers"), "{said}");
}

/// Collection whose cycles follow each other soon.
const SHORT: &str = "quinistry: {gc: {writers: ours, interval: 8s, grace: 8s, rate: 1000}}\n";
const SHORT_LIMITS: [(&str, &str); 2] =
    [("QUINISTRY_GC_MIN_GRACE", "3"), ("QUINISTRY_GC_VIEW_LIFETIME", "2")];

/// Time for three cycles on a busy machine.
const CYCLES_TIMEOUT: Duration = Duration::from_mins(4);

/// Serves from a store with a clock, until garbage is gone that was pushed beside a blob which a client asks for again and
/// again. The client then brings the manifest of that blob.
fn collect_by(clock: &StoreClock) {
    let mut options = StubOptions::new(Shape::S3);
    options.clock = clock.clone();
    let stub = StubStore::with(options);
    let settings =
        ReplicaSettings { sections: SHORT, variables: &SHORT_LIMITS, ..ReplicaSettings::default() };
    let replica = Replica::with(&stub.section(""), settings);
    let log = replica.server.log();
    assert!(log.contains("clock differs from that of the object store"), "{log}");
    let client = Client::new(&[replica.peer()], "app");
    let image = Image::new("held", &["held"], Packing::Plain);
    let garbage = client.push_blob(Way::Put, b"garbage");
    let held: Vec<Digest> = image.blobs().map(|(_, bytes)| client.push_blob(Way::Put, bytes)).collect();
    let begun = Instant::now();
    while has(&stub, &garbage) {
        assert!(begun.elapsed() < CYCLES_TIMEOUT, "garbage stays: {}", replica.server.log());
        for digest in &held {
            assert_eq!(client.head(&format!("blobs/{digest}")).status, 200, "{digest} was held");
        }
        thread::sleep(Duration::from_millis(200));
    }
    let answer = client.put_manifest("held", &image.manifest);
    assert_eq!(answer.status, 201, "{answer:?}");
    client.assert_image("held", &image);
}

#[test]
fn a_replica_whose_clock_is_two_days_behind_frees_garbage_and_nothing_that_is_held() {
    let clock = StoreClock::system();
    clock.advance(Duration::from_hours(48));
    collect_by(&clock);
}

#[test]
fn a_replica_whose_clock_is_two_days_ahead_frees_garbage_and_nothing_that_is_held() {
    let clock = StoreClock::stopped(SystemTime::now() - Duration::from_hours(48));
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let begun = Instant::now();
                thread::sleep(Duration::from_millis(10));
                clock.advance(begun.elapsed());
            }
        });
        let collected = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| collect_by(&clock)));
        is_over.store(true, Ordering::Relaxed);
        collected.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}
