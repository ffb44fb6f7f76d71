//! Uploads to a storage whose calls are measured.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use quinistry_oci::{Algorithm, Content, Digest, RepositoryName};

use super::{ObservedStorage, StorageAction, StorageObserver, measured};
use crate::layout::Key;
use crate::storage::{
    Entry, Leftover, NextRequest, RoomFuture, Storage, StorageError, Upload, UploadStart, Uploads,
};
use crate::uploads::UploadId;

#[derive(Debug)]
struct ObservedUpload {
    upload: Box<dyn Upload>,
    observer: Arc<dyn StorageObserver>,
}

impl<S: Storage> ObservedStorage<S> {
    fn observed(&self, upload: Box<dyn Upload>) -> Box<dyn Upload> {
        Box::new(ObservedUpload { upload, observer: self.observer.clone() })
    }
}

impl<S: Storage> Uploads for ObservedStorage<S> {
    fn are_shared(&self) -> bool {
        self.storage.uploads().are_shared()
    }

    fn begin(&self, start: UploadStart<'_>) -> Result<Box<dyn Upload>, StorageError> {
        let begun = self.measured(StorageAction::Writer, |storage| storage.uploads().begin(start));
        begun.map(|upload| self.observed(upload))
    }

    fn resume(
        &self,
        repository: &RepositoryName,
        id: &UploadId,
    ) -> Result<Option<Box<dyn Upload>>, StorageError> {
        let found = self.measured(StorageAction::Writer, |storage| storage.uploads().resume(repository, id));
        Ok(found?.map(|upload| self.observed(upload)))
    }

    fn leftovers(&self, repository: &RepositoryName) -> Result<Vec<Leftover>, StorageError> {
        self.measured(StorageAction::List, |storage| storage.uploads().leftovers(repository))
    }

    fn clear_ended(&self, repository: &RepositoryName) -> Result<usize, StorageError> {
        self.measured(StorageAction::Delete, |storage| storage.uploads().clear_ended(repository))
    }

    fn modified(
        &self,
        repository: &RepositoryName,
        id: &UploadId,
    ) -> Result<Option<SystemTime>, StorageError> {
        self.measured(StorageAction::Stat, |storage| storage.uploads().modified(repository, id))
    }

    fn discard(&self, repository: &RepositoryName, id: &UploadId) -> Result<bool, StorageError> {
        self.measured(StorageAction::Delete, |storage| storage.uploads().discard(repository, id))
    }

    fn clear_interrupted(&self, age: Duration, is_dry_run: bool) -> Result<usize, StorageError> {
        self.measured(StorageAction::Delete, |storage| storage.uploads().clear_interrupted(age, is_dry_run))
    }
}

impl Upload for ObservedUpload {
    fn offset(&self) -> u64 {
        self.upload.offset()
    }

    fn continue_with(&mut self, next: NextRequest<'_>) -> Result<Option<u64>, StorageError> {
        self.upload.continue_with(next)
    }

    fn refresh(&mut self) -> Result<bool, StorageError> {
        let Self { upload, observer } = self;
        measured(&**observer, StorageAction::Stat, || upload.refresh())
    }

    fn room(&mut self, bytes: usize) -> Option<RoomFuture> {
        self.upload.room(bytes)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        self.upload.append(bytes)
    }

    fn tail(&mut self, length: u64) -> Result<Option<Content>, StorageError> {
        self.upload.tail(length)
    }

    fn persist(&mut self) -> Result<(), StorageError> {
        self.upload.persist()
    }

    fn acknowledge(&mut self) -> Result<u64, StorageError> {
        self.upload.acknowledge()
    }

    fn is_hashing(&self) -> bool {
        self.upload.is_hashing()
    }

    fn digest(&mut self, algorithm: Algorithm) -> Result<Digest, StorageError> {
        self.upload.digest(algorithm)
    }

    fn finish(&mut self, key: &Key, then: &[&[Entry<'_>]]) -> Result<(), StorageError> {
        let Self { upload, observer } = self;
        measured(&**observer, StorageAction::Move, || upload.finish(key, then))
    }

    fn abort(&mut self) -> Result<(), StorageError> {
        self.upload.abort()
    }

    fn is_spent(&self) -> bool {
        self.upload.is_spent()
    }

    fn release(&mut self) {
        self.upload.release();
    }
}
