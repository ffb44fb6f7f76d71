//! What a store keeps things on: a [`Storage`], of which there are two, [`Memory`](super::Memory) and
//! [`Filesystem`](super::Filesystem).
//!
//! Its calls block: one that touches a disk has nothing to gain from pretending otherwise, and what consists of many of
//! them is easier to get right in one piece. Whoever is asynchronous calls the store from a thread that may block.

use std::fmt;
use std::io;

use bytes::Bytes;
use quinistry_oci::Content;

use super::layout::Key;

/// Bytes, and the key under which they shall be.
pub type Entry<'a> = (Key, &'a [u8]);

/// A place for bytes under keys. What a call has returned `Ok` for, it keeps, and others see; but for what says that it is
/// lazy, also after a power failure.
pub trait Storage: fmt::Debug + Send + Sync + 'static {
    /// Opens the bytes under a key, for streaming, with their identity; `None` if there are none. The bytes
    /// do not change while they are held.
    fn open(&self, key: &Key) -> Result<Option<(Content, Identity)>, StorageError>;

    /// The bytes under a key at once; `None` if there are none. More than `most` are an error.
    fn read(&self, key: &Key, most: u64) -> Result<Option<Bytes>, StorageError>;

    /// Returns the identity of the bytes under a key; `None` if there are none.
    fn identity(&self, key: &Key) -> Result<Option<Identity>, StorageError>;

    /// How many bytes there are under a key; `None` if there are none.
    fn length(&self, key: &Key) -> Result<Option<u64>, StorageError> {
        Ok(self.identity(key)?.map(|identity| identity.length()))
    }

    /// Puts bytes under keys, in place of others: nobody ever sees a part of one. They appear in this order, so that what
    /// leads to something stands behind it. If it fails, or a power failure comes between, some of them may be there and
    /// others not, whatever the order.
    fn write(&self, entries: &[Entry<'_>]) -> Result<(), StorageError>;

    /// Puts bytes that can be made anew under a key: a power failure may undo it, or leave nothing of it.
    fn write_lazily(&self, key: &Key, bytes: &[u8]) -> Result<(), StorageError>;

    /// Removes what is under a key, and all beneath, at once; whether there was anything.
    fn remove(&self, key: &Key) -> Result<bool, StorageError>;

    /// The same for what would be removed again: a power failure may undo it.
    fn remove_lazily(&self, key: &Key) -> Result<bool, StorageError>;

    /// The names of what is beneath a key, sorted by their bytes; `None` if the key is not there.
    fn list(&self, key: &Key) -> Result<Option<Vec<String>>, StorageError>;

    /// The same, but only names that are wanted, and that have bytes at this path beneath them.
    fn list_with(
        &self,
        key: &Key,
        beneath: &str,
        wanted: fn(&str) -> bool,
    ) -> Result<Option<Vec<String>>, StorageError>;

    /// Whether there is anything under a key, or beneath.
    fn exists(&self, key: &Key) -> Result<bool, StorageError>;

    /// A value that differs after something was added to the names beneath a key, or taken from them, by whomever.
    fn stamp(&self, key: &Key) -> Result<String, StorageError>;

    /// Since when what is under a key is as it is; `None` if there is nothing.
    fn modified(&self, key: &Key) -> Result<Option<std::time::SystemTime>, StorageError>;

    /// Whether it outlives this process. What does not has nobody to finish what is cut off, nor anybody who could be about
    /// to use bytes that nothing leads to.
    fn is_lasting(&self) -> bool {
        true
    }

    /// Makes durable by which names these keys are found, where those who wrote them have not done so yet: to be called
    /// before something is acknowledged that builds on what is merely seen.
    fn settle(&self, keys: &[Key]) -> Result<(), StorageError>;

    /// Makes durable all that was written before, also what was written lazily: at once, and not one by one.
    fn flush_all(&self) -> Result<(), StorageError>;

    /// Begins a place where bytes are gathered, which nobody finds after a restart; or goes on with those under a key.
    fn stage(&self, key: Option<&Key>) -> Result<Box<dyn Staged>, StorageError>;
}

/// Identity of the bytes under a key: the bytes are unchanged as long as it is the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    length: u64,
    /// Device, inode and times of change. None where only this process can reach the bytes.
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

    /// Returns true if another program, a disk or a hand can change the bytes.
    pub(super) fn can_change(&self) -> bool {
        self.file.is_some()
    }
}

/// Bytes that are being gathered. What is dropped without [`Staged::publish`] stays if it is kept under a key.
pub trait Staged: fmt::Debug + Send + Sync {
    /// How many bytes there are.
    fn len(&self) -> u64;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds bytes at the end; all of them, or none.
    fn append(&mut self, bytes: &[u8]) -> Result<(), StorageError>;

    /// Makes what was added durable.
    fn sync(&mut self) -> Result<(), StorageError>;

    /// Whether it is of no more use: it was published, or nobody knows what is in it.
    fn is_spent(&self) -> bool;

    /// Has what is there, and what is added, be found under a key after a restart, as far as it is durable then.
    fn keep(&mut self, key: &Key) -> Result<(), StorageError>;

    /// Nobody adds bytes for a while: gives back what that would take.
    fn rest(&mut self);

    /// All of it.
    fn content(&self) -> Result<Content, StorageError>;

    /// Puts all of it under a key, and more behind it, as [`Storage::write`] does. Afterwards it is of no more use; if it
    /// fails, it may be.
    fn publish(&mut self, key: &Key, along: &[Entry<'_>]) -> Result<(), StorageError>;
}

/// Bytes could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// There is no room. Nothing was changed.
    #[error("no room is left")]
    Full,
    /// Something could once not be made durable, and nobody knows what else was lost; reads go on.
    #[error(
        "writes have stopped, since the storage has failed to make one durable; see the log, then restart"
    )]
    Stopped,
    /// What was received is no longer what was sent, or was published before.
    #[error("what was received could not be kept; send it again")]
    Broken,
    /// It was opened to be read.
    #[error("the storage was opened to be read only")]
    ReadOnly,
    /// What was to be read at once is longer than anything that should be there.
    #[error("{key} is {length} bytes long, more than can be right")]
    TooLong {
        /// Where.
        key: Key,
        /// How long it is.
        length: u64,
    },
    /// The operating system refuses.
    #[error("failed to {what} {key}")]
    Io {
        /// What was to be done.
        what: &'static str,
        /// To what.
        key: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
}
