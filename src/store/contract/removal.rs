//! Behaviours of removal: of one key, of one key with a tag, and of all keys beneath a folder.

use super::{Backend, key};
use crate::storage::Removed;

pub fn a_removal_takes_one_key(backend: Backend) {
    backend.write("a/b/c", b"x");
    backend.write("a/b/d", b"x");
    assert!(backend.storage.remove(&key("a/b/c")).unwrap());
    assert!(!backend.storage.remove(&key("a/b/c")).unwrap());
    assert_eq!(backend.scan("a", 10), ["a/b/d"]);
}

pub fn a_removal_of_a_folder_takes_nothing(backend: Backend) {
    backend.write("a/b/c", b"x");
    assert!(!backend.storage.remove(&key("a/b")).unwrap());
    assert_eq!(backend.scan("a", 10), ["a/b/c"]);
}

pub fn clearing_takes_all_beneath_and_nothing_beside(backend: Backend) {
    let clears: [fn(&Backend) -> bool; 2] = [
        |backend| backend.storage.clear(&key("a/b")).unwrap(),
        |backend| backend.storage.clear_lazily(&key("a/b")).unwrap(),
    ];
    for clear in clears {
        for path in ["a/b-c", "a/b.c/d", "a/b/c", "a/b/d/e/f", "a/b0", "a/bc/d"] {
            backend.write(path, b"x");
        }
        assert!(clear(&backend));
        assert_eq!(backend.scan("a", 10), ["a/b-c", "a/b.c/d", "a/b0", "a/bc/d"]);
        assert!(!backend.storage.exists(&key("a/b")).unwrap());
        assert!(!clear(&backend));
    }
}

pub fn a_cleared_folder_can_be_written_again(backend: Backend) {
    for _ in 0..2 {
        backend.write("a/b/c/d", b"x");
        assert_eq!(backend.scan("a", 10), ["a/b/c/d"]);
        assert!(backend.storage.clear(&key("a/b")).unwrap());
        assert_eq!(backend.read("a/b/c/d"), None);
    }
}

pub fn bytes_with_the_tag_are_removed(backend: Backend) {
    backend.write("a/b", b"one");
    let tag = backend.storage.head(&key("a/b")).unwrap().unwrap().tag;
    assert_eq!(backend.storage.remove_if(&key("a/b"), &tag).unwrap(), Removed::Removed);
    assert_eq!(backend.read("a/b"), None);
    backend.storage.create(&key("a/b"), b"one").unwrap();
    let (_, tag) = backend.storage.open(&key("a/b")).unwrap().unwrap();
    assert_eq!(backend.storage.remove_if(&key("a/b"), &tag).unwrap(), Removed::Removed);
    assert_eq!(backend.read("a/b"), None);
}

pub fn bytes_with_another_tag_stay(backend: Backend) {
    backend.write("a/b", b"one");
    let tag = backend.storage.head(&key("a/b")).unwrap().unwrap().tag;
    // Some stores give the same bytes the same tag again.
    backend.write("a/b", b"two");
    assert_eq!(backend.storage.remove_if(&key("a/b"), &tag).unwrap(), Removed::Changed);
    assert_eq!(backend.read("a/b").unwrap(), "two");
}

pub fn a_conditional_removal_of_no_bytes_says_so(backend: Backend) {
    backend.write("a/b", b"one");
    let tag = backend.storage.head(&key("a/b")).unwrap().unwrap().tag;
    backend.storage.remove(&key("a/b")).unwrap();
    for path in ["a/b", "c/d"] {
        assert_eq!(backend.storage.remove_if(&key(path), &tag).unwrap(), Removed::Absent, "{path}");
    }
}
