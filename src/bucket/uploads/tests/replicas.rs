//! Sessions that several replicas continue.

use quinistry_oci::Digest;
use quinistry_store::{NextRequest, StorageError, Upload, Uploads as _};
use tokio::runtime::Runtime;

use super::{Bench, FOLDER, ID, PART, bytes, key, patch, put, repository, runtime, session};
use crate::testing::{Fault, RequestKind};
use crate::{Multipart, Objects as _};

#[test]
fn row_47_of_two_chunks_at_one_offset_one_wins() {
    for (before, length) in [(0, 100), (100, 100), (100, 3 * PART)] {
        let bench = Bench::new();
        let all = bytes(before + length);
        let [mut one, mut other] = [session(&bench.replica()), session(&bench.replica())];
        if before > 0 {
            patch(&mut *one, None, &all[..before]).unwrap();
            assert!(other.refresh().unwrap());
        }
        let next = NextRequest { offset: Some(before as u64), ..NextRequest::default() };
        for upload in [&mut one, &mut other] {
            assert_eq!(upload.continue_with(next).unwrap(), Some(before as u64));
        }
        // The bytes of both come at the same time.
        one.append(&all[before..before + 50]).unwrap();
        other.append(b"loser").unwrap();
        one.append(&all[before + 50..]).unwrap();
        assert_eq!(one.acknowledge().unwrap(), all.len() as u64);
        assert!(matches!(other.acknowledge(), Err(StorageError::Overtaken)));
        assert_eq!(other.offset(), all.len() as u64, "the loser learns where to go on");
        assert!(put(&mut *other, b"", &Digest::sha256(&all), "a/data").unwrap());
        assert_eq!(bench.bytes("a/data").unwrap(), all);
    }
}

#[test]
fn an_offset_that_another_replica_has_passed_is_looked_up() {
    let bench = Bench::new();
    let [mut one, mut other] = [session(&bench.replica()), session(&bench.replica())];
    assert_eq!(patch(&mut *one, Some(0), b"abc").unwrap(), 3);
    assert_eq!(patch(&mut *other, Some(3), b"de").unwrap(), 5);
    assert!(matches!(patch(&mut *one, Some(3), b"xy"), Err(StorageError::Overtaken)));
    assert_eq!(patch(&mut *one, Some(5), b"fg").unwrap(), 7);
    // A chunk without an offset follows what there is.
    assert_eq!(patch(&mut *other, None, b"h").unwrap(), 8);
    assert!(put(&mut *one, b"i", &Digest::sha256(b"abcdefghi"), "a/data").unwrap());
    assert_eq!(bench.bytes("a/data").unwrap(), b"abcdefghi");
}

#[test]
fn the_last_chunk_is_appended_to_bytes_that_another_replica_has_received() {
    for before in [100, PART, 3 * PART + 5] {
        for last in [0, 1, PART, 3 * PART] {
            let bench = Bench::new();
            let all = bytes(before + last);
            let mut first = session(&bench.replica());
            patch(&mut *first, None, &all[..before]).unwrap();
            // The replica knows nothing of the session.
            let mut other = session(&bench.replica());
            assert!(
                put(&mut *other, &all[before..], &Digest::sha256(&all), "a/data").unwrap(),
                "{before} {last}"
            );
            bench.wait_until_cleared();
            assert_eq!(bench.bytes("a/data").unwrap(), all, "{before} {last}");
        }
    }
}

#[test]
fn a_finished_session_has_ended_for_every_replica() {
    let bench = Bench::new();
    let (one, other) = (bench.replica(), bench.replica());
    let mut upload = session(&one);
    let mut cached = session(&other);
    patch(&mut *upload, None, b"abc").unwrap();
    assert!(cached.refresh().unwrap());
    assert!(put(&mut *upload, b"", &Digest::sha256(b"abc"), "a/data").unwrap());
    bench.wait_until_cleared();
    for mut upload in [cached, session(&one), session(&other), session(&bench.replica())] {
        assert!(!upload.refresh().unwrap());
        assert!(!put(&mut *upload, b"", &Digest::sha256(b"abc"), "a/data").unwrap());
    }
    assert!(other.resume(&repository(), &ID.parse().unwrap()).unwrap().is_none());
}

