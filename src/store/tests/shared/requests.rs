//! Requests to the storage by operation: all of them, and how many come one after the other.

use std::time::Duration;

use quinistry_oci::{Digest, Reference};
use serde_json::json;

use super::storage::{Requests, SharedMemory};
use super::{NAME, image, name, push_blob, put, replica};
use crate::{RemoteAnswer, RemoteBlob, Store};

/// Length of a blob that clients are redirected for, in bytes.
const LONG: usize = 100_000;

fn requests(storage: &SharedMemory, operation: impl FnOnce()) -> (usize, usize) {
    storage.take_requests();
    operation();
    let Requests { all, rounds } = storage.take_requests();
    (all, rounds)
}

fn answer(store: &Store, digest: &Digest, redirect: Option<u64>) -> RemoteBlob {
    let redirect = redirect.map(|least| (least, Duration::from_mins(20)));
    store.remote_blob(&name(NAME), digest, RemoteAnswer { redirect, is_protected: false }).unwrap()
}

/// Opens a replica that has seen whether the storage gives equal bytes the same tag.
fn experienced(storage: &SharedMemory) -> Store {
    let store = replica(storage);
    let index =
        json!({"schemaVersion": 2, "mediaType": quinistry_oci::media_type::OCI_INDEX, "manifests": []});
    put(&store, "first", &quinistry_oci::to_json(&index).into(), &["v1"]).unwrap();
    store
}

#[test]
fn each_operation_sends_as_few_requests_as_it_can() {
    count_requests(&SharedMemory::with_content_tags(), 0);
    // The index entry of a tag is looked at as well, at the same time as the link.
    count_requests(&SharedMemory::new(), 1);
}

fn count_requests(storage: &SharedMemory, more: usize) {
    let pusher = storage.redirecting_view();
    let store = experienced(&pusher);
    let long = vec![7; LONG];
    let first = requests(&pusher, || drop(push_blob(&store, NAME, b"{}").unwrap()));
    let blob = requests(&pusher, || drop(push_blob(&store, NAME, &long).unwrap()));
    let post = requests(&pusher, || drop(store.begin(&name(NAME), None).unwrap()));
    let manifest = super::super::manifest(&long, "one");
    let put_known = requests(&pusher, || drop(put(&store, NAME, &manifest, &["v1"]).unwrap()));
    let untagged = requests(&pusher, || drop(put(&store, NAME, &manifest, &[]).unwrap()));
    let (digest, long) = (Digest::sha256(&manifest), Digest::sha256(&long));
    let head = requests(&pusher, || assert!(matches!(answer(&store, &long, None), RemoteBlob::Content(_))));
    let get = requests(&pusher, || {
        let RemoteBlob::Redirect { url, length: _ } = answer(&store, &long, Some(1)) else {
            panic!("no redirect")
        };
        assert!(url.starts_with("https://bucket.example/docker/registry/v2/blobs/sha256/"), "{url}");
    });
    let short = requests(&pusher, || {
        assert!(matches!(answer(&store, &long, Some(1 << 20)), RemoteBlob::Content(_)));
    });

    let reader = storage.view();
    let other = experienced(&reader);
    let tag = Reference::Tag("v1".parse().unwrap());
    let by_tag = requests(&reader, || assert_eq!(other.manifest(&name(NAME), &tag).unwrap().digest, digest));
    let known = requests(&reader, || assert_eq!(other.manifest(&name(NAME), &tag).unwrap().digest, digest));
    let other_manifest = super::super::manifest(&vec![7; LONG], "two");
    let put_unknown = requests(&reader, || drop(put(&other, NAME, &other_manifest, &["v2"]).unwrap()));

    for (operation, counted, expected) in [
        ("first blob of a repository", first, (3, 3)),
        ("blob", blob, (2, 2)),
        ("POST", post, (0, 0)),
        // One of them asks whether an upstream has sent manifests of the repository.
        ("PUT manifest of two parts, one tag, the first one", put_known, (5 + 1 + more, 5 + 1)),
        ("PUT manifest without a tag", untagged, (2, 2)),
        ("HEAD blob", head, (2, 1)),
        ("GET blob, redirected", get, (2, 1)),
        ("GET blob, looked up", short, (2, 1)),
        ("GET manifest by tag", by_tag, (3, 2)),
        ("GET manifest by tag, bytes known", known, (2, 2)),
        // Two for each part, all at once, and the register of the repository beside the bytes.
        ("PUT manifest whose parts another replica linked", put_unknown, (5 + 4 + 1 + 1 + more, 5 + 1 + 1)),
    ] {
        assert_eq!(counted, expected, "{operation}");
    }
}

#[test]
fn pages_of_the_catalog_and_of_tags_are_one_request_each() {
    let storage = SharedMemory::new();
    let store = replica(&storage);
    for repository in ["a", "b", "c"] {
        push_blob(&store, repository, b"{}").unwrap();
    }
    let page = |last: &str| crate::Page { size: 1, last: last.into() };
    assert_eq!(requests(&storage, || drop(store.repositories(&page("")).unwrap())), (1, 1));
    assert_eq!(requests(&storage, || drop(store.repositories(&page("a")).unwrap())), (1, 1));
    let image = image(&store, "one");
    put(&store, NAME, &image, &["v1", "v2"]).unwrap();
    assert_eq!(requests(&storage, || drop(store.tags(&name(NAME), &page("")).unwrap())), (1, 1));
    // Pages of a walk have the list read once; a client that begins behind a tag has no walk.
    let walk = store.tags_of_walk(&name(NAME), &page(""), None).unwrap().walk;
    let next = || drop(store.tags_of_walk(&name(NAME), &page("v1"), walk).unwrap());
    assert_eq!(requests(&storage, next), (0, 0));
    assert_eq!(requests(&storage, || drop(store.tags(&name(NAME), &page("v1")).unwrap())), (1, 1));
}
