//! Replicas that stop in the middle of a change, read-only replicas, and versions of the layout.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use quinistry_oci::{Digest, Reference, Tag, to_json};

use super::super::collection::online::Scene;
use super::storage::SharedMemory;
use super::{NAME, image, lead, name, put, replica, served};
use crate::intents::Intent;
use crate::layout::{self, intents, intents_of};
use crate::storage::Storage as _;
use crate::{Store, StoreError};

/// Age of a replica that has stopped.
const STOPPED: Duration = Duration::from_mins(6);

fn intent_to_tag(storage: &SharedMemory, replica: &str, digest: Digest, tags: &[&str]) {
    let tags: Vec<Tag> = tags.iter().map(|tag| tag.parse().unwrap()).collect();
    let intent = Intent::Tag { repository: name(NAME), digest, tags, immutable: Vec::new() };
    let key = intents_of(replica).child("0");
    storage.bytes().write(&[&[(key, &to_json(&intent))]]).unwrap();
    storage.bytes().write(&[&[(layout::replicas().child(replica), b"{}")]]).unwrap();
}

/// Writes the intent of a replica that was never heard.
fn leave_intent(storage: &SharedMemory, intent: &Intent) {
    storage.write(&[&[(intents_of("other").child("0"), &to_json(intent))]]).unwrap();
}

fn has_intents(storage: &SharedMemory) -> bool {
    storage.bytes().exists(&intents()).unwrap()
}

fn two_images(storage: &SharedMemory) -> (Store, Digest, Digest) {
    let store = replica(&storage.view());
    let [first, second] = ["first", "second"].map(|note| image(&store, note));
    let [first, second] = [first, second].map(|bytes| put(&store, NAME, &bytes, &[]).unwrap());
    (store, first, second)
}

#[test]
fn the_change_of_a_stopped_replica_is_finished_and_that_of_a_running_one_is_not() {
    let storage = SharedMemory::new();
    let (store, first, _) = two_images(&storage);
    intent_to_tag(&storage, "other", first.clone(), &["v1", "v2"]);
    lead(&store);
    store.maintain().unwrap();
    assert!(has_intents(&storage) && served(&store, "v1").is_err(), "the other replica is about to finish");
    storage.age("/replicas/other", STOPPED);
    store.maintain().unwrap();
    assert!(!has_intents(&storage));
    for tag in ["v1", "v2"] {
        assert_eq!(served(&store, tag).unwrap(), first);
    }
}

#[test]
fn a_change_that_is_finished_late_leaves_what_is_newer() {
    let storage = SharedMemory::new();
    let (store, first, second) = two_images(&storage);
    intent_to_tag(&storage, "other", first.clone(), &["v1", "v2"]);
    storage.age("/replicas/other", STOPPED);
    storage.age("/intents/", STOPPED);
    put(&store, NAME, &super::manifest(b"layer", "second"), &["v1"]).unwrap();
    lead(&store);
    store.maintain().unwrap();
    assert_eq!((served(&store, "v1").unwrap(), served(&store, "v2").unwrap()), (second, first));
}

#[test]
fn a_change_that_is_finished_late_leaves_what_was_written_in_the_second_of_its_begin() {
    let storage = SharedMemory::new();
    storage.stop_clock();
    let (store, first, second) = two_images(&storage);
    let tags: Vec<Tag> = ["v1", "v2"].map(|tag| tag.parse().unwrap()).to_vec();
    leave_intent(
        &storage,
        &Intent::Tag {
            repository: name(NAME),
            digest: first.clone(),
            tags: tags.clone(),
            immutable: Vec::new(),
        },
    );
    put(&store, NAME, &super::manifest(b"layer", "second"), &["v1"]).unwrap();
    storage.advance(STOPPED);
    let store = replica(&storage.view());
    assert!(!has_intents(&storage));
    assert_eq!((served(&store, "v1").unwrap(), served(&store, "v2").unwrap()), (second, first.clone()));

    leave_intent(&storage, &Intent::Delete { repository: name(NAME), digests: vec![first.clone()], tags });
    put(&store, NAME, &super::manifest(b"layer", "first"), &["v1"]).unwrap();
    storage.advance(STOPPED);
    let store = replica(&storage.view());
    assert!(!has_intents(&storage));
    assert_eq!(served(&store, "v1").unwrap(), first);
}

#[test]
fn tags_that_are_created_late_are_those_that_are_absent() {
    let storage = SharedMemory::new();
    storage.stop_clock();
    let (store, first, second) = two_images(&storage);
    put(&store, NAME, &super::manifest(b"layer", "second"), &["v1"]).unwrap();
    storage.advance(STOPPED);
    let tags: Vec<Tag> = ["v1", "v2"].map(|tag| tag.parse().unwrap()).to_vec();
    leave_intent(&storage, &Intent::Create { repository: name(NAME), digest: first.clone(), tags });
    storage.advance(STOPPED);
    let store = replica(&storage.view());
    assert!(!has_intents(&storage));
    assert_eq!((served(&store, "v1").unwrap(), served(&store, "v2").unwrap()), (second, first));
}

