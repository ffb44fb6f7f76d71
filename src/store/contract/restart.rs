//! Behaviours of backends whose data survives a restart.

use super::{Backend, key};
use crate::storage::Created;

pub fn changes_survive_a_restart(backend: Backend) {
    backend.write("a/written", b"one");
    backend.storage.create(&key("a/created"), b"two").unwrap();
    backend.storage.write_lazily(&key("a/lazily"), b"three").unwrap();
    let before = backend.storage.scan(&key("a"), None, 10).unwrap();
    let Some(backend) = backend.restarted() else { return };
    assert_eq!(backend.scan("a", 1), ["a/created", "a/lazily", "a/written"]);
    assert_eq!(backend.storage.scan(&key("a"), None, 10).unwrap(), before);
    let created = backend.storage.create(&key("a/created"), b"three").unwrap();
    assert_eq!(created, Created::Exists("two".into()));
}

pub fn nothing_that_was_removed_comes_back(backend: Backend) {
    for path in ["a/removed", "a/cleared/x", "a/with/tag"] {
        backend.write(path, b"x");
    }
    let tag = backend.storage.head(&key("a/with/tag")).unwrap().unwrap().tag;
    backend.storage.remove(&key("a/removed")).unwrap();
    backend.storage.clear(&key("a/cleared")).unwrap();
    backend.storage.remove_if(&key("a/with/tag"), &tag).unwrap();
    let Some(backend) = backend.restarted() else { return };
    assert_eq!(backend.scan("a", 10), [""; 0]);
}
