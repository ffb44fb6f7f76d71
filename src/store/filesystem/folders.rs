//! Folders that are there for good: made, and their names flushed, each once.

use std::collections::{BTreeSet, HashSet};
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

    /// Makes a folder and all those that it lies in, and notes what must be flushed for them to be there for good.
    pub(super) fn make(&self, folder: &Path, names: &mut Names) -> io::Result<()> {
        let mut unknown = self.unknown(folder);
        let Some(known) = unknown.last().and_then(|last| last.parent()) else { return Ok(()) };
        if !known.exists() {
            // Somebody removed what was known: nothing of it is any more.
            self.durable().clear();
            unknown = self.unknown(folder);
        }
        fs::create_dir_all(folder)?;
        names.made(unknown);
        Ok(())
    }

    /// What was noted has been flushed.
    pub(super) fn know(&self, names: Names) {
        if names.made.is_empty() {
            return;
        }
        let mut durable = self.durable();
        if durable.len() >= MOST {
            durable.clear();
        }
        durable.extend(names.made);
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

/// Names that are not durable yet.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// Folders in which names have changed.
    changed: BTreeSet<PathBuf>,
    /// Folders that were made, or may have been.
    made: Vec<PathBuf>,
}

impl Names {
    /// A name in this folder has changed.
    pub(super) fn changed(&mut self, folder: &Path) {
        if !self.changed.contains(folder) {
            self.changed.insert(folder.into());
        }
    }

    fn made(&mut self, folders: Vec<&Path>) {
        for folder in folders {
            self.changed(folder.parent().expect("it lies under the root"));
            self.made.push(folder.into());
        }
    }

    /// What is to be flushed.
    pub(super) fn folders(&self) -> impl Iterator<Item = &Path> {
        self.changed.iter().map(PathBuf::as_path)
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

/// Flushes the names in a folder. If somebody has removed it meanwhile, with all that was in it, then that it is gone: in
/// the one that it was in.
pub(super) fn sync(folder: &Path) -> Result<(), Failure> {
    let mut folder = folder;
    let opened = loop {
        match (File::open(folder), folder.parent()) {
            (Err(error), Some(above)) if error.kind() == io::ErrorKind::NotFound => folder = above,
            (opened, _) => break opened,
        }
    };
    opened.map_err(Failure::Refused)?.sync_all().map_err(Failure::Unflushed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(folders: &Folders, folder: &Path) -> Vec<PathBuf> {
        let mut names = Names::default();
        folders.make(folder, &mut names).unwrap();
        let changed = names.folders().map(Into::into).collect();
        folders.know(names);
        changed
    }

    #[test]
    fn a_folder_that_was_forgotten_is_made_anew() {
        let root = tempfile::tempdir().unwrap();
        let folders = Folders::new(root.path().into());
        let [a, b, deep] = ["a", "a/b", "a/b/c"].map(|name| root.path().join(name));
        assert_eq!(make(&folders, &deep), [root.path(), &a, &b]);
        assert!(deep.is_dir());
        fs::remove_dir_all(&b).unwrap();
        assert_eq!(make(&folders, &deep), [""; 0].map(PathBuf::from));
        assert!(!deep.exists(), "what is known is not looked at");
        folders.forget(&b);
        assert_eq!(make(&folders, &deep), [&*a, &b]);
        assert!(deep.is_dir());
    }

    #[test]
    fn what_was_made_and_not_flushed_is_not_known() {
        let root = tempfile::tempdir().unwrap();
        let folders = Folders::new(root.path().into());
        folders.make(&root.path().join("a"), &mut Names::default()).unwrap();
        assert_eq!(make(&folders, &root.path().join("a/b")), [root.path().into(), root.path().join("a")]);
    }

    #[test]
    fn a_folder_that_is_gone_is_flushed_where_it_was() {
        let root = tempfile::tempdir().unwrap();
        assert!(sync(&root.path().join("a/b/c")).is_ok());
    }
}
