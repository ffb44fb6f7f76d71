//! Copies on a shared storage: uses, evictions and pushes of several replicas at the same time.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use quinistry_oci::Digest;

use super::super::shared::SharedMemory;
use super::super::{manifest, name, push_blob, put};
use super::{HUB, KEEP, copy, evict, has, limits, renew};
use crate::Store;
use crate::copies::UpstreamCopies;
use crate::layout::copy_record;
use crate::storage::Storage as _;

/// Time after which a test fails that waits for requests.
const DEADLINE: Duration = Duration::from_secs(30);

/// Rounds of requests of an operation before each of which another replica acts. More than any operation here has.
const ROUNDS: usize = 24;

fn replicas<const N: usize>(storage: &SharedMemory) -> [Store; N] {
    std::array::from_fn(|_| Store::open(storage.view(), false).unwrap())
}

fn has_record(storage: &SharedMemory, digest: &Digest) -> bool {
    storage.head(&copy_record(&name(HUB), digest)).unwrap().is_some()
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

#[test]
fn a_copy_that_a_client_pushes_later_is_no_copy_on_a_bucket_either() {
    let kinds: [fn() -> SharedMemory; 2] = [SharedMemory::new, SharedMemory::with_content_tags];
    for new_storage in kinds {
        for pushed_as in [&["pushed"][..], &["one", "two"], &[]] {
            let storage = new_storage();
            let [one, other] = replicas(&storage);
            one.renew_lead().unwrap();
            for blob in [&b"{}"[..], b"layer"] {
                push_blob(&other, HUB, blob).unwrap();
            }
            let bytes = manifest(b"layer", "one");
            let digest = copy(&one, HUB, &bytes, &["one"]);
            put(&other, HUB, &bytes, pushed_as).unwrap();
            assert!(!has_record(&storage, &digest), "{pushed_as:?}");
            assert_eq!(evict(&one, &limits(Some(KEEP), None), 2 * KEEP), UpstreamCopies::default());
            assert!(has(&one, HUB, &digest));
        }
    }
}

#[test]
fn a_manifest_that_is_pushed_while_an_upstream_sends_it_is_no_copy() {
    let bytes = manifest(b"layer", "one");
    for round in 0..ROUNDS {
        let storage = SharedMemory::new();
        let [pushing] = replicas(&storage);
        for blob in [&b"{}"[..], b"layer"] {
            push_blob(&pushing, HUB, blob).unwrap();
        }
        let view = storage.view();
        let fetching = Store::open(view.clone(), false).unwrap();
        let pushed = bytes.clone();
        view.before_round(round, move || drop(put(&pushing, HUB, &pushed, &["pushed"]).unwrap()));
        let digest = copy(&fetching, HUB, &bytes, &["one"]);
        assert!(view.forget_hook() || !has_record(&storage, &digest), "{round}");
    }
}
