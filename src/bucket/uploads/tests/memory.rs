//! Memory for the parts of uploads.

use std::time::Duration;

use quinistry_oci::{Algorithm, Digest};
use quinistry_store::{StorageError, UploadStart, Uploads as _};

use super::{BLOCK, Bench, PART, bytes, patch, put, runtime, session};
use crate::{BucketUploads, TransferMemory};

#[test]
fn an_upload_without_memory_is_refused_and_can_be_repeated() {
    let mut bench = Bench::new();
    bench.memory_bytes = PART as u64;
    let replica = bench.replica();
    let digest = Digest::sha256(b"abc");
    let begin = || replica.begin(UploadStart::Whole { digest: &digest, length: None, key: None }).unwrap();
    let mut holder = begin();
    holder.append(b"x").unwrap();
    let mut other = begin();
    let room = other.room(3).expect("the memory is taken");
    assert!(matches!(runtime().block_on(room), Err(StorageError::Busy)));
    assert!(matches!(other.append(b"abc"), Err(StorageError::Busy)));
    drop(holder);
    let mut again = begin();
    assert!(again.room(3).is_none());
    again.append(b"abc").unwrap();
    assert_eq!(again.digest(Algorithm::Sha256).unwrap(), digest);
}

#[test]
fn memory_of_idle_sessions_goes_to_others_and_their_bytes_are_read_again() {
    let mut bench = Bench::new();
    bench.memory_bytes = 2 * PART as u64;
    let replica = bench.replica();
    let all = bytes(900);
    let mut idle = session(&replica);
    for chunk in all.chunks(300) {
        patch(&mut *idle, None, chunk).unwrap();
    }
    let digest = Digest::sha256(b"other");
    let start = UploadStart::Whole { digest: &digest, length: None, key: None };
    let [mut one, mut two] = [(); 2].map(|()| replica.begin(start).unwrap());
    one.append(b"x").unwrap();
    two.append(b"x").unwrap();
    drop((one, two));
    bench.requests();
    assert!(put(&mut *idle, b"", &Digest::sha256(&all), "a/data").unwrap());
    assert_eq!(bench.requests().of(crate::testing::RequestKind::Get), 3);
    assert_eq!(bench.bytes("a/data").unwrap(), all);
}

#[test]
fn uploads_at_once_go_on_with_memory_for_one_part_each() {
    let mut bench = Bench::new();
    bench.memory_bytes = 4 * PART as u64;
    let replica = bench.replica();
    let all = bytes(20 * PART + 1);
    let digest = Digest::sha256(&all);
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let (replica, all, digest) = (&replica, &all, &digest);
            scope.spawn(move || {
                let to = super::key(&format!("a/{writer}"));
                let start = UploadStart::Whole { digest, length: None, key: Some(&to) };
                let mut upload = replica.begin(start).unwrap();
                for chunk in all.chunks(300) {
                    while let Some(room) = upload.room(chunk.len()) {
                        // Another upload has the memory for now.
                        if runtime().block_on(room).is_ok() {
                            break;
                        }
                    }
                    upload.append(chunk).unwrap();
                }
                upload.finish(&to, &[]).unwrap();
            });
        }
    });
    for writer in 0..4 {
        assert!(bench.bytes(&format!("a/{writer}")).unwrap() == all);
    }
}

#[test]
fn an_upload_that_tells_a_length_of_too_many_parts_is_refused_at_its_begin() {
    let bench = Bench::new();
    let replica = bench.replica();
    let digest = Digest::sha256(b"long");
    // 10,000 parts of a quarter of the memory.
    let most = 10_000 * (bench.memory_bytes / 4);
    let begin =
        |length| replica.begin(UploadStart::Whole { digest: &digest, length: Some(length), key: None });
    assert!(begin(most / 2).is_ok());
    assert!(matches!(begin(most + 1), Err(StorageError::TooManyParts { .. })));
}

#[test]
fn uploads_at_once_go_on_with_memory_for_one_part_in_all() {
    for (memory_bytes, length) in [(PART, 20), (PART + BLOCK, 3 * PART + 1), (2 * PART, 5 * PART)] {
        let mut bench = Bench::new();
        bench.memory_bytes = memory_bytes as u64;
        let memory = TransferMemory::with(bench.memory_bytes, BLOCK, Duration::from_secs(30));
        let replica = BucketUploads::new(bench.bucket.clone(), runtime(), memory.clone(), bench.options);
        let all = bytes(length);
        let digest = Digest::sha256(&all);
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let (replica, all, digest) = (&replica, &all, &digest);
                scope.spawn(move || {
                    let to = super::key(&format!("a/{writer}"));
                    let start = UploadStart::Whole { digest, length: None, key: Some(&to) };
                    let mut upload = replica.begin(start).unwrap();
                    // Short pieces, and some that go beyond the end of a part.
                    for chunk in all.chunks(290) {
                        upload.append(chunk).unwrap();
                    }
                    upload.finish(&to, &[]).unwrap();
                });
            }
        });
        assert_eq!(memory.free_bytes(), memory.size(), "{memory_bytes}");
    }
}

#[test]
fn memory_comes_back_after_each_way_to_upload() {
    let bench = Bench::new();
    let memory = TransferMemory::with(bench.memory_bytes, BLOCK, Duration::from_secs(10));
    let replica = || BucketUploads::new(bench.bucket.clone(), runtime(), memory.clone(), bench.options);
    let all = bytes(3 * PART + 10);
    let digest = Digest::sha256(&all);
    let to = super::key("a/data");
    let start = UploadStart::Whole { digest: &digest, length: Some(all.len() as u64), key: Some(&to) };
    let mut upload = replica().begin(start).unwrap();
    upload.append(&all).unwrap();
    upload.finish(&to, &[]).unwrap();
    // Another process takes over after each chunk, and reads back what is in no part.
    let mut offset = 0;
    for chunk in all.chunks(450) {
        offset = patch(&mut *session(&replica()), Some(offset), chunk).unwrap();
    }
    let mut last = session(&replica());
    assert!(put(&mut *last, b"", &digest, "a/other").unwrap());
    drop((upload, last));
    assert_eq!(memory.free_bytes(), memory.size());
    assert_eq!(bench.bytes("a/other").unwrap(), all);
}
