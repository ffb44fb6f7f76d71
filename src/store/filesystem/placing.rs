//! Moves of files into place and to the scratch folder, and the durability of their names.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use super::folders::{MAX_CREATE_ATTEMPTS, PendingFolders, PendingNames};
use super::{Inner, failed, failpoint, if_exists, lookup_result};
use crate::failpoint::pass;
use crate::storage::StorageError;

impl Inner {
    /// Moves a file or folder that is to be removed to the scratch folder, atomically. Returns its new path;
    /// `None` if it does not exist.
    pub(super) fn move_to_scratch(&self, path: &Path) -> Result<Option<PathBuf>, StorageError> {
        if self.check_removable(path)?.is_none() {
            return Ok(None);
        }
        let scratch = self.scratch();
        // Before the rename as well: a writer that recreates the folder at this moment must not take it for
        // the one that was durable.
        self.folders.forget(path);
        let moved = pass("remove").and_then(|()| fs::rename(path, &scratch));
        let moved = if_exists(moved, "remove", path)?;
        self.folders.forget(path);
        Ok(moved.map(|()| scratch))
    }

    /// Removes a file, and no folder. Returns `None` if it does not exist.
    pub(super) fn unlink(&self, path: &Path) -> Result<Option<()>, StorageError> {
        if self.check_removable(path)?.is_none() {
            return Ok(None);
        }
        match pass("remove").and_then(|()| fs::remove_file(path)) {
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => Ok(None),
            removed => if_exists(removed, "remove", path),
        }
    }

    /// Checks that a path may be removed. Returns `None` if its folder does not exist under the root.
    fn check_removable(&self, path: &Path) -> Result<Option<()>, StorageError> {
        self.check_writable()?;
        let held = self.root.check_contains(path.parent().expect("a key has a folder"));
        lookup_result(held, "remove", path)
    }

    /// Renames files, which are durable by themselves, into place, in this order; then makes their names
    /// durable, and those of folders that were made for them.
    pub(super) fn place(&self, moves: &[(&Path, &Path)]) -> Result<(), StorageError> {
        let mut names = PendingNames::default();
        // All folders first: where there is no room for one, nothing has been moved yet.
        for (_, to) in moves {
            let folder = to.parent().expect("a key has a folder");
            self.create(folder)?;
            self.folders.record(folder, &mut names);
        }
        let pending = self.folders.begin(&names);
        let mut place = || {
            for (from, to) in moves {
                self.name(from, to, &mut names, |from, to| {
                    pass("rename").and_then(|()| fs::rename(from, to))
                })?;
                failpoint("renamed", to)?;
            }
            self.flush(std::mem::take(&mut names))
        };
        let placed = place();
        self.finish_pending(pending, placed)
    }

    /// Gives a file, which is durable by itself, a second name unless the name is taken; then makes the name
    /// durable. Returns true if the name was free.
    pub(super) fn link(&self, file: &Path, to: &Path) -> Result<bool, StorageError> {
        let mut names = PendingNames::default();
        let folder = to.parent().expect("a key has a folder");
        self.create(folder)?;
        self.folders.record(folder, &mut names);
        let pending = self.folders.begin(&names);
        let mut is_free = true;
        let linked = self.name(file, to, &mut names, |file, to| {
            match pass("link").and_then(|()| fs::hard_link(file, to)) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    is_free = false;
                    Ok(())
                }
                linked => linked,
            }
        });
        let linked = linked.and_then(|()| if is_free { failpoint("linked", to) } else { Ok(()) });
        let flushed = linked.and_then(|()| self.flush(names));
        self.finish_pending(pending, flushed).map(|()| is_free)
    }

    /// Records the result of flushing pending folders.
    pub(super) fn finish_pending(
        &self,
        pending: PendingFolders,
        result: Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        if result.is_ok() {
            self.folders.finish(pending);
        } else {
            self.folders.fail(pending);
        }
        result
    }

    /// Creates a folder, with its parents, under the root.
    pub(super) fn create(&self, folder: &Path) -> Result<(), StorageError> {
        let made = self.folders.create(folder, |path| self.root.check_contains(path));
        made.map_err(|error| failed("make", folder, error))
    }

    /// Gives a file its name by `name`, and creates the folder again if another program has removed it.
    fn name(
        &self,
        from: &Path,
        to: &Path,
        names: &mut PendingNames,
        mut name: impl FnMut(&Path, &Path) -> io::Result<()>,
    ) -> Result<(), StorageError> {
        let folder = to.parent().expect("a key has a folder");
        let mut attempt = 1;
        loop {
            let outcome = {
                let _shared = self.replacing.read().unwrap_or_else(PoisonError::into_inner);
                name(from, to)
            };
            match outcome {
                // Another program removed the folder since it was created.
                Err(error) if error.kind() == io::ErrorKind::NotFound && attempt < MAX_CREATE_ATTEMPTS => {
                    self.folders.forget(folder);
                    self.create(folder)?;
                    attempt += 1;
                }
                Err(error) => return Err(failed("move into place", to, error)),
                Ok(()) => {
                    self.folders.record(folder, names);
                    return Ok(());
                }
            }
        }
    }

    /// Creates a folder, and makes its name and the names in it durable.
    pub(super) fn flush_folder(&self, folder: &Path) -> Result<(), StorageError> {
        let mut names = PendingNames::default();
        self.create(folder)?;
        self.folders.record(folder, &mut names);
        self.flush(names)
    }

    /// Makes names durable. All at the end, and not each in its turn: a filesystem with a journal writes what
    /// it has with the first of them, and has nothing left to do for the others.
    fn flush(&self, names: PendingNames) -> Result<(), StorageError> {
        for folder in names.folders() {
            self.sync_folder(folder)?;
        }
        self.folders.mark_durable(names);
        Ok(())
    }
}

/// Removes a file or folder that was moved to the scratch folder.
pub(super) fn dispose(path: &Path) {
    let gone = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    if let Err(error) = gone {
        tracing::warn!(%error, ?path, "removed data not freed, trying again at the next start");
    }
}
