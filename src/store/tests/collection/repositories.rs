//! Manifests that hold each other, large epochs, and what the collector remembers of repositories.

use std::collections::HashSet;

use bytes::Bytes;
use quinistry_oci::{Digest, Reference, RepositoryName, media_type, to_json};
use serde_json::json;

use super::super::{manifest, name, push_blob, put};
use super::online::{
    GRACE, KeepTagged, NAME, Scene, has_bytes, has_link, has_revision, index_of, options, push, referrer_of,
};
use crate::failpoint::once::failing;
use crate::layout::collection::edges;
use crate::layout::{RepositoryKeys, blob};
use crate::{LooseRevision, RevisionRules, Storage as _, Store, StoreError};

/// Rules that keep every loose manifest.
struct KeepLoose;

impl RevisionRules for KeepLoose {
    fn kept(&self, _: &RepositoryName, loose: &[LooseRevision]) -> HashSet<Digest> {
        loose.iter().map(|revision| revision.digest.clone()).collect()
    }

    fn keeps_referrers(&self, _: &RepositoryName) -> bool {
        false
    }
}

#[test]
fn rules_are_asked_about_manifests_that_hold_only_each_other() {
    let scene = Scene::new();
    let store = scene.replica();
    let child = push(&store, b"layer", "child", &[]).unwrap();
    let size = manifest(b"layer", "child").len();
    let descriptor = json!({"mediaType": media_type::OCI_MANIFEST, "digest": child, "size": size});
    // An index about its own child: each holds the other.
    let index = to_json(&json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [descriptor],
        "subject": descriptor,
    }));
    let index = put(&store, NAME, &Bytes::from(index), &[]).unwrap();
    // What such a ring holds beside itself is not asked about.
    let referrer = put(&store, NAME, &referrer_of(&index), &[]).unwrap();
    for _ in 0..2 {
        scene.advance(GRACE);
        scene.cycle_by(&store, &options(), &KeepLoose).unwrap();
    }
    for digest in [&child, &index, &referrer] {
        assert!(has_revision(&store, digest), "{digest}");
    }
    assert!(has_bytes(&store, b"layer"));
    // Rules that keep nothing of it let it go.
    (0..3).for_each(|_| drop(scene.cycle(&store)));
    assert!(!has_revision(&store, &child) && !has_revision(&store, &index) && !has_bytes(&store, b"layer"));
}

#[test]
fn an_index_that_came_and_lost_its_tag_since_a_condemnation_keeps_its_condemned_manifests() {
    let scene = Scene::new();
    let store = scene.replica();
    let child = push(&store, b"layer", "child", &[]).unwrap();
    scene.cycle(&store);
    // The link of a push that knows nothing of the condemnation.
    let index = place(&store, &index_of(&[&manifest(b"layer", "child")]));
    let link = RepositoryKeys(&name(NAME)).revision_link(&index);
    store.storage().write(&[&[(link, index.as_str().as_bytes())]]).unwrap();
    scene.cycle(&store);
    assert!(has_revision(&store, &index) && has_revision(&store, &child) && has_bytes(&store, b"layer"));
    // All of it goes together.
    (0..3).for_each(|_| drop(scene.cycle(&store)));
    assert!(!has_revision(&store, &child) && !has_revision(&store, &index) && !has_bytes(&store, b"layer"));
}

#[test]
fn edges_of_a_repository_that_is_gone_are_removed() {
    let scene = Scene::new();
    let store = scene.replica();
    push(&store, b"layer", "x", &["v1"]).unwrap();
    for part in [&b"{}"[..], b"layer"] {
        push_blob(&store, "gone", part).unwrap();
    }
    put(&store, "gone", &manifest(b"layer", "y"), &[]).unwrap();
    let has_edges = |of: &str| scene.storage.head(&edges(&name(of))).unwrap().is_some();
    (0..2).for_each(|_| drop(scene.cycle(&store)));
    assert!(has_edges(NAME) && has_edges("gone"), "the mark found it, before the sweep removed it");
    scene.advance(GRACE);
    let dry = crate::GcOptions { dry_run: true, ..options() };
    scene.cycle_by(&store, &dry, &KeepTagged).unwrap();
    assert!(has_edges("gone"), "a dry run changes nothing");
    scene.cycle(&store);
    assert!(has_edges(NAME) && !has_edges("gone"));
}

/// Puts a manifest into a repository, as another program would.
fn place(store: &Store, bytes: &[u8]) -> Digest {
    let digest = Digest::sha256(bytes);
    let link = RepositoryKeys(&name(NAME)).revision_link(&digest);
    store.storage().write(&[&[(blob(&digest), bytes), (link, digest.as_str().as_bytes())]]).unwrap();
    digest
}

/// Returns the manifest of the first note that a predicate takes.
fn noted(bytes: impl Fn(usize) -> Bytes, is_fit: impl Fn(&Digest) -> bool) -> Bytes {
    // One in a thousand fits.
    (0..1_000_000).map(bytes).find(|bytes| is_fit(&Digest::sha256(bytes))).expect("a hash that fits")
}

