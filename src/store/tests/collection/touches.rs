//! Acts of clients between the steps of a collector.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use quinistry_oci::{Algorithm, Digest, Manifest, Reference, RepositoryName};
use serde_json::json;

use super::super::shared::storage::SharedMemory;
use super::super::{manifest, name, push_blob, put};
use super::online::{
    GRACE, KeepTagged, NAME, Scene, has_bytes, has_link, has_revision, index_of, options, push,
};
use crate::failpoint::once::failing;
use crate::gc::online::touch::Cause;
use crate::layout::RepositoryKeys;
use crate::{AbsentParts, Cycle, Safeguard, Store, StoreError, StoreOptions, Tagged};

fn head_blob(store: &Store, repository: &RepositoryName, digest: &Digest) -> Result<(), StoreError> {
    store.holding_blob(repository, digest, || store.blob(repository, digest).map(drop))
}

fn head_manifest(store: &Store, digest: &Digest) -> Result<(), StoreError> {
    let (repository, reference) = (name(NAME), Reference::Digest(digest.clone()));
    store.holding_manifest(&repository, digest, || store.manifest(&repository, &reference).map(drop))
}

/// Reads a tagged image as a whole, or tells what is missing.
fn check_image(store: &Store, repository: &str, tag: &str, layer: &[u8]) -> Result<(), String> {
    let repository = name(repository);
    let reference = Reference::Tag(tag.parse().unwrap());
    store.manifest(&repository, &reference).map_err(|error| format!("manifest: {error}"))?;
    for part in [b"{}", layer] {
        store.blob(&repository, &Digest::sha256(part)).map_err(|error| format!("part: {error}"))?;
    }
    Ok(())
}

#[test]
fn a_head_holds_a_blob_for_one_more_cycle() {
    let scene = Scene::new();
    let (store, other) = (scene.replica(), scene.replica());
    let digest = push_blob(&store, NAME, b"layer").unwrap();
    scene.cycle(&store);
    head_blob(&other, &name(NAME), &digest).unwrap();
    let report = scene.cycle(&store);
    assert_eq!((report.links.revived["head"], report.blobs.revived["head"]), (1, 1), "{report:?}");
    assert!(has_bytes(&store, b"layer") && has_link(&store, &digest));
    scene.cycle(&store);
    scene.cycle(&store);
    assert!(!has_bytes(&store, b"layer") && !has_link(&store, &digest));
    assert!(matches!(head_blob(&other, &name(NAME), &digest), Err(StoreError::BlobUnknown)));
}

#[test]
fn a_manifest_of_condemned_parts_keeps_them() {
    let scene = Scene::new();
    let (store, other) = (scene.replica(), scene.replica());
    push_blob(&store, NAME, b"{}").unwrap();
    push_blob(&store, NAME, b"layer").unwrap();
    scene.cycle(&store);
    put(&other, NAME, &manifest(b"layer", "late"), &["v1"]).unwrap();
    for _ in 0..3 {
        scene.cycle(&store);
    }
    check_image(&other, NAME, "v1", b"layer").unwrap();
}

#[test]
fn a_mount_keeps_condemned_bytes_with_their_new_link() {
    let scene = Scene::new();
    let (store, other) = (scene.replica(), scene.replica());
    push_blob(&store, NAME, b"{}").unwrap();
    push_blob(&store, NAME, b"layer").unwrap();
    scene.cycle(&store);
    for part in [&b"{}"[..], b"layer"] {
        assert!(other.mount(&name("b"), &Digest::sha256(part), Some(&name(NAME))).unwrap().is_some());
    }
    scene.cycle(&store);
    assert!(!has_link(&store, &Digest::sha256(b"layer")), "the first link went");
    put(&other, "b", &manifest(b"layer", "mounted"), &["v1"]).unwrap();
    for _ in 0..2 {
        scene.cycle(&store);
    }
    check_image(&other, "b", "v1", b"layer").unwrap();
}

