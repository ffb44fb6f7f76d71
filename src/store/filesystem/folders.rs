//! Folders that are there for good: made, and their names flushed, each once; and names that are not flushed yet, which
//! nobody must build upon.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::failpoint::pass;

/// So many are remembered; when there are more, all are forgotten, and flushed once more when they are needed.
const MOST: usize = 65_536;

/// How often something is tried again that somebody else undoes: each time takes microseconds, and there may be somebody who
/// removes what is made as quickly as it is made.
pub(super) const ATTEMPTS: u32 = 32;

/// Which folders are known to be durable. One that merely exists is not: whoever made it may have been killed before it
/// was flushed, or may be about to.
#[derive(Debug)]
pub(super) struct Folders {
    root: PathBuf,
    durable: Mutex<BTreeSet<PathBuf>>,
    /// Folders in which names are changed, and by how many: visible, and not flushed yet.
    owed: Mutex<HashMap<PathBuf, usize>>,
    /// Folders whose names are visible, and which their writer has failed to flush.
    overdue: Mutex<BTreeSet<PathBuf>>,
}

impl Folders {
    /// Those under `root`, which is durable itself.
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root, durable: Mutex::default(), owed: Mutex::default(), overdue: Mutex::default() }
    }

    /// Makes a folder and all those that it lies in.
    pub(super) fn make(&self, folder: &Path) -> io::Result<()> {
        let unknown = self.unknown(folder);
        let Some(known) = unknown.last().and_then(|last| last.parent()) else { return Ok(()) };
        if !known.exists() {
            // Somebody removed what was known: nothing of it is any more.
            self.durable().clear();
        }
        let mut attempt = 1;
        loop {
            match pass("make").and_then(|()| fs::create_dir_all(folder)) {
                // It was there, and no longer when that was looked at: somebody removes it all the time.
                Err(error) if attempt < ATTEMPTS && is_passing(&error) => attempt += 1,
                made => return made,
            }
        }
    }

    /// Names that changed in a folder that is there.
    pub(super) fn changed(folder: &Path) -> Names {
        Names { changed: [folder.into()].into(), made: Vec::new() }
    }

    /// Notes what must be flushed for a name in a folder to be there for good. To be asked once the name is there: until
    /// then somebody may remove the folder, and somebody else make it anew.
    pub(super) fn note(&self, folder: &Path, names: &mut Names) {
        names.changed.insert(folder.into());
        for made in self.unknown(folder) {
            names.changed.insert(made.parent().expect("it lies under the root").into());
            names.made.push(made.into());
        }
    }

    /// What is noted is about to be visible before it is flushed.
    pub(super) fn owe(&self, names: &Names) -> Owed {
        let mut owed = self.owed();
        for folder in &names.changed {
            *owed.entry(folder.clone()).or_default() += 1;
        }
        Owed(names.changed.clone())
    }

    /// Records that folders could not be flushed, and may be later.
    pub(super) fn fail(&self, folders: Owed) {
        // First, so that it is found in one of the two at any moment.
        self.overdue().extend(folders.0.iter().cloned());
        self.paid(folders);
    }

    /// It has been flushed.
    pub(super) fn paid(&self, folders: Owed) {
        let mut owed = self.owed();
        for folder in folders.0 {
            if let Entry::Occupied(mut debt) = owed.entry(folder) {
                *debt.get_mut() -= 1;
                if *debt.get() == 0 {
                    debt.remove();
                }
            }
        }
    }

    /// Which of the folders that a path lies in hold names that are not flushed yet.
    pub(super) fn owed_above(&self, path: &Path, found: &mut BTreeSet<PathBuf>) {
        let above = || path.ancestors().skip(1).take_while(|above| above.starts_with(&self.root));
        let owed = self.owed();
        if !owed.is_empty() {
            found.extend(above().filter(|above| owed.contains_key(*above)).map(Into::into));
        }
        drop(owed);
        let overdue = self.overdue();
        if !overdue.is_empty() {
            found.extend(above().filter(|above| overdue.contains(*above)).map(Into::into));
        }
    }

    /// Flushes folders that hold names which are not flushed yet.
    pub(super) fn settle<E>(
        &self,
        folders: &BTreeSet<PathBuf>,
        flush: impl Fn(&Path) -> Result<(), E>,
    ) -> Result<(), E> {
        for folder in folders {
            // Owed in the meantime: another request must not build upon what this one has yet to flush.
            let owed = self.owe(&Self::changed(folder));
            // Removed before the flush: a writer whose flush fails at the same time puts the folder back.
            let was_overdue = self.overdue().remove(folder);
            let flushed = flush(folder);
            if flushed.is_err() && was_overdue {
                self.overdue().insert(folder.clone());
            }
            self.paid(owed);
            flushed?;
        }
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
        let mut durable = self.durable();
        // Paths are ordered by their components, so what lies beneath follows at once.
        let from = (Bound::Included(folder), Bound::Unbounded);
        let gone = durable.range::<Path, _>(from).take_while(|known| known.starts_with(folder));
        for known in gone.cloned().collect::<Vec<_>>() {
            durable.remove(&known);
        }
    }

    fn owed(&self) -> MutexGuard<'_, HashMap<PathBuf, usize>> {
        // Nothing above panics between two changes that belong together.
        self.owed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn overdue(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        self.overdue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn durable(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        // A set of paths is as good after a panic as before.
        self.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound)
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
    /// What is to be flushed.
    pub(super) fn folders(&self) -> impl Iterator<Item = &Path> {
        self.changed.iter().map(PathBuf::as_path)
    }
}

