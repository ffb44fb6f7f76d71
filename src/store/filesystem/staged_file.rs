//! Bytes that are gathered in a file of their own, flushed, and moved to where they belong.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;

use quinistry_oci::Content;

use super::{Filesystem, Inner, failed, failpoint};
use crate::failpoint::pass;
use crate::layout::Key;
use crate::storage::{Entry, Staged, StorageError};

/// Bytes in a file.
#[derive(Debug)]
pub(super) struct Gathered {
    storage: Filesystem,
    /// Open while somebody is at it: there may be thousands that nobody is at.
    file: Option<File>,
    /// There is a file, with or without bytes.
    made: bool,
    path: PathBuf,
    length: u64,
    /// How much of it is known to be durable.
    synced: u64,
    /// It stays when this is dropped.
    stays: bool,
    /// It could not be flushed or cut back, so that nobody knows what is in it; or it lies elsewhere now.
    over: bool,
}

impl Gathered {
    /// Goes on with the `length` bytes at `path`; they stay there if somebody shall find them.
    pub(super) fn new(storage: &Filesystem, path: PathBuf, length: u64, stays: bool) -> Self {
        Self {
            storage: storage.clone(),
            file: None,
            made: false,
            path,
            length,
            synced: 0,
            stays,
            over: false,
        }
    }

    /// Small things, each written and flushed, and where each belongs.
    pub(super) fn of(
        storage: &Filesystem,
        entries: &[Entry<'_>],
    ) -> Result<Vec<(Self, PathBuf)>, StorageError> {
        let written = entries.iter().map(|(key, bytes)| {
            let mut one = Self::new(storage, storage.0.scratch(), 0, false);
            one.append(bytes)?;
            one.seal()?;
            Ok((one, storage.0.path(key)))
        });
        written.collect()
    }

    /// Moves what is written and flushed to where it belongs, in this order, durably.
    pub(super) fn place(mut all: Vec<(&mut Self, PathBuf)>, storage: &Inner) -> Result<(), StorageError> {
        let moves: Vec<_> = all.iter().map(|(one, to)| (&*one.path, &**to)).collect();
        let placed = storage.place(&moves);
        for (one, _) in &mut all {
            // Whether it was moved or not cannot always be told, and what was moved must not be added to.
            one.over = placed.is_ok() || !one.path.exists();
            if one.over {
                one.file = None;
                one.stays = true;
            }
        }
        placed
    }

    fn usable(&self) -> Result<(), StorageError> {
        self.storage.0.writable()?;
        if self.over { Err(StorageError::Broken) } else { Ok(()) }
    }

    fn file(&mut self) -> Result<&File, StorageError> {
        if let Some(ref file) = self.file {
            return Ok(file);
        }
        let opened = pass("stage").and_then(|()| {
            if let Some(folder) = self.path.parent().filter(|_| self.stays) {
                fs::create_dir_all(folder)?;
                self.storage.0.root.must_hold(folder)?;
            }
            OpenOptions::new().read(true).append(true).create(true).open(&self.path)
        });
        let opened = opened.map_err(|error| failed("create", &self.path, error))?;
        self.made = true;
        Ok(self.file.insert(opened))
    }

    /// Makes the bytes durable, whatever becomes of their present name.
    fn seal(&mut self) -> Result<(), StorageError> {
        self.usable()?;
        // Nothing at all is a file, too.
        let file = self.file()?.try_clone().map_err(|error| failed("write", &self.path, error))?;
        let synced = self.storage.0.sync_file(&file, &self.path);
        // Trying again would succeed and prove nothing.
        self.over = synced.is_err();
        synced?;
        failpoint("synced", &self.path)
    }
}

impl Staged for Gathered {
    fn len(&self) -> u64 {
        self.length
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        self.usable()?;
        let length = self.length;
        let mut file = self.file()?;
        if let Err(error) = pass("append").and_then(|()| file.write_all(bytes)) {
            // All or nothing: what is there of it goes again.
            let cut = file.set_len(length);
            self.over = cut.is_err();
            return Err(failed("write", &self.path, error));
        }
        self.length += bytes.len() as u64;
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        self.usable()?;
        if self.synced == self.length {
            return Ok(());
        }
        self.seal()?;
        // Its name counts as well, if somebody is to find it by that.
        if let Some(folder) = self.path.parent().filter(|_| self.stays && self.synced == 0) {
            let found = self.storage.0.flush_folder(folder);
            // A folder that could not be opened may be flushed later; of one that had no room to be, nothing
            // is known.
            self.over = matches!(found, Err(StorageError::Full));
            found?;
        }
        self.synced = self.length;
        Ok(())
    }

    fn keep(&mut self, key: &Key) -> Result<(), StorageError> {
        self.usable()?;
        let path = self.storage.0.path(key);
        let folder = path.parent().expect("a key has a folder");
        self.storage.0.make(folder)?;
        let moved = pass("keep")
            .and_then(|()| fs::create_dir_all(folder))
            .and_then(|()| if self.made { fs::rename(&self.path, &path) } else { Ok(()) });
        moved.map_err(|error| failed("keep", &path, error))?;
        self.path = path;
        self.stays = true;
        // Its new name is not durable.
        self.synced = 0;
        Ok(())
    }

    fn is_spent(&self) -> bool {
        self.over
    }

    fn rest(&mut self) {
        self.file = None;
    }

    fn content(&self) -> Result<Content, StorageError> {
        let opened = match &self.file {
            Some(file) => file.try_clone(),
            None if self.length == 0 => return Ok(Content::default()),
            None => File::open(&self.path),
        };
        let file = opened.map_err(|error| failed("read", &self.path, error))?;
        Ok(Content::of_file(file, self.length))
    }

    fn publish(&mut self, key: &Key, along: &[Entry<'_>]) -> Result<(), StorageError> {
        self.seal()?;
        let storage = self.storage.clone();
        let mut along = Self::of(&storage, along)?;
        let others = along.iter_mut().map(|(one, to)| (one, std::mem::take(to)));
        let all = std::iter::once((self, storage.0.path(key))).chain(others);
        Self::place(all.collect(), &storage.0)
    }
}

impl Drop for Gathered {
    fn drop(&mut self) {
        if !self.stays && self.made {
            // If this fails, the next start removes it.
            let _ = fs::remove_file(&self.path);
        }
    }
}
