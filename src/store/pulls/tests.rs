//! Tests of the record of pulls.

use std::path::Path;

use super::*;
use crate::layout::{pull_logs, pull_snapshot};
use crate::retention::PullRecords as _;
use crate::tests::shared::storage::SharedMemory;
use crate::{Access, Filesystem, Key, Memory, ObservedStorage, StorageAction};

fn open(folder: &Path) -> Store {
    Store::open(Filesystem::open(folder, Access::Write).unwrap(), false).unwrap()
}

fn name(text: &str) -> RepositoryName {
    text.parse().unwrap()
}

fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}

fn digest(number: usize) -> Digest {
    Digest::sha256(&number.to_le_bytes())
}

fn end_of(hour: u64) -> LastPull {
    LastPull::At(SystemTime::UNIX_EPOCH + Duration::from_secs((hour + 1) * HOUR.as_secs()))
}

fn objects(store: &Store, folder: &Key) -> usize {
    let mut count = 0;
    store
        .scan(folder, |_, _| {
            count += 1;
            Ok(())
        })
        .unwrap();
    count
}

#[test]
fn a_million_pulls_write_few_objects() {
    const PULLS: usize = 1_000_000;
    const MANIFESTS: usize = 2_000;
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let names: Vec<RepositoryName> = (0..100).map(|number| name(&format!("team/app-{number}"))).collect();
    let digests: Vec<Digest> = (0..MANIFESTS).map(digest).collect();
    let (latest, hour) = (tag("latest"), hour_of(SystemTime::now()));
    for pull in 0..PULLS {
        let manifest = pull % MANIFESTS;
        let (name, digest) = (&names[manifest % names.len()], &digests[manifest]);
        // A day of pulls, of which the background task writes those of a quarter of an hour.
        let at = hour - 24 + (24 * pull / PULLS) as u64;
        store.0.pulls.note(name, digest, manifest.is_multiple_of(2).then_some(&latest), at);
        let is_quarter = pull % (PULLS / 96) == PULLS / 96 - 1;
        if is_quarter || store.0.pulls.waiting.load(Ordering::Relaxed) >= MAX_PULLS_PER_OBJECT {
            store.flush_pulls().unwrap();
        }
    }
    store.flush_pulls().unwrap();
    let written = objects(&store, &pull_logs());
    assert!((1..=100).contains(&written), "{written} objects");
    assert_eq!(store.written_pull_objects(), written as u64);
    store.fold_pulls().unwrap();
    assert_eq!(objects(&store, &pull_logs()), 0);
    for manifest in [0, 1, MANIFESTS - 1] {
        let pulls = store.last_pulls(&names[manifest % names.len()]).unwrap();
        assert_eq!(pulls.manifest(&digests[manifest]), end_of(hour - 1));
    }
}

#[test]
fn a_pull_that_is_repeated_in_the_hour_is_noted_once() {
    let store = Store::open(Memory::new(1 << 20), false).unwrap();
    let (app, other, v1) = (name("app"), name("other"), tag("v1"));
    for _ in 0..3 {
        for repository in [&app, &other] {
            for tag in [None, Some(&v1)] {
                store.0.pulls.note(repository, &digest(1), tag, 7);
            }
        }
    }
    assert_eq!(store.0.pulls.take().len(), 4);
    store.0.pulls.note(&app, &digest(1), None, 8);
    assert_eq!(store.0.pulls.take().len(), 1);
    assert_eq!(store.0.pulls.waiting.load(Ordering::Relaxed), 0);
}

#[test]
fn last_pulls_are_those_of_all_processes_and_survive_them() {
    let folder = tempfile::tempdir().unwrap();
    let (app, v1, v2) = (name("team/app"), tag("v1"), tag("v2"));
    let now = hour_of(SystemTime::now());
    for age in [3, 5, 4] {
        let store = open(folder.path());
        store.begin_pull_records().unwrap();
        store.0.pulls.note(&app, &digest(1), Some(&v1), now + 10 - age);
        store.flush_pulls().unwrap();
    }
    let store = open(folder.path());
    assert_eq!(store.last_pulls(&app).unwrap().tag(&v1), LastPull::Unknown);
    for _ in 0..2 {
        store.fold_pulls().unwrap();
        let pulls = store.last_pulls(&app).unwrap();
        assert_eq!(pulls.tag(&v1), end_of(now + 7));
        assert_eq!(pulls.manifest(&digest(1)), end_of(now + 7));
        assert_eq!((pulls.tag(&v2), pulls.manifest(&digest(2))), (LastPull::Unknown, LastPull::Unknown));
        let since = pulls.recording_since().unwrap();
        assert!(hour_of(since) == now || hour_of(since) == now + 1);
    }
    assert_eq!(store.last_pulls(&name("team/other")).unwrap().tag(&v1), LastPull::Unknown);
}

#[test]
fn pulls_that_the_storage_refuses_are_written_later() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    let reader = Store::open(Filesystem::open(folder.path(), Access::Read).unwrap(), false).unwrap();
    for manifest in 0..=MAX_PULLS_PER_OBJECT {
        reader.0.pulls.note(&name("app"), &digest(manifest), None, 7);
    }
    for _ in 0..2 {
        assert!(reader.flush_pulls().is_err());
        assert_eq!(reader.0.pulls.waiting.load(Ordering::Relaxed), MAX_PULLS_PER_OBJECT + 1);
    }
    assert_eq!(reader.0.pulls.take().len(), MAX_PULLS_PER_OBJECT + 1);
}

