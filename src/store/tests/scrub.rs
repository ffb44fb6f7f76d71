//! Tests of the scrub: damaged content is found, taken away and replaced, and no other content is.

mod sharing;

use std::num::NonZeroU64;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::*;
use crate::layout::RepositoryKeys;
use crate::shared::Lead;
use crate::storage::Storage;
use crate::{Memory, ScrubClock, ScrubOptions, ScrubStep, StorageSource};

/// Clock that pauses move.
#[derive(Debug, Default)]
struct MovedClock {
    now: Mutex<Duration>,
    /// Number of pauses after which the scrub shall stop, if it shall.
    pauses: Option<Mutex<usize>>,
}

impl MovedClock {
    fn stopping_after(pauses: usize) -> Self {
        Self { pauses: Some(Mutex::new(pauses)), ..Self::default() }
    }
}

impl ScrubClock for MovedClock {
    fn now(&self) -> Duration {
        *self.now.lock().unwrap()
    }

    fn pause(&self, duration: Duration) -> ControlFlow<()> {
        *self.now.lock().unwrap() += duration;
        let Some(pauses) = &self.pauses else { return ControlFlow::Continue(()) };
        let mut left = pauses.lock().unwrap();
        *left = left.saturating_sub(1);
        if *left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

fn options() -> ScrubOptions {
    let rate = NonZeroU64::new(1 << 30).unwrap();
    ScrubOptions { interval: Duration::ZERO, rate, sources: Vec::new() }
}

/// Options with another storage as a source of content.
fn healing(from: impl Storage) -> ScrubOptions {
    ScrubOptions { sources: vec![Arc::new(StorageSource::new("other", from))], ..options() }
}

fn lead_of(store: &Store) -> Lead {
    store.lead().expect("the process leads")
}

/// Makes a round over all content and all links.
fn scrub(store: &Store, options: &ScrubOptions) {
    for _ in 0..257 {
        let step = store.scrub_step(options, &MovedClock::default(), &lead_of(store)).unwrap();
        assert_eq!(step, ScrubStep::Waits(Duration::ZERO));
    }
}

fn flipped(bytes: &[u8]) -> Vec<u8> {
    let mut flipped = bytes.to_vec();
    flipped[bytes.len() / 2] ^= 1;
    flipped
}

/// Pushes an image with a tag, and returns the bytes of its layer.
fn push_image(store: &Store, length: usize) -> Vec<u8> {
    let layer: Vec<u8> = (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect();
    push_blob(store, "a", b"{}").unwrap();
    push_blob(store, "a", &layer).unwrap();
    put(store, "a", &manifest(&layer, "image"), &["v1"]).unwrap();
    layer
}

fn is_absent(store: &Store, digest: &Digest) -> bool {
    let found = store.blob(&name("a"), digest);
    assert!(matches!(found, Ok(_) | Err(StoreError::BlobUnknown)), "{found:?}");
    let mounted = store.mount(&name("b"), digest, Some(&name("a"))).unwrap().is_some();
    assert_eq!(mounted, found.is_ok());
    found.is_err()
}

/// Bytes in the quarantine.
fn quarantined(store: &Store) -> Vec<Vec<u8>> {
    let all = store.quarantined().unwrap();
    all.iter().map(|one| store.storage().read(&one.key, 1 << 30).unwrap().unwrap().to_vec()).collect()
}

#[test]
fn flipped_bytes_are_quarantined_and_the_next_push_brings_the_content_back() {
    for length in [100, 100_000, 1_000_000] {
        let folder = folder();
        let store = open(folder.path());
        let layer = push_image(&store, length);
        let digest = Digest::sha256(&layer);
        assert!(!is_absent(&store, &digest));
        scrub(&store, &options());
        assert_eq!(store.scrub_statistics().damaged, 0);
        damage(folder.path(), &digest, &flipped(&layer));
        scrub(&store, &options());
        assert!(is_absent(&store, &digest));
        assert!(!path(folder.path(), &blob(&digest)).exists());
        assert_eq!(quarantined(&store), [flipped(&layer)]);
        assert_eq!(store.quarantined().unwrap()[0].digest, digest);
        let counts = store.scrub_statistics();
        assert_eq!((counts.damaged, counts.healed, counts.failed), (1, 0, 0));
        let mut records = String::new();
        store
            .scan(&Key::of_path("docker/registry/v2/_quinistry/audit".into()).unwrap(), |key, _| {
                let bytes = store.storage().read(&key, 1 << 20)?.unwrap();
                records.push_str(std::str::from_utf8(&bytes).unwrap());
                Ok(())
            })
            .unwrap();
        assert!(records.contains("scrub") && records.contains(digest.as_str()), "{records}");
        // The link has no bytes until then.
        assert!(counts.missing >= 1);
        push_blob(&store, "a", &layer).unwrap();
        assert!(!is_absent(&store, &digest));
        scrub(&store, &options());
        assert_eq!(
            store.scrub_statistics(),
            crate::ScrubStatistics { position: 0, ..store.scrub_statistics() }
        );
        assert_eq!(store.scrub_statistics().damaged, 1);
    }
}

#[test]
fn damage_that_a_read_found_is_checked_while_no_shard_is_due() {
    let folder = folder();
    let store = open(folder.path());
    let layer = push_image(&store, 100_000);
    let digest = Digest::sha256(&layer);
    let options = ScrubOptions { interval: Duration::from_hours(720), ..options() };
    let wait = || match store.scrub_step(&options, &MovedClock::default(), &lead_of(&store)).unwrap() {
        ScrubStep::Waits(wait) => wait,
        ScrubStep::Stopped => panic!("the scrub was not stopped"),
    };
    assert!(!wait().is_zero());
    damage(folder.path(), &digest, &flipped(&layer));
    assert!(is_absent(&store, &digest));
    assert!(!wait().is_zero());
    assert_eq!(quarantined(&store), [flipped(&layer)]);
}

#[test]
fn bytes_of_every_damage_are_absent_after_a_round() {
    let bytes = b"some bytes of a blob".to_vec();
    for damaged in [flipped(&bytes), bytes[..5].to_vec(), [&bytes[..], b"more"].concat(), Vec::new()] {
        let folder = folder();
        let store = open(folder.path());
        let digest = push_blob(&store, "a", &bytes).unwrap();
        damage(folder.path(), &digest, &damaged);
        scrub(&store, &options());
        assert!(!path(folder.path(), &blob(&digest)).exists(), "{damaged:?}");
        assert_eq!(quarantined(&store), [damaged]);
    }
}

#[test]
fn content_is_replaced_from_the_first_source_that_has_it() {
    let (folder, source) = (folder(), folder());
    let other = open(source.path());
    let layer = push_image(&other, 300_000);
    drop(other);
    let store = open(folder.path());
    push_image(&store, 300_000);
    let digest = Digest::sha256(&layer);
    damage(folder.path(), &digest, &flipped(&layer));
    let mut options = healing(Filesystem::open(source.path(), Access::Read).unwrap());
    options.sources.insert(0, Arc::new(StorageSource::new("empty", Memory::new(1 << 20))));
    // A source with other bytes is passed over.
    let wrong = Memory::new(1 << 20);
    wrong.write(&[&[(blob(&digest), b"wrong")]]).unwrap();
    options.sources.insert(0, Arc::new(StorageSource::new("wrong", wrong)));
    scrub(&store, &options);
    assert!(!is_absent(&store, &digest));
    assert_eq!(store.blob(&name("a"), &digest).unwrap().to_bytes().unwrap(), layer);
    assert_eq!(quarantined(&store), [flipped(&layer)]);
    let counts = store.scrub_statistics();
    assert_eq!((counts.damaged, counts.healed, counts.missing), (1, 1, 0));
}

#[test]
fn a_damaged_manifest_stays_in_its_place_and_a_source_replaces_it() {
    let (folder, source) = (folder(), Memory::new(1 << 20));
    let store = open(folder.path());
    let layer = push_image(&store, 100);
    push_image(&Store::open(source.clone(), false).unwrap(), 100);
    let bytes = manifest(&layer, "image");
    let digest = Digest::sha256(&bytes);
    damage(folder.path(), &digest, &flipped(&bytes));
    scrub(&store, &options());
    // A collection would take a manifest without bytes for a deleted one, and its layers for garbage.
    assert!(path(folder.path(), &blob(&digest)).exists());
    assert!(matches!(
        store.manifest(&name("a"), &Reference::Digest(digest.clone())),
        Err(StoreError::Damaged(_))
    ));
    // Clients that ask for it again and again cause no further checks.
    let checked = store.scrub_statistics().checked;
    store.scrub_suspects(&options(), &MovedClock::default()).unwrap();
    assert_eq!(store.scrub_statistics().checked, checked);
    let wanted = crate::Collection {
        grace: Duration::ZERO,
        untagged: false,
        dry_run: false,
        damaged: crate::DamagedManifests::Stop,
    };
    assert!(matches!(store.collect(&wanted), Err(StoreError::DamagedIn { .. })));
    scrub(&store, &healing(source));
    assert_eq!(resolve_tag(&store, "a", "v1"), Some(digest));
    assert_eq!(quarantined(&store), [flipped(&bytes)]);
    store.collect(&wanted).unwrap();
    assert!(!is_absent(&store, &Digest::sha256(&layer)));
}

#[test]
fn links_without_bytes_are_counted_and_filled_from_a_source() {
    let (folder, source) = (folder(), Memory::new(1 << 20));
    let store = open(folder.path());
    let layer = push_image(&store, 100);
    push_image(&Store::open(source.clone(), false).unwrap(), 100);
    let digest = Digest::sha256(&layer);
    fs::remove_file(path(folder.path(), &blob(&digest))).unwrap();
    scrub(&store, &options());
    assert_eq!(store.scrub_statistics().missing, 1);
    scrub(&store, &healing(source));
    assert_eq!(store.scrub_statistics().missing, 1);
    assert_eq!(store.blob(&name("a"), &digest).unwrap().to_bytes().unwrap(), layer);
}

#[test]
fn bytes_that_a_client_found_damaged_are_checked_before_the_round() {
    for length in [100, 100_000] {
        let folder = folder();
        let store = open(folder.path());
        let layer = push_image(&store, length);
        let digest = Digest::sha256(&layer);
        damage(folder.path(), &digest, &flipped(&layer));
        assert!(store.blob(&name("a"), &digest).is_err());
        store.scrub_suspects(&options(), &MovedClock::default()).unwrap();
        assert_eq!(quarantined(&store), [flipped(&layer)]);
        // Nothing is left to be checked.
        let checked = store.scrub_statistics().checked;
        store.scrub_suspects(&options(), &MovedClock::default()).unwrap();
        assert_eq!(store.scrub_statistics().checked, checked);
    }
}

#[test]
fn the_position_survives_a_restart() {
    let folder = folder();
    let store = open(folder.path());
    for at in 0_u32..100 {
        push_blob(&store, "a", &at.to_le_bytes()).unwrap();
    }
    // Each content is two pauses: one for the request, one for the bytes.
    let clock = MovedClock::stopping_after(81);
    let lead = lead_of(&store);
    let stopped =
        (0..257).any(|_| store.scrub_step(&options(), &clock, &lead).unwrap() == ScrubStep::Stopped);
    assert!(stopped);
    let before = store.scrub_statistics().checked;
    let store = open_again(store, folder.path());
    let begun = store.scrub_position_round();
    while store.scrub_position_round() == begun {
        store.scrub_step(&options(), &MovedClock::default(), &lead_of(&store)).unwrap();
    }
    let after = store.scrub_statistics().checked;
    // The content at which the scrub was stopped is checked twice.
    assert_eq!((before, before + after), (41, 101));
}

#[test]
fn reads_keep_to_the_rate_and_steps_to_the_interval() {
    let folder = folder();
    let store = open(folder.path());
    for at in 0_u8..10 {
        push_blob(&store, "a", &vec![at; 1_000_000]).unwrap();
    }
    let rate = NonZeroU64::new(1_000_000).unwrap();
    let slow = ScrubOptions { rate, ..options() };
    let clock = MovedClock::default();
    for _ in 0..257 {
        store.scrub_step(&slow, &clock, &lead_of(&store)).unwrap();
    }
    assert!(clock.now() >= Duration::from_secs(10), "{:?}", clock.now());
    let interval = Duration::from_hours(257);
    let monthly = ScrubOptions { interval, ..options() };
    let ScrubStep::Waits(wait) = store.scrub_step(&monthly, &clock, &lead_of(&store)).unwrap() else {
        panic!("the step was stopped");
    };
    assert!(wait > Duration::from_mins(59) && wait <= Duration::from_hours(1), "{wait:?}");
}

#[test]
fn a_position_that_cannot_be_understood_begins_a_new_round() {
    let folder = folder();
    let store = open(folder.path());
    for bytes in [&b"{"[..], b"{}", br#"{"round":1,"began":0,"shard":999}"#] {
        store.storage().write(&[&[(crate::layout::scrub_position(), bytes)]]).unwrap();
        assert_eq!(store.scrub_position_round(), 1);
        store.scrub_step(&options(), &MovedClock::default(), &lead_of(&store)).unwrap();
    }
}

#[test]
fn layers_of_a_link_that_leads_elsewhere_are_no_damage() {
    let folder = folder();
    let store = open(folder.path());
    let (one, other) = (push_blob(&store, "a", b"one").unwrap(), push_blob(&store, "a", b"other").unwrap());
    let link = RepositoryKeys(&name("a")).layer_link(&one);
    store.storage().write(&[&[(link, other.as_str().as_bytes())]]).unwrap();
    scrub(&store, &options());
    let counts = store.scrub_statistics();
    assert_eq!((counts.damaged, counts.missing), (0, 0));
}