#[test]
fn a_tag_that_comes_back_keeps_a_condemned_manifest() {
    let scene = Scene::new();
    let (store, other) = (scene.replica(), scene.replica());
    let digest = push(&store, b"layer", "untagged", &[]).unwrap();
    scene.cycle(&store);
    put(&other, NAME, &manifest(b"layer", "untagged"), &["v1"]).unwrap();
    for _ in 0..3 {
        scene.cycle(&store);
    }
    assert!(has_revision(&store, &digest));
    check_image(&other, NAME, "v1", b"layer").unwrap();
}

#[test]
fn a_head_of_an_index_holds_its_manifests_and_their_layers() {
    for is_late in [false, true] {
        assert!(holds_what_an_index_refers_to(None, is_late), "{is_late}");
    }
    let without = holds_what_an_index_refers_to(Some(Safeguard::DeepTouch), true);
    assert!(!without, "the test would find what is missing");
}

/// Asks by HEAD for a condemned index of an index, before the mark or between the mark and the decision.
/// Returns true if all that it refers to stays.
fn holds_what_an_index_refers_to(removed: Option<Safeguard>, is_late: bool) -> bool {
    let scene = Scene::new();
    let view = scene.storage.view();
    let (store, mut other) = (scene.replica_on(view.clone(), |_| {}), scene.replica());
    if let Some(removed) = removed {
        other = other.without_safeguard(removed);
    }
    let child = manifest(b"layer", "child");
    push(&store, b"layer", "child", &[]).unwrap();
    let inner = index_of(&[&child]);
    put(&store, NAME, &inner, &[]).unwrap();
    let outer = index_of(&[&inner]);
    put(&store, NAME, &outer, &[]).unwrap();
    scene.cycle(&store);
    let (client, digest) = (other.clone(), Digest::sha256(&outer));
    let head = move || head_manifest(&client, &digest).unwrap();
    if is_late {
        view.before_create("/doom/r-0", head);
    } else {
        head();
    }
    scene.cycle(&store);
    assert!(has_revision(&store, &Digest::sha256(&outer)));
    if ![&inner, &child].iter().all(|bytes| has_revision(&store, &Digest::sha256(bytes))) {
        return false;
    }
    assert!(has_bytes(&store, b"layer") && has_link(&store, &Digest::sha256(b"layer")));
    // A new index of the held one is whole.
    put(&other, NAME, &index_of(&[&outer]), &["all"]).unwrap();
    for _ in 0..3 {
        scene.cycle(&store);
    }
    has_bytes(&store, b"layer") && has_revision(&store, &Digest::sha256(&child))
}

/// Asks by HEAD for a blob right before its shard is decided. Returns true if the blob stays.
fn holds_a_blob_right_before_the_decision(removed: Option<Safeguard>) -> bool {
    let scene = Scene::new();
    let view = scene.storage.view();
    let (mut store, other) = (scene.replica_on(view.clone(), |_| {}), scene.replica());
    if let Some(removed) = removed {
        store = store.without_safeguard(removed);
    }
    let digest = push_blob(&store, NAME, b"layer").unwrap();
    scene.cycle(&store);
    view.before_create("/doom/l-0", move || {
        head_blob(&other, &name(NAME), &Digest::sha256(b"layer")).unwrap();
    });
    scene.cycle(&store);
    has_link(&store, &digest) && has_bytes(&store, b"layer")
}

#[test]
fn of_a_revival_and_a_decision_one_sees_the_other() {
    assert!(holds_a_blob_right_before_the_decision(None));
    assert!(!holds_a_blob_right_before_the_decision(Some(Safeguard::DoomBeforeList)));
}

#[test]
fn a_head_under_a_view_of_before_the_seal_holds_for_the_grace() {
    for removed in [None, Some(Safeguard::MarkAfterGrace)] {
        let scene = Scene::new();
        let (mut store, other) = (scene.replica(), scene.replica());
        if let Some(removed) = removed {
            store = store.without_safeguard(removed);
        }
        let digest = push_blob(&store, NAME, b"layer").unwrap();
        scene.advance(GRACE);
        let lead = scene.lead(&store);
        other.refresh_gc_view().unwrap();
        assert!(matches!(store.collect_online(&options(), &KeepTagged, &lead), Ok(Cycle::Done(_))));
        head_blob(&other, &name(NAME), &digest).unwrap();
        drop(store.collect_online(&options(), &KeepTagged, &lead).unwrap());
        assert_eq!(has_bytes(&store, b"layer"), removed.is_none());
    }
}

