//! Behaviours of creation: of several writers one wins, and the others learn what it has written.

use std::sync::Barrier;

use super::{Backend, key};
use crate::StorageError;
use crate::storage::{Created, MAX_CREATED_BYTES};

pub fn a_key_without_bytes_is_created(backend: Backend) {
    assert_eq!(backend.storage.create(&key("a/b/c"), b"one").unwrap(), Created::New);
    assert_eq!(backend.read("a/b/c").unwrap(), "one");
    assert_eq!(backend.storage.head(&key("a/b/c")).unwrap().unwrap().length, 3);
    assert_eq!(backend.storage.create(&key("a/b/d"), b"").unwrap(), Created::New);
}

pub fn existing_bytes_are_returned_and_not_changed(backend: Backend) {
    backend.write("a/b", b"one");
    let before = backend.storage.head(&key("a/b")).unwrap();
    for bytes in [&b"two"[..], b"one"] {
        let created = backend.storage.create(&key("a/b"), bytes).unwrap();
        assert_eq!(created, Created::Exists("one".into()));
    }
    assert_eq!(backend.storage.head(&key("a/b")).unwrap(), before);
}

pub fn a_removed_key_is_created_again(backend: Backend) {
    for _ in 0..2 {
        assert_eq!(backend.storage.create(&key("a/b"), b"one").unwrap(), Created::New);
        assert!(backend.storage.remove(&key("a/b")).unwrap());
    }
}

pub fn existing_bytes_beyond_the_limit_are_an_error(backend: Backend) {
    let length = usize::try_from(MAX_CREATED_BYTES).unwrap() + 1;
    backend.write("a/b", &vec![0; length]);
    let created = backend.storage.create(&key("a/b"), b"one");
    assert!(matches!(created, Err(StorageError::TooLong { .. })), "{created:?}");
}

pub fn of_creators_at_once_one_wins_and_the_others_see_its_bytes(backend: Backend) {
    const CREATORS: usize = 6;
    for round in 0..10 {
        let key = key(&format!("a/{round}/c"));
        let start = Barrier::new(CREATORS);
        let outcomes: Vec<Created> = std::thread::scope(|scope| {
            let creators = (0..CREATORS).map(|i| {
                let (start, key, storage) = (&start, &key, &backend.storage);
                scope.spawn(move || {
                    start.wait();
                    storage.create(key, format!("by {i}").as_bytes()).unwrap()
                })
            });
            let creators: Vec<_> = creators.collect();
            creators.into_iter().map(|creator| creator.join().unwrap()).collect()
        });
        let winner = outcomes.iter().position(|outcome| *outcome == Created::New).unwrap();
        let bytes = backend.storage.read(&key, 100).unwrap().unwrap();
        assert_eq!(bytes, format!("by {winner}"));
        for (i, outcome) in outcomes.iter().enumerate().filter(|(i, _)| *i != winner) {
            assert_eq!(*outcome, Created::Exists(bytes.clone()), "{i}");
        }
    }
}
