//! Staged writes in files: received, flushed, and moved to their destination.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use quinistry_oci::Content;
use rustix::fs::{Advice, fadvise};

use super::{Filesystem, Inner, failed, failpoint};
use crate::failpoint::pass;
use crate::layout::Key;
use crate::storage::{Entry, StorageError};

/// Bytes after which the kernel is told to begin to write them to the disk. Else it begins when the file is
/// flushed, and the disk idles while the bytes arrive.
const WRITE_OUT_BYTES: u64 = 8 * 1024 * 1024;

/// Staged write in a file.
#[derive(Debug)]
pub(super) struct StagedFile {
    storage: Filesystem,
    /// File, open while a request appends: there may be thousands of idle uploads.
    file: Option<File>,
    /// The file exists, with or without bytes.
    is_created: bool,
    path: PathBuf,
    length: u64,
    /// Number of bytes that are known to be durable.
    synced_bytes: u64,
    /// Number of bytes that the kernel was told to write to the disk.
    written_out_bytes: u64,
    /// The file stays when this value is dropped.
    is_persistent: bool,
    /// The file was published, or its content is unknown: it could not be flushed or truncated.
    is_spent: bool,
}

impl StagedFile {
    /// Continues with the `length` bytes at `path`; with `is_persistent` the file stays there.
    pub(super) fn new(storage: &Filesystem, path: PathBuf, length: u64, is_persistent: bool) -> Self {
        Self {
            storage: storage.clone(),
            file: None,
            is_created: false,
            path,
            length,
            synced_bytes: 0,
            written_out_bytes: length,
            is_persistent,
            is_spent: false,
        }
    }

    /// Writes and flushes bytes to a file of their own.
    pub(super) fn write(storage: &Filesystem, bytes: &[u8]) -> Result<Self, StorageError> {
        let mut one = Self::new(storage, storage.0.scratch(), 0, false);
        one.append(bytes)?;
        one.seal()?;
        Ok(one)
    }