/// Prepares a storage whose leader is about to remove the blob `layer` and its link, and calls `during` while
/// the removal of a shard is on its way.
fn while_removing(
    scene: &Scene,
    before: impl FnOnce(&Store),
    during: impl FnOnce() + Send + 'static,
) -> Result<Cycle, StoreError> {
    let view = scene.storage.view();
    let storage = scene.storage.clone();
    let leader = scene.replica_on(view.clone(), move |by| storage.advance(by));
    before(&leader);
    scene.cycle(&leader);
    scene.advance(GRACE);
    let lead = scene.lead(&leader);
    view.before_removal(during);
    leader.collect_online(&options(), &KeepTagged, &lead)
}

#[test]
fn what_is_being_removed_is_told_to_be_absent() {
    let scene = Scene::new();
    let other = scene.replica_waiting(|_| {});
    let digest = Digest::sha256(b"layer");
    let (told, answers) = mpsc::channel();
    let removing = while_removing(
        &scene,
        |leader| drop(push_blob(leader, NAME, b"layer").unwrap()),
        move || {
            let repository = name(NAME);
            assert!(has_link(&other, &digest), "its removal is on its way");
            told.send(matches!(head_blob(&other, &repository, &digest), Err(StoreError::BlobUnknown)))
                .unwrap();
            push_blob(&other, NAME, b"{}").unwrap();
            let pushed = put(&other, NAME, &manifest(b"layer", "x"), &["v1"]);
            told.send(matches!(pushed, Err(StoreError::Missing(parts)) if parts == [digest.clone()]))
                .unwrap();
            // The new link is not condemned, and the bytes are not decided yet.
            told.send(other.mount(&name("b"), &digest, None).unwrap().is_some()).unwrap();
            // An upload waits for the end of the removal, which is held up.
            told.send(matches!(push_blob(&other, NAME, b"layer"), Err(StoreError::Unvouched))).unwrap();
        },
    );
    assert!(matches!(removing, Ok(Cycle::Done(_))), "{removing:?}");
    assert_eq!(answers.iter().collect::<Vec<_>>(), [true; 4]);
    // The mount has kept the bytes.
    let store = scene.replica();
    assert!(has_bytes(&store, b"layer") && !has_link(&store, &Digest::sha256(b"layer")));
}

#[test]
fn an_upload_of_doomed_content_waits_for_the_removal_and_writes_it_again() {
    let scene = Scene::new();
    let (waiting, is_waiting) = mpsc::channel();
    let (over, is_over) = mpsc::channel::<()>();
    let is_over = std::sync::Mutex::new(is_over);
    let other = scene.replica_waiting(move |_| {
        waiting.send(()).ok();
        // Until the leader has ended.
        is_over.lock().unwrap().recv().ok();
    });
    let pusher = other.clone();
    let push = std::sync::Arc::new(std::sync::Mutex::new(None));
    let handle = push.clone();
    let removing = while_removing(
        &scene,
        |leader| drop(push_blob(leader, NAME, b"layer").unwrap()),
        move || {
            let pushing = std::thread::spawn(move || push_blob(&pusher, NAME, b"layer"));
            is_waiting.recv().unwrap();
            *handle.lock().unwrap() = Some(pushing);
        },
    );
    assert!(matches!(removing, Ok(Cycle::Done(_))), "{removing:?}");
    drop(over);
    let pushing = push.lock().unwrap().take().unwrap();
    let digest = pushing.join().unwrap().unwrap();
    assert!(has_bytes(&other, b"layer") && has_link(&other, &digest));
}

