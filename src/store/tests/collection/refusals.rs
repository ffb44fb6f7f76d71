//! Cycles that are refused, content whose needs are unknown, and other programs.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use quinistry_oci::Digest;

use super::super::{manifest, name, push_blob, put, resolve_tag};
use super::online::{GRACE, KeepTagged, NAME, Scene, has_bytes, has_link, has_revision, options, push};
use crate::layout::collection::trashed;
use crate::layout::{Key, RepositoryKeys, blob};
use crate::{
    Cycle, DamagedManifests, DeletedSubject, Deletion, DeletionObserver, GcOptions, Storage, Store,
    StoreError, UnknownNeeds, Writers,
};

fn run(scene: &Scene, store: &Store, options: &GcOptions) -> Result<Cycle, StoreError> {
    scene.advance(options.grace.max(GRACE));
    let lead = scene.lead(store);
    store.collect_online(options, &KeepTagged, &lead)
}

fn overwrite(store: &Store, digest: &Digest, bytes: &[u8]) {
    store.storage().write(&[&[(blob(digest), bytes)]]).unwrap();
}

#[test]
fn a_store_that_takes_late_removals_is_not_collected() {
    let scene = Scene::new();
    let store = scene.replica_on(scene.storage.unfenced_view(), |_| {});
    let error = run(&scene, &store, &options()).unwrap_err();
    assert!(matches!(error, StoreError::Unfenced), "{error:?}");
}

#[test]
fn a_grace_that_is_not_longer_than_what_clients_may_know_late_is_refused() {
    let scene = Scene::new();
    let store = scene.replica();
    let short = GcOptions { grace: Duration::from_mins(2), ..options() };
    assert!(matches!(run(&scene, &store, &short), Err(StoreError::GraceTooShort { .. })));
}

#[test]
fn a_process_without_the_lead_does_nothing() {
    let scene = Scene::new();
    let (store, other) = (scene.replica(), scene.replica());
    let lead = scene.lead(&store);
    scene.advance(Duration::from_secs(25));
    assert_eq!(store.collect_online(&options(), &KeepTagged, &lead).unwrap(), Cycle::LostLead);
    assert_eq!(scene.cycle(&other).epoch, 1);
}

#[test]
fn a_damaged_manifest_stops_the_cycle_with_its_name_or_keeps_its_repository() {
    let scene = Scene::new();
    let store = scene.replica();
    let damaged = push(&store, b"layer", "damaged", &["v1", "v2"]).unwrap();
    push_blob(&store, NAME, b"beside").unwrap();
    push_blob(&store, "other", b"of another").unwrap();
    overwrite(&store, &damaged, b"torn");
    // The caches of this process have the manifest.
    let store = scene.replica();
    let error = run(&scene, &store, &options()).unwrap_err().to_string();
    assert!(error.contains(&format!("{NAME}@{damaged} (v1, v2)")), "{error}");
    let keeps = GcOptions { damaged: DamagedManifests::KeepRepository, ..options() };
    for number in 0..3 {
        let report = match run(&scene, &store, &keeps).unwrap() {
            Cycle::Done(report) => report,
            other => panic!("{other:?}"),
        };
        let unknown = UnknownNeeds {
            repository: name(NAME),
            digest: damaged.clone(),
            tags: ["v1", "v2"].map(|tag| tag.parse().unwrap()).to_vec(),
            is_damaged: true,
        };
        assert_eq!(report.unknown, [unknown], "{number}");
        assert_eq!(report.blobs.condemned + report.blobs.doomed, 0, "{number}");
        assert_eq!(report.links.condemned, u64::from(number == 0));
    }
    assert!(has_link(&store, &Digest::sha256(b"beside")) && has_bytes(&store, b"of another"));
    // A push repairs it.
    put(&store, NAME, &manifest(b"layer", "damaged"), &["v1"]).unwrap();
    for _ in 0..2 {
        run(&scene, &store, &options()).unwrap();
    }
    assert!(
        !has_bytes(&store, b"beside") && !has_bytes(&store, b"of another") && has_bytes(&store, b"layer")
    );
}

