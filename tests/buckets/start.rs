//! Starts on a bucket: stores that break their guarantees are refused, and many objects cost nothing.

use std::fs;
use std::time::{Duration, SystemTime};

use quinistry_bucket::testing::{HonoredConditions, MemOptions};

use crate::client::Client;
use crate::stores::{Replica, ReplicaSettings, configuration};
use crate::support::process::{command, output};
use crate::support::server::PROGRAM;
use crate::support::stub_store::{BucketSettings, Shape, StubOptions, StubStore};

/// Starts the program on a store that it must refuse, and returns the error.
#[track_caller]
pub(crate) fn refusal(section: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.yml");
    fs::write(&config, configuration(section, ReplicaSettings::default())).unwrap();
    let ended = output(command(PROGRAM).arg("serve").arg(&config)).unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(!ended.status.success(), "the program serves: {said}");
    said
}

fn stub_with(change: impl FnOnce(&mut MemOptions)) -> StubStore {
    let mut options = StubOptions::new(Shape::S3);
    change(&mut options.mem);
    StubStore::with(options)
}

#[test]
fn row_220_a_store_that_ignores_conditions_of_creates_is_refused() {
    let stub = stub_with(|mem| mem.conditions = HonoredConditions::Nothing);
    let said = refusal(&stub.section(""));
    assert!(said.contains("exclusive"), "{said}");
}

#[test]
fn row_221_a_store_whose_lists_lag_is_refused() {
    let stub = stub_with(|mem| mem.list_lag = Duration::from_secs(2));
    let said = refusal(&stub.section(""));
    assert!(said.contains("list"), "{said}");
}

#[test]
fn an_absent_bucket_is_named() {
    let stub = StubStore::start(Shape::S3);
    let said = refusal(&stub.section("").replace("bucket: registry", "bucket: another"));
    assert!(said.contains("another"), "{said}");
}

#[test]
fn wrong_credentials_are_named_without_their_secret() {
    let stub = StubStore::start(Shape::S3);
    let section =
        stub.section("").replace("AKIDSTUB", "AKIDOTHER").replace("stub-secret-key", "hidden-secret");
    let said = refusal(&section);
    assert!(said.contains("InvalidAccessKeyId") && !said.contains("hidden-secret"), "{said}");
}

#[test]
fn settings_of_a_bucket_that_cost_money_or_secrets_are_warned_of() {
    let settings = BucketSettings { is_versioned: true, is_public: true, ..BucketSettings::default() };
    let stub = StubStore::with(StubOptions { settings, ..StubOptions::new(Shape::S3) });
    let replica = Replica::start(&stub.section(""));
    let log = replica.server.log();
    for word in ["keeps versions", "incomplete uploads", "is public"] {
        assert!(log.contains(word), "{word} in {log}");
    }
}

#[test]
fn a_start_on_a_hundred_thousand_objects_walks_none_of_them() {
    let stub = StubStore::start(Shape::S3);
    let now = SystemTime::now();
    for number in 0..100_000 {
        let hex = format!("{number:064x}");
        stub.mem().plant(&format!("docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]), "x", now);
    }
    let empty = StubStore::start(Shape::S3);
    let requests = |stub: &StubStore| {
        let replica = Replica::start(&stub.section(""));
        assert_eq!(replica.peer().get("/v2/").status, 200);
        stub.log().counts().total()
    };
    let (many, few) = (requests(&stub), requests(&empty));
    // The work of the leader goes on in the background.
    assert!(many <= few + 30, "{many} requests with 100,000 objects, {few} with none");
}

#[test]
fn a_replica_without_its_own_clock_signs_by_that_of_the_store() {
    let options = StubOptions::new(Shape::S3);
    options.clock.advance(Duration::from_hours(48));
    let stub = StubStore::with(options);
    let replica = Replica::start(&stub.section(""));
    let log = replica.server.log();
    assert!(log.contains("clock differs from that of the object store, signing with the store's"), "{log}");
    Client::new(&[replica.peer()], "app").push_blob(crate::client::Way::Put, b"content");
}