/// Runs an act with a number of cycles of another replica before its request of a number, and then checks
/// what was acknowledged. Returns the faults found, over all requests.
fn faults_of(
    removed: &[Safeguard],
    before: usize,
    cycles: usize,
    act: &dyn Fn(&Store) -> Result<(), StoreError>,
    check: &dyn Fn(&Store) -> Result<(), String>,
) -> Vec<String> {
    let mut faults = Vec::new();
    for number in 0.. {
        let scene = std::sync::Arc::new(Scene::new());
        let leader = scene.replica();
        push_blob(&leader, NAME, b"{}").unwrap();
        push_blob(&leader, NAME, b"layer").unwrap();
        for _ in 0..before {
            scene.cycle(&leader);
        }
        let view: SharedMemory = scene.storage.view();
        let waits = scene.clone();
        let mut client = scene.replica_on(view.clone(), move |by| waits.advance(by));
        for safeguard in removed {
            client = client.without_safeguard(*safeguard);
        }
        let (during, collector) = (scene.clone(), leader.clone());
        view.before_round(number, move || {
            for _ in 0..cycles {
                during.cycle(&collector);
            }
        });
        let acted = act(&client);
        if view.forget_hook() {
            assert!(number > 0);
            return faults;
        }
        scene.cycle(&leader);
        scene.cycle(&leader);
        match acted {
            Ok(()) => faults.extend(check(&leader).err().map(|fault| format!("request {number}: {fault}"))),
            Err(StoreError::Unvouched | StoreError::Missing(_) | StoreError::BlobUnknown) => {}
            Err(error) => panic!("request {number}: {error}"),
        }
    }
    faults
}

fn head_and_push(store: &Store) -> Result<(), StoreError> {
    for part in [&b"{}"[..], b"layer"] {
        head_blob(store, &name(NAME), &Digest::sha256(part))?;
    }
    put(store, NAME, &manifest(b"layer", "x"), &["v1"]).map(drop)
}

fn mount_and_push(store: &Store) -> Result<(), StoreError> {
    for part in [&b"{}"[..], b"layer"] {
        if store.mount(&name("b"), &Digest::sha256(part), Some(&name(NAME)))?.is_none() {
            push_blob(store, "b", part)?;
        }
    }
    put(store, "b", &manifest(b"layer", "x"), &["v1"]).map(drop)
}

fn upload_and_push(store: &Store) -> Result<(), StoreError> {
    push(store, b"layer", "x", &["v1"]).map(drop)
}

#[test]
fn no_acknowledged_push_is_broken_by_cycles_between_any_two_requests() {
    for before in 0..=1 {
        for cycles in 1..=3 {
            for (act, repository) in [
                (&head_and_push as &dyn Fn(&Store) -> _, NAME),
                (&mount_and_push, "b"),
                (&upload_and_push, NAME),
            ] {
                let check = |store: &Store| check_image(store, repository, "v1", b"layer");
                assert_eq!(
                    faults_of(&[], before, cycles, act, &check),
                    [""; 0],
                    "{before} {cycles} {repository}"
                );
            }
        }
    }
}

#[test]
fn without_a_safeguard_an_acknowledged_push_is_broken() {
    let check = |store: &Store| check_image(store, NAME, "v1", b"layer");
    for removed in [&[Safeguard::FreshnessCheck][..], &[Safeguard::Recheck]] {
        let faults: Vec<String> =
            (1..=3).flat_map(|cycles| faults_of(removed, 0, cycles, &head_and_push, &check)).collect();
        assert!(!faults.is_empty(), "{removed:?}");
    }
    let none = [Safeguard::TouchOnCommit, Safeguard::TouchOnHead];
    assert!(!faults_of(&none, 1, 1, &head_and_push, &check).is_empty());
}

