//! Lists of tags of a folder into which distribution writes at the same time.

mod figures;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use quinistry_oci::{Digest, RepositoryName};

use super::{folder, manifest, name, open, push_blob, put};
use crate::Store;
use crate::layout::RepositoryKeys;
use crate::storage::ListingVersion;

/// Number of tags of a list that is kept, and of which not all links are checked each time.
const MANY: usize = 1500;

/// Folder of tags that another program changes.
struct Tags {
    path: PathBuf,
    name: RepositoryName,
}

impl Tags {
    /// Creates a folder with a number of tags, which was changed long ago.
    fn create(root: &Path, count: usize) -> Self {
        let name = name("a/b");
        let tags = Self { path: root.join(RepositoryKeys(&name).tags().to_string()), name };
        for number in 0..count {
            tags.create_folder(&tag(number));
            tags.write_link(&tag(number));
        }
        tags.set_age(Duration::from_hours(1));
        tags
    }

    /// Creates the folder of a tag as distribution does, before the link.
    fn create_folder(&self, tag: &str) {
        fs::create_dir_all(self.path.join(tag).join("index")).unwrap();
    }

    fn write_link(&self, tag: &str) {
        let current = self.path.join(tag).join("current");
        fs::create_dir_all(&current).unwrap();
        fs::write(current.join("link"), Digest::sha256(b"").to_string()).unwrap();
    }

    fn remove(&self, tag: &str) {
        fs::remove_dir_all(self.path.join(tag)).unwrap();
    }

    /// Sets the time of the last change of the folder of all tags.
    fn set_age(&self, age: Duration) {
        File::open(&self.path).unwrap().set_modified(SystemTime::now() - age).unwrap();
    }

    /// Runs a change after which the folder has the time of its last change that it had before.
    fn within_one_tick(&self, change: impl FnOnce()) {
        let modified = fs::metadata(&self.path).unwrap().modified().unwrap();
        change();
        File::open(&self.path).unwrap().set_modified(modified).unwrap();
    }

    /// Reads the list past the cache that serves it for a second.
    fn list(&self, store: &Store) -> Vec<String> {
        let tags = store.read_tags(&self.name).unwrap().expect("the repository has tags");
        tags.iter().map(Into::into).collect()
    }

    fn lists(&self, store: &Store, tag: &str) -> bool {
        self.list(store).iter().any(|listed| listed == tag)
    }

    fn is_kept(&self, store: &Store) -> bool {
        store.0.tag_lists.begin(&self.name).1.is_some()
    }
}

fn tag(number: usize) -> String {
    format!("v{number:06}")
}

#[test]
fn tags_that_another_program_pushes_and_deletes_come_and_go() {
    let folder = folder();
    for count in [3, MANY] {
        let root = folder.path().join(count.to_string());
        let (tags, store) = (Tags::create(&root, count), open(&root));
        let mut all: Vec<String> = (0..count).map(tag).collect();
        assert_eq!(tags.list(&store), all);
        assert_eq!(tags.is_kept(&store), count == MANY);
        tags.create_folder("w1");
        tags.write_link("w1");
        tags.remove(&tag(1));
        all.push("w1".into());
        all.remove(1);
        assert_eq!(tags.list(&store), all);
        fs::remove_dir_all(&tags.path).unwrap();
        assert_eq!(store.read_tags(&tags.name).unwrap(), None);
    }
}

#[test]
fn a_tag_is_listed_from_its_link_on() {
    let folder = folder();
    let (tags, store) = (Tags::create(folder.path(), MANY), open(folder.path()));
    tags.list(&store);
    tags.create_folder("w1");
    tags.set_age(Duration::from_mins(1));
    assert!(!tags.lists(&store, "w1") && !tags.lists(&store, "w1"));
    // This changes no name in the folder of all tags.
    tags.write_link("w1");
    assert!(tags.lists(&store, "w1"));
}

