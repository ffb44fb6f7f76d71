//! Immutable and protected tags, on a folder and between replicas.

use std::collections::HashMap;
use std::sync::{Arc, Barrier};
use std::thread;

use quinistry_oci::{Digest, Reference, RepositoryName, Tag};

use super::shared::storage::SharedMemory;
use super::{folder, manifest, name, open, push_blob, put, tags};
use crate::intents::Intent;
use crate::{Store, StoreError, TagRules};

const NAME: &str = "prod/app";

/// Rules by the beginnings of tags.
#[derive(Debug)]
struct ByBeginning;

impl TagRules for ByBeginning {
    fn is_immutable(&self, repository: &RepositoryName, tag: &Tag) -> bool {
        repository.as_str() == NAME && tag.as_str().starts_with('v')
    }

    fn is_protected(&self, repository: &RepositoryName, tag: &Tag) -> bool {
        repository.as_str() == NAME && tag.as_str().starts_with("lts")
    }
}

fn with_rules(store: Store) -> Store {
    store.set_tag_rules(Some(Arc::new(ByBeginning)));
    store
}

/// Returns a store on a folder, and two replicas on a storage that is shared, with the same content each.
fn stores() -> (tempfile::TempDir, [Store; 2]) {
    let folder = folder();
    let stores = [
        with_rules(open(folder.path())),
        with_rules(Store::open(SharedMemory::with_content_tags(), false).unwrap()),
    ];
    for store in &stores {
        for repository in [NAME, "dev/app"] {
            push_blob(store, repository, b"{}").unwrap();
            push_blob(store, repository, b"layer").unwrap();
        }
    }
    (folder, stores)
}

fn served(store: &Store, tag: &str) -> Option<Digest> {
    store.manifest(&name(NAME), &Reference::Tag(tag.parse().unwrap())).ok().map(|manifest| manifest.digest)
}

#[test]
fn an_immutable_tag_keeps_its_first_manifest() {
    let (_folder, stores) = stores();
    let (first, second) = (manifest(b"layer", "first"), manifest(b"layer", "second"));
    let digest = Digest::sha256(&first);
    for store in &stores {
        put(store, NAME, &first, &["v1"]).unwrap();
        put(store, NAME, &first, &["v1"]).unwrap();
        for pushed in [&["v1"][..], &["latest", "v1"], &["v1", "latest"], &["v0", "v1"]] {
            let refused = put(store, NAME, &second, pushed).unwrap_err();
            assert_eq!(
                refused.to_string(),
                format!("tag v1 is immutable here: it refers to {digest}, and cannot be moved or deleted")
            );
            assert_eq!((served(store, "v1"), served(store, "latest")), (Some(digest.clone()), None));
            assert_eq!(served(store, "v0"), None);
        }
        let refused = store.delete_tag(&name(NAME), &tags(&["v1"])[0]).unwrap_err();
        assert!(matches!(refused, StoreError::TagImmutable { .. }), "{refused}");
        let refused = store.delete_manifest(&name(NAME), &digest).unwrap_err();
        assert!(matches!(refused, StoreError::TagImmutable { .. }), "{refused}");
        assert_eq!(served(store, "v1"), Some(digest.clone()));

        // Other tags move, together with new immutable ones, and so do tags of other repositories.
        put(store, NAME, &first, &["latest", "v1"]).unwrap();
        put(store, NAME, &second, &["latest", "v2"]).unwrap();
        put(store, NAME, &second, &["v2", "v3"]).unwrap();
        for tag in ["latest", "v2", "v3"] {
            assert_eq!(served(store, tag), Some(Digest::sha256(&second)), "{tag}");
        }
        put(store, "dev/app", &first, &["v1"]).unwrap();
        put(store, "dev/app", &second, &["v1"]).unwrap();
        store.delete_tag(&name(NAME), &tags(&["latest"])[0]).unwrap();

        store.set_tag_rules(None);
        put(store, NAME, &second, &["v1"]).unwrap();
        store.delete_manifest(&name(NAME), &digest).unwrap();
    }
}

#[test]
fn a_protected_tag_moves_and_is_not_deleted() {
    let (_folder, stores) = stores();
    let (first, second) = (manifest(b"layer", "first"), manifest(b"layer", "second"));
    for store in &stores {
        put(store, NAME, &first, &["lts"]).unwrap();
        put(store, NAME, &second, &["lts"]).unwrap();
        let refused = store.delete_tag(&name(NAME), &tags(&["lts"])[0]).unwrap_err();
        assert!(matches!(refused, StoreError::TagProtected(_)), "{refused}");
        let refused = store.delete_manifest(&name(NAME), &Digest::sha256(&second)).unwrap_err();
        assert!(matches!(refused, StoreError::TagProtected(_)), "{refused}");
        store.delete_manifest(&name(NAME), &Digest::sha256(&first)).unwrap();
        assert_eq!(served(store, "lts"), Some(Digest::sha256(&second)));
    }
}