#[test]
fn a_head_whose_process_was_stopped_is_asked_again() {
    let scene = Scene::new();
    let leader = scene.replica();
    push_blob(&leader, NAME, b"layer").unwrap();
    let other = scene.replica();
    let digest = Digest::sha256(b"layer");
    let mut looks = 0;
    let looks_up = std::cell::RefCell::new(&mut looks);
    let answered = other.holding_blob(&name(NAME), &digest, || {
        **looks_up.borrow_mut() += 1;
        let found = other.blob(&name(NAME), &digest).map(drop);
        // Stopped between the look and the answer, for longer than a collector needs.
        if **looks_up.borrow() == 1 {
            scene.cycle(&leader);
            scene.cycle(&leader);
        }
        found
    });
    assert!(matches!(answered, Err(StoreError::BlobUnknown)), "{answered:?}");
    assert_eq!(looks, 2);
}

#[test]
fn a_view_that_cannot_be_refreshed_vouches_for_nothing_and_pulls_go_on() {
    let scene = Scene::new();
    let store = scene.replica();
    push(&store, b"layer", "x", &["v1"]).unwrap();
    let digest = Digest::sha256(b"layer");
    // Each answer takes longer than a view counts.
    let slow = scene.replica_on(scene.storage.view(), |_| {});
    scene.advance(Duration::from_mins(2));
    let answered = slow.holding_blob(&name(NAME), &digest, || {
        scene.advance(Duration::from_mins(2));
        slow.blob(&name(NAME), &digest).map(drop)
    });
    assert!(matches!(answered, Err(StoreError::Unvouched)), "{answered:?}");
    assert!(slow.blob(&name(NAME), &digest).is_ok());
}

/// Counts the waits of a replica, which move no clock.
fn counting(scene: &Scene) -> (Store, Arc<AtomicUsize>) {
    let waits = Arc::<AtomicUsize>::default();
    let counted = waits.clone();
    let store = scene.replica_waiting(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
    });
    (store, waits)
}

#[test]
fn a_push_of_an_undecided_part_is_repeated_soon_and_pulls_do_not_wait() {
    let scene = Scene::new();
    let (leader, (other, waits)) = (scene.replica(), counting(&scene));
    push_blob(&leader, NAME, b"{}").unwrap();
    push_blob(&leader, NAME, b"layer").unwrap();
    scene.cycle(&leader);
    scene.advance(GRACE);
    let lead = scene.lead(&leader);
    let (is_cut, _) =
        failing("gc.doom", 1, 5, || leader.collect_online(&options(), &KeepTagged, &lead).map(drop));
    assert!(is_cut, "the leader has begun to decide");
    let digest = Digest::sha256(b"layer");
    assert!(other.blob(&name(NAME), &digest).is_ok());
    assert_eq!(waits.swap(0, Ordering::SeqCst), 0, "a pull waits for nothing");
    // All parts are there, so that the client need not upload them.
    let pushed = put(&other, NAME, &manifest(b"layer", "x"), &["v1"]);
    assert!(matches!(pushed, Err(StoreError::Unvouched)), "{pushed:?}");
    assert!(waits.swap(0, Ordering::SeqCst) <= 8, "two seconds");
    let pushed = push_blob(&other, NAME, b"layer");
    assert!(matches!(pushed, Err(StoreError::Unvouched)), "{pushed:?}");
    assert!(waits.swap(0, Ordering::SeqCst) <= 80, "20 seconds");
    let told = head_blob(&other, &name(NAME), &digest);
    assert!(matches!(told, Err(StoreError::Unvouched)), "it may be needed, and is not absent: {told:?}");
    assert!(waits.swap(0, Ordering::SeqCst) <= 8, "two seconds");
}

#[test]
fn a_push_waits_for_the_end_of_a_removal_by_time_and_not_by_looks() {
    let scene = Scene::new();
    let leader = scene.replica();
    push_blob(&leader, NAME, b"layer").unwrap();
    scene.cycle(&leader);
    scene.advance(GRACE);
    let lead = scene.lead(&leader);
    let (is_cut, _) =
        failing("gc.deletes", 1, 5, || leader.collect_online(&options(), &KeepTagged, &lead).map(drop));
    assert!(is_cut, "the leader has begun to remove");
    // Each look takes seconds.
    let (waits, moved) = (Arc::<AtomicUsize>::default(), scene.clone());
    let counted = waits.clone();
    let slow = scene.replica_waiting(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        moved.advance(Duration::from_secs(2));
    });
    let pushed = push_blob(&slow, NAME, b"layer");
    assert!(matches!(pushed, Err(StoreError::Unvouched)), "{pushed:?}");
    assert!((2..=10).contains(&waits.load(Ordering::SeqCst)), "{waits:?} looks in twenty seconds");
}