    /// Writes and flushes the entries of all stages, each to a file of its own, and returns them with their
    /// destinations.
    pub(super) fn write_all(
        storage: &Filesystem,
        stages: &[&[Entry<'_>]],
    ) -> Result<Vec<(Self, PathBuf)>, StorageError> {
        let entries = stages.iter().copied().flatten();
        entries.map(|(key, bytes)| Ok((Self::write(storage, bytes)?, storage.0.path(key)))).collect()
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Moves flushed files to their destinations, in this order, durably.
    pub(super) fn publish_all(
        mut all: Vec<(&mut Self, PathBuf)>,
        storage: &Inner,
    ) -> Result<(), StorageError> {
        let moves: Vec<_> = all.iter().map(|(one, to)| (&*one.path, &**to)).collect();
        let placed = storage.place(&moves);
        for (one, _) in &mut all {
            // After an error a file may have been moved or not, and bytes must not be appended to a published
            // file.
            one.is_spent = placed.is_ok() || !one.path.exists();
            if one.is_spent {
                one.file = None;
                one.is_persistent = true;
            }
        }
        placed
    }

    fn check_usable(&self) -> Result<(), StorageError> {
        self.storage.0.check_writable()?;
        if self.is_spent { Err(StorageError::Broken) } else { Ok(()) }
    }

    fn file(&mut self) -> Result<&File, StorageError> {
        if let Some(ref file) = self.file {
            return Ok(file);
        }
        let opened = pass("stage").and_then(|()| {
            if let Some(folder) = self.path.parent().filter(|_| self.is_persistent) {
                fs::create_dir_all(folder)?;
                self.storage.0.root.check_contains(folder)?;
            }
            OpenOptions::new().read(true).append(true).create(true).open(&self.path)
        });
        let opened = opened.map_err(|error| failed("create", &self.path, error))?;
        self.is_created = true;
        Ok(self.file.insert(opened))
    }

    /// Flushes the bytes, but not the present name of the file.
    fn seal(&mut self) -> Result<(), StorageError> {
        self.check_usable()?;
        // The file is created if no bytes were appended.
        let file = self.file()?.try_clone().map_err(|error| failed("write", &self.path, error))?;
        let synced = self.storage.0.sync_file(&file, &self.path);
        // A second flush would succeed and prove nothing.
        self.is_spent = synced.is_err();
        synced?;
        failpoint("synced", &self.path)
    }
}

impl StagedFile {
    /// Returns the number of bytes.
    pub(super) fn len(&self) -> u64 {
        self.length
    }

    /// Appends bytes; all of them, or none.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        self.check_usable()?;
        let length = self.length;
        let mut file = self.file()?;
        if let Err(error) = pass("append").and_then(|()| file.write_all(bytes)) {
            // All or nothing: a part that was written is cut off again.
            let cut = file.set_len(length);
            self.is_spent = cut.is_err();
            return Err(failed("write", &self.path, error));
        }
        self.length += bytes.len() as u64;
        self.begin_write_out();
        Ok(())
    }

    /// Has the kernel begin to write the last bytes to the disk, once there are many. Flushes nothing.
    fn begin_write_out(&mut self) {
        let (start, length) = (self.written_out_bytes, self.length - self.written_out_bytes);
        if length < WRITE_OUT_BYTES {
            return;
        }
        self.written_out_bytes = self.length;
        if let (Some(file), Some(length)) = (&self.file, NonZeroU64::new(length)) {
            // Linux begins to write dirty pages, and forgets those only that are on the disk already: bytes
            // that have just arrived stay in memory. A filesystem that does not know this call writes them
            // when they are flushed.
            let _ = fadvise(file, start, Some(length), Advice::DontNeed);
        }
    }

    /// Makes the appended bytes durable.
    pub(super) fn sync(&mut self) -> Result<(), StorageError> {
        self.check_usable()?;
        if self.synced_bytes == self.length {
            return Ok(());
        }
        self.seal()?;
        // The name must be durable as well, if the file is to be found by it.
        if let Some(folder) = self.path.parent().filter(|_| self.is_persistent && self.synced_bytes == 0) {
            let found = self.storage.0.flush_folder(folder);
            // A folder that could not be opened may be flushed later; the state of one that was full is
            // unknown.
            self.is_spent = matches!(found, Err(StorageError::Full));
            found?;
        }
        self.synced_bytes = self.length;
        Ok(())
    }

    /// Persists the bytes, and those appended later, under a key: after a restart, the durable part is found
    /// there.
    pub(super) fn persist(&mut self, key: &Key) -> Result<(), StorageError> {
        self.check_usable()?;
        let path = self.storage.0.path(key);
        let folder = path.parent().expect("a key has a folder");
        self.storage.0.create(folder)?;
        let moved = pass("keep")
            .and_then(|()| fs::create_dir_all(folder))
            .and_then(|()| if self.is_created { fs::rename(&self.path, &path) } else { Ok(()) });
        moved.map_err(|error| failed("keep", &path, error))?;
        self.path = path;
        self.is_persistent = true;
        // The new name is not durable yet.
        self.synced_bytes = 0;
        Ok(())
    }

    /// Returns true if the file was published, or its content is unknown after an error.
    pub(super) fn is_spent(&self) -> bool {
        self.is_spent
    }

    /// Ends the use of the file, which is removed with this value unless it is persistent.
    pub(super) fn discard(&mut self) {
        self.file = None;
        self.is_spent = true;
    }

    /// Closes the file, until bytes are appended again.
    pub(super) fn release(&mut self) {
        self.file = None;
    }

    /// Returns all bytes.
    pub(super) fn content(&self) -> Result<Content, StorageError> {
        let opened = match &self.file {
            Some(file) => file.try_clone(),
            None if self.length == 0 => return Ok(Content::default()),
            None => File::open(&self.path),
        };
        let file = opened.map_err(|error| failed("read", &self.path, error))?;
        Ok(Content::of_file(file, self.length))
    }

    /// Returns content of `length` bytes, of which those that were appended can be read, also after the file has moved
    /// or was removed.
    pub(super) fn tail(&mut self, length: u64) -> Result<Content, StorageError> {
        self.check_usable()?;
        let file = self.file()?.try_clone().map_err(|error| failed("read", &self.path, error))?;
        Ok(Content::of_file(file, length))
    }

    /// Moves the file to a key, followed by the stages `then`. The file is spent afterwards; after an error
    /// it may be.
    pub(super) fn publish(&mut self, key: &Key, then: &[&[Entry<'_>]]) -> Result<(), StorageError> {
        self.seal()?;
        let storage = self.storage.clone();
        let mut then = Self::write_all(&storage, then)?;
        let others = then.iter_mut().map(|(one, to)| (one, std::mem::take(to)));
        let all = std::iter::once((self, storage.0.path(key))).chain(others);
        Self::publish_all(all.collect(), &storage.0)
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        if !self.is_persistent && self.is_created {
            // If this fails, the next start removes it.
            let _ = fs::remove_file(&self.path);
        }
    }
}