/// Fills the first shard of manifests, with a child, and the second one with an index of it. Returns both.
fn fill_two_shards(scene: &Scene, store: &Store) -> (Digest, Digest) {
    // By these hashes, subjects are put in order.
    let hash = |digest: &Digest| Digest::sha256(format!("r\0{NAME}\0{digest}").as_bytes()).hex().to_owned();
    push_blob(store, NAME, b"{}").unwrap();
    push_blob(store, NAME, b"layer").unwrap();
    let fillers: Vec<_> =
        (0..1000).map(|number| hash(&place(store, &manifest(b"layer", &format!("{number}"))))).collect();
    let (first, last) = (fillers.iter().min().unwrap(), fillers.iter().max().unwrap());
    let child = noted(|note| manifest(b"layer", &format!("child {note}")), |digest| hash(digest) < *first);
    let index_of_child = |note: usize| index_of(&[&child, &manifest(b"absent", &note.to_string())]);
    let index = noted(index_of_child, |digest| hash(digest) > *last);
    let (child, index) = (place(store, &child), place(store, &index));
    assert_eq!(scene.cycle(store).revisions.condemned, 1002);
    (child, index)
}

#[test]
fn an_index_whose_manifests_were_removed_is_held_by_no_head() {
    let scene = Scene::new();
    let view = scene.storage.view();
    let (store, client) = (scene.replica_on(view.clone(), |_| {}), scene.replica());
    let (child, index) = fill_two_shards(&scene, &store);
    let asked = index.clone();
    let (told, answers) = std::sync::mpsc::channel();
    view.before_create("/doom/r-1", move || {
        assert!(!has_revision(&client, &child), "its shard was swept");
        let (repository, reference) = (name(NAME), Reference::Digest(asked.clone()));
        let found = || client.manifest(&repository, &reference).map(drop);
        told.send(client.holding_manifest(&repository, &asked, found)).unwrap();
    });
    scene.cycle(&store);
    let told = answers.try_recv().expect("the second shard was decided");
    assert!(matches!(told, Err(StoreError::ManifestUnknown)), "{told:?}");
    assert!(!has_revision(&store, &index));
}

#[test]
fn an_index_of_a_manifest_that_a_refused_push_left_behind_is_refused_with_its_name() {
    let scene = Scene::new();
    let store = scene.replica();
    let child = manifest(b"layer", "child");
    let index = index_of(&[&child]);
    let digest = place(&store, &child);
    let refused = put(&store, NAME, &index, &["v1"]);
    assert!(
        matches!(&refused, Err(StoreError::Missing(missing)) if *missing == [digest.clone()]),
        "{refused:?}"
    );
    // An index of such an index, too: what the client pushes again is the manifest that it names.
    let inner = place(&store, &index);
    let refused = put(&store, NAME, &index_of(&[&index]), &["v2"]);
    assert!(matches!(&refused, Err(StoreError::Missing(missing)) if *missing == [inner]), "{refused:?}");
    assert_eq!(push(&store, b"layer", "child", &[]).unwrap(), digest);
    put(&store, NAME, &index, &["v1"]).unwrap();
    put(&store, NAME, &index_of(&[&index]), &["v2"]).unwrap();
}

#[test]
fn a_manifest_that_a_refused_push_left_behind_is_held_by_no_head() {
    for has_blobs in [false, true] {
        let scene = Scene::new();
        let view = scene.storage.view();
        let (store, client) = (scene.replica_on(view.clone(), |_| {}), scene.replica());
        let bytes = manifest(b"layer", "image");
        let digest = push(&store, b"layer", "image", &[]).unwrap();
        scene.cycle(&store);
        let (told, answers) = std::sync::mpsc::channel();
        let asked = digest.clone();
        view.before_create("/doom/b-0", move || {
            assert!(!has_revision(&client, &asked) && !has_link(&client, &Digest::sha256(b"layer")));
            if has_blobs {
                assert_eq!(push(&client, b"layer", "image", &[]).unwrap(), asked);
            } else {
                assert_eq!(place(&client, &bytes), asked);
            }
            let (repository, reference) = (name(NAME), Reference::Digest(asked.clone()));
            let found = || client.manifest(&repository, &reference).map(drop);
            told.send(client.holding_manifest(&repository, &asked, found)).unwrap();
        });
        scene.cycle(&store);
        let told = answers.try_recv().expect("the shard of blobs was decided");
        if has_blobs {
            told.unwrap();
            assert!(has_bytes(&store, b"layer") && has_revision(&store, &digest));
        } else {
            assert!(matches!(told, Err(StoreError::ManifestUnknown)), "{told:?}");
        }
    }
}

#[test]
fn an_index_of_a_shard_that_is_ended_without_a_mark_goes_with_its_manifests() {
    let scene = Scene::new();
    let (former, store) = (scene.replica(), scene.replica());
    let (child, index) = fill_two_shards(&scene, &former);
    scene.advance(GRACE);
    let lead = scene.lead(&former);
    let (is_cut, _) =
        failing("gc.doom", 2, 5, || former.collect_online(&options(), &KeepTagged, &lead).map(drop));
    assert!(is_cut && !has_revision(&store, &child) && has_revision(&store, &index));
    let lead = scene.lead(&store);
    assert_eq!(store.end_cut_off_removals(&options(), &lead).unwrap(), Some(1));
    // Of the shard, which has one more manifest, nothing else goes.
    assert!(!has_revision(&store, &index), "a new index of it would be incomplete");
    let left = store.storage().scan(&RepositoryKeys(&name(NAME)).all_revisions(), None, 10).unwrap();
    assert_eq!(left.entries.len(), 1);
}