#[test]
fn a_slow_commit_of_an_index_finds_its_manifests_again() {
    let scene = Scene::new();
    let store = scene.replica();
    let child = manifest(b"layer", "child");
    push(&store, b"layer", "child", &["child"]).unwrap();
    let (repository, index) = (name(NAME), index_of(&[&child]));
    let parsed = Manifest::parse(&index, None).unwrap();
    let canonical = Digest::sha256(&index);
    put(&store, NAME, &index, &[]).unwrap();
    let parts = store.parts_to_touch(&repository, &parsed, AbsentParts::Refused).unwrap();
    let needed = Store::needed_by(&repository, &canonical, &parts, AbsentParts::Refused);
    let commit_slowly = || {
        store.touching(&needed, Cause::Manifest, || {
            scene.advance(Duration::from_mins(2));
            Ok(())
        })
    };
    let committed = commit_slowly();
    assert!(committed.is_ok(), "{committed:?}");
    store.storage().remove(&RepositoryKeys(&repository).revision_link(&Digest::sha256(&child))).unwrap();
    assert!(matches!(commit_slowly(), Err(StoreError::Unvouched)));
}

#[test]
fn a_sparse_manifest_holds_the_parts_behind_any_number_of_unknown_ones() {
    let scene = Scene::new();
    let sparse = StoreOptions { absent_parts: AbsentParts::Any, ..StoreOptions::default() };
    let lifetime = Duration::from_mins(1);
    let store = Store::open_collected(scene.storage.view(), sparse, scene.clock(), lifetime, |_| {}).unwrap();
    push_blob(&store, NAME, b"layer").unwrap();
    let part = |digest: Digest, size: usize| json!({"mediaType": "a/b", "digest": digest, "size": size});
    let mut layers: Vec<_> = (0..64_u8).map(|at| part(Digest::of(Algorithm::Sha512, &[at]), 1)).collect();
    layers.push(part(Digest::sha256(b"layer"), 5));
    let media_type = quinistry_oci::media_type::OCI_MANIFEST;
    let config = part(Digest::sha256(b"{}"), 2);
    let manifest = json!({"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": layers});
    let bytes = quinistry_oci::to_json(&manifest);
    scene.cycle(&store);
    put(&store, NAME, &bytes.into(), &["v1"]).unwrap();
    let report = scene.cycle(&store);
    assert_eq!(report.links.revived.get("manifest"), Some(&1), "{report:?}");
}

#[test]
fn a_manifest_that_may_be_sparse_protects_its_parts_in_any_store() {
    let scene = Scene::new();
    let store = scene.replica();
    push_blob(&store, NAME, b"layer").unwrap();
    let child = manifest(b"other", "child");
    push(&store, b"other", "child", &[]).unwrap();
    scene.cycle(&store);
    // The second child of the index is absent.
    let (image, index) = (manifest(b"layer", "image"), index_of(&[&child, &manifest(b"absent", "absent")]));
    for (bytes, tag) in [(image, "image"), (index, "index")] {
        let (parsed, digest) = (Manifest::parse(&bytes, None).unwrap(), Digest::sha256(&bytes));
        let tagged = Tagged { digest: &digest, tags: &[tag.parse().unwrap()] };
        store.put_copy(&name(NAME), &bytes, &parsed, tagged).unwrap();
    }
    // What a commit does not touch is removed here.
    let report = scene.cycle(&store);
    assert!(report.links.revived.contains_key("manifest"), "{report:?}");
    for _ in 0..2 {
        scene.cycle(&store);
    }
    assert!(has_bytes(&store, b"layer") && has_link(&store, &Digest::sha256(b"layer")));
    assert!(has_revision(&store, &Digest::sha256(&child)) && has_bytes(&store, b"other"));
}
