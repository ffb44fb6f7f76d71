//! Uploads of one request.

use quinistry_oci::{Algorithm, Digest};
use quinistry_store::{Upload, UploadStart, Uploads as _};

use super::{Bench, PART, bytes, key};
use crate::testing::{Fault, RequestKind};
use crate::uploads::BucketUploads;

fn whole(
    replica: &BucketUploads,
    digest: &Digest,
    length: Option<usize>,
    to: Option<&str>,
) -> Box<dyn Upload> {
    let (length, key) = (length.map(|length| length as u64), to.map(key));
    replica.begin(UploadStart::Whole { digest, length, key: key.as_ref() }).unwrap()
}

fn append(upload: &mut dyn Upload, bytes: &[u8]) {
    bytes.chunks(300).for_each(|chunk| upload.append(chunk).unwrap());
}

#[test]
fn a_short_upload_is_one_request_and_its_links() {
    for length in [0, 1, PART] {
        for told in [Some(length), None] {
            let bench = Bench::new();
            let bytes = bytes(length);
            let digest = Digest::sha256(&bytes);
            let mut upload = whole(&bench.replica(), &digest, told, Some("a/data"));
            append(&mut *upload, &bytes);
            assert_eq!(upload.digest(Algorithm::Sha256).unwrap(), digest);
            upload.finish(&key("a/data"), &[&[(key("a/1"), b"1"), (key("a/2"), b"2")]]).unwrap();
            drop(upload);
            let requests = bench.requests();
            assert_eq!((requests.of(RequestKind::Put), requests.total()), (3, 3));
            assert_eq!(bench.bytes("a/data").unwrap(), bytes);
        }
    }
}

#[test]
fn parts_of_a_long_upload_go_straight_to_their_key() {
    for told in [Some(4 * PART + 1), None] {
        let bench = Bench::new();
        let bytes = bytes(4 * PART + 1);
        let digest = Digest::sha256(&bytes);
        // A known length of a few bytes more than parts hold does not make them longer.
        let mut upload = whole(&bench.replica(), &digest, told, Some("a/data"));
        append(&mut *upload, &bytes);
        assert_eq!(bench.bytes("a/data"), None, "visible at the end alone");
        assert_eq!(upload.digest(Algorithm::Sha256).unwrap(), digest);
        upload.finish(&key("a/data"), &[&[(key("a/link"), b"1")]]).unwrap();
        let requests = bench.requests();
        assert_eq!((requests.of(RequestKind::Complete), requests.of(RequestKind::Copy)), (1, 0));
        assert_eq!(bench.bytes("a/data").unwrap(), bytes);
        assert_eq!(bench.mem().pending_uploads(), 0);
    }
}

#[test]
fn an_upload_with_another_digest_leaves_nothing() {
    let bench = Bench::new();
    let mut upload = whole(&bench.replica(), &Digest::sha256(b"other"), None, Some("a/data"));
    append(&mut *upload, &bytes(4 * PART));
    assert_ne!(upload.digest(Algorithm::Sha256).unwrap(), Digest::sha256(b"other"));
    drop(upload);
    bench.wait_until_cleared();
    assert_eq!(bench.mem().keys(), [""; 0]);
}

#[test]
fn content_that_is_copied_is_stored_even_if_its_source_stays() {
    let bench = Bench::new();
    let bytes = bytes(3 * PART);
    let mut upload = whole(&bench.replica(), &Digest::of(Algorithm::Sha512, &bytes), None, None);
    append(&mut *upload, &bytes);
    bench.bucket.plan().spoil(RequestKind::Delete, "_quinistry/tmp", Fault::Unavailable, 1);
    upload.finish(&key("a/data"), &[&[(key("a/link"), b"1")]]).unwrap();
    assert_eq!(bench.bytes("a/data").unwrap(), bytes);
    assert!(bench.bytes("a/link").is_some());
}

#[test]
fn an_upload_whose_key_is_not_known_before_its_end_is_copied() {
    let bench = Bench::new();
    let bytes = bytes(7 * PART);
    let digest = Digest::of(Algorithm::Sha512, &bytes);
    let mut upload = whole(&bench.replica(), &digest, None, None);
    append(&mut *upload, &bytes);
    assert_eq!(upload.digest(Algorithm::Sha512).unwrap(), digest);
    assert_eq!(upload.digest(Algorithm::Sha256).unwrap(), Digest::sha256(&bytes));
    upload.finish(&key("a/data"), &[]).unwrap();
    assert_eq!(bench.mem().keys(), ["a/data"]);
    assert_eq!(bench.bytes("a/data").unwrap(), bytes);
}
