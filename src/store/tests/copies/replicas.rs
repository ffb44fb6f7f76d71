//! Copies on a shared storage: uses, evictions and pushes of several replicas at the same time.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use quinistry_oci::Digest;

use super::super::shared::SharedMemory;
use super::super::{manifest, name};
use super::{HUB, KEEP, copy, evict, has, limits, renew};
use crate::Store;

/// Time after which a test fails that waits for requests.
const DEADLINE: Duration = Duration::from_secs(30);

/// Rounds of requests of an operation before each of which another replica acts. More than any operation here has.
const ROUNDS: usize = 24;

fn replicas<const N: usize>(storage: &SharedMemory) -> [Store; N] {
    std::array::from_fn(|_| Store::open(storage.view(), false).unwrap())
}

#[test]
fn uses_are_recorded_side_by_side() {
    const TOGETHER: usize = 4;
    let storage = SharedMemory::new();
    let view = storage.view();
    let store = Store::open(view.clone(), false).unwrap();
    let used: Vec<Digest> = (0..TOGETHER)
        .map(|number| copy(&store, HUB, &manifest(b"layer", &number.to_string()), &[]))
        .collect();
    let under_way = Arc::new((Mutex::new(0), Condvar::new()));
    view.on_head(move |_| {
        let (count, has_changed) = &*under_way;
        let mut count = count.lock().unwrap();
        *count += 1;
        has_changed.notify_all();
        let waited = has_changed.wait_timeout_while(count, DEADLINE, |count| *count < TOGETHER).unwrap();
        assert!(!waited.1.timed_out(), "the uses are recorded one after another");
    });
    renew(&store, &used.iter().collect::<Vec<_>>());
}

#[test]
fn a_storage_that_fails_as_a_whole_is_not_asked_for_each_use() {
    let storage = SharedMemory::new();
    let view = storage.view();
    let store = Store::open(view.clone(), false).unwrap();
    let used: Vec<_> = (0..100)
        .map(|number| (name(HUB), copy(&store, HUB, &manifest(b"layer", &number.to_string()), &[])))
        .collect();
    view.set_read_only(true);
    view.take_requests();
    let renewed = store.renew_copies(&used);
    assert!(renewed.error.is_some() && renewed.renewed.is_empty());
    assert!(view.take_requests().all < 100);
}

#[test]
fn a_copy_that_another_replica_writes_while_it_is_evicted_counts_only_if_it_is_gone() {
    let bytes = manifest(b"layer", "one");
    let mut evicted = [0; 2];
    for round in 0..ROUNDS {
        let storage = SharedMemory::new();
        let [other] = replicas(&storage);
        let view = storage.view();
        let one = Store::open(view.clone(), false).unwrap();
        one.renew_lead().unwrap();
        let digest = copy(&other, HUB, &bytes, &["one"]);
        storage.age("/_quinistry/upstreams/", 2 * KEEP);
        let written = bytes.clone();
        let fetching = other.clone();
        view.before_round(round, move || drop(copy(&fetching, HUB, &written, &["one"])));
        let report = evict(&one, &limits(Some(KEEP), None), Duration::ZERO);
        view.forget_hook();
        assert_eq!(report.evicted, usize::from(!has(&other, HUB, &digest)), "{round}");
        evicted[report.evicted] += 1;
    }
    assert!(evicted.iter().all(|rounds| *rounds > 0), "{evicted:?}");
}
