//! Registers of repositories, and pages of the catalog from them.

use std::time::Duration;

use quinistry_oci::{Digest, RepositoryName};

use super::storage::SharedMemory;
use super::{lead, name, push_blob, replica};
use crate::layout::{RepositoryKeys, register, registers_complete};
use crate::storage::Storage as _;
use crate::{Page, Store};

const NAMES: [&str; 9] = ["a", "a-b", "a-b/c", "a.b", "a/b", "a/b-c", "a/b/c", "a0", "z"];

fn page(store: &Store, size: usize, last: &str) -> (Vec<String>, bool) {
    let (names, has_more) = store.repositories(&Page { size, last: last.into() }).unwrap();
    (names.iter().map(ToString::to_string).collect(), has_more)
}

/// Links a blob as distribution does, which writes no register.
fn link_as_another_program(storage: &SharedMemory, repository: &str) {
    let repository: RepositoryName = repository.parse().unwrap();
    let link = RepositoryKeys(&repository).layer_link(&Digest::sha256(b""));
    storage.bytes().write(&[&[(link, b"x")]]).unwrap();
}

#[test]
fn row_212_pages_from_any_name_on_are_those_of_the_sorted_list() {
    let storage = SharedMemory::new();
    let store = replica(&storage);
    for repository in NAMES {
        push_blob(&store, repository, b"{}").unwrap();
    }
    let mut sorted = NAMES.map(String::from).to_vec();
    sorted.sort();
    let long = "a/".repeat(600);
    let others = ["", "a-", "a/", "a/b/", "a//b", "a/../z", "../z", "ü", "a\u{7f}", "zz", "/", long.as_str()];
    for last in NAMES.into_iter().chain(others) {
        let rest: Vec<String> = sorted.iter().filter(|name| name.as_str() > last).cloned().collect();
        assert_eq!(page(&store, 100, last), (rest.clone(), false), "after {last:?}");
        let first: Vec<String> = rest.iter().take(2).cloned().collect();
        assert_eq!(page(&store, 2, last), (first, rest.len() > 2), "after {last:?}");
    }
}

#[test]
fn repositories_of_another_program_are_listed_before_and_after_they_have_registers() {
    let storage = SharedMemory::new();
    for repository in NAMES {
        link_as_another_program(&storage, repository);
    }
    link_as_another_program(&storage, "old/app");
    let only_uploaded_to: RepositoryName = "upload".parse().unwrap();
    storage.bytes().write(&[&[(RepositoryKeys(&only_uploaded_to).upload_started("x"), b"x")]]).unwrap();
    let store = replica(&storage.view());
    push_blob(&store, "new", b"{}").unwrap();
    let mut sorted: Vec<String> = NAMES.into_iter().chain(["new", "old/app"]).map(String::from).collect();
    sorted.sort();
    let expected = (sorted.clone(), false);
    assert_eq!(page(&store, 3, "a-b"), (sorted[2..5].to_vec(), true));
    assert!(storage.bytes().head(&registers_complete()).unwrap().is_none());
    assert_eq!(page(&store, 100, ""), expected);
    assert_eq!(store.folders_with(&["_uploads"]).unwrap(), ["upload"]);
    lead(&store);
    store.maintain().unwrap();
    assert!(storage.bytes().head(&register(&name("old/app"))).unwrap().is_some());
    assert!(storage.bytes().head(&registers_complete()).unwrap().is_some());
    for store in [store, replica(&storage.view())] {
        assert_eq!(page(&store, 100, ""), expected);
    }
}

#[test]
fn repositories_that_another_program_makes_later_are_listed_after_a_start_and_after_a_day() {
    let storage = SharedMemory::new();
    storage.stop_clock();
    let store = replica(&storage.view());
    push_blob(&store, "ours", b"{}").unwrap();
    store.maintain().unwrap();

    link_as_another_program(&storage, "between/starts");
    let view = storage.view();
    let store = replica(&view);
    lead(&store);
    store.maintain().unwrap();
    assert_eq!(page(&store, 9, "").0, ["ours"], "the first clients are served first");
    storage.advance(Duration::from_secs(30));
    store.maintain().unwrap();
    assert_eq!(page(&store, 9, "").0, ["between/starts", "ours"]);

    link_as_another_program(&storage, "later");
    storage.advance(Duration::from_hours(23));
    view.take_requests();
    store.maintain().unwrap();
    let requests = view.take_requests().all;
    assert!(requests < 5, "{requests} requests without a walk");
    storage.advance(Duration::from_hours(1));
    store.maintain().unwrap();
    assert_eq!(page(&store, 9, "").0, ["between/starts", "later", "ours"]);
}
