//! Tests of the scrub on a storage that several replicas share, and of bytes that change while they are read.

use std::sync::atomic::{AtomicUsize, Ordering};

use quinistry_oci::Content;

use super::*;
use crate::storage::{Abilities, Created, Entry, Meta, ObjectTag, Removed, ScanPage, StorageError, Uploads};
use crate::tests::shared::SharedMemory;

/// Overwrites the bytes of a digest as a failing store does.
fn spoil(storage: &SharedMemory, digest: &Digest, bytes: &[u8]) {
    storage.bytes().write(&[&[(blob(digest), bytes)]]).unwrap();
}

fn leader(storage: &SharedMemory) -> Store {
    let store = Store::open(storage.clone(), false).unwrap();
    store.renew_lead().unwrap();
    store
}

#[test]
fn content_of_a_bucket_is_quarantined_and_pushed_again_by_any_replica() {
    for storage in [SharedMemory::new(), SharedMemory::with_content_tags()] {
        let store = leader(&storage);
        let layer = push_image(&store, 200_000);
        let digest = Digest::sha256(&layer);
        let other = Store::open(storage.view(), false).unwrap();
        assert!(!is_absent(&other, &digest));
        spoil(&storage, &digest, &flipped(&layer));
        scrub(&store, &options());
        for replica in [&store, &other] {
            assert!(is_absent(replica, &digest));
            let refused = put(replica, "a", &manifest(&layer, "another"), &["v2"]);
            assert!(matches!(refused, Err(StoreError::Missing(_))), "{refused:?}");
        }
        assert_eq!(quarantined(&other), [flipped(&layer)]);
        push_blob(&other, "a", &layer).unwrap();
        for replica in [&store, &other] {
            assert!(!is_absent(replica, &digest));
        }
    }
}

#[test]
fn content_of_a_bucket_is_replaced_from_another_storage() {
    let (storage, source) = (SharedMemory::new(), Memory::new(1 << 22));
    let store = leader(&storage);
    let layer = push_image(&store, 200_000);
    push_image(&Store::open(source.clone(), false).unwrap(), 200_000);
    let digest = Digest::sha256(&layer);
    spoil(&storage, &digest, &flipped(&layer));
    scrub(&store, &healing(source));
    assert_eq!(store.blob(&name("a"), &digest).unwrap().to_bytes().unwrap(), layer);
    assert_eq!(store.scrub_statistics().healed, 1);
}

#[test]
fn a_push_between_two_reads_survives() {
    for content_tags in [false, true] {
        // Every request of the check may be the one before which the push comes.
        let mut checks = 0;
        for round in 0.. {
            let storage = if content_tags { SharedMemory::with_content_tags() } else { SharedMemory::new() };
            let store = leader(&storage);
            let layer = push_image(&store, 1000);
            let digest = Digest::sha256(&layer);
            spoil(&storage, &digest, &flipped(&layer));
            store.suspect(&digest);
            let (other, bytes) = (Store::open(storage.view(), false).unwrap(), layer.clone());
            storage.before_round(round, move || {
                push_blob(&other, "a", &bytes).unwrap();
            });
            store.scrub_suspects(&options(), &MovedClock::default()).unwrap();
            if storage.forget_hook() {
                break;
            }
            checks += 1;
            assert!(!is_absent(&store, &digest), "push before request {round}, content tags: {content_tags}");
            assert_eq!(store.blob(&name("a"), &digest).unwrap().to_bytes().unwrap(), layer);
        }
        assert!(checks > 5, "{checks} requests");
    }
}

#[test]
fn two_replicas_make_one_round_together() {
    let storage = SharedMemory::new();
    storage.stop_clock();
    let (first, second) = (leader(&storage), Store::open(storage.view(), false).unwrap());
    for at in 0_u32..100 {
        push_blob(&first, "a", &at.to_le_bytes()).unwrap();
    }
    second.renew_lead().unwrap();
    assert!(second.lead().is_none());
    let lead = lead_of(&first);
    for _ in 0..100 {
        first.scrub_step(&options(), &MovedClock::default(), &lead).unwrap();
    }
    // The first replica is not heard any more.
    storage.advance(Duration::from_mins(2));
    second.renew_lead().unwrap();
    let begun = second.scrub_position_round();
    while second.scrub_position_round() == begun {
        second.scrub_step(&options(), &MovedClock::default(), &lead_of(&second)).unwrap();
    }
    let checked = [&first, &second].map(|store| store.scrub_statistics().checked);
    assert_eq!(checked.iter().sum::<u64>(), 100, "{checked:?}");
    assert!(checked.iter().all(|checked| *checked > 20), "{checked:?}");
}

