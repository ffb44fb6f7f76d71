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
    pub(super) fn make(&self, folder: &Path) -> io::Result<()> {
        let unknown: Vec<&Path> = {
            let durable = self.durable();
            let above = folder.ancestors().take_while(|above| *above != self.root);
            above.take_while(|above| !durable.contains(*above)).collect()
        };
        if unknown.is_empty() {
            return Ok(());
        }
        fs::create_dir_all(folder)?;
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

    /// A folder is gone, and with it all beneath.
    pub(super) fn forget(&self, folder: &Path) {
        self.durable().retain(|known| !known.starts_with(folder));
    }

    fn durable(&self) -> MutexGuard<'_, HashSet<PathBuf>> {
        // A set of paths is as good after a panic as before.
        self.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Flushes the names in a folder.
pub(super) fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
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
