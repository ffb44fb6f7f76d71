//! Removals that a store refuses after their time, and collection on a bucket, which needs them.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use quinistry_oci::{Digest, RepositoryName};
use quinistry_store::{
    Cycle, CycleReport, FENCE_LIFETIME, Fence, GcOptions, KeepAll, Key, LocalClock, Removed, Storage as _,
    Store, StoreError, StoreOptions, time_since_boot,
};

use super::gateway::Gateway;
use super::{able_bucket, bucket};
use crate::testing::{Fault, FaultPlan, Faulty, Mem, MemOptions, RequestKind, StoreClock};
use crate::{Bucket, Objects, StoreAbilities};

fn key(path: &str) -> Key {
    Key::of_path(path.to_owned()).unwrap()
}

fn stopped() -> (Mem, StoreClock) {
    let clock = StoreClock::stopped(SystemTime::UNIX_EPOCH + Duration::from_hours(24));
    (Mem::new(MemOptions::default(), clock.clone()), clock)
}

#[test]
fn removals_behind_an_expired_fence_are_refused_and_told() {
    let (mem, clock) = stopped();
    let bucket = bucket(Arc::new(mem));
    let keys: Vec<Key> = (0..40).map(|number| key(&format!("a/{number}"))).collect();
    for key in &keys {
        bucket.write(&[&[(key.clone(), b"x")]]).unwrap();
    }
    let fence = bucket.fence().unwrap();
    clock.advance(FENCE_LIFETIME + Duration::from_secs(1));
    let mut left = bucket.remove_fenced(&keys, fence).unwrap();
    left.sort_unstable();
    let mut sorted = keys.clone();
    sorted.sort_unstable();
    assert_eq!(left, sorted);
    assert!(bucket.head(&keys[0]).unwrap().is_some());
    let now = bucket.fence().unwrap();
    assert!(now.0 > fence.0);
    assert_eq!(bucket.remove_fenced(&keys, now).unwrap(), []);
    // What is gone counts as removed.
    assert_eq!(bucket.remove_fenced(&keys, now).unwrap(), []);
    assert_eq!(bucket.scan(&key("a"), None, 10).unwrap().entries, []);
}

#[test]
fn a_version_is_removed_within_its_fence_and_not_behind_it() {
    let (mem, clock) = stopped();
    let bucket = bucket(Arc::new(mem));
    bucket.write(&[&[(key("a"), b"x")]]).unwrap();
    let tag = bucket.head(&key("a")).unwrap().unwrap().tag;
    let fence = bucket.fence().unwrap();
    clock.advance(FENCE_LIFETIME + Duration::from_secs(1));
    assert_eq!(bucket.remove_if_fenced(&key("a"), &tag, fence).unwrap(), None);
    assert!(bucket.head(&key("a")).unwrap().is_some());
    let now = bucket.fence().unwrap();
    bucket.write(&[&[(key("b"), b"other")]]).unwrap();
    assert_eq!(bucket.remove_if_fenced(&key("b"), &tag, now).unwrap(), Some(Removed::Changed));
    assert_eq!(bucket.remove_if_fenced(&key("a"), &tag, now).unwrap(), Some(Removed::Removed));
    assert_eq!(bucket.remove_if_fenced(&key("a"), &tag, now).unwrap(), Some(Removed::Absent));
}

#[test]
fn a_fenced_removal_is_sent_once_so_that_the_caller_knows_of_each_unknown_outcome() {
    let faulty = Arc::new(Faulty::new(Mem::default(), FaultPlan::default()));
    let bucket = bucket(faulty.clone());
    bucket.write(&[&[(key("a"), b"x"), (key("b"), b"x")]]).unwrap();
    faulty.log().take();
    faulty.plan().spoil(RequestKind::Delete, "a", Fault::ErrorAfterSuccess, 1);
    let left = bucket.remove_fenced(&[key("a"), key("b")], bucket.fence().unwrap()).unwrap();
    assert_eq!(left, [key("a")]);
    let sent = faulty.log().take();
    assert_eq!(sent.iter().filter(|request| request.kind == RequestKind::Delete).count(), 2);
}

#[test]
fn a_store_without_fences_offers_none() {
    let unable = StoreAbilities { fences_removals: false, ..StoreAbilities::ALL };
    assert_eq!(able_bucket(Arc::new(Mem::default()), unable).fence(), None);
    assert!(matches!(bucket(Arc::new(Mem::default())).fence(), Some(Fence(_))));
}

/// Opens a store whose views count for a short time, so that a short grace is enough.
fn open(bucket: Bucket) -> Store {
    let clock = LocalClock::of(time_since_boot);
    Store::open_collected(
        bucket,
        StoreOptions::default(),
        clock,
        Duration::from_millis(500),
        std::thread::sleep,
    )
    .unwrap()
}

fn cycle(store: &Store) -> CycleReport {
    let options = GcOptions {
        grace: Duration::from_secs(2),
        min_age: Duration::ZERO,
        rate: NonZeroU32::new(10_000).unwrap(),
        ..GcOptions::default()
    };
    loop {
        store.renew_lead().unwrap();
        let lead = store.lead().expect("the only replica leads");
        match store.collect_online(&options, &KeepAll, &lead).unwrap() {
            Cycle::Done(report) => return report,
            Cycle::Waits { .. } => std::thread::yield_now(),
            Cycle::LostLead => panic!("the only replica leads"),
        }
    }
}

/// Repeats what the store refuses because its view has grown too old in between, as clients do.
fn vouched<T>(attempt: impl Fn() -> Result<T, StoreError>) -> T {
    let begun = std::time::Instant::now();
    loop {
        match attempt() {
            Err(StoreError::Unvouched) if begun.elapsed() < Duration::from_mins(1) => {}
            done => return done.unwrap(),
        }
    }
}

fn push(store: &Store, name: &RepositoryName, bytes: &[u8]) -> Digest {
    let digest = Digest::sha256(bytes);
    vouched(|| {
        let mut receiver = store.receive(&digest, Some(bytes.len() as u64))?;
        receiver.append(bytes).unwrap();
        store.commit(name, &mut receiver, &digest)
    });
    digest
}

fn collects(objects: Arc<dyn Objects>) {
    let (store, other) = (open(bucket(objects.clone())), open(bucket(objects)));
    let name: RepositoryName = "a/b".parse().unwrap();
    let [garbage, held] = [&b"garbage"[..], b"held"].map(|bytes| push(&store, &name, bytes));
    // Of times in whole seconds, what was written in the second of a seal stays for one cycle more.
    let last = loop {
        vouched(|| other.refresh_gc_view());
        vouched(|| other.holding_blob(&name, &held, || other.blob(&name, &held).map(drop)));
        let report = cycle(&store);
        if report.blobs.doomed > 0 {
            break report;
        }
    };
    assert_eq!((last.links.doomed, last.blobs.doomed), (1, 1), "{last:?}");
    assert!(matches!(store.blob(&name, &garbage), Err(StoreError::BlobUnknown)));
    assert_eq!(store.blob(&name, &held).unwrap().to_bytes().unwrap(), "held");
    let again = push(&other, &name, b"garbage");
    assert_eq!(other.blob(&name, &again).unwrap().to_bytes().unwrap(), "garbage");
    assert_eq!(store.last_collection().unwrap(), Some(last));
}

#[test]
fn a_bucket_is_collected_while_two_replicas_use_it() {
    collects(Arc::new(Mem::default()));
}

#[test]
fn a_bucket_of_versitygw_is_collected_while_two_replicas_use_it() {
    let Some(gateway) = Gateway::start() else { return };
    collects(Arc::new(gateway.bucket()));
}
