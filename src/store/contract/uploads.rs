//! Behaviours of uploads: bytes that are received, acknowledged, and stored under a key.

use std::time::SystemTime;

use quinistry_oci::{Algorithm, Digest, ReadAt as _, RepositoryName};

use super::{Backend, key};
use crate::StorageError;
use crate::storage::{Upload, UploadStart};
use crate::uploads::UploadId;

const ID: &str = "0a1b2c3d-0000-4000-8000-000000000000";

fn repository() -> RepositoryName {
    "a/b".parse().unwrap()
}

fn id() -> UploadId {
    ID.parse().unwrap()
}

fn session(backend: &Backend) -> Box<dyn Upload> {
    let start = UploadStart::Session {
        repository: &repository(),
        id: &id(),
        begun: SystemTime::now(),
        announced: None,
    };
    backend.storage.uploads().begin(start).unwrap()
}

fn whole(backend: &Backend, bytes: &[u8]) -> Box<dyn Upload> {
    let (digest, length) = (Digest::sha256(bytes), Some(bytes.len() as u64));
    backend.storage.uploads().begin(UploadStart::Whole { digest: &digest, length, key: None }).unwrap()
}

/// Begins an upload of each kind.
fn both(backend: &Backend, bytes: &[u8]) -> [Box<dyn Upload>; 2] {
    [whole(backend, bytes), session(backend)]
}

fn resume(backend: &Backend) -> Option<Box<dyn Upload>> {
    backend.storage.uploads().resume(&repository(), &id()).unwrap()
}

/// Bytes that differ at each place.
fn long_bytes() -> Vec<u8> {
    (0..50_000_u32).flat_map(u32::to_le_bytes).collect()
}

pub fn received_bytes_are_stored_under_the_key_and_entries_follow(backend: Backend) {
    let bytes = long_bytes();
    for (i, mut upload) in both(&backend, &bytes).into_iter().enumerate() {
        bytes.chunks(30_001).for_each(|chunk| upload.append(chunk).unwrap());
        assert_eq!(upload.offset(), bytes.len() as u64);
        let [data, first, then] = ["data", "first", "then"].map(|name| format!("a/{i}/{name}"));
        upload.finish(&key(&data), &[&[(key(&first), b"1")], &[(key(&then), b"2")]]).unwrap();
        upload.abort().unwrap();
        drop(upload);
        assert_eq!(backend.read(&data).unwrap(), bytes);
        assert_eq!(
            (&backend.read(&first).unwrap()[..], &backend.read(&then).unwrap()[..]),
            (&b"1"[..], &b"2"[..])
        );
        assert_eq!(backend.scan(&format!("a/{i}"), 10), [data, first, then]);
    }
}

pub fn the_tail_of_an_upload_is_read_while_it_grows_and_after_its_end(backend: Backend) {
    let bytes = long_bytes();
    let length = bytes.len() as u64;
    let mut upload = whole(&backend, &bytes);
    // Backends that send bytes elsewhere have none to read.
    let Some(tail) = upload.tail(length).unwrap() else { return };
    assert_eq!(tail.len(), length);
    let mut chunks = tail.chunks();
    let mut read = Vec::new();
    for part in bytes.chunks(30_001) {
        let end = upload.offset();
        assert!(tail.read_at(end..end + 1).is_err(), "a byte that is not there is read at {end}");
        upload.append(part).unwrap();
        while read.len() < usize::try_from(upload.offset()).unwrap() {
            chunks.limit((usize::try_from(upload.offset()).unwrap() - read.len()).min(7_001));
            read.extend_from_slice(&chunks.next().unwrap().unwrap());
        }
        assert_eq!(tail.read_at(0..upload.offset()).unwrap(), bytes[..read.len()]);
    }
    assert_eq!(read, bytes);
    upload.finish(&key("a/data"), &[]).unwrap();
    drop(upload);
    assert_eq!(tail.to_bytes().unwrap(), bytes);

    let mut aborted = whole(&backend, &bytes);
    aborted.append(&bytes).unwrap();
    let tail = aborted.tail(length).unwrap().unwrap();
    aborted.abort().unwrap();
    drop(aborted);
    assert_eq!(tail.to_bytes().unwrap(), bytes);
}

