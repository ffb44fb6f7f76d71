//! Stores whose answers contradict each other: a request to them ends with an error that says so.

use std::sync::Arc;

use quinistry_store::{Created, Key, Storage as _};

use super::{RUNTIME, bucket, governed};
use crate::testing::{Fault, FaultPlan, Faulty, Mem, MemOptions, RequestKind, StoreClock};
use crate::{Condition, Objects as _};

fn key(path: &str) -> Key {
    Key::of_path(path.into()).unwrap()
}

/// Returns the messages of an error and of its causes.
fn messages(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[test]
fn row_222_a_creation_that_finds_an_object_and_does_not_find_it_ends() {
    let faulty = Arc::new(Faulty::new(Mem::default(), FaultPlan::default()));
    let storage = bucket(faulty.clone());
    assert_eq!(storage.create(&key("a"), b"x").unwrap(), Created::New);
    // An object that is removed in between is created again.
    faulty.plan().spoil(RequestKind::Get, "a", Fault::Absent, 3);
    assert_eq!(storage.create(&key("a"), b"y").unwrap(), Created::Exists("x".into()));
    faulty.log().take();
    faulty.plan().spoil(RequestKind::Get, "a", Fault::Absent, usize::MAX);
    let error = messages(&storage.create(&key("a"), b"y").unwrap_err());
    assert!(error.contains("refused to create the object because there is one (412)"), "{error}");
    assert!(error.ends_with("whose reads show each write at once"), "{error}");
    assert_eq!(faulty.log().counts().of(RequestKind::Put), 9);
}

#[test]
fn row_221_a_list_that_begins_anew_with_each_page_is_an_error() {
    let options = MemOptions { ignores_start_after: true, ..MemOptions::default() };
    let mem = Arc::new(Mem::new(options, StoreClock::system()));
    let objects = governed(mem.clone());
    RUNTIME.block_on(async {
        for name in ["f/a", "f/b", "f/c"] {
            objects.put(name, "x".into(), Condition::Always).await.unwrap();
        }
    });
    let storage = bucket(mem);
    let page = storage.scan(&key("f"), None, 2).unwrap();
    let error = messages(&storage.scan(&key("f"), page.next.as_ref(), 2).unwrap_err());
    assert!(error.ends_with("begins with f/a, and was asked for keys after f/b"), "{error}");
}
