//! Behaviours of objects: bytes under a key, with their metadata.

use std::time::{Duration, SystemTime};

use super::{Backend, key};
use crate::StorageError;

pub fn written_bytes_are_found_by_every_call(backend: Backend) {
    let long = vec![7; 300_000];
    for bytes in [&b""[..], b"x", &long] {
        let before = SystemTime::now();
        backend.write("a/b/c", bytes);
        let key = key("a/b/c");
        let length = bytes.len() as u64;
        assert_eq!(backend.storage.read(&key, length).unwrap().unwrap(), bytes);
        let (content, tag) = backend.storage.open(&key).unwrap().unwrap();
        assert_eq!((content.to_bytes().unwrap(), content.len()), (bytes.to_vec().into(), length));
        let meta = backend.storage.head(&key).unwrap().unwrap();
        assert_eq!((meta.length, &meta.tag), (length, &tag));
        // File systems count time in steps.
        let second = Duration::from_secs(1);
        assert!(meta.modified > before - second && meta.modified < SystemTime::now() + second);
        assert!(backend.storage.exists(&key).unwrap());
        backend.storage.sync_parents(&[key]).unwrap();
        backend.storage.flush_all().unwrap();
    }
}

pub fn a_key_without_bytes_is_absent_to_every_call(backend: Backend) {
    backend.write("a/b", b"x");
    for path in ["a/c", "b/c/d", "a/b/c"] {
        let key = key(path);
        assert!(backend.storage.open(&key).unwrap().is_none(), "{path}");
        assert_eq!(backend.read(path), None, "{path}");
        assert_eq!(backend.storage.head(&key).unwrap(), None, "{path}");
        assert!(!backend.storage.exists(&key).unwrap(), "{path}");
        assert_eq!(backend.storage.list(&key).unwrap(), None, "{path}");
        assert_eq!(backend.storage.list_with(&key, "x", |_| true).unwrap(), None, "{path}");
        assert_eq!(backend.scan(path, 10), [""; 0], "{path}");
        assert!(!backend.storage.remove(&key).unwrap(), "{path}");
        assert!(!backend.storage.clear(&key).unwrap(), "{path}");
        assert!(!backend.storage.clear_lazily(&key).unwrap(), "{path}");
    }
    assert_eq!(backend.read("a/b").unwrap(), "x");
}

pub fn a_folder_of_keys_is_no_object(backend: Backend) {
    backend.write("a/b/c", b"x");
    let folder = key("a/b");
    assert!(backend.storage.open(&folder).unwrap().is_none());
    assert_eq!(backend.read("a/b"), None);
    assert_eq!(backend.storage.head(&folder).unwrap(), None);
    assert!(backend.storage.exists(&folder).unwrap());
}

pub fn a_second_write_replaces_bytes_and_tag(backend: Backend) {
    let tag = || backend.storage.head(&key("a/b")).unwrap().unwrap().tag;
    backend.write("a/b", b"one");
    let before = tag();
    assert_eq!(tag(), before);
    backend.write("a/b", b"two");
    assert_ne!(tag(), before);
    assert_eq!(backend.read("a/b").unwrap(), "two");
}

/// Content that a backend cannot keep fails to be read, and never has other bytes.
pub fn open_content_does_not_change_when_its_key_is_written(backend: Backend) {
    let bytes = vec![1; 400_000];
    backend.write("a/b", &bytes);
    let (content, _) = backend.storage.open(&key("a/b")).unwrap().unwrap();
    assert_eq!(content.slice(0..10).to_bytes().unwrap(), &bytes[..10]);
    backend.write("a/b", &vec![2; 400_000]);
    assert!(content.to_bytes().is_ok_and(|read| read == bytes) || content.to_bytes().is_err());
    backend.storage.remove(&key("a/b")).unwrap();
    let end = content.slice(399_999..400_000).to_bytes();
    assert!(end.is_err() || end.is_ok_and(|end| end == bytes[399_999..]));
}

pub fn bytes_beyond_the_limit_of_a_read_are_an_error(backend: Backend) {
    backend.write("a/b", b"12345");
    let read = backend.storage.read(&key("a/b"), 4);
    assert!(matches!(read, Err(StorageError::TooLong { length: 5, .. })), "{read:?}");
}

pub fn all_entries_of_all_stages_are_written(backend: Backend) {
    let entries: Vec<_> = (0..4_u8).map(|i| (key(&format!("a/{i}/x")), [i])).collect();
    let stage: Vec<_> = entries.iter().map(|(key, bytes)| (key.clone(), &bytes[..])).collect();
    backend.storage.write(&[&stage[..1], &[], &stage[1..3], &stage[3..]]).unwrap();
    assert_eq!(backend.scan("a", 10), ["a/0/x", "a/1/x", "a/2/x", "a/3/x"]);
    backend.storage.write(&[]).unwrap();
    // Within one call the later stage wins.
    backend.storage.write(&[&[(key("a/b"), b"one")], &[(key("a/b"), b"two")]]).unwrap();
    assert_eq!(backend.read("a/b").unwrap(), "two");
}

pub fn lazily_written_bytes_are_found(backend: Backend) {
    for bytes in ["one", "two"] {
        backend.storage.write_lazily(&key("a/b/c"), bytes.as_bytes()).unwrap();
        assert_eq!(backend.read("a/b/c").unwrap(), bytes);
    }
    backend.storage.flush_all().unwrap();
}
