//! The result of a probe that is kept for the next start.

use std::time::Duration;

use quinistry_bucket::testing::{HonoredConditions, MemOptions, RequestKind};

use crate::stores::{Replica, ReplicaSettings};
use crate::support::stub_store::{Shape, StubOptions, StubStore};

const FORMAT: &str = "docker/registry/v2/_quinistry/format";

/// Starts a replica, and returns its log and the number of requests for objects of a probe.
fn start(stub: &StubStore, sections: &str) -> (String, usize) {
    stub.log().take();
    let settings = ReplicaSettings { sections, ..ReplicaSettings::default() };
    let replica = Replica::with(&stub.section(""), settings);
    let probed =
        stub.log().take().iter().filter(|request| request.key.contains("/_quinistry/probe/")).count();
    (replica.server.log(), probed)
}

#[test]
fn a_restart_within_a_day_neither_probes_nor_writes_for_it() {
    let stub = StubStore::start(Shape::S3);
    let (log, probed) = start(&stub, "");
    assert!(log.contains("store probed") && probed > 20, "{probed} requests: {log}");
    let kept = stub.mem().bytes(FORMAT).unwrap();
    let format: serde_json::Value = serde_json::from_slice(&kept).unwrap();
    assert_eq!((&format["format"], &format["probe"]["abilities"]["creates"]), (&1.into(), &true.into()));
    let (log, probed) = start(&stub, "");
    assert!(log.contains("store was probed before") && probed == 0, "{probed} requests: {log}");
    assert_eq!(stub.mem().bytes(FORMAT).unwrap(), kept);
    // By the clock of the store.
    stub.mem().clock().advance(Duration::from_hours(25));
    let (log, probed) = start(&stub, "");
    assert!(log.contains("store probed") && probed > 20, "{probed} requests: {log}");
    assert_ne!(stub.mem().bytes(FORMAT).unwrap(), kept);
}

#[test]
fn a_reader_uses_the_kept_result_and_writes_nothing() {
    let stub = StubStore::start(Shape::S3);
    start(&stub, "");
    stub.mem().clock().advance(Duration::from_hours(48));
    // Requests that the first replica had sent when it was killed are not those of the reader.
    stub.wait_until_quiet();
    stub.log().take();
    let settings = ReplicaSettings {
        storage: ", maintenance: {readonly: {enabled: true}}",
        ..ReplicaSettings::default()
    };
    let replica = Replica::with(&stub.section(""), settings);
    assert!(replica.server.log().contains("store was probed before"), "{}", replica.server.log());
    let counts = stub.log().counts();
    assert_eq!((counts.of(RequestKind::Put), counts.of(RequestKind::Delete)), (0, 0));
}

#[test]
fn a_result_of_a_single_writer_is_not_enough_for_several() {
    let mut options = StubOptions::new(Shape::S3);
    options.mem = MemOptions { conditions: HonoredConditions::Nothing, ..options.mem };
    let stub = StubStore::with(options);
    let exclusive = "quinistry: {exclusive: true}\n";
    assert!(start(&stub, exclusive).1 > 20);
    assert_eq!(start(&stub, exclusive).1, 0);
    let said = crate::stores::refusal(&stub.section(""), crate::stores::ReplicaSettings::default());
    assert!(said.contains("ignores If-None-Match"), "{said}");
}
