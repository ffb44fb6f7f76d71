//! Costs of lists, in processor time: that of this thread, so that a busy machine matters little.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::{Tags, tag};
use crate::layout::{RepositoryKeys, TAG_LINK, repositories};
use crate::tests::open;
use crate::{Page, Store};

/// Number of tags of the repository whose list is measured.
const TAG_COUNT: usize = 100_000;

/// Number of repositories of the catalog that is measured.
const REPOSITORY_COUNT: usize = 10_000;

fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.cast_unsigned(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// Returns the cost of a call in milliseconds.
fn cost_once(call: impl FnOnce()) -> f64 {
    let begun = processor_time();
    call();
    processor_time().saturating_sub(begun).as_secs_f64() * 1e3
}

/// Returns the median cost of five calls.
fn cost(mut call: impl FnMut()) -> f64 {
    let mut costs = [(); 5].map(|()| cost_once(&mut call));
    costs.sort_by(f64::total_cmp);
    costs[2]
}

/// Returns the folder of `QUINISTRY_FIGURES`, which a later run uses again, or a new one.
fn data_folder() -> (PathBuf, Option<tempfile::TempDir>) {
    if let Some(path) = std::env::var_os("QUINISTRY_FIGURES") {
        return (path.into(), None);
    }
    let folder = super::folder();
    (folder.path().into(), Some(folder))
}

fn fill_catalog(root: &Path) {
    let folder = root.join(repositories().to_string());
    for number in 0..REPOSITORY_COUNT {
        for part in ["_layers", "_manifests", "_uploads"] {
            fs::create_dir_all(folder.join(format!("r{number:06}")).join(part)).unwrap();
        }
    }
    let long_ago = std::time::SystemTime::now() - Duration::from_hours(1);
    fs::File::open(&folder).unwrap().set_modified(long_ago).unwrap();
}

fn all_pages(store: &Store, tags: &Tags) -> usize {
    let (mut last, mut count) = (String::new(), 0);
    loop {
        let page = store.tags_of_walk(&tags.name, &Page { size: 1000, last }, None).unwrap();
        count += page.tags().count();
        match page.tags().last().filter(|_| page.has_more) {
            Some(name) => last = name.into(),
            None => return count,
        }
    }
}

#[test]
#[ignore = "measures; cargo test --release -p quinistry-store --lib -- --ignored --nocapture costs_of_lists"]
fn costs_of_lists() {
    let (root, _folder) = data_folder();
    let (tags, catalog) = (root.join("tags"), root.join("catalog"));
    let count = if tags.exists() { 0 } else { TAG_COUNT };
    let tags = Tags::create(&tags, count);
    if !catalog.exists() {
        fill_catalog(&catalog);
    }
    let store = open(&root.join("tags"));
    let folder = RepositoryKeys(&tags.name).tags();
    let every_link = cost(|| {
        let all = store.storage().list_with(&folder, TAG_LINK, quinistry_oci::Tag::is_tag).unwrap();
        assert_eq!(all.unwrap().len(), TAG_COUNT);
    });
    let row = |what: &str, cost: f64| println!("{what:<58} {cost:9.3} ms  {:.4}", cost / every_link);
    println!("{TAG_COUNT} tags: processor time, and ratio to looking at every link");
    row("list, looking at every link", every_link);
    row("names alone", cost(|| drop(store.storage().list(&folder).unwrap())));
    row(
        "first reading",
        cost(|| {
            store.0.tag_lists.forget(&tags.name);
            assert_eq!(tags.list(&store).len(), TAG_COUNT);
        }),
    );
    row("next reading, nothing changed", cost(|| drop(store.read_tags(&tags.name).unwrap())));
    let mut number = 0;
    row(
        "next reading, another program pushed a tag",
        cost(|| {
            number += 1;
            tags.create_folder(&tag(TAG_COUNT + number));
            tags.write_link(&tag(TAG_COUNT + number));
            assert_eq!(store.read_tags(&tags.name).unwrap().unwrap().len(), TAG_COUNT + number);
        }),
    );
    for number in 1..=number {
        tags.remove(&tag(TAG_COUNT + number));
    }
    tags.set_age(Duration::from_hours(1));
    row(
        "next reading, tags removed, then nothing changed",
        cost(|| drop(store.read_tags(&tags.name).unwrap())),
    );
    row("all pages of 1000", cost(|| assert_eq!(all_pages(&store, &tags), TAG_COUNT)));

    let store = open(&catalog);
    let page = |size: usize, last: &str| {
        let found = store.repositories(&Page { size, last: last.into() }).unwrap();
        assert_eq!(found.0.len(), size);
    };
    println!("{REPOSITORY_COUNT} repositories: processor time");
    row("first page of 100 after the start", cost_once(|| page(100, "")));
    row("page of 100", cost(|| page(100, "r005000")));
    row("page of 1000", cost(|| page(1000, "r005000")));
}
