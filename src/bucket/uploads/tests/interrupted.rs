//! Uploads in parts that no process finishes any more.

use std::time::Duration;

use quinistry_store::Uploads as _;

use super::{Bench, FOLDER, PART, bytes, patch, runtime, session};
use crate::Objects as _;

#[test]
fn uploads_in_parts_are_aborted_by_age() {
    let bench = Bench::new();
    let replica = bench.replica();
    let begin = |key: &str| runtime().block_on(bench.bucket.create_multipart(key)).unwrap();
    begin("docker/registry/v2/blobs/sha256/aa/aa/data");
    begin("docker/registry/v2/repositories/x/_uploads/1/data");
    let clock = bench.mem().clock();
    let week = Duration::from_hours(168);
    let clear = |is_dry_run| replica.clear_interrupted(week, is_dry_run).unwrap();
    assert_eq!(clear(false), 0);
    clock.advance(Duration::from_hours(25));
    assert_eq!((clear(true), bench.mem().pending_uploads()), (1, 2));
    assert_eq!((clear(false), bench.mem().pending_uploads()), (1, 1));
    clock.advance(week);
    assert_eq!((clear(false), bench.mem().pending_uploads()), (1, 0));
}

#[test]
fn the_parts_of_a_session_stay_as_long_as_requests_come() {
    let bench = Bench::new();
    let replica = bench.replica();
    let week = Duration::from_hours(168);
    let mut upload = session(&replica);
    patch(&mut *upload, None, &bytes(3 * PART)).unwrap();
    bench.mem().clock().advance(week);
    patch(&mut *upload, None, b"more").unwrap();
    assert_eq!(replica.clear_interrupted(week, false).unwrap(), 0);
    bench.mem().clock().advance(week);
    assert_eq!(replica.clear_interrupted(week, false).unwrap(), 1);
    assert!(
        bench.mem().keys().iter().all(|key| key.starts_with(FOLDER)),
        "the session itself expires elsewhere"
    );
}