#[test]
fn bytes_that_a_stopped_replica_has_acknowledged_are_there() {
    for received in [1, PART, 3 * PART] {
        let bench = Bench::new();
        let all = bytes(PART + 500 + 700);
        let process = Runtime::new().unwrap();
        let mut stopped = session(&bench.replica_of(process.handle()));
        patch(&mut *stopped, None, &all[..PART + 500]).unwrap();
        stopped.continue_with(NextRequest::default()).unwrap();
        for piece in bytes(received).chunks(300) {
            stopped.append(piece).unwrap();
        }
        // The process dies: nothing is cleaned up, and no part is on its way any more.
        std::mem::forget(stopped);
        drop(process);
        let other = bench.replica();
        let mut upload = other.resume(&repository(), &ID.parse().unwrap()).unwrap().unwrap();
        assert_eq!(upload.offset(), PART as u64 + 500);
        assert!(put(&mut *upload, &all[PART + 500..], &Digest::sha256(&all), "a/data").unwrap());
        assert_eq!(bench.bytes("a/data").unwrap(), all);
    }
}

#[test]
fn a_part_that_a_late_replica_has_replaced_never_becomes_content() {
    let bench = Bench::new();
    let all = bytes(2 * PART + 10);
    let mut winner = session(&bench.replica());
    patch(&mut *winner, None, &all[..PART + 10]).unwrap();
    let mut late = session(&bench.replica());
    assert!(late.refresh().unwrap());
    let next = NextRequest { offset: Some(PART as u64 + 10), ..NextRequest::default() };
    late.continue_with(next).unwrap();
    patch(&mut *winner, Some(PART as u64 + 10), &all[PART + 10..]).unwrap();
    late.append(&vec![7; 2 * PART]).ok();
    late.acknowledge().unwrap_err();
    match put(&mut *winner, b"", &Digest::sha256(&all), "a/data") {
        Ok(is_finished) => assert!(is_finished && bench.bytes("a/data").unwrap() == all),
        Err(_) => assert_eq!(bench.bytes("a/data"), None),
    }
}

#[test]
fn a_session_is_finished_again_after_a_failure_at_each_request() {
    let kinds = [
        (RequestKind::PutPart, ""),
        (RequestKind::Complete, ""),
        (RequestKind::Copy, ""),
        (RequestKind::Head, ""),
        (RequestKind::Put, "a/link"),
    ];
    for (kind, within) in kinds {
        for fault in [Fault::Unavailable, Fault::ErrorAfterSuccess] {
            let bench = Bench::new();
            let all = bytes(3 * PART + 5);
            let mut one = session(&bench.replica());
            patch(&mut *one, None, &all).unwrap();
            bench.bucket.plan().spoil(kind, within, fault, 1);
            let digest = Digest::sha256(&all);
            let _ = put(&mut *one, b"", &digest, "a/data");
            one.release();
            drop(one);
            let mut other = session(&bench.replica());
            // The first attempt may have succeeded, and its session may be in removal.
            match put(&mut *other, b"", &digest, "a/data") {
                Ok(true) => {}
                Ok(false) | Err(StorageError::Overtaken) => {
                    assert!(bench.bytes("a/link").is_some(), "{kind:?} {fault:?}");
                }
                Err(error) => panic!("{error}; {kind:?} {fault:?}"),
            }
            assert_eq!(bench.bytes("a/data").unwrap(), all, "{kind:?} {fault:?}");
        }
    }
}

#[test]
fn a_lost_answer_to_a_record_is_found_out() {
    let bench = Bench::new();
    let mut upload = session(&bench.replica());
    bench.bucket.plan().spoil(RequestKind::Put, "s.0000000001", Fault::ErrorAfterSuccess, 1);
    assert!(patch(&mut *upload, None, b"abc").is_err());
    assert!(upload.refresh().unwrap());
    assert_eq!(upload.offset(), 3);
    assert!(put(&mut *upload, b"de", &Digest::sha256(b"abcde"), "a/data").unwrap());
}

