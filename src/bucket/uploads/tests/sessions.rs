//! Sessions on one replica, by their requests.

use quinistry_oci::{Algorithm, Digest};

use super::{Bench, PART, bytes, patch, put, session};
use crate::testing::{Fault, RequestKind as K};

#[test]
fn a_session_begins_without_a_request() {
    let bench = Bench::new();
    drop(session(&bench.replica()));
    assert_eq!(bench.requests().total(), 0);
}

#[test]
fn a_small_blob_of_two_requests_needs_neither_parts_nor_a_copy() {
    for is_exclusive in [true, false] {
        let mut bench = Bench::new();
        bench.options.is_exclusive = is_exclusive;
        let bytes = bytes(120);
        let mut upload = session(&bench.replica());
        assert_eq!(patch(&mut *upload, None, &bytes).unwrap(), 120);
        assert_eq!(bench.session_names(), ["s.0000000001", "startedat"]);
        assert!(put(&mut *upload, b"", &Digest::sha256(&bytes), "a/data").unwrap());
        bench.wait_until_cleared();
        let requests = bench.requests();
        // The record and the begin; bytes, link and the end; one removal.
        let puts = if is_exclusive { 4 } else { 5 };
        assert_eq!([K::Put, K::DeleteMany].map(|kind| requests.of(kind)), [puts, 1]);
        assert_eq!(requests.total(), puts + 1);
        assert_eq!(bench.bytes("a/data").unwrap(), bytes);
    }
}

#[test]
fn a_whole_blob_in_the_last_request_is_two_requests() {
    let bench = Bench::new();
    let bytes = bytes(PART);
    let mut upload = session(&bench.replica());
    assert!(put(&mut *upload, &bytes, &Digest::sha256(&bytes), "a/data").unwrap());
    drop(upload);
    assert_eq!((bench.requests().total(), bench.bytes("a/data").unwrap()), (2, bytes));
}

#[test]
fn a_long_blob_in_the_last_request_goes_straight_to_its_key() {
    let bench = Bench::new();
    let bytes = bytes(4 * PART);
    let mut upload = session(&bench.replica());
    assert!(put(&mut *upload, &bytes, &Digest::sha256(&bytes), "a/data").unwrap());
    let requests = bench.requests();
    assert_eq!([K::List, K::Complete, K::Copy, K::CopyPart].map(|kind| requests.of(kind)), [1, 1, 0, 0]);
    assert_eq!(bench.bytes("a/data").unwrap(), bytes);
    assert_eq!(bench.session_names(), [""; 0]);
}

#[test]
fn a_long_blob_is_copied_to_its_key_by_the_store() {
    // As a whole, and in parts.
    for (length, copies) in [(4 * PART + 7, (1, 0)), (6 * PART + 7, (0, 4))] {
        let bench = Bench::new();
        let bytes = bytes(length);
        let mut upload = session(&bench.replica());
        patch(&mut *upload, None, &bytes).unwrap();
        assert!(put(&mut *upload, b"", &Digest::sha256(&bytes), "a/data").unwrap());
        bench.wait_until_cleared();
        let requests = bench.requests();
        assert_eq!((requests.of(K::Copy), requests.of(K::CopyPart)), copies);
        assert_eq!(bench.bytes("a/data").unwrap(), bytes);
    }
}

#[test]
fn a_long_blob_is_read_and_written_where_the_store_refuses_to_copy_it() {
    for (length, refused) in [(4 * PART + 7, K::Copy), (6 * PART + 7, K::CopyPart)] {
        let bench = Bench::new();
        let bytes = bytes(length);
        let mut upload = session(&bench.replica());
        patch(&mut *upload, None, &bytes).unwrap();
        bench.bucket.plan().spoil(refused, "a/data", Fault::Refused, usize::MAX);
        assert!(put(&mut *upload, b"", &Digest::sha256(&bytes), "a/data").unwrap());
        bench.wait_until_cleared();
        assert_eq!(bench.bytes("a/data").unwrap(), bytes);
    }
}

#[test]
fn a_copy_is_spared_where_the_bytes_are() {
    let bench = Bench::new();
    let bytes = bytes(4 * PART);
    bench.mem().plant("a/data", bytes.clone(), std::time::SystemTime::now());
    let mut upload = session(&bench.replica());
    patch(&mut *upload, None, &bytes).unwrap();
    assert!(put(&mut *upload, b"", &Digest::sha256(&bytes), "a/data").unwrap());
    bench.wait_until_cleared();
    assert_eq!(bench.requests().of(K::Copy), 0);
}

#[test]
fn an_algorithm_that_nothing_has_announced_is_hashed_at_the_end() {
    for length in [100, 5 * PART] {
        let bench = Bench::new();
        let bytes = bytes(length);
        let mut upload = session(&bench.replica());
        patch(&mut *upload, None, &bytes).unwrap();
        let digest = Digest::of(Algorithm::Sha512, &bytes);
        assert!(put(&mut *upload, b"", &digest, "a/data").unwrap());
        bench.wait_until_cleared();
        assert_eq!(bench.bytes("a/data").unwrap(), bytes);
    }
}

#[test]
fn a_discarded_session_has_ended_for_every_replica() {
    for length in [100, 3 * PART] {
        let bench = Bench::new();
        let mut upload = session(&bench.replica());
        patch(&mut *upload, None, &bytes(length)).unwrap();
        upload.abort().unwrap();
        assert!(upload.is_spent());
        bench.wait_until_cleared();
        assert!(!session(&bench.replica()).refresh().unwrap());
    }
}