pub fn bytes_are_under_no_key_before_the_end(backend: Backend) {
    for mut upload in both(&backend, b"bytes") {
        upload.append(b"bytes").unwrap();
        assert_eq!(backend.read("a/data"), None);
        upload.abort().unwrap();
    }
}

pub fn a_whole_upload_without_bytes_is_an_object_without_bytes(backend: Backend) {
    for (i, mut upload) in both(&backend, b"").into_iter().enumerate() {
        assert_eq!(upload.digest(Algorithm::Sha256).unwrap(), Digest::sha256(b""));
        upload.finish(&key(&format!("a/{i}")), &[]).unwrap();
        assert_eq!(backend.read(&format!("a/{i}")).unwrap(), "");
    }
}

pub fn a_finished_upload_replaces_what_is_there(backend: Backend) {
    backend.write("a/data", b"torn");
    let mut upload = whole(&backend, b"bytes");
    upload.append(b"bytes").unwrap();
    upload.finish(&key("a/data"), &[]).unwrap();
    assert_eq!(backend.read("a/data").unwrap(), "bytes");
}

pub fn the_digest_is_that_of_all_received_bytes(backend: Backend) {
    let bytes = long_bytes();
    for mut upload in both(&backend, &bytes) {
        for chunk in bytes.chunks(70_000) {
            upload.append(chunk).unwrap();
        }
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            assert_eq!(upload.digest(algorithm).unwrap(), Digest::of(algorithm, &bytes));
        }
        upload.append(b"more").unwrap();
        let more = [&bytes[..], b"more"].concat();
        assert_eq!(upload.digest(Algorithm::Sha256).unwrap(), Digest::sha256(&more));
    }
}

pub fn acknowledged_bytes_are_those_received(backend: Backend) {
    let mut upload = session(&backend);
    assert_eq!(upload.acknowledge().unwrap(), 0);
    for (chunk, offset) in [("abc", 3), ("", 3), ("de", 5)] {
        upload.append(chunk.as_bytes()).unwrap();
        assert_eq!((upload.offset(), upload.acknowledge().unwrap()), (offset, offset));
    }
    upload.finish(&key("a/data"), &[]).unwrap();
    assert_eq!(backend.read("a/data").unwrap(), "abcde");
}

pub fn an_upload_goes_on_after_its_resources_were_released(backend: Backend) {
    let mut upload = session(&backend);
    upload.persist().unwrap();
    for chunk in ["abc", "de"] {
        upload.release();
        upload.append(chunk.as_bytes()).unwrap();
        upload.release();
    }
    assert_eq!(upload.digest(Algorithm::Sha256).unwrap(), Digest::sha256(b"abcde"));
    upload.release();
    upload.finish(&key("a/data"), &[]).unwrap();
    assert_eq!(backend.read("a/data").unwrap(), "abcde");
}

pub fn an_upload_that_ended_takes_no_bytes(backend: Backend) {
    let [mut finished, mut aborted] = both(&backend, b"x");
    for upload in [&mut finished, &mut aborted] {
        upload.append(b"x").unwrap();
        assert!(!upload.is_spent());
    }
    finished.finish(&key("a/data"), &[]).unwrap();
    aborted.abort().unwrap();
    for mut upload in [finished, aborted] {
        assert!(upload.is_spent());
        assert!(matches!(upload.append(b"y"), Err(StorageError::Broken)));
        assert!(matches!(upload.acknowledge(), Err(StorageError::Broken)));
        assert!(matches!(upload.finish(&key("a/again"), &[]), Err(StorageError::Broken)));
    }
    assert_eq!(backend.scan("a", 10), ["a/data"]);
    assert_eq!(backend.read("a/data").unwrap(), "x");
}

pub fn an_aborted_upload_leaves_nothing(backend: Backend) {
    let mut upload = session(&backend);
    upload.append(b"bytes").unwrap();
    upload.acknowledge().unwrap();
    upload.abort().unwrap();
    drop(upload);
    assert!(resume(&backend).is_none());
    assert_eq!(backend.storage.uploads().leftovers(&repository()).unwrap(), []);
    let Some(backend) = backend.restarted() else { return };
    assert!(resume(&backend).is_none());
    assert_eq!(backend.storage.uploads().leftovers(&repository()).unwrap(), []);
}