#[test]
fn sessions_of_other_programs_are_no_sessions_here_and_are_discarded() {
    let bench = Bench::new();
    let now = std::time::SystemTime::now();
    for name in ["data", "startedat", "hashstates/sha256/0"] {
        bench.mem().plant(&format!("{FOLDER}/{name}"), &b"x"[..], now);
    }
    let replica = bench.replica();
    let id = ID.parse().unwrap();
    assert!(replica.resume(&repository(), &id).unwrap().is_none());
    let left: Vec<_> = replica.leftovers(&repository()).unwrap().into_iter().map(|left| left.id).collect();
    assert_eq!(left, std::slice::from_ref(&id));
    assert!(replica.modified(&repository(), &id).unwrap().is_some());
    assert!(replica.discard(&repository(), &id).unwrap());
    assert_eq!(bench.mem().keys(), [""; 0]);
}

/// Sends the last chunk up to the end of the upload, which the caller sends.
fn prepare(upload: &mut dyn Upload, chunk: &[u8], digest: &Digest, to: &str) {
    let to = key(to);
    let length = Some(chunk.len() as u64);
    let next = NextRequest { offset: None, length, digest: Some(digest), key: Some(&to) };
    assert!(upload.continue_with(next).unwrap().is_some());
    for piece in chunk.chunks(300) {
        upload.append(piece).unwrap();
    }
    assert_eq!(upload.digest(digest.algorithm()).unwrap(), *digest);
}

#[test]
fn other_bytes_of_the_same_length_that_another_replica_has_stored_are_not_the_own_ones() {
    for last in [1, PART] {
        let bench = Bench::new();
        let all = bytes(3 * PART + 100);
        let [ours, theirs] = [7, 8].map(|byte| [&all[..], &vec![byte; last]].concat());
        let [our_digest, their_digest] = [&ours, &theirs].map(|all| Digest::sha256(all));
        let [mut one, mut other] = [session(&bench.replica()), session(&bench.replica())];
        patch(&mut *one, None, &all).unwrap();
        assert!(other.refresh().unwrap());
        prepare(&mut *one, &ours[all.len()..], &our_digest, "a/ours");
        prepare(&mut *other, &theirs[all.len()..], &their_digest, "a/theirs");
        other.finish(&key("a/theirs"), &[]).unwrap();
        let lost = one.finish(&key("a/ours"), &[]).unwrap_err();
        assert!(matches!(lost, StorageError::Overtaken), "{lost}");
        assert!(one.is_spent());
        assert_eq!(bench.bytes("a/ours"), None);
        assert_eq!(bench.bytes("a/theirs").unwrap(), theirs);
        other.abort().unwrap();
        bench.wait_until_cleared();
    }
}

#[test]
fn equal_bytes_that_another_replica_has_stored_are_the_own_ones() {
    let bench = Bench::new();
    let all = bytes(3 * PART + 100);
    let digest = Digest::sha256(&all);
    let [mut one, mut other] = [session(&bench.replica()), session(&bench.replica())];
    patch(&mut *one, None, &all[..3 * PART]).unwrap();
    assert!(other.refresh().unwrap());
    for upload in [&mut one, &mut other] {
        prepare(&mut **upload, &all[3 * PART..], &digest, "a/data");
    }
    for upload in [&mut one, &mut other] {
        upload.finish(&key("a/data"), &[]).unwrap();
    }
    assert_eq!(bench.bytes("a/data").unwrap(), all);
}

#[test]
fn two_last_chunks_at_one_offset_gather_under_keys_of_their_own() {
    let bench = Bench::new();
    let before = bytes(100);
    let [mut one, mut other] = [session(&bench.replica()), session(&bench.replica())];
    patch(&mut *one, None, &before).unwrap();
    assert!(other.refresh().unwrap());
    for (upload, byte) in [(&mut one, 7), (&mut other, 8)] {
        let all = [&before[..], &vec![byte; 3 * PART]].concat();
        prepare(&mut **upload, &all[100..], &Digest::sha256(&all), "a/data");
    }
    let pending = runtime().block_on(bench.bucket.list_uploads(FOLDER)).unwrap();
    assert_eq!(pending.len(), 2);
    assert_ne!(pending[0].key, pending[1].key, "the object of one is never replaced by that of the other");
}

