//! Visibility of another replica's changes.

use quinistry_oci::Digest;

use super::storage::SharedMemory;
use super::{NAME, image, name, push_blob, put, replica, served};
use crate::{Coherence, Page, RemoteAnswer, Store, StoreError, StoreOptions};

#[test]
fn a_page_behind_a_tag_shows_what_another_replica_has_tagged_since_the_list_was_read() {
    let storage = SharedMemory::new();
    let [one, other] = [replica(&storage.view()), replica(&storage.view())];
    let image = image(&one, "image");
    let page = |last: &str| Page { size: 2, last: last.into() };
    put(&one, NAME, &image, &["a", "b", "c"]).unwrap();
    // The other replica has read the list, and for a walk that began before the push.
    other.tags(&name(NAME), &page("")).unwrap();
    let walk = one.tags_of_walk(&name(NAME), &page(""), None).unwrap().walk;
    other.tags_of_walk(&name(NAME), &page("b"), walk).unwrap();
    put(&one, NAME, &image, &["d"]).unwrap();
    let after = |walk| {
        let page = other.tags_of_walk(&name(NAME), &page("b"), walk).unwrap();
        page.tags().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(after(None), ["c", "d"]);
    assert_eq!(after(walk), ["c"], "the pages of a walk are those of its list");
    let later = one.tags_of_walk(&name(NAME), &page(""), None).unwrap().walk;
    assert_eq!(after(later), ["c", "d"]);
}

#[test]
fn bytes_that_another_replica_has_stored_are_mounted_without_a_source() {
    let storage = SharedMemory::new();
    let [one, other] = [replica(&storage.view()), replica(&storage.view())];
    push_blob(&one, "a", b"layer").unwrap();
    let digest = Digest::sha256(b"layer");
    assert!(other.mount(&name("b"), &digest, None).unwrap().is_some());
    other.blob(&name("b"), &digest).unwrap();
    assert!(other.mount(&name("b"), &Digest::sha256(b"absent"), None).unwrap().is_none());
}

fn tags(store: &Store) -> Vec<String> {
    let (tags, _) = store.tags(&name(NAME), &Page { size: 100, last: String::new() }).unwrap();
    tags.iter().map(ToString::to_string).collect()
}

#[test]
fn each_change_of_one_replica_is_seen_by_the_others_at_once() {
    let storage = SharedMemory::new();
    let [one, other] = [replica(&storage.view()), replica(&storage.view())];
    let [first, second] = ["first", "second"].map(|note| image(&one, note));
    for bytes in [&first, &second, &first] {
        let digest = put(&one, NAME, bytes, &["v1"]).unwrap();
        assert_eq!(served(&other, "v1").unwrap(), digest);
        assert_eq!(tags(&other), ["v1"]);
    }
    one.delete_tag(&name(NAME), &"v1".parse().unwrap()).unwrap();
    assert!(matches!(served(&other, "v1"), Err(StoreError::ManifestUnknown)));
    assert!(tags(&other).is_empty());
    let blob = Digest::sha256(b"layer");
    other.blob(&name(NAME), &blob).unwrap();
    one.delete_blob(&name(NAME), &blob).unwrap();
    assert!(matches!(other.blob(&name(NAME), &blob), Err(StoreError::BlobUnknown)));
    let answer = other.remote_blob(&name(NAME), &blob, RemoteAnswer::default());
    assert!(matches!(answer, Err(StoreError::BlobUnknown)));
    push_blob(&one, NAME, b"layer").unwrap();
    other.blob(&name(NAME), &blob).unwrap();
}

#[test]
fn a_strict_store_holds_nothing_that_another_replica_can_change() {
    let storage = SharedMemory::new();
    let store = replica(&storage);
    let bytes = image(&store, "one");
    let digest = put(&store, NAME, &bytes, &["v1"]).unwrap();
    let reference = quinistry_oci::Reference::Tag("v1".parse().unwrap());
    store.manifest(&name(NAME), &reference).unwrap();
    assert!(store.cached_manifest(&name(NAME), &reference).is_none());
    assert!(store.cached_blob(&name(NAME), &Digest::sha256(b"layer")).is_none());
    let options = StoreOptions { coherence: Some(Coherence::Relaxed), ..StoreOptions::default() };
    let relaxed = Store::open_with(storage.view(), options).unwrap();
    relaxed.manifest(&name(NAME), &reference).unwrap();
    assert_eq!(relaxed.cached_manifest(&name(NAME), &reference).unwrap().digest, digest);
}

#[test]
fn a_deleted_part_is_missing_for_the_replica_that_deleted_it() {
    let storage = SharedMemory::new();
    let store = replica(&storage);
    let bytes = image(&store, "one");
    store.delete_blob(&name(NAME), &Digest::sha256(b"layer")).unwrap();
    assert!(
        matches!(put(&store, NAME, &bytes, &["v1"]), Err(StoreError::Missing(missing)) if missing.len() == 1)
    );
}

#[test]
fn a_blob_that_is_deleted_right_after_its_link_was_written_counts_as_missing() {
    let from = name("from");
    let links: [fn(&Store); 2] = [
        |store| drop(push_blob(store, NAME, b"layer").unwrap()),
        |store| {
            assert!(
                store.mount(&name(NAME), &Digest::sha256(b"layer"), Some(&name("from"))).unwrap().is_some()
            );
        },
    ];
    for link in links {
        let storage = SharedMemory::new();
        let store = replica(&storage);
        let bytes = image(&store, "one");
        push_blob(&store, from.as_str(), b"layer").unwrap();
        store.delete_blob(&name(NAME), &Digest::sha256(b"layer")).unwrap();
        let deleting = store.clone();
        storage.after_write("/_layers/", move || {
            deleting.delete_blob(&name(NAME), &Digest::sha256(b"layer")).unwrap();
        });
        link(&store);
        let put = put(&store, NAME, &bytes, &["v1"]);
        assert!(matches!(&put, Err(StoreError::Missing(missing)) if missing.len() == 1), "{put:?}");
    }
}
