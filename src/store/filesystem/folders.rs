//! Folders that are there for good: made, and their names flushed, each once.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// So many are remembered; when there are more, all are forgotten, and flushed once more when they are needed.
const MOST: usize = 65_536;

/// Which folders are known to be durable. One that merely exists is not: whoever made it may have been killed before it
/// was flushed, or may be about to.
#[derive(Debug)]
pub(super) struct Folders {
    root: PathBuf,
    durable: Mutex<HashSet<PathBuf>>,
}

impl Folders {
    /// Those under `root`, which is durable itself.
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root, durable: Mutex::default() }
    }

    /// Makes a folder and all those that it lies in.
    pub(super) fn make(&self, folder: &Path) -> Result<(), Failure> {
        let mut unknown = self.unknown(folder);
        let Some(known) = unknown.last().and_then(|last| last.parent()) else { return Ok(()) };
        if !known.exists() {
            // Somebody removed what was known: nothing of it is any more.
            self.durable().clear();
            unknown = self.unknown(folder);
        }
        fs::create_dir_all(folder).map_err(Failure::Refused)?;
        for made in unknown.into_iter().rev() {
            sync(made.parent().expect("it lies under the root"))?;
            let mut durable = self.durable();
            if durable.len() >= MOST {
                durable.clear();
            }
            durable.insert(made.into());
        }
        Ok(())
    }

    /// Of a folder and those that it lies in, what is not known to be durable, the innermost first.
    fn unknown<'a>(&self, folder: &'a Path) -> Vec<&'a Path> {
        let durable = self.durable();
        let above = folder.ancestors().take_while(|above| *above != self.root);
        above.take_while(|above| !durable.contains(*above)).collect()
    }

    /// A folder is gone, and with it all beneath.
    pub(super) fn forget(&self, folder: &Path) {
        self.durable().retain(|known| !known.starts_with(folder));
    }

    fn durable(&self) -> MutexGuard<'_, HashSet<PathBuf>> {
        // A set of paths is as good after a panic as before.
        self.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a folder is not durable.
#[derive(Debug)]
pub(super) enum Failure {
    /// It could not be made or opened: nothing was tried that could be half-done.
    Refused(io::Error),
    /// Its names could not be flushed.
    Unflushed(io::Error),
}

/// Flushes the names in a folder.
pub(super) fn sync(folder: &Path) -> Result<(), Failure> {
    File::open(folder).map_err(Failure::Refused)?.sync_all().map_err(Failure::Unflushed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_was_forgotten_is_made_anew() {
        let root = tempfile::tempdir().unwrap();
        let folders = Folders::new(root.path().into());
        let deep = root.path().join("a/b/c");
        folders.make(&deep).unwrap();
        assert!(deep.is_dir());
        fs::remove_dir_all(root.path().join("a/b")).unwrap();
        folders.make(&deep).unwrap();
        assert!(!deep.exists(), "what is known is not looked at");
        folders.forget(&root.path().join("a/b"));
        folders.make(&deep).unwrap();
        assert!(deep.is_dir());
    }
}