pub fn a_dropped_upload_that_was_not_persisted_leaves_nothing(backend: Backend) {
    for mut upload in both(&backend, b"bytes") {
        upload.append(b"bytes").unwrap();
    }
    assert_eq!(backend.scan("docker", 10).iter().filter(|path| !path.ends_with("/lock")).count(), 0);
    assert!(resume(&backend).is_none());
}

pub fn an_unknown_session_is_not_resumed(backend: Backend) {
    assert!(resume(&backend).is_none());
    let uploads = backend.storage.uploads();
    assert_eq!(uploads.leftovers(&repository()).unwrap(), []);
    assert_eq!(uploads.modified(&repository(), &id()).unwrap(), None);
    assert!(!uploads.discard(&repository(), &id()).unwrap());
}

/// Leaves a session of `abc`, acknowledged, and of `de`, not acknowledged; `None` if sessions end with the
/// process.
fn left(backend: Backend) -> Option<Backend> {
    let mut upload = session(&backend);
    upload.append(b"abc").unwrap();
    upload.acknowledge().unwrap();
    upload.append(b"de").unwrap();
    drop(upload);
    backend.restarted()
}

pub fn an_acknowledged_session_is_resumed_after_a_restart(backend: Backend) {
    let Some(backend) = left(backend) else { return };
    let other: RepositoryName = "a/other".parse().unwrap();
    assert!(backend.storage.uploads().resume(&other, &id()).unwrap().is_none());
    let mut upload = resume(&backend).unwrap();
    let offset = upload.offset();
    assert!((3..=5).contains(&offset), "at least what was acknowledged: {offset}");
    assert_eq!(upload.acknowledge().unwrap(), offset);
    let all = &b"abcde"[..usize::try_from(offset).unwrap()];
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        assert_eq!(upload.digest(algorithm).unwrap(), Digest::of(algorithm, all));
    }
}

pub fn a_resumed_session_is_finished_with_all_its_bytes(backend: Backend) {
    let Some(backend) = left(backend) else { return };
    let mut upload = resume(&backend).unwrap();
    let all = [&b"abcde"[..usize::try_from(upload.offset()).unwrap()], b"xyz"].concat();
    upload.append(b"xyz").unwrap();
    assert_eq!(upload.digest(Algorithm::Sha256).unwrap(), Digest::sha256(&all));
    upload.finish(&key("a/data"), &[&[(key("a/link"), b"1")]]).unwrap();
    upload.abort().unwrap();
    assert_eq!(backend.read("a/data").unwrap(), all);
    assert_eq!(backend.scan("a", 10), ["a/data", "a/link"]);
    assert!(resume(&backend).is_none());
}

pub fn sessions_left_by_a_process_are_found_and_discarded(backend: Backend) {
    let Some(backend) = left(backend) else { return };
    let uploads = backend.storage.uploads();
    let found = uploads.leftovers(&repository()).unwrap();
    assert_eq!(found.into_iter().map(|left| left.id).collect::<Vec<_>>(), [id()]);
    assert_eq!(uploads.leftovers(&"a".parse().unwrap()).unwrap(), []);
    let age = uploads.modified(&repository(), &id()).unwrap().unwrap().elapsed();
    assert!(age.is_ok_and(|age| age.as_secs() < 600));
    assert!(uploads.discard(&repository(), &id()).unwrap());
    assert!(!uploads.discard(&repository(), &id()).unwrap());
    assert_eq!(uploads.leftovers(&repository()).unwrap(), []);
    assert!(resume(&backend).is_none());
}

pub fn uploads_at_once_do_not_mix(backend: Backend) {
    std::thread::scope(|scope| {
        for writer in 0..4_u8 {
            let backend = &backend;
            scope.spawn(move || {
                for round in 0..5 {
                    let bytes = vec![writer; 100_000 + round];
                    let mut upload = whole(backend, &bytes);
                    bytes.chunks(9_999).for_each(|chunk| upload.append(chunk).unwrap());
                    upload.finish(&key(&format!("a/{writer}/{round}")), &[]).unwrap();
                }
            });
        }
    });
    for writer in 0..4_u8 {
        for round in 0..5 {
            let bytes = backend.read(&format!("a/{writer}/{round}")).unwrap();
            assert_eq!(bytes, vec![writer; 100_000 + round]);
        }
    }
}