#[test]
fn two_replicas_that_find_the_same_damage_treat_it_once() {
    let storage = SharedMemory::new();
    let store = leader(&storage);
    let layer = push_image(&store, 1000);
    let digest = Digest::sha256(&layer);
    for round in 0.. {
        spoil(&storage, &digest, &flipped(&layer));
        store.suspect(&digest);
        let other = Store::open(storage.view(), false).unwrap();
        other.suspect(&digest);
        storage.before_round(round, move || {
            other.scrub_suspects(&options(), &MovedClock::default()).unwrap();
        });
        store.scrub_suspects(&options(), &MovedClock::default()).unwrap();
        if storage.forget_hook() {
            break;
        }
        assert_eq!(quarantined(&store), [flipped(&layer)], "{round}");
        storage.bytes().clear(&crate::layout::quarantine()).unwrap();
    }
}

#[test]
fn bytes_leave_the_quarantine_after_a_month() {
    let storage = SharedMemory::new();
    let store = leader(&storage);
    let layer = push_image(&store, 1000);
    spoil(&storage, &Digest::sha256(&layer), b"damaged");
    scrub(&store, &options());
    storage.age("/quarantine/", Duration::from_hours(29 * 24));
    scrub(&store, &options());
    assert_eq!(quarantined(&store), [b"damaged"]);
    storage.age("/quarantine/", Duration::from_hours(31 * 24));
    scrub(&store, &options());
    assert!(quarantined(&store).is_empty());
}

/// Storage whose next reads of content have a wrong bit, though the bytes are whole.
#[derive(Clone, Debug)]
struct Misreading {
    memory: Memory,
    wrong_reads: Arc<AtomicUsize>,
}

impl Storage for Misreading {
    fn abilities(&self) -> Abilities {
        Abilities { is_persistent: true, ..self.memory.abilities() }
    }

    fn open(&self, key: &Key) -> Result<Option<(Content, ObjectTag)>, StorageError> {
        let Some((content, tag)) = self.memory.open(key)? else { return Ok(None) };
        let is_wrong = self.wrong_reads.load(Ordering::Relaxed) > 0 && key.as_str().ends_with("/data");
        if !is_wrong {
            return Ok(Some((content, tag)));
        }
        self.wrong_reads.fetch_sub(1, Ordering::Relaxed);
        Ok(Some(([Bytes::from(flipped(&content.to_bytes().unwrap()))].into(), tag)))
    }

    fn kept_sha256(&self, key: &Key) -> Result<Option<Digest>, StorageError> {
        // The store believes its own bytes.
        Ok(crate::content_digest(key.as_str()))
    }

    fn head(&self, key: &Key) -> Result<Option<Meta>, StorageError> {
        self.memory.head(key)
    }

    fn write(&self, stages: &[&[Entry<'_>]]) -> Result<(), StorageError> {
        self.memory.write(stages)
    }

    fn create(&self, key: &Key, bytes: &[u8]) -> Result<Created, StorageError> {
        self.memory.create(key, bytes)
    }

    fn remove(&self, key: &Key) -> Result<bool, StorageError> {
        self.memory.remove(key)
    }

    fn remove_if(&self, key: &Key, tag: &ObjectTag) -> Result<Removed, StorageError> {
        self.memory.remove_if(key, tag)
    }

    fn clear(&self, folder: &Key) -> Result<bool, StorageError> {
        self.memory.clear(folder)
    }

    fn scan(&self, folder: &Key, after: Option<&Key>, limit: usize) -> Result<ScanPage, StorageError> {
        self.memory.scan(folder, after, limit)
    }

    fn uploads(&self) -> &dyn Uploads {
        self.memory.uploads()
    }
}

#[test]
fn one_wrong_read_removes_nothing_and_two_do() {
    let storage = Misreading { memory: Memory::new(1 << 20), wrong_reads: Arc::default() };
    let store = Store::open(storage.clone(), false).unwrap();
    let digest = push_blob(&store, "a", b"whole").unwrap();
    storage.wrong_reads.store(1, Ordering::Relaxed);
    store.suspect(&digest);
    store.scrub_suspects(&options(), &MovedClock::default()).unwrap();
    let counts = store.scrub_statistics();
    assert_eq!((counts.misread, counts.damaged), (1, 0));
    assert!(!is_absent(&store, &digest) && quarantined(&store).is_empty());
    storage.wrong_reads.store(2, Ordering::Relaxed);
    store.suspect(&digest);
    store.scrub_suspects(&options(), &MovedClock::default()).unwrap();
    assert_eq!(store.scrub_statistics().damaged, 1);
    assert!(is_absent(&store, &digest));
}

#[test]
fn bytes_are_read_in_one_round_of_twelve_where_the_storage_tells_their_hash() {
    let storage = Misreading { memory: Memory::new(1 << 20), wrong_reads: Arc::default() };
    let store = Store::open(storage, false).unwrap();
    push_blob(&store, "a", &[7; 1000]).unwrap();
    let read: Vec<u64> = (0..24)
        .map(|_| {
            let before = store.scrub_statistics().read_bytes;
            scrub(&store, &options());
            store.scrub_statistics().read_bytes - before
        })
        .collect();
    assert_eq!(read.iter().filter(|bytes| **bytes == 1000).count(), 2, "{read:?}");
    assert_eq!(read.iter().sum::<u64>(), 2000, "{read:?}");
}
