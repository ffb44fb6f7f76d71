//! Removals that a store refuses after their time, and collection on a bucket, which needs them.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use quinistry_oci::{Digest, RepositoryName};
use quinistry_store::{
    Cycle, CycleReport, FENCE_LIFETIME, Fence, GcOptions, KeepAll, Key, LocalClock, Removed, Storage as _,
    Store, StoreError, StoreOptions, time_since_boot,
};

use super::azurite::Azurite;
use super::gateway::Gateway;
use super::{able_bucket, bucket};
use crate::testing::{Fault, FaultPlan, Faulty, Mem, MemOptions, RequestKind, StoreClock, Versions};
use crate::{Bucket, Objects, StoreAbilities};

fn key(path: &str) -> Key {
    Key::of_path(path.to_owned()).unwrap()
}

/// Returns a bucket whose removals expire, or one whose objects have generations.
fn stopped(versions: Versions) -> (Mem, StoreClock) {
    let clock = StoreClock::stopped(SystemTime::UNIX_EPOCH + Duration::from_hours(24));
    (Mem::new(MemOptions { versions, ..MemOptions::default() }, clock.clone()), clock)
}

#[test]
fn removals_behind_an_expired_fence_are_refused_and_told() {
    refuses_behind_the_fence(Versions::Etags);
    refuses_behind_the_fence(Versions::Generations);
}

fn refuses_behind_the_fence(versions: Versions) {
    let (mem, clock) = stopped(versions);
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
    removes_a_version_within_its_fence(Versions::Etags);
    removes_a_version_within_its_fence(Versions::Generations);
}

fn removes_a_version_within_its_fence(versions: Versions) {
    let (mem, clock) = stopped(versions);
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

/// Lets a request of a removal stall until another process has removed the object and a client has written it again.
fn stalls_until_written_again(versions: Versions, stalled: RequestKind) {
    let (mem, clock) = stopped(versions);
    let faulty = Arc::new(Faulty::new(mem, FaultPlan::default()));
    let (late, other) = (bucket(faulty.clone()), bucket(faulty.clone()));
    let keys = [key("a")];
    late.write(&[&[(key("a"), b"x")]]).unwrap();
    let fence = late.fence().unwrap();
    faulty.log().take();
    faulty.plan().spoil(stalled, "a", Fault::Stalled, 1);
    std::thread::scope(|scope| {
        scope.spawn(|| late.remove_fenced(&keys, fence).unwrap());
        while faulty.log().counts().of(stalled) == 0 {
            std::thread::yield_now();
        }
        clock.advance(FENCE_LIFETIME + Duration::from_secs(1));
        assert_eq!(other.remove_fenced(&keys, other.fence().unwrap()).unwrap(), []);
        assert!(other.head(&keys[0]).unwrap().is_none());
        other.write(&[&[(key("a"), b"x")]]).unwrap();
        faulty.plan().deliver();
    });
    assert!(other.head(&keys[0]).unwrap().is_some(), "the same bytes are lost that were written again");
}

#[test]
fn a_removal_that_is_delivered_late_keeps_bytes_that_were_written_again() {
    stalls_until_written_again(Versions::Etags, RequestKind::Delete);
    stalls_until_written_again(Versions::Generations, RequestKind::Delete);
}

#[test]
fn a_removal_whose_look_up_is_delivered_late_keeps_bytes_that_were_written_again() {
    stalls_until_written_again(Versions::Generations, RequestKind::Head);
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

#[test]
fn a_store_whose_fences_are_versions_offers_none_without_conditional_removals() {
    let unable = StoreAbilities { removes_if_unchanged: false, ..StoreAbilities::ALL };
    let [expires, renews] =
        [Versions::Etags, Versions::Generations].map(|versions| Arc::new(stopped(versions).0));
    assert!(able_bucket(expires, unable).fence().is_some());
    assert_eq!(able_bucket(renews.clone(), unable).fence(), None);
    assert!(bucket(renews).fence().is_some());
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
fn a_bucket_whose_objects_have_generations_is_collected_while_two_replicas_use_it() {
    let options = MemOptions { versions: Versions::Generations, ..MemOptions::default() };
    collects(Arc::new(Mem::new(options, StoreClock::system())));
}

#[test]
fn a_container_of_azurite_is_collected_while_two_replicas_use_it() {
    let Some(azurite) = Azurite::start() else { return };
    collects(Arc::new(azurite.container("")));
}

#[test]
fn a_bucket_of_versitygw_is_collected_while_two_replicas_use_it() {
    let Some(gateway) = Gateway::start() else { return };
    collects(Arc::new(gateway.bucket()));
}