#[test]
fn a_manifest_that_was_read_before_keeps_its_parts_though_it_is_damaged_now() {
    let scene = Scene::new();
    let store = scene.replica();
    let digest = push(&store, b"layer", "x", &["v1"]).unwrap();
    scene.cycle(&store);
    overwrite(&store, &digest, b"torn");
    let store = scene.replica();
    for _ in 0..2 {
        scene.cycle(&store);
    }
    assert!(has_bytes(&store, b"layer") && has_revision(&store, &digest));
}

/// Key in a session of another program.
fn session_key(file: &str) -> Key {
    Key::of_path(format!("{}/{file}", RepositoryKeys(&name(NAME)).upload("abc"))).unwrap()
}

#[test]
fn a_push_of_another_program_stops_the_sweep_if_only_ours_is_said_to_write() {
    for (file, beside, stops) in [
        ("hashstates/sha256/0", None, true),
        ("startedat", None, true),
        ("startedat", Some("s.1"), false),
        ("data", None, false),
    ] {
        let scene = Scene::new();
        let store = scene.replica();
        push_blob(&store, NAME, b"layer").unwrap();
        let write = |file: &str| store.storage().write(&[&[(session_key(file), b"x")]]).unwrap();
        // Older than the mark: of the time before only this program wrote.
        write(file);
        run(&scene, &store, &options()).unwrap();
        write(file);
        beside.into_iter().for_each(write);
        let ended = run(&scene, &store, &options());
        if stops {
            let error = ended.unwrap_err();
            assert!(error.to_string().contains("/_uploads/abc"), "{error}");
            assert!(has_bytes(&store, b"layer"));
        } else {
            assert!(matches!(ended, Ok(Cycle::Done(_))), "{file}: {ended:?}");
            assert!(!has_bytes(&store, b"layer"));
        }
    }
}

#[test]
fn where_other_programs_write_bytes_go_to_the_trash_and_come_back_when_a_link_wants_them() {
    let foreign = GcOptions { writers: Writers::Foreign, grace: Duration::from_hours(25), ..options() };
    let scene = Scene::new();
    let store = scene.replica();
    let digest = push_blob(&store, NAME, b"layer").unwrap();
    push_blob(&store, NAME, b"other").unwrap();
    for _ in 0..2 {
        run(&scene, &store, &foreign).unwrap();
    }
    assert!(!has_bytes(&store, b"layer") && !has_link(&store, &digest));
    assert!(scene.storage.bytes().head(&trashed(1, &digest)).unwrap().is_some());
    // Another program believed that the bytes were there, and linked them.
    let repository = name(NAME);
    let link = RepositoryKeys(&repository).layer_link(&digest);
    store.storage().write(&[&[(link, digest.as_str().as_bytes())]]).unwrap();
    assert_eq!(store.blob(&repository, &digest).unwrap().to_bytes().unwrap(), "layer");
    // Without a pull, the next mark puts them back.
    store.storage().remove(&blob(&digest)).unwrap();
    scene.advance(Duration::from_hours(1));
    let lead = scene.lead(&store);
    let young = GcOptions { min_age: Duration::from_hours(30), ..foreign.clone() };
    scene.advance(Duration::from_hours(24));
    let _ = lead;
    let report = match run(&scene, &store, &young).unwrap() {
        Cycle::Done(report) => report,
        other => panic!("{other:?}"),
    };
    assert_eq!(report.restored, 0, "the link is not young, and nothing needs it");
    put(&store, NAME, &manifest(b"layer", "x"), &[]).unwrap_err();
    // After its time, the trash is empty.
    scene.advance(Duration::from_hours(49));
    run(&scene, &store, &foreign).unwrap();
    assert!(scene.storage.bytes().head(&trashed(1, &Digest::sha256(b"other"))).unwrap().is_none());
}