#[test]
fn after_lost_pulls_earlier_ones_are_unknown() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let (app, v1) = (name("app"), tag("v1"));
    let now = hour_of(SystemTime::now());
    let recorded = || store.last_pulls(&app).unwrap();
    store.begin_pull_records().unwrap();
    store.0.pulls.note(&app, &digest(0), Some(&v1), now - 3);
    store.fold_pulls().unwrap();
    let since = SystemTime::UNIX_EPOCH + Duration::from_hours(now - 10);
    let reset = |since: SystemTime| {
        let seconds = since.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let note = format!(r#"{{"since":{seconds},"until":{seconds}}}"#);
        store.storage().write(&[&[(crate::layout::pulls_since(), note.as_bytes())]]).unwrap();
    };
    reset(since);
    assert_eq!((recorded().tag(&v1), recorded().recording_since()), (end_of(now - 3), Some(since)));
    for manifest in 0..=MAX_WAITING_PULLS {
        store.0.pulls.note(&app, &digest(manifest), None, now);
    }
    store.flush_pulls().unwrap();
    assert_eq!(recorded().tag(&v1), LastPull::Unknown);
    assert!(recorded().recording_since().unwrap() > since);

    // A record that rested for days, and a damaged one, begin again.
    reset(SystemTime::UNIX_EPOCH + Duration::from_hours(now - 49));
    store.begin_pull_records().unwrap();
    assert_eq!(recorded().tag(&v1), LastPull::Unknown);
    reset(since);
    store.begin_pull_records().unwrap();
    assert_eq!(recorded().tag(&v1), end_of(now - 3));
    let shard = crate::layout::name_shard(&app);
    store.storage().write(&[&[(pull_snapshot(shard), b"{")]]).unwrap();
    store.fold_pulls().unwrap();
    assert!(recorded().recording_since().unwrap() > since);
}

#[test]
fn noting_a_pull_never_calls_the_storage() {
    #[derive(Debug, Default)]
    struct Calls(AtomicUsize);
    impl crate::StorageObserver for Calls {
        fn called(&self, _: StorageAction, _: Duration) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
        fn flushed(&self, _: Duration) {}
    }
    let folder = tempfile::tempdir().unwrap();
    let filesystem = Filesystem::open(folder.path(), Access::Write).unwrap();
    let calls = std::sync::Arc::new(Calls::default());
    let store = Store::open(ObservedStorage::new(filesystem, calls.clone()), false).unwrap();
    let before = calls.0.load(Ordering::Relaxed);
    for manifest in 0..=2 * MAX_PULLS_PER_OBJECT {
        store.note_pull(&name("app"), &digest(manifest), None);
    }
    assert_eq!(calls.0.load(Ordering::Relaxed), before);
    store.flush_pulls().unwrap();
    assert!(calls.0.load(Ordering::Relaxed) > before, "the observer sees calls");
}

/// Measures the cost of noting a pull: `cargo test --release -- --ignored --nocapture cost_of_a_pull`.
#[test]
#[ignore = "a measurement"]
fn cost_of_a_pull() {
    const PULLS: u32 = 1_000_000;
    let store = Store::open(Memory::new(1 << 20), false).unwrap();
    let (name, digest, tag) = (name("team/application"), digest(1), tag("v1.2.3"));
    let begun = std::time::Instant::now();
    for _ in 0..PULLS {
        store.note_pull(&name, &digest, Some(&tag));
    }
    println!("{:?} for a pull", begun.elapsed() / PULLS);
}

#[test]
fn current_pulls_are_known_before_a_leader_folds_them_and_after() {
    let folder = tempfile::tempdir().unwrap();
    let (app, v1) = (name("team/app"), tag("v1"));
    let store = open(folder.path());
    store.begin_pull_records().unwrap();
    let now = hour_of(SystemTime::now());
    store.0.pulls.note(&app, &digest(1), Some(&v1), now);
    store.flush_pulls().unwrap();
    let pulled = || {
        let pulls = store.current_pulls().unwrap().of(&app).unwrap();
        (pulls.tag(&v1), pulls.manifest(&digest(1)), pulls.manifest(&digest(2)))
    };
    let LastPull::At(end) = end_of(now) else { panic!() };
    assert_eq!(pulled(), (Some(end), Some(end), None));
    store.fold_pulls().unwrap();
    assert_eq!(pulled(), (Some(end), Some(end), None));
    // Of a record that cannot be read, any pull may be lost.
    let begin = store.storage().now();
    store.storage().write(&[&[(pull_logs().child("2030-01-01").child("x-1"), b"torn")]]).unwrap();
    let since = store.current_pulls().unwrap().of(&app).unwrap().recording_since();
    assert!(since >= Some(begin), "{since:?}");
}

#[test]
fn pulls_are_noted_by_the_clock_of_the_storage() {
    let storage = SharedMemory::new();
    storage.stop_clock();
    storage.advance(Duration::from_hours(48));
    let store = Store::open(storage.view(), false).unwrap();
    store.note_pull(&name("team/app"), &digest(1), None);
    let noted: Vec<u64> = store.0.pulls.take().iter().map(|pull| pull.hour).collect();
    // A stopped clock begins at the end of the first day of 1970.
    assert_eq!(noted, [72]);
}
