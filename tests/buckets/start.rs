//! Starts on a bucket: stores that break their guarantees are refused, and many objects cost nothing.

use std::thread;
use std::time::{Duration, Instant, SystemTime};

use quinistry_bucket::testing::{HonoredConditions, MemOptions, SentRequest};

use crate::client::Client;
use crate::stores::{Replica, ReplicaSettings, is_background, refusal};
use crate::support::http::TEST_TIMEOUT;
use crate::support::stub_store::{BucketSettings, Shape, StubOptions, StubStore};

fn stub_with(change: impl FnOnce(&mut MemOptions)) -> StubStore {
    let mut options = StubOptions::new(Shape::S3);
    change(&mut options.mem);
    StubStore::with(options)
}

#[test]
fn row_220_a_store_that_ignores_conditions_of_creates_is_refused() {
    let stub = stub_with(|mem| mem.conditions = HonoredConditions::Nothing);
    let said = refusal(&stub.section(""), ReplicaSettings::default());
    assert!(said.contains("ignores If-None-Match") && said.contains("exclusive"), "{said}");
}

#[test]
fn row_221_a_store_whose_lists_lag_is_refused() {
    let stub = stub_with(|mem| mem.list_lag = Duration::from_hours(1));
    let said = refusal(&stub.section(""), ReplicaSettings::default());
    assert!(said.contains("list"), "{said}");
}

#[test]
fn an_absent_bucket_is_named() {
    let stub = StubStore::start(Shape::S3);
    let section = stub.section("").replace("bucket: registry", "bucket: another");
    let said = refusal(&section, ReplicaSettings::default());
    assert!(said.contains("another"), "{said}");
}

#[test]
fn wrong_credentials_are_named_without_their_secret() {
    let stub = StubStore::start(Shape::S3);
    let section =
        stub.section("").replace("AKIDSTUB", "AKIDOTHER").replace("stub-secret-key", "hidden-secret");
    let said = refusal(&section, ReplicaSettings::default());
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

/// Number of requests by which two starts may differ. A machine under load lets some be repeated.
const MOST_REPETITIONS: usize = 5;

/// Starts a replica, waits until its first work in the background is done, and returns its requests without those of
/// such work: a walk over the repositories sends as many at once as find something to do.
fn requests_of_a_start(stub: &StubStore) -> Vec<SentRequest> {
    let replica = Replica::start(&stub.section(""));
    assert_eq!(replica.peer().get("/v2/").status, 200);
    // The list of repositories is complete.
    until(|| stub.mem().bytes("docker/registry/v2/_quinistry/repos-complete").is_some());
    let mut requests = stub.log().take();
    requests.retain(|request| !is_background(request));
    requests
}

#[test]
fn a_start_on_a_hundred_thousand_objects_sends_no_more_requests_than_one_on_a_hundred() {
    let [many, few] = [100_000, 100].map(|count| {
        let stub = StubStore::start(Shape::S3);
        let now = SystemTime::now();
        for number in 0..count {
            let hex = format!("{number:064x}");
            let key = format!("docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]);
            stub.mem().plant(&key, "x", now);
        }
        requests_of_a_start(&stub)
    });
    assert!(many.len() <= few.len() + MOST_REPETITIONS, "{many:#?} with 100,000 objects, {few:#?} with 100");
    assert!(many.iter().all(|request| !request.key.contains("/blobs/")), "{many:#?}");
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

/// Waits for a condition.
fn until(holds: impl Fn() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < TEST_TIMEOUT, "the condition does not come true");
        thread::sleep(Duration::from_millis(10));
    }
}