#[test]
fn what_another_program_writes_again_before_its_removal_is_not_told_as_deleted() {
    #[derive(Debug, Default)]
    struct Links(Mutex<Vec<Digest>>);
    impl DeletionObserver for Links {
        fn deleted(&self, deletion: &Deletion, _: SystemTime) {
            if let DeletedSubject::Blob { digest, .. } = &deletion.subject {
                self.0.lock().unwrap().push(digest.clone());
            }
        }
    }
    let foreign = GcOptions { writers: Writers::Foreign, grace: Duration::from_hours(25), ..options() };
    let scene = Scene::new();
    let view = scene.storage.view();
    let store = scene.replica_on(view.clone(), |_| {});
    let kept = push_blob(&store, NAME, b"kept").unwrap();
    let removed = push_blob(&store, NAME, b"removed").unwrap();
    let links = Arc::new(Links::default());
    store.observe_deletions(links.clone());
    run(&scene, &store, &foreign).unwrap();
    let other = scene.storage.view();
    let link = RepositoryKeys(&name(NAME)).layer_link(&kept);
    let text = kept.as_str().to_owned();
    view.before_create("/doomed/l-0", move || other.write(&[&[(link, text.as_bytes())]]).unwrap());
    run(&scene, &store, &foreign).unwrap();
    assert!(has_link(&store, &kept) && !has_link(&store, &removed));
    assert_eq!(*links.0.lock().unwrap(), [removed]);
}

#[test]
fn a_mark_puts_bytes_back_that_a_live_manifest_needs() {
    let undo = GcOptions { trash: Some(Duration::from_hours(48)), ..options() };
    let scene = Scene::new();
    let store = scene.replica();
    push_blob(&store, NAME, b"{}").unwrap();
    push_blob(&store, NAME, b"layer").unwrap();
    for _ in 0..2 {
        run(&scene, &store, &undo).unwrap();
    }
    assert!(!has_bytes(&store, b"layer"));
    // Another program has pushed a manifest of it.
    let bytes = manifest(b"layer", "x");
    let (digest, repository) = (Digest::sha256(&bytes), name(NAME));
    let place = RepositoryKeys(&repository);
    let text = digest.as_str().as_bytes();
    let tag = "v1".parse().unwrap();
    let entries =
        [(blob(&digest), &bytes[..]), (place.revision_link(&digest), text), (place.tag_link(&tag), text)];
    store.storage().write(&[&entries]).unwrap();
    let report = match run(&scene, &store, &undo).unwrap() {
        Cycle::Done(report) => report,
        other => panic!("{other:?}"),
    };
    assert_eq!(report.restored, 2);
    assert!(has_bytes(&store, b"layer") && has_bytes(&store, b"{}"));
    assert!(resolve_tag(&store, NAME, "v1").is_some());
}

#[test]
fn a_reader_holds_nothing_and_is_told_what_is_there() {
    let scene = Scene::new();
    let store = scene.replica();
    let digest = push_blob(&store, NAME, b"layer").unwrap();
    scene.cycle(&store);
    let reader = scene.replica_on(scene.storage.read_only_view(), |_| {});
    assert_eq!(reader.gc_view_interval(), None);
    let repository = name(NAME);
    reader.holding_blob(&repository, &digest, || reader.blob(&repository, &digest)).unwrap();
    scene.cycle(&store);
    assert!(!has_bytes(&store, b"layer"));
}

#[test]
fn a_list_of_condemned_subjects_that_is_lost_stops_the_sweep() {
    let scene = Scene::new();
    let store = scene.replica();
    push_blob(&store, NAME, b"layer").unwrap();
    scene.cycle(&store);
    let folder = crate::layout::collection::EpochKeys(1).folder();
    let page = scene.storage.bytes().scan(&folder, None, 1000).unwrap();
    let list = page.entries.iter().find(|(key, _)| key.as_str().contains("/list-")).unwrap();
    scene.storage.bytes().remove(&list.0).unwrap();
    let error = run(&scene, &store, &options()).unwrap_err();
    assert!(matches!(error, StoreError::CollectionUnknown(_)), "{error:?}");
    assert!(has_bytes(&store, b"layer"));
}
