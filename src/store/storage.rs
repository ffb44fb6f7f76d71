//! The [`Storage`] of a store, with two backends: [`Memory`](super::Memory) and
//! [`Filesystem`](super::Filesystem).
//!
//! Calls block: asynchronous calls would not make a disk faster, and a sequence of blocking calls is easier
//! to get right. Asynchronous callers use the store from a thread that may block.

use std::fmt;
use std::io;

use bytes::Bytes;
use quinistry_oci::Content;

use super::layout::Key;

/// A key, and the bytes to store under it.
pub type Entry<'a> = (Key, &'a [u8]);

/// Backend that stores bytes under keys. A change that returned `Ok` is visible to other readers and survives
/// a power failure, unless the method is lazy.
pub trait Storage: fmt::Debug + Send + Sync + 'static {
    /// Opens the bytes under a key, for streaming, with their identity; `None` if there are none. The bytes
    /// do not change while the content lives.
    fn open(&self, key: &Key) -> Result<Option<(Content, Identity)>, StorageError>;

    /// Reads the bytes under a key as a whole; `None` if there are none. More than `max_bytes` are an error.
    fn read(&self, key: &Key, max_bytes: u64) -> Result<Option<Bytes>, StorageError>;

    /// Returns the identity of the bytes under a key; `None` if there are none.
    fn identity(&self, key: &Key) -> Result<Option<Identity>, StorageError>;

    /// Returns the number of bytes under a key; `None` if there are none.
    fn length(&self, key: &Key) -> Result<Option<u64>, StorageError> {
        Ok(self.identity(key)?.map(|identity| identity.length()))
    }

    /// Writes entries, replacing existing ones; readers never see a part of an entry. Entries become visible
    /// in their order, so that a reference must follow its target. After an error or a power failure any of
    /// them may be present and others absent, regardless of the order.
    fn write(&self, entries: &[Entry<'_>]) -> Result<(), StorageError>;

    /// Writes bytes that can be rebuilt. A power failure may undo the write, or leave an empty file.
    fn write_lazily(&self, key: &Key, bytes: &[u8]) -> Result<(), StorageError>;

    /// Removes a key and all keys beneath it, atomically. Returns true if anything was removed.
    fn remove(&self, key: &Key) -> Result<bool, StorageError>;

    /// Removes a key and all keys beneath it, where a repetition does no harm: a power failure may undo the
    /// removal.
    fn remove_lazily(&self, key: &Key) -> Result<bool, StorageError>;

    /// Returns the names directly beneath a key, sorted by their bytes; `None` if the key is absent.
    fn list(&self, key: &Key) -> Result<Option<Vec<String>>, StorageError>;

    /// Returns the names directly beneath a key that satisfy `wanted` and have bytes at the path `beneath`
    /// them.
    fn list_with(
        &self,
        key: &Key,
        beneath: &str,
        wanted: fn(&str) -> bool,
    ) -> Result<Option<Vec<String>>, StorageError>;

    /// Returns true if there are bytes under a key, or keys beneath it.
    fn exists(&self, key: &Key) -> Result<bool, StorageError>;

    /// Returns a version of the names beneath a key, which differs after any program has added or removed
    /// one.
    fn listing_version(&self, key: &Key) -> Result<String, StorageError>;

    /// Returns the time of the last change of the bytes under a key; `None` if there are none.
    fn modified(&self, key: &Key) -> Result<Option<std::time::SystemTime>, StorageError>;

    /// Returns true if data survives a restart. If not, crash recovery is skipped and unreferenced blobs are
    /// freed at once.
    fn is_persistent(&self) -> bool {
        true
    }

    /// Fsyncs the parent directories of `keys` whose writers have not done so yet. Call before acknowledging
    /// anything that depends on the keys.
    fn sync_parents(&self, keys: &[Key]) -> Result<(), StorageError>;

    /// Makes all earlier writes durable, lazy ones included, by one flush.
    fn flush_all(&self) -> Result<(), StorageError>;

    /// Begins a staged write, which is lost at a restart; or continues the one that is persisted under `key`.
    fn stage(&self, key: Option<&Key>) -> Result<Box<dyn Staged>, StorageError>;
}

/// Identity of the bytes under a key: the bytes are unchanged as long as it is the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    length: u64,
    /// Device, inode and times of change; `None` for bytes that only this process can reach.
    file: Option<[u64; 6]>,
}

impl Identity {
    /// Creates the identity of a file from its length, and from device, inode and times of change.
    pub(super) fn of_file(length: u64, file: [u64; 6]) -> Self {
        Self { length, file: Some(file) }
    }

    /// Creates the identity of bytes of this length that only this process can reach.
    pub(super) fn of_memory(length: u64) -> Self {
        Self { length, file: None }
    }

    /// Returns the number of bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Returns true if another program, a user or a failing disk can change the bytes.
    pub(super) fn can_change(&self) -> bool {
        self.file.is_some()
    }
}

/// A staged write: bytes that are received before they are published under a key. Bytes that are dropped
/// without [`Staged::publish`] stay only if they are persisted under a key.
pub trait Staged: fmt::Debug + Send + Sync {
    /// Returns the number of bytes.
    fn len(&self) -> u64;

    /// Returns true if there are no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends bytes; all of them, or none.
    fn append(&mut self, bytes: &[u8]) -> Result<(), StorageError>;

    /// Makes the appended bytes durable.
    fn sync(&mut self) -> Result<(), StorageError>;

    /// Returns true if the write cannot continue: it was published, or its content is unknown after an error.
    fn is_spent(&self) -> bool;

    /// Persists the bytes, and those appended later, under a key: after a restart, the durable part is found
    /// there.
    fn persist(&mut self, key: &Key) -> Result<(), StorageError>;

    /// Releases the resources of appending, until bytes are appended again.
    fn release(&mut self);

    /// Returns all bytes.
    fn content(&self) -> Result<Content, StorageError>;

    /// Writes all bytes under a key, followed by the entries `along`, as [`Storage::write`] does. The write
    /// is spent afterwards; after an error it may be.
    fn publish(&mut self, key: &Key, along: &[Entry<'_>]) -> Result<(), StorageError>;
}

/// Errors of reading and writing bytes.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The storage is full. Nothing was changed.
    #[error("the storage is full; free some space and try again")]
    Full,
    /// A flush has failed, so that writes are refused until a restart: other data may be lost, too. Reads go
    /// on.
    #[error(
        "writes are refused, because the storage failed to flush an earlier one; check the disk and the log, then restart"
    )]
    WritesRefused,
    /// The content of a staged write is unknown after an error, or was published before.
    #[error("the received content could not be stored; send it again")]
    Broken,
    /// The storage was opened for reading only.
    #[error("the storage is opened for reading only")]
    ReadOnly,
    /// A file to be read as a whole is longer than any valid one.
    #[error("{key} is {length} bytes long, longer than any valid file there")]
    TooLong {
        /// Key of the file.
        key: Key,
        /// Length of the file in bytes.
        length: u64,
    },
    /// The operating system returned an error.
    #[error("failed to {what} {key}")]
    Io {
        /// Operation, as a verb.
        what: &'static str,
        /// Path or name of the file.
        key: String,
        /// Error of the operating system.
        #[source]
        source: io::Error,
    },
}