#[test]
fn a_removal_that_is_finished_late_leaves_what_was_pushed_since() {
    let storage = SharedMemory::new();
    let (store, first, _) = two_images(&storage);
    let tags: Vec<Tag> = vec!["v1".parse().unwrap()];
    let intent = Intent::Delete { repository: name(NAME), digests: vec![first.clone()], tags };
    storage.bytes().write(&[&[(intents_of("other").child("0"), &to_json(&intent))]]).unwrap();
    storage.age("/intents/", STOPPED);
    put(&store, NAME, &super::manifest(b"layer", "first"), &["v1"]).unwrap();
    lead(&store);
    store.maintain().unwrap();
    assert!(!has_intents(&storage));
    assert_eq!(served(&store, "v1").unwrap(), first);
}

#[test]
fn of_two_replicas_that_see_a_change_one_finishes_it() {
    let storage = SharedMemory::new();
    let (store, first, _) = two_images(&storage);
    intent_to_tag(&storage, "other", first.clone(), &["v1"]);
    storage.age("/replicas/other", STOPPED);
    // A running replica has taken the change.
    let taken = crate::Key::of_path(format!("{}.taken", intents_of("other").child("0"))).unwrap();
    storage.bytes().write(&[&[(taken, b"third"), (layout::replicas().child("third"), b"{}")]]).unwrap();
    lead(&store);
    store.maintain().unwrap();
    assert!(has_intents(&storage) && served(&store, "v1").is_err());
    // That one stopped, too.
    storage.age("/replicas/third", STOPPED);
    store.maintain().unwrap();
    assert!(!has_intents(&storage));
    assert_eq!(served(&store, "v1").unwrap(), first);
}

#[test]
fn the_mark_of_a_replica_that_stopped_after_the_change_is_removed() {
    let storage = SharedMemory::new();
    let (store, ..) = two_images(&storage);
    let taken = crate::Key::of_path(format!("{}.taken", intents_of("other").child("0"))).unwrap();
    storage.bytes().write(&[&[(taken, b"third")]]).unwrap();
    lead(&store);
    store.maintain().unwrap();
    assert!(has_intents(&storage), "a running replica is about to remove it");
    storage.age("/intents/", STOPPED);
    store.maintain().unwrap();
    assert!(!has_intents(&storage));
}

#[test]
fn a_reader_needs_no_right_to_write_and_finishes_nothing() {
    let storage = SharedMemory::new();
    let (_, first, _) = two_images(&storage);
    intent_to_tag(&storage, "other", first.clone(), &["v1"]);
    storage.age("/replicas/", STOPPED);
    let reader = replica(&storage.read_only_view());
    assert_eq!(reader.maintenance_interval(), None);
    let reference = quinistry_oci::Reference::Digest(first);
    reader.manifest(&name(NAME), &reference).unwrap();
    assert!(has_intents(&storage));
    assert!(replica(&storage.view()).maintenance_interval().is_some());
    assert!(!has_intents(&storage), "a writer finishes the change when it starts");
}

#[test]
fn a_layout_of_a_newer_program_is_refused() {
    let storage = SharedMemory::new();
    drop(replica(&storage.view()));
    let newer = br#"{"format":2,"minReader":1,"minWriter":2}"#;
    storage.bytes().write(&[&[(layout::format(), newer)]]).unwrap();
    let refused = Store::open(storage.view(), false).unwrap_err();
    assert!(matches!(refused, StoreError::FormatTooNew { format: 2, .. }), "{refused}");
    // It may be read.
    replica(&storage.read_only_view());
    storage.bytes().write(&[&[(layout::format(), b"no JSON")]]).unwrap();
    let refused = Store::open(storage.view(), false).unwrap_err();
    assert!(matches!(refused, StoreError::FormatUnknown(_)), "{refused}");
    assert_eq!(refused.to_string().lines().count(), 1);
}

#[test]
fn a_note_stands_beside_the_versions_and_leaves_what_others_have_written() {
    let storage = SharedMemory::new();
    let store = replica(&storage.view());
    let newer = br#"{"format":1,"minReader":1,"minWriter":1,"another":[1],"probe":"old"}"#;
    storage.bytes().write(&[&[(layout::format(), newer)]]).unwrap();
    store.keep_note("probe", "new".into()).unwrap();
    let found = storage.bytes().read(&layout::format(), 1000).unwrap().unwrap();
    let found: serde_json::Value = serde_json::from_slice(&found).unwrap();
    let expected =
        serde_json::json!({"format": 1, "minReader": 1, "minWriter": 1, "another": [1], "probe": "new"});
    assert_eq!(found, expected);
    replica(&storage.view());
    // A description that is lost in between is not made from a note alone.
    storage.bytes().remove(&layout::format()).unwrap();
    store.keep_note("probe", "new".into()).unwrap();
    assert!(storage.bytes().head(&layout::format()).unwrap().is_none());
}

