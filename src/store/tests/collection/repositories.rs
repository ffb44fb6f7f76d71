//! Manifests that hold each other, large epochs, and what the collector remembers of repositories.

use bytes::Bytes;
use quinistry_oci::{Digest, Reference};

use super::super::{manifest, name, push_blob};
use super::online::{GRACE, KeepTagged, NAME, Scene, has_revision, index_of, options};
use crate::failpoint::once::failing;
use crate::layout::{RepositoryKeys, blob};
use crate::{Storage as _, Store, StoreError};

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
