//! Lists of tags from flat scans, and removals under conditions.

use quinistry_oci::{Digest, Tag};

use super::storage::SharedMemory;
use super::{NAME, image, name, put, replica, served};
use crate::layout::RepositoryKeys;
use crate::storage::Storage as _;
use crate::{Page, Store};

fn pages(store: &Store, size: usize) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    loop {
        let page = Page { size, last: all.last().cloned().unwrap_or_default() };
        let (tags, has_more) = store.tags(&name(NAME), &page).unwrap();
        assert!(tags.len() <= size);
        all.extend(tags.iter().map(ToString::to_string));
        if !has_more {
            return all;
        }
    }
}

/// Writes a tag as it is after many pushes.
fn write_tag(storage: &SharedMemory, tag: &str, moves: u32) {
    let (name, tag) = (name(NAME), tag.parse::<Tag>().unwrap());
    let place = RepositoryKeys(&name);
    for number in 0..moves {
        let digest = Digest::sha256(&number.to_le_bytes());
        storage.bytes().write(&[&[(place.tag_index(&tag, &digest), b"x")]]).unwrap();
    }
    storage.bytes().write(&[&[(place.tag_link(&tag), Digest::sha256(b"").as_str().as_bytes())]]).unwrap();
}

#[test]
fn row_213_tags_are_complete_and_sorted_at_any_page_size() {
    let storage = SharedMemory::new();
    let store = replica(&storage);
    let names = ["v1", "v1.0", "v1-rc", "v10", "V2", "_x"];
    let bytes = image(&store, "one");
    for tag in names {
        put(&store, NAME, &bytes, &[tag]).unwrap();
    }
    let mut sorted = names.map(String::from).to_vec();
    sorted.sort();
    for size in [1, 2, 999] {
        assert_eq!(pages(&store, size), sorted, "{size}");
    }
}

#[test]
fn many_tags_and_long_histories_are_read_without_their_histories() {
    let storage = SharedMemory::new();
    let mut expected: Vec<String> = (0..1500).map(|number| format!("{number:04}")).collect();
    expected.extend((0..1500).map(|number| format!("v{number}-rc")));
    expected.push("moved".into());
    for tag in &expected {
        write_tag(&storage, tag, 1);
    }
    write_tag(&storage, "moved", 60_000);
    expected.sort();
    let store = replica(&storage);
    storage.take_requests();
    assert_eq!(pages(&store, 10_000), expected);
    // A look at each first character, and pages of 1,000 keys for the 6,000 of the others. The history has 60 pages.
    let requests = storage.take_requests().all;
    assert!(requests < 100, "{requests}");
}

#[test]
fn a_tag_whose_push_was_cut_off_is_not_listed() {
    let storage = SharedMemory::new();
    let store = replica(&storage);
    put(&store, NAME, &image(&store, "one"), &["v1"]).unwrap();
    let tag = "cut".parse().unwrap();
    let name = name(NAME);
    let index = RepositoryKeys(&name).tag_index(&tag, &Digest::sha256(b""));
    storage.bytes().write(&[&[(index, b"x")]]).unwrap();
    assert_eq!(pages(&store, 10), ["v1"]);
}

#[test]
fn a_removed_tag_leaves_no_key_behind() {
    let storage = SharedMemory::new();
    let store = replica(&storage);
    for note in ["one", "two"] {
        put(&store, NAME, &image(&store, note), &["v1", "v2"]).unwrap();
    }
    let (name, tag): (_, Tag) = (name(NAME), "v1".parse().unwrap());
    store.delete_tag(&name, &tag).unwrap();
    assert!(!storage.bytes().exists(&RepositoryKeys(&name).tag(&tag)).unwrap());
    served(&store, "v2").unwrap();
    assert!(store.delete_tag(&name, &tag).is_err());
}

#[test]
fn a_manifest_goes_with_its_tags_and_with_no_other() {
    let storage = SharedMemory::new();
    let store = replica(&storage);
    let [first, second] = ["first", "second"].map(|note| image(&store, note));
    put(&store, NAME, &first, &["v1", "v2", "moved"]).unwrap();
    put(&store, NAME, &second, &["moved"]).unwrap();
    let mut gone = store.delete_manifest(&name(NAME), &Digest::sha256(&first)).unwrap();
    gone.sort();
    assert_eq!(gone, super::super::tags(&["v1", "v2"]));
    assert_eq!(pages(&store, 10), ["moved"]);
    assert_eq!(served(&store, "moved").unwrap(), Digest::sha256(&second));
    assert!(store.delete_manifest(&name(NAME), &Digest::sha256(&first)).is_err());
}
