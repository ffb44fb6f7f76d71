//! Uploads in parts that no process finishes any more.

use std::time::Duration;

use quinistry_store::Uploads as _;

use super::{Bench, FOLDER, PART, bytes, patch, repository, runtime, session};
use crate::Objects as _;
use crate::testing::RequestKind;

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
fn uploads_of_other_programs_in_the_bucket_stay() {
    let bench = Bench::new();
    let begin = |key: &str| runtime().block_on(bench.bucket.create_multipart(key)).unwrap();
    for key in
        ["backups/monday", "data", "other/docker/registry/v2/blobs/sha256/aa/aa/data", "docker/registry/v2x"]
    {
        begin(key);
    }
    bench.mem().clock().advance(Duration::from_hours(1000));
    assert_eq!(bench.replica().clear_interrupted(Duration::from_hours(1), false).unwrap(), 0);
    assert_eq!(bench.mem().pending_uploads(), 4);
}

#[test]
fn an_upload_of_one_request_has_a_day_however_soon_sessions_expire() {
    let bench = Bench::new();
    let replica = bench.replica();
    runtime().block_on(bench.bucket.create_multipart("docker/registry/v2/blobs/sha256/aa/aa/data")).unwrap();
    let clear = || replica.clear_interrupted(Duration::from_mins(10), false).unwrap();
    bench.mem().clock().advance(Duration::from_hours(23));
    assert_eq!((clear(), bench.mem().pending_uploads()), (0, 1));
    bench.mem().clock().advance(Duration::from_hours(1));
    assert_eq!((clear(), bench.mem().pending_uploads()), (1, 0));
}

#[test]
fn content_that_an_interrupted_copy_has_left_is_removed_after_a_day() {
    let bench = Bench::new();
    let replica = bench.replica();
    let (left, other) = ("docker/registry/v2/_quinistry/tmp/1", "docker/registry/v2/_quinistry/tmp.1");
    for key in [left, other] {
        bench.mem().plant(key, &b"x"[..], bench.mem().clock().now());
    }
    let week = Duration::from_hours(168);
    assert_eq!(replica.clear_interrupted(week, false).unwrap(), 0);
    bench.mem().clock().advance(Duration::from_hours(25));
    assert_eq!(replica.clear_interrupted(week, true).unwrap(), 1);
    assert_eq!(bench.mem().keys(), [other, left]);
    assert_eq!(replica.clear_interrupted(week, false).unwrap(), 1);
    assert_eq!(bench.mem().keys(), [other]);
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

#[test]
fn ended_sessions_are_removed_by_a_thousand_keys_at_once() {
    let bench = Bench::new();
    let replica = bench.replica();
    let now = bench.mem().clock().now();
    let uploads = "docker/registry/v2/repositories/a/b/_uploads";
    for number in 0..700 {
        let folder = format!("{uploads}/0a1b2c3d-0000-4000-8000-{number:012}");
        bench.mem().plant(&format!("{folder}/s.0000000002"), "", now);
        // A leftover of an interrupted removal.
        bench.mem().plant(&format!("{folder}/s.0000000001"), "x", now);
    }
    let open = format!("{uploads}/0a1b2c3d-0000-4000-8000-999999999999/s.0000000001");
    bench.mem().plant(&open, "x", now);
    bench.requests();
    assert_eq!(replica.clear_ended(&repository()).unwrap(), 0, "late requests may come");
    assert_eq!(bench.mem().keys().len(), 701, "the marks tell them that the session has ended");
    bench.mem().clock().advance(Duration::from_mins(10));
    let left = replica.leftovers(&repository()).unwrap();
    assert_eq!(left.len(), 1);
    assert!(left[0].idle.unwrap() >= Duration::from_mins(10));
    assert_eq!(replica.clear_ended(&repository()).unwrap(), 700);
    let requests = bench.requests();
    assert_eq!((requests.of(RequestKind::DeleteMany), requests.total()), (2, 6));
    assert_eq!(bench.mem().keys(), [open]);
}
