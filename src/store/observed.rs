//! Storage whose calls are measured. A store that is not observed has none of this around its storage, and so
//! pays nothing for it.

mod uploads;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use quinistry_oci::{Content, Digest};

use super::layout::Key;
use super::storage::{
    Abilities, Created, Entry, Fence, ListingVersion, LookedUp, Meta, ObjectTag, Removed, ScanPage, Space,
    Storage, StorageError, Uploads,
};

/// Kind of a call, by the names that distribution's storage drivers have for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StorageAction {
    /// Read of short bytes as a whole.
    GetContent,
    /// Write of short bytes as a whole.
    PutContent,
    /// Opening of bytes for streaming.
    Reader,
    /// Begin or continuation of an upload.
    Writer,
    /// Look-up of metadata.
    Stat,
    /// List of the names in a folder.
    List,
    /// Storing of an upload under its key.
    Move,
    /// Removal.
    Delete,
    /// List of the keys beneath a folder, at any depth.
    Walk,
}

impl StorageAction {
    /// All kinds.
    pub const ALL: [Self; 9] = [
        Self::GetContent,
        Self::PutContent,
        Self::Reader,
        Self::Writer,
        Self::Stat,
        Self::List,
        Self::Move,
        Self::Delete,
        Self::Walk,
    ];

    /// Returns the name of the kind.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::GetContent => "GetContent",
            Self::PutContent => "PutContent",
            Self::Reader => "Reader",
            Self::Writer => "Writer",
            Self::Stat => "Stat",
            Self::List => "List",
            Self::Move => "Move",
            Self::Delete => "Delete",
            Self::Walk => "Walk",
        }
    }
}

/// Receiver of measurements. Called on the threads that use the storage.
pub trait StorageObserver: fmt::Debug + Send + Sync + 'static {
    /// Receives the duration of a call, which may have failed.
    fn called(&self, action: StorageAction, took: Duration);

    /// Receives the duration of a flush of a file or folder to the disk, which may have failed.
    fn flushed(&self, took: Duration);
}

/// Storage whose calls an observer receives.
#[derive(Debug)]
pub struct ObservedStorage<S> {
    storage: S,
    observer: Arc<dyn StorageObserver>,
}

impl<S: Storage> ObservedStorage<S> {
    /// Observes a storage.
    pub fn new(storage: S, observer: Arc<dyn StorageObserver>) -> Self {
        Self { storage, observer }
    }

    fn measured<T>(&self, action: StorageAction, call: impl FnOnce(&S) -> T) -> T {
        measured(&*self.observer, action, || call(&self.storage))
    }
}

fn measured<T>(observer: &dyn StorageObserver, action: StorageAction, call: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let result = call();
    observer.called(action, begun.elapsed());
    result
}

impl<S: Storage> Storage for ObservedStorage<S> {
    fn abilities(&self) -> Abilities {
        self.storage.abilities()
    }

    fn open(&self, key: &Key) -> Result<Option<(Content, ObjectTag)>, StorageError> {
        self.measured(StorageAction::Reader, |storage| storage.open(key))
    }

    fn open_uncached(&self, key: &Key) -> Result<Option<(Content, ObjectTag)>, StorageError> {
        self.measured(StorageAction::Reader, |storage| storage.open_uncached(key))
    }

    fn kept_sha256(&self, key: &Key) -> Result<Option<Digest>, StorageError> {
        self.measured(StorageAction::Stat, |storage| storage.kept_sha256(key))
    }

    fn read(&self, key: &Key, max_bytes: u64) -> Result<Option<Bytes>, StorageError> {
        self.measured(StorageAction::GetContent, |storage| storage.read(key, max_bytes))
    }

    fn head(&self, key: &Key) -> Result<Option<Meta>, StorageError> {
        self.measured(StorageAction::Stat, |storage| storage.head(key))
    }

    fn head_all(&self, keys: &[Key]) -> Result<Vec<Option<Meta>>, StorageError> {
        self.measured(StorageAction::Stat, |storage| storage.head_all(keys))
    }

