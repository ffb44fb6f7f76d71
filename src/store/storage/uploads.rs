//! Uploads of a backend: bytes that are received before they are stored under a key.

use std::fmt;
use std::pin::Pin;
use std::time::{Duration, SystemTime};

use quinistry_oci::{Algorithm, Content, Digest, RepositoryName};

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
        /// Key under which [`Upload::finish`] will store the bytes, if the digest tells the key.
        key: Option<&'a Key>,
    },
    /// The requests of a session bring the bytes.
    Session {
        /// Repository of the session.
        repository: &'a RepositoryName,
        /// Name of the session.
        id: &'a UploadId,
        /// Time of the session's begin.
        begun: SystemTime,
        /// Algorithm of the digest by which the client will name the bytes, if it has announced one.
        announced: Option<Algorithm>,
    },
}

/// Knowledge of a session's next request, before its body is read.
#[derive(Clone, Copy, Debug, Default)]
pub struct NextRequest<'a> {
    /// Offset of the body's first byte, if the client has told it.
    pub offset: Option<u64>,
    /// Number of bytes of the body, if the client has declared it.
    pub length: Option<u64>,
    /// Digest that all bytes of the session shall have, if the request is the last one.
    pub digest: Option<&'a Digest>,
    /// Key under which [`Upload::finish`] will store the bytes, if the digest tells the key.
    pub key: Option<&'a Key>,
}

/// A session that the backend holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    /// Name of the session.
    pub id: UploadId,
    /// Time since the last bytes, by the clock of the backend; `None` if only [`Uploads::modified`] tells it.
    pub idle: Option<Duration>,
}

/// Wait for memory, at the end of which bytes can be appended without a wait.
pub type RoomFuture = Pin<Box<dyn Future<Output = Result<(), StorageError>> + Send>>;

/// Uploads of a backend. The defaults are those of a backend whose sessions end with the process.
pub trait Uploads: fmt::Debug {
    /// Returns true if sessions are in the backend alone, so that each of several processes continues each
    /// session. Such a session begins without a request to the backend: [`begin`](Self::begin) returns the
    /// upload of a session that another process may have continued since.
    fn are_shared(&self) -> bool {
        false
    }

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
    fn leftovers(&self, repository: &RepositoryName) -> Result<Vec<Leftover>, StorageError> {
        let _ = repository;
        Ok(Vec::new())
    }

    /// Removes what sessions of a repository that have ended have left; what tells late requests about their ends stays
    /// for some time. Returns the number of sessions of which nothing is left.
    fn clear_ended(&self, repository: &RepositoryName) -> Result<usize, StorageError> {
        let _ = repository;
        Ok(0)
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

    /// Ends what interrupted uploads have left outside of sessions for this time, and returns the number of
    /// these uploads; with `is_dry_run`, they stay.
    fn clear_interrupted(&self, age: Duration, is_dry_run: bool) -> Result<usize, StorageError> {
        let _ = (age, is_dry_run);
        Ok(0)
    }
}

/// Bytes that are received. Those of an upload that is dropped stay only if it was persisted.
pub trait Upload: fmt::Debug + Send + Sync {
    /// Returns the number of received bytes.
    fn offset(&self) -> u64;

    /// Prepares a session for its next request, and returns the offset at which the bytes of the request will
    /// be appended; `None` if another process has ended the session. The offset may be another one than that
    /// of the request.
    fn continue_with(&mut self, next: NextRequest<'_>) -> Result<Option<u64>, StorageError> {
        let _ = next;
        Ok(Some(self.offset()))
    }

    /// Reads how far other processes have continued a session. Returns false if one has ended the session.
    fn refresh(&mut self) -> Result<bool, StorageError> {
        Ok(true)
    }

    /// Returns a wait for the memory that the next `bytes` bytes take, which ends in
    /// [`StorageError::Busy`] after 30 seconds; `None` if there is room. Asynchronous callers wait before
    /// they [`append`](Self::append), which otherwise waits itself.
    fn room(&mut self, bytes: usize) -> Option<RoomFuture> {
        let _ = bytes;
        None
    }

    /// Appends bytes; all of them, or none.
    fn append(&mut self, bytes: &[u8]) -> Result<(), StorageError>;

    /// Returns content of `length` bytes, the number that the upload will have in the end: those that were appended can
    /// be read while others are appended, and after the upload has ended in any way. Reads of others fail. `None` if
    /// the backend cannot read bytes before they are stored. Call after the last begin or continuation.
    fn tail(&mut self, length: u64) -> Result<Option<Content>, StorageError> {
        let _ = length;
        Ok(None)
    }

    /// Persists a session: bytes that are acknowledged from now on are found by [`Uploads::resume`]. Call
    /// before the bytes of a request that others will follow.
    fn persist(&mut self) -> Result<(), StorageError> {
        Ok(())
    }

    /// Persists the session, and makes the received bytes durable, so that they can be acknowledged to the
    /// client. Returns their number. [`StorageError::Overtaken`] if another process has continued the session
    /// since, whose bytes stay.
    fn acknowledge(&mut self) -> Result<u64, StorageError>;

    /// Returns true if the upload hashes its bytes as they come, so that its caller need not.
    fn is_hashing(&self) -> bool {
        false
    }

    /// Returns the digest of the received bytes.
    fn digest(&mut self, algorithm: Algorithm) -> Result<Digest, StorageError>;

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
