//! Copies of objects, which the trash of collected bytes consists of.

use std::time::SystemTime;

use quinistry_store::Storage as _;

use super::{BLOCK, Bench, PART, bytes, key, runtime};
use crate::testing::{Fault, RequestKind as K};
use crate::{Bucket, StoreAbilities, TransferMemory};

fn storage(bench: &Bench) -> Bucket {
    let memory = TransferMemory::with(bench.memory_bytes, BLOCK, std::time::Duration::from_millis(10));
    Bucket::new(bench.bucket.clone(), runtime(), StoreAbilities::ALL, memory, bench.replica())
}

#[test]
fn an_object_is_copied_as_a_whole_or_in_parts_by_its_length() {
    for (length, copies) in [(0, (1, 0)), (4 * PART + 7, (1, 0)), (6 * PART + 7, (0, 4))] {
        let bench = Bench::new();
        let bytes = bytes(length);
        bench.mem().plant("a/data", bytes.clone(), SystemTime::now());
        assert!(storage(&bench).copy(&key("a/data"), &key("b/data")).unwrap());
        let requests = bench.requests();
        assert_eq!((requests.of(K::Copy), requests.of(K::CopyPart)), copies);
        assert_eq!(bench.bytes("b/data").unwrap(), bytes);
    }
}

#[test]
fn an_object_is_read_and_written_where_the_store_refuses_to_copy_it() {
    for (length, refused) in [(0, K::Copy), (4 * PART + 7, K::Copy), (6 * PART + 7, K::CopyPart)] {
        let bench = Bench::new();
        let bytes = bytes(length);
        bench.mem().plant("a/data", bytes.clone(), SystemTime::now());
        bench.bucket.plan().spoil(refused, "", Fault::Refused, usize::MAX);
        assert!(storage(&bench).copy(&key("a/data"), &key("b/data")).unwrap());
        assert_eq!(bench.bytes("b/data").unwrap(), bytes);
    }
}

#[test]
fn an_absent_object_is_not_copied() {
    let bench = Bench::new();
    assert!(!storage(&bench).copy(&key("a/data"), &key("b/data")).unwrap());
    assert_eq!(bench.bytes("b/data"), None);
}