/// Folders that somebody is about to flush.
#[derive(Debug)]
#[must_use]
pub(super) struct Owed(BTreeSet<PathBuf>);

/// Why a folder is not durable.
#[derive(Debug)]
pub(super) enum Failure {
    /// It could not be opened, so that flushing was not even tried, and may be later.
    Refused(io::Error),
    /// Its names could not be flushed.
    Unflushed(io::Error),
}

/// Flushes the names in a folder. If somebody has removed it meanwhile, with all that was in it, then that it is gone: in
/// the one that it was in.
pub(super) fn sync(folder: &Path) -> Result<(), Failure> {
    let mut folder = folder;
    let opened = loop {
        match (pass("folder.open").and_then(|()| File::open(folder)), folder.parent()) {
            (Err(error), Some(above)) if error.kind() == io::ErrorKind::NotFound => folder = above,
            (opened, _) => break opened,
        }
    };
    opened.map_err(Failure::Refused)?.sync_all().map_err(Failure::Unflushed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What had to be flushed.
    fn make(folders: &Folders, folder: &Path) -> Vec<PathBuf> {
        let mut names = Names::default();
        folders.make(folder).unwrap();
        folders.note(folder, &mut names);
        let changed = names.folders().map(Into::into).collect();
        folders.know(names);
        changed
    }

    #[test]
    fn a_folder_that_was_forgotten_is_made_anew() {
        let root = tempfile::tempdir().unwrap();
        let folders = Folders::new(root.path().into());
        let [a, b, deep] = ["a", "a/b", "a/b/c"].map(|name| root.path().join(name));
        assert_eq!(make(&folders, &deep), [root.path(), &a, &b, &deep]);
        assert!(deep.is_dir());
        fs::remove_dir_all(&b).unwrap();
        assert_eq!(make(&folders, &deep), [&*deep]);
        assert!(!deep.exists(), "what is known is not looked at");
        folders.forget(&b);
        assert_eq!(make(&folders, &deep), [&*a, &b, &deep]);
        assert!(deep.is_dir());
    }

    #[test]
    fn what_is_forgotten_is_what_lies_beneath_and_nothing_beside() {
        let root = tempfile::tempdir().unwrap();
        let folders = Folders::new(root.path().into());
        let [b, beside, beneath] = ["a/b", "a/b-c", "a/b/c"].map(|name| root.path().join(name));
        for folder in [&beside, &beneath] {
            make(&folders, folder);
        }
        folders.forget(&b);
        assert_eq!(make(&folders, &beside), [&*beside]);
        assert_eq!(make(&folders, &beneath).len(), 3);
    }

    #[test]
    fn what_was_made_and_not_flushed_is_not_known() {
        let root = tempfile::tempdir().unwrap();
        let folders = Folders::new(root.path().into());
        let [a, b] = ["a", "a/b"].map(|name| root.path().join(name));
        folders.make(&a).unwrap();
        assert_eq!(make(&folders, &b), [root.path(), &a, &b]);
    }

    #[test]
    fn names_are_owed_until_all_who_change_them_have_flushed() {
        let root = tempfile::tempdir().unwrap();
        let folders = Folders::new(root.path().into());
        let [a, file] = ["a", "a/b/file"].map(|name| root.path().join(name));
        let mut names = Names::default();
        folders.note(&a, &mut names);
        let owed = || {
            let mut found = BTreeSet::new();
            folders.owed_above(&file, &mut found);
            found.into_iter().collect::<Vec<_>>()
        };
        assert_eq!(owed(), [""; 0].map(PathBuf::from));
        let (first, second) = (folders.owe(&names), folders.owe(&names));
        folders.paid(first);
        assert_eq!(owed(), [root.path(), &a]);
        folders.paid(second);
        assert_eq!(owed(), [""; 0].map(PathBuf::from));
    }

    #[test]
    fn names_whose_flush_failed_are_owed_until_another_flush_succeeds() {
        let root = tempfile::tempdir().unwrap();
        let folders = Folders::new(root.path().into());
        let owed = || {
            let mut found = BTreeSet::new();
            folders.owed_above(&root.path().join("a/file"), &mut found);
            found
        };
        folders.fail(folders.owe(&Folders::changed(&root.path().join("a"))));
        assert_eq!(owed().len(), 1);
        assert_eq!(folders.settle(&owed(), |_| Err("full")), Err("full"));
        assert_eq!(owed().len(), 1);
        let flush = |_: &Path| {
            assert_eq!(owed().len(), 1, "who asks while it is being flushed must flush, too");
            Ok::<_, ()>(())
        };
        assert_eq!(folders.settle(&owed(), flush), Ok(()));
        assert_eq!(owed().len(), 0);
    }

    #[test]
    fn a_folder_that_is_gone_is_flushed_where_it_was() {
        let root = tempfile::tempdir().unwrap();
        assert!(sync(&root.path().join("a/b/c")).is_ok());
    }
}
