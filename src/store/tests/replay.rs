//! Tests of intents that a crash left: missing files are skipped, and tags that were moved since stay.

use std::time::Duration;

use quinistry_oci::Algorithm;

use super::*;
use crate::intents::Intent;
use crate::layout::{RepositoryKeys, intent};
use crate::{Collection, DamagedManifests};

/// Creates a store with one manifest, pushed by its SHA-512 and tagged.
fn filled(folder: &Path) -> (Store, Bytes, Digest, Digest) {
    let store = open(folder);
    push_blob(&store, "a", b"{}").unwrap();
    push_blob(&store, "a", b"layer").unwrap();
    let bytes = manifest(b"layer", "one");
    let (short, long) = (Digest::sha256(&bytes), Digest::of(Algorithm::Sha512, &bytes));
    put_as(&store, "a", &long, &bytes, &["v1"]).unwrap();
    (store, bytes, short, long)
}

fn leave(store: &Store, wanted: &Intent) {
    store.storage().write(&[&[(intent("left"), &to_json(wanted))]]).unwrap();
}

fn delete(digests: &[&Digest]) -> Intent {
    let digests = digests.iter().map(|digest| (*digest).clone()).collect();
    Intent::Delete { repository: name("a"), digests, tags: tags(&["v1", "never"]) }
}

#[test]
fn a_deletion_continues_after_any_step() {
    let gone = |removed: &[&Digest], store: &Store| {
        for digest in removed {
            store.storage().clear(&RepositoryKeys(&name("a")).revision(digest)).unwrap();
        }
    };
    for case in 0..4 {
        let folder = folder();
        let (store, _, short, long) = filled(folder.path());
        let names = [&short, &long];
        leave(&store, &delete(&names));
        gone([&[][..], &names[..1], &names[1..], &names[..]][case], &store);
        drop(store);
        let store = open(folder.path());
        assert_eq!(resolve_tag(&store, "a", "v1"), None, "{case}");
        for digest in names {
            let reference = Reference::Digest(digest.clone());
            assert!(store.manifest(&name("a"), &reference).is_err(), "{case}");
        }
    }
}

#[test]
fn a_deletion_leaves_a_tag_that_another_program_moved_since() {
    let folder = folder();
    let (store, _, short, long) = filled(folder.path());
    let other = put(&store, "a", &manifest(b"layer", "other"), &["v1"]).unwrap();
    leave(&store, &delete(&[&short, &long]));
    drop(store);
    assert_eq!(resolve_tag(&open(folder.path()), "a", "v1"), Some(other));
}

#[test]
fn a_manifest_that_is_gone_gets_no_tags() {
    let folder = folder();
    let (store, _, short, long) = filled(folder.path());
    store.delete_manifest(&name("a"), &short).unwrap();
    let wanted =
        Intent::Tag { repository: name("a"), digest: long, tags: tags(&["v1"]), immutable: Vec::new() };
    leave(&store, &wanted);
    drop(store);
    let store = open(folder.path());
    assert_eq!(resolve_tag(&store, "a", "v1"), None);
    let all = store.tags(&name("a"), &crate::Page { size: 10, last: String::new() }).unwrap();
    assert_eq!(all.0, []);
}

#[test]
fn a_collection_that_was_cut_off_between_two_names_of_a_manifest_goes_on() {
    let collection =
        Collection { grace: Duration::ZERO, untagged: true, dry_run: false, damaged: DamagedManifests::Stop };
    for removed in 0..2 {
        let folder = folder();
        let (store, _, short, long) = filled(folder.path());
        store.delete_tag(&name("a"), &tags(&["v1"])[0]).unwrap();
        let names = [&short, &long];
        store.storage().clear(&RepositoryKeys(&name("a")).revision(names[removed])).unwrap();
        let collected = store.collect(&collection).unwrap();
        assert_eq!(collected.manifests.len(), 1, "{removed}");
        assert_eq!(store.collect(&collection).unwrap().kept, 0, "{removed}");
        for digest in names {
            assert!(store.manifest(&name("a"), &Reference::Digest(digest.clone())).is_err());
        }
    }
}