#[test]
fn a_lost_answer_to_the_first_record_leaves_its_parts() {
    for (within, fault) in [
        ("s.0000000001", Fault::ErrorAfterSuccess),
        ("s.0000000001", Fault::UnavailableAfterSuccess),
        ("startedat", Fault::ErrorAfterSuccess),
        ("startedat", Fault::Unavailable),
    ] {
        let bench = Bench::new();
        let all = bytes(3 * PART + 5);
        let mut upload = session(&bench.replica());
        bench.bucket.plan().spoil(RequestKind::Put, within, fault, 1);
        let _ = patch(&mut *upload, None, &all);
        assert!(upload.refresh().unwrap());
        assert_eq!(upload.offset(), all.len() as u64, "{within}");
        assert!(put(&mut *upload, b"", &Digest::sha256(&all), "a/data").unwrap(), "{within}");
        assert_eq!(bench.bytes("a/data").unwrap(), all);
    }
}

#[test]
fn the_parts_of_a_first_record_that_another_replica_has_created_are_removed() {
    let bench = Bench::new();
    let [mut one, mut other] = [session(&bench.replica()), session(&bench.replica())];
    for upload in [&mut one, &mut other] {
        upload.continue_with(NextRequest { offset: Some(0), ..NextRequest::default() }).unwrap();
        bytes(3 * PART).chunks(300).for_each(|piece| upload.append(piece).unwrap());
    }
    one.acknowledge().unwrap();
    other.acknowledge().unwrap_err();
    let begun = std::time::Instant::now();
    while bench.mem().pending_uploads() > 1 {
        assert!(begun.elapsed() < std::time::Duration::from_secs(30));
        std::thread::yield_now();
    }
    assert!(put(&mut *other, b"", &Digest::sha256(&bytes(3 * PART)), "a/data").unwrap());
}

/// Aborts the uploads in parts of the session, as a rule of the bucket may do.
fn lose_parts(bench: &Bench) {
    runtime().block_on(async {
        for upload in bench.bucket.list_uploads(FOLDER).await.unwrap() {
            bench.bucket.abort(Multipart { key: &upload.key, id: &upload.id }).await.unwrap();
        }
    });
}

#[test]
fn a_session_whose_parts_are_lost_ends() {
    let all = bytes(6 * PART);
    for is_last in [true, false] {
        let bench = Bench::new();
        let mut upload = session(&bench.replica());
        patch(&mut *upload, None, &all[..3 * PART]).unwrap();
        lose_parts(&bench);
        let lost = if is_last {
            put(&mut *upload, &all[3 * PART..], &Digest::sha256(&all), "a/data").unwrap_err()
        } else {
            patch(&mut *upload, Some(3 * PART as u64), &all[3 * PART..]).unwrap_err()
        };
        assert!(matches!(lost, StorageError::Overtaken), "{lost}");
        assert!(upload.is_spent());
        assert!(!session(&bench.replica()).refresh().unwrap());
        assert_eq!(bench.bytes("a/data"), None);
        bench.wait_until_cleared();
    }
}

#[test]
fn a_session_whose_records_are_lost_ends() {
    let bench = Bench::new();
    let mut upload = session(&bench.replica());
    for chunk in bytes(300).chunks(100) {
        patch(&mut *upload, None, chunk).unwrap();
    }
    assert!(bench.mem().lose(&format!("{FOLDER}/s.0000000002")));
    let mut other = session(&bench.replica());
    let lost = put(&mut *other, b"", &Digest::sha256(&bytes(300)), "a/data").unwrap_err();
    assert!(matches!(lost, StorageError::Overtaken), "{lost}");
    assert!(other.is_spent());
    assert!(!session(&bench.replica()).refresh().unwrap());
}

#[test]
fn a_cancelled_session_does_not_begin_again_on_another_replica() {
    for is_known in [false, true] {
        for chunk in [100, 3 * PART] {
            let bench = Bench::new();
            let [mut one, mut other] = [session(&bench.replica()), session(&bench.replica())];
            if is_known {
                patch(&mut *one, None, &bytes(100)).unwrap();
                assert!(other.refresh().unwrap());
                other.release();
            }
            one.abort().unwrap();
            let offset = other.offset();
            let lost = patch(&mut *other, Some(offset), &bytes(chunk)).unwrap_err();
            assert!(matches!(lost, StorageError::Overtaken), "{lost}");
            assert!(other.is_spent());
            assert!(!session(&bench.replica()).refresh().unwrap());
            assert_eq!(bench.mem().pending_uploads(), 0);
        }
    }
}