/// Has a replica change a manifest that is there, and stops it for a time after it has written its intent. Another one has
/// in that time taken the change, and ends it when this one has looked `looks` times; never, if it stops.
fn change_after_a_stop(
    change: fn(&Store, &[u8]) -> Result<(), StoreError>,
    stop: Duration,
    looks: usize,
) -> (Result<(), StoreError>, usize) {
    let scene = Scene::new();
    let (view, waits) = (scene.storage.view(), Arc::<AtomicUsize>::default());
    let (counted, taken) = (waits.clone(), Arc::<OnceLock<crate::Key>>::default());
    let (moved, key) = (scene.clone(), taken.clone());
    let store = scene.replica_on(view.clone(), move |by| {
        moved.advance(by);
        if counted.fetch_add(1, Ordering::SeqCst) + 1 == looks {
            moved.storage.bytes().remove(key.get().unwrap()).unwrap();
        }
    });
    let manifest = image(&store, "changed");
    put(&store, NAME, &manifest, &["v1"]).unwrap();
    let stopped = scene.clone();
    view.after_write("/intents/", move || {
        stopped.advance(stop);
        let page = stopped.storage.bytes().scan(&intents(), None, 10).unwrap();
        let key = crate::Key::of_path(format!("{}.taken", page.entries[0].0)).unwrap();
        stopped.storage.bytes().write(&[&[(taken.get_or_init(|| key).clone(), b"other")]]).unwrap();
    });
    let changed = change(&store, &manifest);
    (changed, waits.load(Ordering::SeqCst))
}

#[test]
fn a_replica_that_was_stopped_in_a_push_waits_for_the_one_that_has_taken_it() {
    let push = |store: &Store, manifest: &[u8]| {
        put(store, NAME, &bytes::Bytes::copy_from_slice(manifest), &["v2", "v3"]).map(drop)
    };
    let (pushed, looks) = change_after_a_stop(push, STOPPED, 3);
    assert!(pushed.is_ok(), "{pushed:?}");
    assert_eq!(looks, 3);
    let (pushed, looks) = change_after_a_stop(push, STOPPED, usize::MAX);
    assert!(matches!(pushed, Err(StoreError::Unvouched)), "{pushed:?}");
    assert_eq!(looks, 80, "twenty seconds");
    let (pushed, looks) = change_after_a_stop(push, Duration::from_secs(30), 3);
    assert!(pushed.is_ok(), "{pushed:?}");
    assert_eq!(looks, 0, "no replica takes the change of one whose heartbeat is recent");
}

#[test]
fn a_replica_that_was_stopped_in_a_deletion_removes_nothing_afterwards() {
    let delete = |store: &Store, manifest: &[u8]| {
        let deleted = store.delete_manifest(&name(NAME), &Digest::sha256(manifest)).map(drop);
        let left = store.manifest(&name(NAME), &Reference::Digest(Digest::sha256(manifest)));
        assert_eq!(left.is_ok(), deleted.is_err(), "{deleted:?}");
        deleted
    };
    let (deleted, _) = change_after_a_stop(delete, STOPPED, usize::MAX);
    assert!(matches!(deleted, Err(StoreError::Unvouched)), "{deleted:?}");
    let (deleted, looks) = change_after_a_stop(delete, Duration::from_secs(30), 3);
    assert!(deleted.is_ok(), "{deleted:?}");
    assert_eq!(looks, 0, "no replica takes the change of one whose heartbeat is recent");
}

#[test]
fn a_replica_that_was_stopped_in_the_removal_of_a_tag_leaves_it_to_later_pushes() {
    for stop in [STOPPED, Duration::from_secs(30)] {
        let scene = Scene::new();
        let v1: Tag = "v1".parse().unwrap();
        let view = scene.storage.view();
        let stopped = scene.replica_on(view.clone(), |_| ());
        let other = scene.replica();
        let manifest = image(&stopped, "changed");
        put(&stopped, NAME, &manifest, &["v1"]).unwrap();
        let (moved, second) = (scene.clone(), other.clone());
        view.before_removal(move || {
            moved.advance(stop);
            put(&second, NAME, &manifest, &["v1"]).unwrap();
        });
        let deleted = stopped.delete_tag(&name(NAME), &v1);
        assert!(matches!(deleted, Err(StoreError::Unvouched)), "{deleted:?}");
        assert!(other.manifest(&name(NAME), &Reference::Tag(v1)).is_ok(), "the tag of the later push");
    }
}