#[test]
fn of_sixteen_writers_over_three_replicas_one_gives_an_immutable_tag_its_digest() {
    const WRITERS: usize = 16;
    for round in 0..20 {
        let storage = if round % 2 == 0 { SharedMemory::new() } else { SharedMemory::with_content_tags() };
        let replicas: Vec<Store> =
            (0..3).map(|_| with_rules(Store::open(storage.view(), false).unwrap())).collect();
        push_blob(&replicas[0], NAME, b"{}").unwrap();
        push_blob(&replicas[0], NAME, b"layer").unwrap();
        let barrier = Barrier::new(WRITERS + 1);
        let results: Vec<(Result<(), StoreError>, Digest)> = thread::scope(|scope| {
            let writers: Vec<_> = (0..WRITERS)
                .map(|writer| {
                    let (store, barrier) = (&replicas[writer % replicas.len()], &barrier);
                    let bytes = manifest(b"layer", &format!("writer {writer}"));
                    // Some bring another tag along, which moves.
                    let pushed: &[&str] = if writer % 4 == 0 { &["v1", "latest"] } else { &["v1"] };
                    scope.spawn(move || {
                        barrier.wait();
                        (put(store, NAME, &bytes, pushed).map(drop), Digest::sha256(&bytes))
                    })
                })
                .collect();
            barrier.wait();
            // A reader sees one digest, whenever it asks.
            let mut seen: HashMap<Digest, usize> = HashMap::new();
            while writers.iter().any(|writer| !writer.is_finished()) {
                if let Some(digest) = served(&replicas[2], "v1") {
                    *seen.entry(digest).or_default() += 1;
                }
            }
            seen.extend(served(&replicas[0], "v1").map(|digest| (digest, 1)));
            assert_eq!(seen.len(), 1, "round {round}: {seen:?}");
            writers.into_iter().map(|writer| writer.join().unwrap()).collect()
        });
        let won: Vec<&Digest> =
            results.iter().filter(|(result, _)| result.is_ok()).map(|(_, digest)| digest).collect();
        let [winner] = won[..] else { panic!("round {round}: {} winners", won.len()) };
        for (result, _) in &results {
            let Err(error) = result else { continue };
            let StoreError::TagImmutable { digest, .. } = error else { panic!("round {round}: {error}") };
            assert_eq!(digest, winner);
        }
        for replica in &replicas {
            assert_eq!(served(replica, "v1").as_ref(), Some(winner));
        }
    }
}

#[test]
fn a_replayed_intent_leaves_an_immutable_tag_that_was_pushed_since() {
    let (folder, stores) = stores();
    let (first, second) = (manifest(b"layer", "first"), manifest(b"layer", "second"));
    let storage = SharedMemory::new();
    let shared = with_rules(Store::open(storage.clone(), false).unwrap());
    push_blob(&shared, NAME, b"{}").unwrap();
    push_blob(&shared, NAME, b"layer").unwrap();
    for store in [&stores[0], &shared] {
        put(store, NAME, &first, &["v1"]).unwrap();
        put(store, NAME, &second, &[]).unwrap();
        let wanted = Intent::Tag {
            repository: name(NAME),
            digest: Digest::sha256(&second),
            tags: tags(&["v1", "v2", "latest"]),
            immutable: tags(&["v1", "v2"]),
        };
        let key = match &store.0.shared {
            Some(shared) => shared.replica().intent("cut-off"),
            None => crate::layout::intent("cut-off"),
        };
        store.storage().write(&[&[(key, &quinistry_oci::to_json(&wanted))]]).unwrap();
    }
    drop(stores);
    // Another replica takes the intent of one that is not heard any more.
    storage.age("_quinistry/intents", std::time::Duration::from_hours(1));
    storage.age("_quinistry/replicas", std::time::Duration::from_hours(1));
    let other = Store::open(storage.view(), false).unwrap();
    for store in [open(folder.path()), other] {
        assert_eq!(served(&store, "v1"), Some(Digest::sha256(&first)));
        assert_eq!(served(&store, "v2"), Some(Digest::sha256(&second)));
        assert_eq!(served(&store, "latest"), Some(Digest::sha256(&second)));
    }
}