#[test]
fn a_finished_session_takes_no_chunk_of_a_replica_that_knew_it() {
    let bench = Bench::new();
    let [mut one, mut other] = [session(&bench.replica()), session(&bench.replica())];
    patch(&mut *one, None, b"abc").unwrap();
    assert!(other.refresh().unwrap());
    assert!(put(&mut *one, b"", &Digest::sha256(b"abc"), "a/data").unwrap());
    bench.wait_until_cleared();
    assert!(patch(&mut *other, Some(3), b"de").is_err());
    assert!(other.is_spent());
    bench.wait_until_cleared();
}

#[test]
fn a_session_whose_end_was_long_ago_takes_no_chunk_of_a_replica_that_knew_it() {
    let bench = Bench::new();
    let replica = bench.replica();
    let [mut one, mut other] = [session(&replica), session(&bench.replica())];
    patch(&mut *one, None, b"abc").unwrap();
    assert!(other.refresh().unwrap());
    other.release();
    one.abort().unwrap();
    bench.mem().clock().advance(std::time::Duration::from_mins(20));
    assert_eq!(replica.clear_ended(&repository()).unwrap(), 1);
    let next = NextRequest { offset: Some(3), ..NextRequest::default() };
    assert_eq!(other.continue_with(next).unwrap(), None);
    assert!(other.is_spent());
}

#[test]
fn a_last_request_that_comes_again_finds_the_end_although_its_bytes_are_not_in_memory() {
    let mut bench = Bench::new();
    // The buffers of two sessions do not fit.
    bench.memory_bytes = 2 * PART as u64;
    let all = bytes(900);
    let mut one = session(&bench.replica());
    patch(&mut *one, None, &all[..400]).unwrap();
    patch(&mut *one, None, &all[400..]).unwrap();
    let mut other = session(&bench.replica());
    assert!(other.refresh().unwrap());
    other.release();
    assert!(put(&mut *one, b"", &Digest::sha256(&all), "a/data").unwrap());
    bench.wait_until_cleared();
    let lost = put(&mut *other, b"", &Digest::sha256(&all), "a/data").unwrap_err();
    assert!(matches!(lost, StorageError::Overtaken), "{lost}");
    assert!(other.is_spent());
}

#[test]
fn the_end_of_an_upload_that_the_store_answers_late_is_waited_for() {
    let bench = Bench::new();
    let all = bytes(3 * PART + 5);
    let mut upload = session(&bench.replica());
    patch(&mut *upload, None, &all).unwrap();
    bench.bucket.plan().spoil(RequestKind::Complete, "", Fault::ErrorInSuccess, 1);
    bench.bucket.log().take();
    std::thread::scope(|scope| {
        let finished = scope
            .spawn(|| put(&mut *upload, b"", &Digest::sha256(&all), "a/data").map_err(|e| e.to_string()));
        // The object comes after the first look.
        let begun = std::time::Instant::now();
        let key = loop {
            let sent = bench.bucket.log().take();
            if let Some(head) = sent.into_iter().find(|request| request.kind == RequestKind::Head) {
                break head.key;
            }
            assert!(begun.elapsed() < std::time::Duration::from_secs(30));
            std::thread::yield_now();
        };
        bench.mem().plant(&key, all.clone(), std::time::SystemTime::now());
        assert_eq!(finished.join().unwrap(), Ok(true));
    });
    assert_eq!(bench.bytes("a/data").unwrap(), all);
}

#[test]
fn a_session_of_a_thousand_chunks_lists_only_what_is_new() {
    let bench = Bench::new();
    let [mut one, mut other] = [session(&bench.replica()), session(&bench.replica())];
    let all = bytes(1002);
    for (offset, byte) in all[..1000].iter().enumerate() {
        patch(&mut *one, Some(offset as u64), &[*byte]).unwrap();
    }
    patch(&mut *other, Some(1000), &all[1000..1001]).unwrap();
    bench.requests();
    patch(&mut *one, Some(1001), &all[1001..]).unwrap();
    let requests = bench.requests();
    assert_eq!(requests.of(RequestKind::List), 1, "one page, though the folder has two: {requests:?}");
    assert!(put(&mut *other, b"", &Digest::sha256(&all), "a/data").unwrap());
    assert_eq!(bench.bytes("a/data").unwrap(), all);
    bench.wait_until_cleared();
    assert!(!one.refresh().unwrap(), "the end is seen by the other replica, too");
}