#[test]
fn a_change_in_the_instant_of_the_reading_is_seen() {
    let folder = folder();
    let (tags, store) = (Tags::create(folder.path(), MANY), open(folder.path()));
    tags.list(&store);
    tags.set_age(Duration::ZERO);
    tags.list(&store);
    tags.within_one_tick(|| {
        tags.create_folder("w1");
        tags.write_link("w1");
        tags.remove(&tag(1));
    });
    assert!(tags.lists(&store, "w1"));
    tags.within_one_tick(|| {
        tags.remove("w1");
        tags.create_folder(&tag(1));
        tags.write_link(&tag(1));
    });
    assert!(!tags.lists(&store, "w1") && tags.lists(&store, &tag(1)));
}

/// The links may be checked for seconds after the names were read. A change in the meantime may leave the version as it
/// is if the folder had changed shortly before it was looked at, however long that is ago at the end of the reading.
#[test]
fn a_version_is_settled_if_its_folder_was_old_when_it_was_looked_at() {
    let folder = folder();
    let (tags, store) = (Tags::create(folder.path(), 1), open(folder.path()));
    let key = RepositoryKeys(&tags.name).tags();
    let repository = tags.path.parent().unwrap().parent().unwrap();
    for (age, is_settled) in [(Duration::ZERO, false), (Duration::from_hours(1), true)] {
        tags.set_age(age);
        let version = store.storage().listing_version(&key).unwrap();
        assert_eq!(version.settled().is_some(), is_settled, "{age:?}");
        File::open(repository).unwrap().set_modified(SystemTime::now() - age).unwrap();
        let parent = crate::layout::repositories().child("a");
        let version = store.storage().listing_versions(&parent, &["b"]).unwrap().remove(0);
        assert_eq!(version.and_then(ListingVersion::settled).is_some(), is_settled, "{age:?}");
    }
}

#[test]
fn a_folder_whose_time_was_set_back_has_another_version() {
    let folder = folder();
    let (tags, store) = (Tags::create(folder.path(), 1), open(folder.path()));
    let version = || store.storage().listing_version(&RepositoryKeys(&tags.name).tags()).unwrap().text;
    let before = version();
    // File systems count time in steps.
    let (scratch, changed) = (tempfile::NamedTempFile::new_in(folder.path()).unwrap(), SystemTime::now());
    while scratch.as_file().metadata().unwrap().modified().unwrap() <= changed {
        fs::write(scratch.path(), b"x").unwrap();
    }
    tags.within_one_tick(|| tags.create_folder("w1"));
    assert_ne!(version(), before);
}

#[test]
fn a_link_that_goes_while_its_folder_stays_is_missed_after_a_round_at_most() {
    let folder = folder();
    let (tags, store) = (Tags::create(folder.path(), MANY), open(folder.path()));
    tags.list(&store);
    for number in [0, MANY - 1] {
        fs::remove_file(tags.path.join(tag(number)).join("current/link")).unwrap();
    }
    let lengths = [(); 2].map(|()| tags.list(&store).len());
    assert_eq!(lengths, [MANY - 1, MANY - 2]);
}

#[test]
fn a_deleted_tag_whose_next_push_was_cut_off_is_not_listed() {
    let folder = folder();
    let (tags, store) = (Tags::create(folder.path(), MANY), open(folder.path()));
    tags.list(&store);
    let last = tag(MANY - 1);
    store.delete_tag(&tags.name, &last.parse().unwrap()).unwrap();
    tags.create_folder(&last);
    assert!(!tags.lists(&store, &last));
}

#[test]
fn pushes_and_deletions_of_this_process_show_at_once() {
    let folder = folder();
    let (tags, store) = (Tags::create(folder.path(), MANY), open(folder.path()));
    let page = |last: &str| {
        let page = crate::Page { size: 1, last: last.into() };
        store.tags(&tags.name, &page).unwrap().0.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    for blob in [&b"layer"[..], b"{}"] {
        push_blob(&store, "a/b", blob).unwrap();
    }
    assert_eq!(page(&tag(7)), [tag(8)]);
    put(&store, "a/b", &manifest(b"layer", ""), &["v000007-1"]).unwrap();
    assert_eq!(page(&tag(7)), ["v000007-1"]);
    store.delete_tag(&tags.name, &"v000007-1".parse().unwrap()).unwrap();
    assert_eq!(page(&tag(7)), [tag(8)]);
}
