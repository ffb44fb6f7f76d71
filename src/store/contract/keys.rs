//! Behaviours at keys that are bad, or that a backend cannot store.

use super::{Backend, key};

pub fn a_name_that_is_too_long_is_refused_or_stored_whole(backend: Backend) {
    let path = format!("a/{}", "n".repeat(300));
    let written = backend.storage.write(&[&[(key("a/before"), b"x")], &[(key(&path), b"x")]]);
    match written {
        Ok(()) => assert_eq!(backend.read(&path).unwrap(), "x"),
        Err(_) => assert_eq!(backend.scan("a", 10).iter().filter(|found| **found == path).count(), 0),
    }
    backend.write("a/after", b"x");
    assert_eq!(backend.read("a/after").unwrap(), "x");
}

pub fn a_key_beneath_an_object_is_refused_or_stored_and_the_object_stays(backend: Backend) {
    backend.write("a/b", b"object");
    let written = backend.storage.write(&[&[(key("a/b/c"), b"beneath")]]);
    let created = backend.storage.create(&key("a/b/d"), b"beneath");
    assert_eq!(written.is_ok(), created.is_ok());
    assert_eq!(backend.read("a/b/c").is_some(), written.is_ok());
    assert_eq!(backend.read("a/b").unwrap(), "object");
}

pub fn names_are_taken_as_they_are(backend: Backend) {
    // Without a backslash, which Azure takes for a slash: no key of a registry has one.
    let paths = ["a/ ", "a/%2e%2e", "a/-rf", "a/.hidden", "a/~", "a/\u{fc}\u{1f980}"];
    for path in paths {
        backend.write(path, path.as_bytes());
    }
    assert_eq!(backend.scan("a", 3), paths);
    for path in paths {
        assert_eq!(backend.read(path).unwrap(), path);
        assert!(backend.storage.remove(&key(path)).unwrap());
    }
    assert_eq!(backend.scan("a", 3), [""; 0]);
}