    fn look_up(&self, pairs: &[(Key, Key)], max_bytes: u64) -> Result<Vec<LookedUp>, StorageError> {
        self.measured(StorageAction::GetContent, |storage| storage.look_up(pairs, max_bytes))
    }

    fn read_all(&self, keys: &[Key], max_bytes: u64) -> Result<Vec<Option<Bytes>>, StorageError> {
        self.measured(StorageAction::GetContent, |storage| storage.read_all(keys, max_bytes))
    }

    fn open_known(&self, key: &Key, meta: &Meta) -> Result<Option<Content>, StorageError> {
        self.measured(StorageAction::Reader, |storage| storage.open_known(key, meta))
    }

    fn redirect(&self, key: &Key, lifetime: Duration) -> Option<String> {
        self.storage.redirect(key, lifetime)
    }

    fn write(&self, stages: &[&[Entry<'_>]]) -> Result<(), StorageError> {
        self.measured(StorageAction::PutContent, |storage| storage.write(stages))
    }

    fn write_lazily(&self, key: &Key, bytes: &[u8]) -> Result<(), StorageError> {
        self.measured(StorageAction::PutContent, |storage| storage.write_lazily(key, bytes))
    }

    fn create(&self, key: &Key, bytes: &[u8]) -> Result<Created, StorageError> {
        self.measured(StorageAction::PutContent, |storage| storage.create(key, bytes))
    }

    fn remove(&self, key: &Key) -> Result<bool, StorageError> {
        self.measured(StorageAction::Delete, |storage| storage.remove(key))
    }

    fn remove_if(&self, key: &Key, tag: &ObjectTag) -> Result<Removed, StorageError> {
        self.measured(StorageAction::Delete, |storage| storage.remove_if(key, tag))
    }

    fn remove_if_fenced(
        &self,
        key: &Key,
        tag: &ObjectTag,
        fence: Fence,
    ) -> Result<Option<Removed>, StorageError> {
        self.measured(StorageAction::Delete, |storage| storage.remove_if_fenced(key, tag, fence))
    }

    fn fence(&self) -> Option<Fence> {
        self.storage.fence()
    }

    fn remove_fenced(&self, keys: &[Key], fence: Fence) -> Result<Vec<Key>, StorageError> {
        self.measured(StorageAction::Delete, |storage| storage.remove_fenced(keys, fence))
    }

    fn copy(&self, from: &Key, to: &Key) -> Result<bool, StorageError> {
        self.measured(StorageAction::Move, |storage| storage.copy(from, to))
    }

    fn clear(&self, folder: &Key) -> Result<bool, StorageError> {
        self.measured(StorageAction::Delete, |storage| storage.clear(folder))
    }

    fn clear_lazily(&self, folder: &Key) -> Result<bool, StorageError> {
        self.measured(StorageAction::Delete, |storage| storage.clear_lazily(folder))
    }

    fn scan(&self, folder: &Key, after: Option<&Key>, limit: usize) -> Result<ScanPage, StorageError> {
        self.measured(StorageAction::Walk, |storage| storage.scan(folder, after, limit))
    }

    fn list(&self, folder: &Key) -> Result<Option<Vec<String>>, StorageError> {
        self.measured(StorageAction::List, |storage| storage.list(folder))
    }

    fn list_with(
        &self,
        folder: &Key,
        beneath: &str,
        wanted: fn(&str) -> bool,
    ) -> Result<Option<Vec<String>>, StorageError> {
        self.measured(StorageAction::List, |storage| storage.list_with(folder, beneath, wanted))
    }

    fn have_beneath(&self, folder: &Key, names: &[String], beneath: &str) -> Result<Vec<bool>, StorageError> {
        self.measured(StorageAction::List, |storage| storage.have_beneath(folder, names, beneath))
    }

    fn exists(&self, key: &Key) -> Result<bool, StorageError> {
        self.measured(StorageAction::Stat, |storage| storage.exists(key))
    }

    fn listing_version(&self, folder: &Key) -> Result<ListingVersion, StorageError> {
        self.measured(StorageAction::Stat, |storage| storage.listing_version(folder))
    }

    fn listing_versions(
        &self,
        folder: &Key,
        names: &[&str],
    ) -> Result<Vec<Option<ListingVersion>>, StorageError> {
        self.measured(StorageAction::Stat, |storage| storage.listing_versions(folder, names))
    }

    fn set_modified(&self, key: &Key, modified: SystemTime) -> Result<bool, StorageError> {
        self.storage.set_modified(key, modified)
    }

    fn sync_parents(&self, keys: &[Key]) -> Result<(), StorageError> {
        self.storage.sync_parents(keys)
    }

    fn flush_all(&self) -> Result<(), StorageError> {
        self.storage.flush_all()
    }

    fn now(&self) -> SystemTime {
        self.storage.now()
    }

    fn check(&self) -> Result<(), StorageError> {
        self.storage.check()
    }

    fn space(&self) -> Result<Space, StorageError> {
        self.storage.space()
    }

    fn throttlings(&self) -> u64 {
        self.storage.throttlings()
    }

    fn removal_requests(&self) -> usize {
        self.storage.removal_requests()
    }

    fn uploads(&self) -> &dyn Uploads {
        self
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::failpoint::once::failing;
    use crate::tests::{name, push_blob};
    use crate::{Access, Filesystem, Memory, Store};

    /// Observer that remembers the kinds of calls, and `None` for a flush.
    #[derive(Debug, Default)]
    struct Calls(Mutex<Vec<Option<StorageAction>>>);

    impl Calls {
        fn take(&self) -> Vec<Option<StorageAction>> {
            std::mem::take(&mut *self.0.lock().unwrap())
        }
    }

    impl StorageObserver for Calls {
        fn called(&self, action: StorageAction, _: Duration) {
            self.0.lock().unwrap().push(Some(action));
        }

        fn flushed(&self, _: Duration) {
            self.0.lock().unwrap().push(None);
        }
    }

    #[test]
    fn an_observer_receives_each_call_by_its_kind() {
        let calls = Arc::<Calls>::default();
        let store = Store::open(ObservedStorage::new(Memory::new(1 << 20), calls.clone()), false).unwrap();
        calls.take();
        let digest = push_blob(&store, "a", b"bytes").unwrap();
        let pushed = calls.take();
        assert!(pushed.contains(&Some(StorageAction::Writer)), "{pushed:?}");
        assert!(pushed.contains(&Some(StorageAction::Move)), "{pushed:?}");
        store.blob(&name("a"), &digest).unwrap();
        let pulled = calls.take();
        assert!(pulled.contains(&Some(StorageAction::Reader)), "{pulled:?}");
        assert!(store.blob(&name("b"), &Digest::sha256(b"")).is_err());
        assert!(!calls.take().contains(&Some(StorageAction::Writer)));
    }

    #[test]
    fn flushes_are_observed_and_the_storage_is_unfit_once_one_has_failed() {
        let folder = tempfile::tempdir().unwrap();
        let storage = Filesystem::open(folder.path(), Access::Write).unwrap();
        let calls = Arc::<Calls>::default();
        storage.observe_flushes(calls.clone());
        let store = Store::open(storage, false).unwrap();
        push_blob(&store, "a", b"bytes").unwrap();
        // The file, and the folders that lead to it.
        assert!(calls.take().iter().filter(|call| call.is_none()).count() > 2);
        store.check().unwrap();
        let (reached, _) = failing("file.sync", 1, 5, || push_blob(&store, "a", b"others"));
        assert!(reached);
        assert!(matches!(store.check(), Err(StorageError::WritesRefused)));
    }

    #[test]
    fn a_storage_that_is_opened_for_reading_is_fit() {
        let folder = tempfile::tempdir().unwrap();
        drop(Filesystem::open(folder.path(), Access::Write).unwrap());
        let store = Store::open(Filesystem::open(folder.path(), Access::Read).unwrap(), false).unwrap();
        store.check().unwrap();
        let space = store.space().unwrap();
        assert!(space.used_bytes.is_none() && space.free_bytes.is_some_and(|bytes| bytes > 0), "{space:?}");
    }
}
