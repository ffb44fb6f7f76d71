//! Stores of each kind for tests.

use std::sync::Arc;

use quinistry_bucket::testing::Mem;
use quinistry_bucket::{
    Bucket, BucketUploads, StoreAbilities, TransferMemory, TransferOptions, UploadOptions,
};
use quinistry_oci::{Content, Digest};
use quinistry_store::{Access, Filesystem, Memory, Store, StoreError};
use tokio::runtime::Handle;

use super::repository;
use crate::{FetchOptions, Fetches};

/// Store with what must live as long.
pub(super) struct TestStore {
    pub(super) store: Store,
    pub(super) name: &'static str,
    _folder: Option<tempfile::TempDir>,
}

pub(super) fn in_memory() -> TestStore {
    with_capacity(64 * 1024 * 1024)
}

pub(super) fn with_capacity(bytes: u64) -> TestStore {
    TestStore { store: Store::open(Memory::new(bytes), false).unwrap(), name: "memory", _folder: None }
}

fn in_folder() -> TestStore {
    let folder = tempfile::tempdir().unwrap();
    let storage = Filesystem::open(folder.path(), Access::Write).unwrap();
    TestStore { store: Store::open(storage, false).unwrap(), name: "folder", _folder: Some(folder) }
}

async fn in_bucket() -> TestStore {
    let runtime = Handle::current();
    let open = move || {
        let objects = Arc::new(Mem::default());
        let transfers = TransferOptions::default();
        let options =
            UploadOptions { transfers, parts_may_differ: true, copies_parts: true, is_exclusive: false };
        let memory = TransferMemory::new(4 * transfers.part_bytes);
        let uploads = BucketUploads::new(objects.clone(), runtime.clone(), memory.clone(), options);
        let bucket = Bucket::new(objects, runtime, StoreAbilities::ALL, memory, uploads);
        Store::open(bucket, false).unwrap()
    };
    let store = tokio::task::spawn_blocking(open).await.unwrap();
    TestStore { store, name: "bucket", _folder: None }
}

/// Returns a store of each kind.
pub(super) async fn all() -> [TestStore; 3] {
    [in_memory(), in_folder(), in_bucket().await]
}

/// Returns options without pauses.
pub(super) fn options() -> FetchOptions {
    FetchOptions { resume_pause: std::time::Duration::ZERO, ..FetchOptions::default() }
}

impl TestStore {
    pub(super) fn fetches(&self) -> Fetches {
        Fetches::new(Some(self.store.clone()), options())
    }

    /// Returns the bytes of a blob of a repository, if it has the blob.
    pub(super) async fn blob(&self, name: &str, digest: &Digest) -> Option<Vec<u8>> {
        let (store, name, digest) = (self.store.clone(), repository(name), digest.clone());
        let read = move || match store.blob(&name, &digest) {
            Ok(content) => Some(Content::to_bytes(&content).unwrap().to_vec()),
            Err(StoreError::BlobUnknown | StoreError::RepositoryUnknown) => None,
            Err(error) => panic!("{error}"),
        };
        tokio::task::spawn_blocking(read).await.unwrap()
    }

    /// Returns the number of used bytes, if the storage tells it.
    pub(super) fn used_bytes(&self) -> Option<u64> {
        self.store.space().unwrap().used_bytes
    }
}
