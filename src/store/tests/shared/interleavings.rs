//! Changes of two replicas at the same time: one whole change before each round of requests of another.

use quinistry_oci::{Digest, Reference};

use super::storage::SharedMemory;
use super::{NAME, image, name, put, replica, served};
use crate::layout::RepositoryKeys;
use crate::storage::Storage as _;
use crate::{Page, Store, StoreError};

/// Greatest number of rounds that an operation of these tests has.
const MAX_ROUNDS: usize = 60;

type Operation = fn(&Store) -> Result<(), StoreError>;

fn push(store: &Store) -> Result<(), StoreError> {
    put(store, NAME, &image(store, "pushed"), &["v1"]).map(drop)
}

fn push_two_tags(store: &Store) -> Result<(), StoreError> {
    put(store, NAME, &image(store, "pushed"), &["v1", "v2"]).map(drop)
}

fn push_another(store: &Store) -> Result<(), StoreError> {
    put(store, NAME, &image(store, "another"), &["v1"]).map(drop)
}

fn delete(store: &Store) -> Result<(), StoreError> {
    store.delete_manifest(&name(NAME), &pushed())
}

fn delete_tag(store: &Store) -> Result<(), StoreError> {
    store.delete_tag(&name(NAME), &"v1".parse().unwrap())
}

fn pushed() -> Digest {
    Digest::sha256(&super::manifest(b"layer", "pushed"))
}

/// Every listed tag is served, and has the index entry by which a removal of its manifest finds it.
fn check(storage: &SharedMemory, context: &str) {
    let store = replica(&storage.view());
    let tags = match store.tags(&name(NAME), &Page { size: 100, last: String::new() }) {
        // Nothing was pushed.
        Err(StoreError::RepositoryUnknown) => return,
        tags => tags.unwrap().0,
    };
    let name = name(NAME);
    let mut digests = Vec::new();
    for tag in &tags {
        let found = store.manifest(&name, &Reference::Tag(tag.clone()));
        let found =
            found.unwrap_or_else(|error| panic!("{tag} is listed and not served: {error}; {context}"));
        let index = RepositoryKeys(&name).tag_index(tag, &found.digest);
        assert!(storage.bytes().head(&index).unwrap().is_some(), "{tag} has no index entry; {context}");
        digests.push(found.digest);
    }
    digests.sort();
    digests.dedup();
    for digest in digests {
        store.delete_manifest(&name, &digest).unwrap();
    }
    for tag in &tags {
        assert!(served(&store, tag.as_str()).is_err(), "{tag} outlives its manifest; {context}");
    }
}

#[test]
fn no_tag_is_left_without_its_manifest_by_a_change_within_another() {
    let changes: [(&str, Operation); 5] = [
        ("push", push),
        ("push of two tags", push_two_tags),
        ("push of another", push_another),
        ("delete", delete),
        ("delete of the tag", delete_tag),
    ];
    let mut tried = 0;
    for is_pushed in [true, false] {
        for (outer_name, outer) in changes {
            for (inner_name, inner) in changes {
                for round in 0..MAX_ROUNDS {
                    let storage = SharedMemory::new();
                    if is_pushed {
                        push(&replica(&storage.view())).unwrap();
                    }
                    let view = storage.view();
                    let (one, other) = (replica(&view), replica(&storage.view()));
                    view.before_round(round, move || {
                        // Whether it finds anything to change depends on the round.
                        drop(inner(&other));
                    });
                    let done = outer(&one);
                    let is_over = view.forget_hook();
                    let context = format!("{inner_name} before round {round} of {outer_name}: {done:?}");
                    if outer_name.starts_with("push") {
                        done.unwrap_or_else(|error| panic!("{error}; {context}"));
                    }
                    check(&storage, &context);
                    tried += 1;
                    if is_over {
                        break;
                    }
                    assert!(round + 1 < MAX_ROUNDS, "{context}");
                }
            }
        }
    }
    assert!(tried > 200, "{tried}");
}

#[test]
fn an_acknowledged_push_after_a_delete_that_is_over_stays() {
    let storage = SharedMemory::new();
    let [one, other] = [replica(&storage.view()), replica(&storage.view())];
    push(&one).unwrap();
    delete(&other).unwrap();
    push(&one).unwrap();
    assert_eq!(served(&other, "v1").unwrap(), pushed());
}
