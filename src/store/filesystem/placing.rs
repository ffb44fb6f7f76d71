//! Moving files into place and out of sight, and making the names durable under which they are found.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::folders::{ATTEMPTS, Names, Owed};
use super::{Inner, failed, failpoint, looked_up, there};
use crate::failpoint::pass;
use crate::storage::StorageError;

impl Inner {
    /// Moves what is to be removed away, at once, however much it consists of; where to, if there is
    /// anything.
    pub(super) fn out_of_sight(&self, path: &Path) -> Result<Option<PathBuf>, StorageError> {
        self.writable()?;
        let held = self.root.must_hold(path.parent().expect("a key has a folder"));
        if looked_up(held, "remove", path)?.is_none() {
            return Ok(None);
        }
        let scratch = self.scratch();
        // Before the rename as well: a writer that recreates the folder at this moment must not take it for
        // the one that was durable.
        self.folders.forget(path);
        let moved = pass("remove").and_then(|()| fs::rename(path, &scratch));
        let moved = there(moved, "remove", path)?;
        self.folders.forget(path);
        Ok(moved.map(|()| scratch))
    }

    /// Renames files, which are durable by themselves, into place, in this order; then makes their names
    /// durable, and those of folders that were made for them.
    pub(super) fn place(&self, moves: &[(&Path, &Path)]) -> Result<(), StorageError> {
        let mut names = Names::default();
        // All folders first: where there is no room for one, nothing has been moved yet.
        for (_, to) in moves {
            let folder = to.parent().expect("a key has a folder");
            self.make(folder)?;
            self.folders.note(folder, &mut names);
        }
        let owed = self.folders.owe(&names);
        let mut place = || {
            for (from, to) in moves {
                self.rename(from, to, &mut names)?;
                failpoint("renamed", to)?;
            }
            self.flush(std::mem::take(&mut names))
        };
        let placed = place();
        self.settled(owed, placed)
    }

    /// Tells what became of names that were owed.
    pub(super) fn settled(&self, owed: Owed, result: Result<(), StorageError>) -> Result<(), StorageError> {
        if result.is_ok() {
            self.folders.paid(owed);
        } else {
            self.folders.fail(owed);
        }
        result
    }

    /// Makes a folder, with its parents, under the root.
    pub(super) fn make(&self, folder: &Path) -> Result<(), StorageError> {
        // The folder, or the innermost around it that is there, before anything is made in it.
        let around = folder.ancestors().map(|around| self.root.must_hold(around));
        let held =
            around.filter(|held| !held.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound));
        let made = held.take(1).collect::<io::Result<()>>().and_then(|()| self.folders.make(folder));
        made.map_err(|error| failed("make", folder, error))
    }

    fn rename(&self, from: &Path, to: &Path, names: &mut Names) -> Result<(), StorageError> {
        let folder = to.parent().expect("a key has a folder");
        let mut attempt = 1;
        loop {
            match pass("rename").and_then(|()| fs::rename(from, to)) {
                // Another program removed the folder since it was made.
                Err(error) if error.kind() == io::ErrorKind::NotFound && attempt < ATTEMPTS => {
                    self.folders.forget(folder);
                    self.make(folder)?;
                    attempt += 1;
                }
                Err(error) => return Err(failed("move into place", to, error)),
                Ok(()) => {
                    self.folders.note(folder, names);
                    return Ok(());
                }
            }
        }
    }

    /// Makes a folder, the names in it, and its own durable.
    pub(super) fn flush_folder(&self, folder: &Path) -> Result<(), StorageError> {
        let mut names = Names::default();
        self.make(folder)?;
        self.folders.note(folder, &mut names);
        self.flush(names)
    }

    /// Makes names durable. All at the end, and not each in its turn: a filesystem with a journal writes what
    /// it has with the first of them, and has nothing left to do for the others.
    fn flush(&self, names: Names) -> Result<(), StorageError> {
        for folder in names.folders() {
            self.sync_folder(folder)?;
        }
        self.folders.know(names);
        Ok(())
    }
}

/// Removes what was moved out of sight.
pub(super) fn dispose(path: &Path) {
    let gone = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    if let Err(error) = gone {
        tracing::warn!(%error, ?path, "removed data not freed, trying again at the next start");
    }
}
