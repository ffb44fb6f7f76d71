//! Uploads in files. A session that is persisted is a folder in distribution's form, with the bytes and the
//! time of its begin.

use std::time::SystemTime;

use jiff::Timestamp;
use quinistry_oci::{Algorithm, Content, Digest, RepositoryName};

use super::Filesystem;
use super::staged_file::StagedFile;
use crate::layout::{Key, RepositoryKeys};
use crate::storage::{Entry, Leftover, Storage as _, StorageError, Upload, UploadStart, Uploads};
use crate::uploads::UploadId;

/// Upload in a file.
#[derive(Debug)]
struct FileUpload {
    storage: Filesystem,
    file: StagedFile,
    /// Session of the upload; `None` for an upload of one request.
    session: Option<(RepositoryName, UploadId)>,
    /// The session has its folder.
    is_persistent: bool,
}

impl Uploads for Filesystem {
    fn begin(&self, start: UploadStart<'_>) -> Result<Box<dyn Upload>, StorageError> {
        self.0.check_writable()?;
        let session = match start {
            UploadStart::Whole { .. } => None,
            UploadStart::Session { repository, id, .. } => Some((repository.clone(), id.clone())),
        };
        let file = StagedFile::new(self, self.0.scratch(), 0, false);
        Ok(Box::new(FileUpload { storage: self.clone(), file, session, is_persistent: false }))
    }

    fn resume(
        &self,
        repository: &RepositoryName,
        id: &UploadId,
    ) -> Result<Option<Box<dyn Upload>>, StorageError> {
        let place = RepositoryKeys(repository);
        if !self.exists(&place.upload_started(id.as_str()))? {
            return Ok(None);
        }
        self.0.check_writable()?;
        let data = place.upload_data(id.as_str());
        let length = self.head(&data)?.map_or(0, |found| found.length);
        let mut file = StagedFile::new(self, self.0.path(&data), length, true);
        // An earlier process may not have flushed these bytes, which are acknowledged from now on.
        file.sync()?;
        let session = Some((repository.clone(), id.clone()));
        Ok(Some(Box::new(FileUpload { storage: self.clone(), file, session, is_persistent: true })))
    }

    fn leftovers(&self, repository: &RepositoryName) -> Result<Vec<Leftover>, StorageError> {
        let names = self.list(&RepositoryKeys(repository).uploads())?.unwrap_or_default();
        let ids = names.iter().filter_map(|name| name.parse().ok());
        Ok(ids.map(|id| Leftover { id, idle: None }).collect())
    }

    fn modified(
        &self,
        repository: &RepositoryName,
        id: &UploadId,
    ) -> Result<Option<SystemTime>, StorageError> {
        let place = RepositoryKeys(repository);
        let mut modified = None;
        for key in [place.upload_data(id.as_str()), place.upload_started(id.as_str())] {
            modified = modified.max(self.head(&key)?.map(|found| found.modified));
        }
        Ok(modified)
    }

    fn discard(&self, repository: &RepositoryName, id: &UploadId) -> Result<bool, StorageError> {
        self.clear_lazily(&RepositoryKeys(repository).upload(id.as_str()))
    }
}

impl Upload for FileUpload {
    fn offset(&self) -> u64 {
        self.file.len()
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        self.file.append(bytes)
    }

    fn tail(&mut self, length: u64) -> Result<Option<Content>, StorageError> {
        self.file.tail(length).map(Some)
    }

    fn persist(&mut self) -> Result<(), StorageError> {
        let Some((repository, id)) = self.session.as_ref().filter(|_| !self.is_persistent) else {
            return Ok(());
        };
        let (place, id) = (RepositoryKeys(repository), id.as_str());
        let now = format!("{:.0}", Timestamp::now());
        let begun = self.storage.write_lazily(&place.upload_started(id), now.as_bytes());
        if let Err(error) = begun.and_then(|()| self.file.persist(&place.upload_data(id))) {
            // No half of the session may remain once it has ended; if this fails too, the session expires.
            let _ = self.storage.clear_lazily(&place.upload(id));
            return Err(error);
        }
        self.is_persistent = true;
        Ok(())
    }

    fn acknowledge(&mut self) -> Result<u64, StorageError> {
        self.persist()?;
        self.file.sync()?;
        Ok(self.file.len())
    }

    fn digest(&mut self, algorithm: Algorithm) -> Result<Digest, StorageError> {
        let read = self.file.content()?.digest(algorithm);
        read.map_err(|source| StorageError::Io { what: "read", key: "uploaded content".into(), source })
    }

    fn finish(&mut self, key: &Key, then: &[&[Entry<'_>]]) -> Result<(), StorageError> {
        self.file.publish(key, then)
    }

    fn abort(&mut self) -> Result<(), StorageError> {
        self.file.discard();
        if let Some((repository, id)) = self.session.as_ref().filter(|_| self.is_persistent) {
            self.storage.discard(repository, id)?;
        }
        Ok(())
    }

    fn is_spent(&self) -> bool {
        self.file.is_spent()
    }

    fn release(&mut self) {
        self.file.release();
    }
}
