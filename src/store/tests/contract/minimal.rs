//! Backend that implements the required methods alone, so that the contract and the store are tested with the
//! defaults of the others.

use quinistry_oci::Content;

use crate::storage::{
    Abilities, Created, Entry, Meta, ObjectTag, Removed, ScanPage, Storage, StorageError, Uploads,
};
use crate::tests::{manifest, name, push_blob, put, resolve_tag, tags};
use crate::{Key, Memory, Page, Store};

/// Longest page of a scan, in keys: some backends return less than was asked for.
const MAX_PAGE_KEYS: usize = 2;

/// Memory that removes the keys of a folder one by one.
#[derive(Debug)]
pub(super) struct Minimal(pub(super) Memory);

impl Storage for Minimal {
    fn abilities(&self) -> Abilities {
        Abilities {
            is_persistent: false,
            clears_at_once: false,
            has_listing_versions: false,
            is_shared: false,
        }
    }

    fn open(&self, key: &Key) -> Result<Option<(Content, ObjectTag)>, StorageError> {
        self.0.open(key)
    }

    fn head(&self, key: &Key) -> Result<Option<Meta>, StorageError> {
        self.0.head(key)
    }

    fn write(&self, stages: &[&[Entry<'_>]]) -> Result<(), StorageError> {
        // In any order within a stage, and one stage after the other.
        let mut all = stages.iter().flat_map(|stage| stage.iter().rev());
        all.try_for_each(|(key, bytes)| self.0.write(&[&[(key.clone(), *bytes)]]))
    }

    fn create(&self, key: &Key, bytes: &[u8]) -> Result<Created, StorageError> {
        self.0.create(key, bytes)
    }

    fn remove(&self, key: &Key) -> Result<bool, StorageError> {
        self.0.remove(key)
    }

    fn remove_if(&self, key: &Key, tag: &ObjectTag) -> Result<Removed, StorageError> {
        self.0.remove_if(key, tag)
    }

    fn clear(&self, folder: &Key) -> Result<bool, StorageError> {
        let mut is_removed = false;
        while let Some((key, _)) = self.scan(folder, None, 1)?.entries.first() {
            is_removed |= self.remove(key)?;
        }
        Ok(is_removed)
    }

    fn scan(&self, folder: &Key, after: Option<&Key>, limit: usize) -> Result<ScanPage, StorageError> {
        self.0.scan(folder, after, limit.min(MAX_PAGE_KEYS))
    }

    fn uploads(&self) -> &dyn Uploads {
        self.0.uploads()
    }
}

#[test]
fn a_store_works_on_the_required_methods_alone() {
    let memory = Memory::new(super::MEMORY_BYTES);
    let store = Store::open(Minimal(memory.clone()), false).unwrap();
    for bytes in [&b"{}"[..], b"layer"] {
        push_blob(&store, "a/b", bytes).unwrap();
    }
    let [one, other] = ["one", "other"].map(|note| manifest(b"layer", note));
    let first = put(&store, "a/b", &one, &["v1", "v1.1", "v1-rc"]).unwrap();
    let second = put(&store, "a/b", &other, &["v2"]).unwrap();
    let page = |last: &str| Page { size: 2, last: last.into() };
    let list = |last: &str| store.tags(&name("a/b"), &page(last)).unwrap();
    assert_eq!(list(""), (tags(&["v1", "v1-rc"]), true));
    assert_eq!(list("v1-rc"), (tags(&["v1.1", "v2"]), false));
    assert_eq!(store.repositories(&page("")).unwrap(), (vec![name("a/b")], false));
    let mut gone = store.delete_manifest(&name("a/b"), &first).unwrap();
    gone.sort();
    assert_eq!(gone, tags(&["v1", "v1-rc", "v1.1"]));
    assert_eq!(list(""), (tags(&["v2"]), false));
    assert_eq!(resolve_tag(&store, "a/b", "v1"), None);
    assert_eq!(resolve_tag(&store, "a/b", "v2"), Some(second));
}
