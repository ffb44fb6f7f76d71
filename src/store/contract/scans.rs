//! Behaviours of scans and lists.

use std::time::Duration;

use super::{Backend, key};
use crate::{Memory, Storage as _};

/// Paths whose order as keys differs from that of their components.
const PATHS: [&str; 12] = [
    "f/a/x",
    "f/a-b/x",
    "f/a.b/x",
    "f/a.b/y/z",
    "f/a/b/c",
    "f/a/b-c",
    "f/a/b0",
    "f/a0",
    "f/b",
    "f/B",
    "f/~",
    "f/\u{fc}/x",
];

fn filled(backend: &Backend) -> Vec<&'static str> {
    for path in PATHS.into_iter().chain(["e/x", "f-/x", "f0", "g"]) {
        backend.write(path, path.as_bytes());
    }
    let mut sorted = PATHS.to_vec();
    sorted.sort_unstable();
    sorted
}

pub fn a_scan_returns_keys_at_any_depth_in_the_order_of_their_bytes(backend: Backend) {
    let sorted = filled(&backend);
    for limit in [1, 2, 3, 5, 11, 12, 13, 1000] {
        assert_eq!(backend.scan("f", limit), sorted, "{limit}");
    }
    assert_eq!(backend.scan("f/a", 10), ["f/a/b-c", "f/a/b/c", "f/a/b0", "f/a/x"]);
    assert_eq!(backend.scan("f/b", 10), [""; 0], "an object has no keys beneath it");
}

pub fn a_page_begins_after_any_key(backend: Backend) {
    let sorted = filled(&backend);
    let others = ["a", "e/x", "f", "f/a", "f/a/b", "f/a-", "f/a/x/y", "f/a.b/y", "f/zz", "g"];
    for after in PATHS.into_iter().chain(others) {
        let rest: Vec<&str> = sorted.iter().copied().filter(|path| *path > after).collect();
        let page = backend.storage.scan(&key("f"), Some(&key(after)), 2).unwrap();
        let found: Vec<&str> = page.entries.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(found, rest[..rest.len().min(2)], "after {after:?}");
        assert_eq!(page.next.is_some(), rest.len() > 2, "after {after:?}");
        assert!(page.next.is_none_or(|next| Some(&next) == page.entries.last().map(|(key, _)| key)));
    }
}

pub fn a_scan_tells_the_same_metadata_as_a_look_up(backend: Backend) {
    filled(&backend);
    let (mut keys, mut found) = (vec![key("f/absent")], vec![None]);
    for (key, meta) in backend.storage.scan(&key("f"), None, 100).unwrap().entries {
        assert_eq!(meta.length, key.as_str().len() as u64);
        assert_eq!(backend.storage.head(&key).unwrap().as_ref(), Some(&meta));
        keys.push(key);
        found.push(Some(meta));
    }
    assert_eq!(backend.storage.head_all(&keys).unwrap(), found);
}

pub fn names_are_listed_once_and_sorted(backend: Backend) {
    filled(&backend);
    let list = |folder: &str| backend.storage.list(&key(folder)).unwrap();
    let names = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
    assert_eq!(list("f"), names(&["B", "a", "a-b", "a.b", "a0", "b", "~", "\u{fc}"]));
    assert_eq!(list("f/a"), names(&["b", "b-c", "b0", "x"]));
    assert_eq!(list("f/c"), None);
}

pub fn names_are_listed_by_what_is_beneath_them(backend: Backend) {
    filled(&backend);
    let list =
        |beneath: &str, wanted| backend.storage.list_with(&key("f"), beneath, wanted).unwrap().unwrap();
    assert_eq!(list("x", |_| true), ["a", "a-b", "a.b", "\u{fc}"]);
    assert_eq!(list("x", |name| name.len() > 1), ["a-b", "a.b", "\u{fc}"]);
    assert_eq!(list("y/z", |_| true), ["a.b"]);
    assert_eq!(list("y", |_| true), [""; 0], "a folder is no object");
    let names = ["a", "b", "a.b", "absent"].map(String::from);
    let have = |beneath: &str| backend.storage.have_beneath(&key("f"), &names, beneath).unwrap();
    assert_eq!(have("x"), [true, false, true, false]);
    assert_eq!(have("y/z"), [false, false, true, false]);
    assert_eq!(have("y"), [false; 4], "a folder is no object");
    assert_eq!(backend.storage.have_beneath(&key("absent"), &names, "x").unwrap(), [false; 4]);
}

pub fn a_listing_version_differs_after_a_name_comes_or_goes(backend: Backend) {
    if backend.storage.abilities() == Memory::new(0).abilities() {
        // No other program can change the memory, and no cache depends on its versions.
        return;
    }
    let version = || {
        // File systems count time in steps.
        std::thread::sleep(Duration::from_millis(30));
        let version = backend.storage.listing_version(&key("a")).unwrap().text;
        assert_eq!(backend.storage.listing_version(&key("a")).unwrap().text, version);
        version
    };
    let absent = version();
    backend.write("a/b/c", b"x");
    let one = version();
    backend.write("a/d/e", b"x");
    let two = version();
    backend.storage.clear(&key("a/b")).unwrap();
    let gone = version();
    assert!(absent != one && one != two && two != gone && gone != one);
}
