//! Referrers on a storage without versions of folders.

use std::num::NonZeroU32;

use bytes::Bytes;
use quinistry_oci::{Digest, media_type, to_json};
use serde_json::json;

use super::storage::SharedMemory;
use super::{NAME, name, put, replica};
use crate::layout::{RepositoryKeys, blob};
use crate::storage::Storage as _;
use crate::{GcOptions, KeepAll, Page, Store};

fn subject() -> Digest {
    Digest::sha256(b"subject")
}

/// Creates an index that refers to the subject.
fn referrer(note: &str, artifact_type: &str) -> Bytes {
    to_json(&json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [], "annotations": {"note": note},
        "artifactType": artifact_type,
        "subject": {"mediaType": media_type::OCI_INDEX, "digest": subject(), "size": 7},
    }))
    .into()
}

/// Creates an index without a subject.
fn index(number: usize) -> Bytes {
    let note = number.to_string();
    let index = json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [], "annotations": {"note": note},
    });
    to_json(&index).into()
}

fn listed(store: &Store, wanted: &[&str], size: usize, last: &str) -> (Vec<Digest>, bool) {
    let wanted: Vec<String> = wanted.iter().map(ToString::to_string).collect();
    let page = Page { size, last: last.into() };
    let (found, has_more) = store.referrers(&name(NAME), &subject(), &wanted, &page, 1 << 20).unwrap();
    (found.iter().map(|row| row.digest.clone()).collect(), has_more)
}

/// Stores a manifest as distribution does, which writes no descriptor.
fn push_as_another_program(storage: &SharedMemory, bytes: &Bytes) -> Digest {
    let digest = Digest::sha256(bytes);
    let name = name(NAME);
    let link = RepositoryKeys(&name).revision_link(&digest);
    storage.bytes().write(&[&[(blob(&digest), bytes), (link, digest.as_str().as_bytes())]]).unwrap();
    digest
}

#[test]
fn referrers_of_any_writer_are_listed_in_pages_and_by_type() {
    let storage = SharedMemory::new();
    let [one, other] = [replica(&storage.view()), replica(&storage.view())];
    let mut all = Vec::new();
    for number in 0..5 {
        let bytes = referrer(&number.to_string(), "a/sbom");
        all.push(put(&one, NAME, &bytes, &[]).unwrap());
        assert_eq!(listed(&other, &[], 10, "").0.len(), all.len(), "seen at once");
    }
    for number in 5..8 {
        all.push(push_as_another_program(&storage, &referrer(&number.to_string(), "a/signature")));
    }
    all.sort();
    for store in [&one, &other, &replica(&storage.view())] {
        assert_eq!(listed(store, &[], 10, ""), (all.clone(), false));
        assert_eq!(listed(store, &["a/signature"], 10, "").0.len(), 3);
        let (first, has_more) = listed(store, &[], 3, "");
        assert_eq!((&first[..], has_more), (&all[..3], true));
        assert_eq!(listed(store, &[], 5, all[2].as_str()), (all[3..].to_vec(), false));
        assert_eq!(listed(store, &[], 0, ""), (vec![], false));
    }
}

#[test]
fn a_removed_referrer_is_gone_and_comes_back_when_another_program_pushes_it() {
    let storage = SharedMemory::new();
    let store = replica(&storage.view());
    let bytes = referrer("one", "a/sbom");
    let digest = put(&store, NAME, &bytes, &[]).unwrap();
    assert_eq!(listed(&store, &[], 10, "").0, std::slice::from_ref(&digest));
    store.delete_manifest(&name(NAME), &digest).unwrap();
    assert!(listed(&store, &[], 10, "").0.is_empty());
    push_as_another_program(&storage, &bytes);
    assert_eq!(listed(&store, &[], 10, "").0, [digest]);
}

#[test]
fn a_reader_lists_what_another_program_pushed_and_writes_nothing() {
    let storage = SharedMemory::new();
    let digest = push_as_another_program(&storage, &referrer("one", "a/sbom"));
    let store = replica(&storage.read_only_view());
    assert_eq!(listed(&store, &["a/sbom"], 10, "").0, [digest]);
}

#[test]
fn long_manifests_of_another_program_are_not_all_read_at_once() {
    const LENGTH: usize = 1_000_000;
    let storage = SharedMemory::new();
    let mut all: Vec<Digest> = (0..6)
        .map(|number| {
            let bytes = [referrer(&number.to_string(), "a/sbom"), vec![b' '; LENGTH].into()].concat();
            push_as_another_program(&storage, &bytes.into())
        })
        .collect();
    all.sort();
    let view = storage.view();
    assert_eq!(listed(&replica(&view), &[], 10, "").0, all);
    let most = view.most_bytes();
    assert!((LENGTH..5 * LENGTH).contains(&most), "{most} bytes at once");
}

#[test]
fn a_mark_describes_what_another_program_pushed_into_a_large_repository() {
    let storage = SharedMemory::new();
    let store = replica(&storage.view());
    for number in 0..1001 {
        push_as_another_program(&storage, &index(number));
    }
    let digest = push_as_another_program(&storage, &referrer("one", "a/sbom"));
    // A catalog of other programs' repositories is made by a walk; a push is enough.
    put(&store, NAME, &index(1001), &["v1"]).unwrap();
    assert!(listed(&store, &[], 10, "").0.is_empty(), "one list does not have all revisions");
    store.renew_lead().unwrap();
    let options = GcOptions { rate: NonZeroU32::MAX, ..GcOptions::default() };
    store.collect_online(&options, &KeepAll, &store.lead().unwrap()).unwrap();
    let other = replica(&storage.view());
    assert_eq!(listed(&other, &["a/sbom"], 10, ""), (vec![digest], false));
}
