//! Changes of two replicas at the same time: one whole change before each round of requests of another.

use std::time::Duration;

use bytes::Bytes;
use quinistry_oci::{Digest, Manifest, Reference, Tag, to_json};

use super::storage::SharedMemory;
use super::{NAME, image, name, put, replica, served};
use crate::intents::Intent;
use crate::layout::{RepositoryKeys, intents, intents_of};
use crate::storage::Storage as _;
use crate::{Page, Store, StoreError, Tagged};

/// Greatest number of rounds that an operation of these tests has.
const MAX_ROUNDS: usize = 60;

type Operation = fn(&Store) -> Result<(), StoreError>;

const CHANGES: [(&str, Operation); 5] = [
    ("push", push),
    ("push of two tags", push_two_tags),
    ("push of another", push_another),
    ("delete", delete),
    ("delete of the tag", delete_tag),
];

/// Returns empty storages: with times that differ, with writes in the same second, and with tags that are the same for
/// the same bytes.
fn storages() -> [SharedMemory; 3] {
    let storages = [SharedMemory::new(), SharedMemory::new(), SharedMemory::with_content_tags()];
    storages[1..].iter().for_each(SharedMemory::stop_clock);
    storages
}

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
    store.delete_manifest(&name(NAME), &pushed()).map(drop)
}

fn delete_tag(store: &Store) -> Result<(), StoreError> {
    store.delete_tag(&name(NAME), &"v1".parse().unwrap())
}

fn pushed() -> Digest {
    Digest::sha256(&super::manifest(b"layer", "pushed"))
}

fn put_without_overwrite(store: &Store, bytes: &Bytes, tags: &[&str]) -> Result<(), StoreError> {
    let (digest, parsed) = (Digest::sha256(bytes), Manifest::parse(bytes, None).unwrap());
    let tags: Vec<Tag> = tags.iter().map(|tag| tag.parse().unwrap()).collect();
    let tagged = Tagged { digest: &digest, tags: &tags };
    store.put_manifest_without_overwrite(&name(NAME), bytes, &parsed, tagged)
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
        let has_index = storage.bytes().head(&index).unwrap().is_some();
        // Where equal bytes have equal tags, a removal recognises the tags of a manifest by them.
        assert!(has_index || storage.has_content_tags(), "{tag} has no index entry; {context}");
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
    let mut tried = 0;
    for (outer_name, outer) in CHANGES {
        for (inner_name, inner) in CHANGES {
            for case in 0..6 {
                let (is_pushed, shape) = (case % 2 == 0, case / 2);
                for round in 0..MAX_ROUNDS {
                    let storage = storages()[shape].clone();
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
                    let context =
                        format!("{inner_name} before round {round} of {outer_name}, {case}: {done:?}");
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
    assert!(tried > 600, "{tried}");
}

#[test]
fn no_tag_is_left_without_its_manifest_by_a_change_within_a_replay() {
    let tags: Vec<Tag> = ["v1", "v2"].map(|tag| tag.parse().unwrap()).to_vec();
    let intents_left = [
        Intent::Tag { repository: name(NAME), digest: pushed(), tags: tags.clone(), immutable: Vec::new() },
        Intent::Create { repository: name(NAME), digest: pushed(), tags: tags.clone() },
        Intent::Delete { repository: name(NAME), digests: vec![pushed()], tags },
    ];
    let mut tried = 0;
    for left in &intents_left {
        for (inner_name, inner) in CHANGES {
            for round in 0..MAX_ROUNDS {
                let storage = SharedMemory::new();
                let other = replica(&storage.view());
                push(&other).unwrap();
                storage.age("", Duration::from_hours(1));
                storage.write(&[&[(intents_of("stopped").child("0"), &to_json(left))]]).unwrap();
                storage.age("/intents/", Duration::from_mins(6));
                let view = storage.view();
                view.before_round(round, move || drop(inner(&other)));
                drop(replica(&view));
                let is_over = view.forget_hook();
                let context = format!("{inner_name} before round {round} of the replay of {left:?}");
                assert!(!storage.bytes().exists(&intents()).unwrap(), "{context}");
                check(&storage, &context);
                tried += 1;
                if is_over {
                    break;
                }
                assert!(round + 1 < MAX_ROUNDS, "{context}");
            }
        }
    }
    assert!(tried > 80, "{tried}");
}

#[test]
fn a_push_without_the_right_to_overwrite_moves_no_tag_that_another_replica_creates() {
    for tags in [&["v1"][..], &["v2", "v1"]] {
        for round in 0..MAX_ROUNDS {
            let storage = SharedMemory::new();
            let view = storage.view();
            let (one, other) = (replica(&view), replica(&storage.view()));
            let bytes = image(&one, "pushed");
            view.before_round(round, move || push_another(&other).unwrap());
            let done = put_without_overwrite(&one, &bytes, tags);
            let is_over = view.forget_hook();
            let context = format!("round {round} of {tags:?}: {done:?}");
            let store = replica(&storage.view());
            let other = Digest::sha256(&super::manifest(b"layer", "another"));
            assert_eq!(served(&store, "v1").unwrap(), if is_over { pushed() } else { other }, "{context}");
            match done {
                Ok(()) => {}
                Err(StoreError::TagExists(_)) => assert!(served(&store, "v2").is_err(), "{context}"),
                Err(error) => panic!("{error}; {context}"),
            }
            if is_over {
                break;
            }
            assert!(round + 1 < MAX_ROUNDS, "{context}");
        }
    }
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
