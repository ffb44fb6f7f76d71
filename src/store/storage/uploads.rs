//! Uploads of a backend: bytes that are received before they are stored under a key.

use std::fmt;
use std::time::SystemTime;

use quinistry_oci::{Algorithm, Digest, RepositoryName};

use super::{Entry, StorageError};
use crate::layout::Key;
use crate::uploads::UploadId;

/// Knowledge of an upload at its begin.
#[derive(Clone, Copy, Debug)]
pub enum UploadStart<'a> {
    /// One request brings all bytes, and the upload ends with the request.
    Whole {
        /// Digest that the bytes shall have.
        digest: &'a Digest,
        /// Number of bytes, if the client has declared it.
        length: Option<u64>,
    },
    /// The requests of a session bring the bytes.
    Session {
        /// Repository of the session.
        repository: &'a RepositoryName,
        /// Name of the session.
        id: &'a UploadId,
    },
}

/// Uploads of a backend. The defaults are those of a backend whose sessions end with the process.
pub trait Uploads: fmt::Debug {
    /// Begins an upload.
    fn begin(&self, start: UploadStart<'_>) -> Result<Box<dyn Upload>, StorageError>;

    /// Continues the upload of a session after its last acknowledged byte, also in another process than the
    /// one that began it; `None` if the backend holds no such session. No other caller may have the session.
    fn resume(
        &self,
        repository: &RepositoryName,
        id: &UploadId,
    ) -> Result<Option<Box<dyn Upload>>, StorageError> {
        let _ = (repository, id);
        Ok(None)
    }

    /// Returns the sessions of a repository that [`resume`](Self::resume) finds, and those that are left of
    /// interrupted requests.
    fn leftovers(&self, repository: &RepositoryName) -> Result<Vec<UploadId>, StorageError> {
        let _ = repository;
        Ok(Vec::new())
    }

    /// Returns the time of the last bytes of a session, or of its begin; `None` if the backend does not hold
    /// the session.
    fn modified(
        &self,
        repository: &RepositoryName,
        id: &UploadId,
    ) -> Result<Option<SystemTime>, StorageError> {
        let _ = (repository, id);
        Ok(None)
    }

    /// Removes a session that nothing has in use. Returns true if the backend held it.
    fn discard(&self, repository: &RepositoryName, id: &UploadId) -> Result<bool, StorageError> {
        let _ = (repository, id);
        Ok(false)
    }
}

/// Bytes that are received. Those of an upload that is dropped stay only if it was persisted.
pub trait Upload: fmt::Debug + Send + Sync {
    /// Returns the number of received bytes.
    fn offset(&self) -> u64;

    /// Appends bytes; all of them, or none.
    fn append(&mut self, bytes: &[u8]) -> Result<(), StorageError>;

    /// Persists a session: bytes that are acknowledged from now on are found by [`Uploads::resume`]. Call
    /// before the bytes of a request that others will follow.
    fn persist(&mut self) -> Result<(), StorageError> {
        Ok(())
    }

    /// Persists the session, and makes the received bytes durable, so that they can be acknowledged to the
    /// client. Returns their number.
    fn acknowledge(&mut self) -> Result<u64, StorageError>;

    /// Returns the digest of the received bytes.
    fn digest(&self, algorithm: Algorithm) -> Result<Digest, StorageError>;

    /// Stores the received bytes under a key, followed by the stages `then`, as
    /// [`Storage::write`](super::Storage::write) does. The upload is spent afterwards; after an error it may
    /// be.
    fn finish(&mut self, key: &Key, then: &[&[Entry<'_>]]) -> Result<(), StorageError>;

    /// Ends the upload, and removes what it has left, also after [`finish`](Self::finish).
    fn abort(&mut self) -> Result<(), StorageError>;

    /// Returns true if the upload cannot continue: it has ended, or its bytes are unknown after an error.
    fn is_spent(&self) -> bool {
        false
    }

    /// Releases the resources of appending, until bytes are appended again.
    fn release(&mut self) {}
}
