//! Storage whose backend could be written, and shall not be: a replica that only serves needs no right to write.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use quinistry_oci::{Content, Digest, RepositoryName};

use super::layout::Key;
use super::storage::{
    Abilities, Created, Entry, Fence, Leftover, ListingVersion, LookedUp, Meta, ObjectTag, Removed, ScanPage,
    Space, Storage, StorageError, Upload, UploadStart, Uploads,
};
use super::uploads::UploadId;

/// Storage of which every change is refused with [`StorageError::ReadOnly`], before the backend hears of it.
#[derive(Debug)]
pub struct ReadOnlyStorage<S>(S);

impl<S: Storage> ReadOnlyStorage<S> {
    /// Wraps a storage.
    pub const fn new(storage: S) -> Self {
        Self(storage)
    }
}

impl<S: Storage> Storage for ReadOnlyStorage<S> {
    fn abilities(&self) -> Abilities {
        self.0.abilities()
    }

    fn open(&self, key: &Key) -> Result<Option<(Content, ObjectTag)>, StorageError> {
        self.0.open(key)
    }

    fn open_uncached(&self, key: &Key) -> Result<Option<(Content, ObjectTag)>, StorageError> {
        self.0.open_uncached(key)
    }

    fn kept_sha256(&self, key: &Key) -> Result<Option<Digest>, StorageError> {
        self.0.kept_sha256(key)
    }

    fn read(&self, key: &Key, max_bytes: u64) -> Result<Option<Bytes>, StorageError> {
        self.0.read(key, max_bytes)
    }

    fn head(&self, key: &Key) -> Result<Option<Meta>, StorageError> {
        self.0.head(key)
    }

    fn head_all(&self, keys: &[Key]) -> Result<Vec<Option<Meta>>, StorageError> {
        self.0.head_all(keys)
    }

    fn look_up(&self, pairs: &[(Key, Key)], max_bytes: u64) -> Result<Vec<LookedUp>, StorageError> {
        self.0.look_up(pairs, max_bytes)
    }

    fn read_all(&self, keys: &[Key], max_bytes: u64) -> Result<Vec<Option<Bytes>>, StorageError> {
        self.0.read_all(keys, max_bytes)
    }

    fn open_known(&self, key: &Key, meta: &Meta) -> Result<Option<Content>, StorageError> {
        self.0.open_known(key, meta)
    }

    fn redirect(&self, key: &Key, lifetime: Duration) -> Option<String> {
        self.0.redirect(key, lifetime)
    }

    fn write(&self, _: &[&[Entry<'_>]]) -> Result<(), StorageError> {
        Err(StorageError::ReadOnly)
    }

    fn create(&self, _: &Key, _: &[u8]) -> Result<Created, StorageError> {
        Err(StorageError::ReadOnly)
    }

    fn remove(&self, _: &Key) -> Result<bool, StorageError> {
        Err(StorageError::ReadOnly)
    }

    fn remove_if(&self, _: &Key, _: &ObjectTag) -> Result<Removed, StorageError> {
        Err(StorageError::ReadOnly)
    }

    fn remove_if_fenced(&self, _: &Key, _: &ObjectTag, _: Fence) -> Result<Option<Removed>, StorageError> {
        Err(StorageError::ReadOnly)
    }

    fn fence(&self) -> Option<Fence> {
        // Asked before a dry run, which removes nothing.
        self.0.fence()
    }

    fn clear(&self, _: &Key) -> Result<bool, StorageError> {
        Err(StorageError::ReadOnly)
    }

    fn scan(&self, folder: &Key, after: Option<&Key>, limit: usize) -> Result<ScanPage, StorageError> {
        self.0.scan(folder, after, limit)
    }

    fn list(&self, folder: &Key) -> Result<Option<Vec<String>>, StorageError> {
        self.0.list(folder)
    }

    fn list_with(
        &self,
        folder: &Key,
        beneath: &str,
        wanted: fn(&str) -> bool,
    ) -> Result<Option<Vec<String>>, StorageError> {
        self.0.list_with(folder, beneath, wanted)
    }

    fn have_beneath(&self, folder: &Key, names: &[String], beneath: &str) -> Result<Vec<bool>, StorageError> {
        self.0.have_beneath(folder, names, beneath)
    }

    fn exists(&self, key: &Key) -> Result<bool, StorageError> {
        self.0.exists(key)
    }

    fn listing_version(&self, folder: &Key) -> Result<ListingVersion, StorageError> {
        self.0.listing_version(folder)
    }

    fn listing_versions(
        &self,
        folder: &Key,
        names: &[&str],
    ) -> Result<Vec<Option<ListingVersion>>, StorageError> {
        self.0.listing_versions(folder, names)
    }

    fn now(&self) -> SystemTime {
        self.0.now()
    }

    fn check(&self) -> Result<(), StorageError> {
        self.0.check()
    }

    fn space(&self) -> Result<Space, StorageError> {
        self.0.space()
    }

    fn throttlings(&self) -> u64 {
        self.0.throttlings()
    }

    fn removal_requests(&self) -> usize {
        self.0.removal_requests()
    }

    fn uploads(&self) -> &dyn Uploads {
        self
    }
}

impl<S: Storage> Uploads for ReadOnlyStorage<S> {
    fn are_shared(&self) -> bool {
        self.0.uploads().are_shared()
    }

    fn begin(&self, _: UploadStart<'_>) -> Result<Box<dyn Upload>, StorageError> {
        Err(StorageError::ReadOnly)
    }

    fn leftovers(&self, repository: &RepositoryName) -> Result<Vec<Leftover>, StorageError> {
        self.0.uploads().leftovers(repository)
    }

    fn modified(
        &self,
        repository: &RepositoryName,
        id: &UploadId,
    ) -> Result<Option<SystemTime>, StorageError> {
        self.0.uploads().modified(repository, id)
    }

    fn discard(&self, _: &RepositoryName, _: &UploadId) -> Result<bool, StorageError> {
        Err(StorageError::ReadOnly)
    }
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::tests::{name, push_blob};
    use crate::{Memory, Store, StoreError};

    #[test]
    fn content_is_served_and_no_change_reaches_the_backend() {
        let memory = Memory::new(1 << 20);
        let digest = push_blob(&Store::open(memory.clone(), false).unwrap(), "a/b", b"bytes").unwrap();
        let used = memory.space().unwrap();
        let store = Store::open(ReadOnlyStorage::new(memory.clone()), false).unwrap();
        assert_eq!(store.blob(&name("a/b"), &digest).unwrap().to_bytes().unwrap(), "bytes");
        let refused = |error| matches!(error, StoreError::Storage(StorageError::ReadOnly));
        assert!(refused(push_blob(&store, "a/b", b"more").unwrap_err()));
        assert!(refused(store.delete_blob(&name("a/b"), &digest).unwrap_err()));
        assert!(refused(store.begin(&name("a/b"), None).unwrap_err()));
        assert_eq!(memory.space().unwrap(), used);
        assert!(store.blob(&name("a/b"), &Digest::sha256(b"more")).is_err());
    }
}
