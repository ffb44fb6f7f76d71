//! Durable folders: each is created and flushed once. And pending names, which are visible and not flushed
//! yet, so that nothing that depends on them may be acknowledged.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::failpoint::pass;

/// Capacity of the set of durable folders; when it is full the set is cleared, and folders are flushed once
/// more.
const DURABLE_FOLDER_CAPACITY: usize = 65_536;

/// Attempts at creating a folder that another program removes. Each takes microseconds, and the other program
/// may remove folders as quickly as they are created.
pub(super) const MAX_CREATE_ATTEMPTS: u32 = 32;

/// Record of the folders that are known to be durable. An existing folder need not be: its creator may have
/// been killed before the flush, or may not have flushed it yet.
#[derive(Debug)]
pub(super) struct Folders {
    root: PathBuf,
    durable: Mutex<BTreeSet<PathBuf>>,
    /// Folders with pending names, and the number of writers that are about to flush each.
    pending: Mutex<HashMap<PathBuf, usize>>,
    /// Folders with pending names that their writer has failed to flush.
    failed: Mutex<BTreeSet<PathBuf>>,
}

impl Folders {
    /// Creates the record of folders under `root`, which is durable itself.
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root, durable: Mutex::default(), pending: Mutex::default(), failed: Mutex::default() }
    }

    /// Creates a folder and its parents. `check` returns an error if a folder does not exist, or if a symbolic
    /// link leads out of the root on the way to it.
    pub(super) fn create(&self, folder: &Path, check: impl Fn(&Path) -> io::Result<()>) -> io::Result<()> {
        let unknown = self.not_durable(folder);
        let Some(known) = unknown.last().and_then(|last| last.parent()) else {
            // A folder that was removed since is created again when a file is not moved into it.
            return check(folder).or_else(|error| if is_absent(&error) { Ok(()) } else { Err(error) });
        };
        // The innermost existing ancestor is checked before anything is created in it. The folder itself is
        // new in most cases, and is looked at only if it turns out to exist.
        for above in folder.ancestors().skip(1) {
            match check(above) {
                Err(error) if is_absent(&error) => {
                    if above == known {
                        // Another program removed a known folder, so that no entry can be trusted.
                        self.durable().clear();
                    }
                }
                checked => {
                    checked?;
                    break;
                }
            }
        }
        let mut attempt = 1;
        loop {
            match pass("make").and_then(|()| create_missing(folder, &check)) {
                // Another program removed the folder between two system calls.
                Err(error) if attempt < MAX_CREATE_ATTEMPTS && is_passing(&error) => attempt += 1,
                made => return made,
            }
        }
    }

    /// Returns the pending names of a change in a folder that exists.
    pub(super) fn names_in(folder: &Path) -> PendingNames {
        PendingNames { changed: [folder.into()].into(), created: Vec::new() }
    }

    /// Records which folders must be flushed to make a new name in a folder durable. Call after the name was
    /// created: until then another program may remove the folder, and another writer create it again.
    pub(super) fn record(&self, folder: &Path, names: &mut PendingNames) {
        names.changed.insert(folder.into());
        for created in self.not_durable(folder) {
            names.changed.insert(created.parent().expect("the folder lies under the root").into());
            names.created.push(created.into());
        }
    }

    /// Marks names as pending. Call before they become visible.
    pub(super) fn begin(&self, names: &PendingNames) -> PendingFolders {
        let mut pending = self.pending();
        for folder in &names.changed {
            *pending.entry(folder.clone()).or_default() += 1;
        }
        PendingFolders(names.changed.clone())
    }

    /// Records that folders could not be flushed, and may be later.
    pub(super) fn fail(&self, folders: PendingFolders) {
        // Inserted first, so that each folder is in one of the two sets at any moment.
        self.failed().extend(folders.0.iter().cloned());
        self.finish(folders);
    }

    /// Records that folders were flushed.
    pub(super) fn finish(&self, folders: PendingFolders) {
        let mut pending = self.pending();
        for folder in folders.0 {
            if let Entry::Occupied(mut debt) = pending.entry(folder) {
                *debt.get_mut() -= 1;
                if *debt.get() == 0 {
                    debt.remove();
                }
            }
        }
    }

    /// Collects the ancestors of a path that hold pending names.
    pub(super) fn pending_above(&self, path: &Path, found: &mut BTreeSet<PathBuf>) {
        let above = || path.ancestors().skip(1).take_while(|above| above.starts_with(&self.root));
        let pending = self.pending();
        if !pending.is_empty() {
            found.extend(above().filter(|above| pending.contains_key(*above)).map(Into::into));
        }
        drop(pending);
        let failed = self.failed();
        if !failed.is_empty() {
            found.extend(above().filter(|above| failed.contains(*above)).map(Into::into));
        }
    }

    /// Flushes folders that hold pending names.
    pub(super) fn sync_pending<E>(
        &self,
        folders: &BTreeSet<PathBuf>,
        flush: impl Fn(&Path) -> Result<(), E>,
    ) -> Result<(), E> {
        for folder in folders {
            // Pending until then: another request must not depend on names that this one has yet to flush.
            let pending = self.begin(&Self::names_in(folder));
            // Removed before the flush: a writer whose flush fails at the same time puts the folder back.
            let had_failed = self.failed().remove(folder);
            let flushed = flush(folder);
            if flushed.is_err() && had_failed {
                self.failed().insert(folder.clone());
            }
            self.finish(pending);
            flushed?;
        }
        Ok(())
    }

    /// Records that names were flushed, so that the folders created for them are durable.
    pub(super) fn mark_durable(&self, names: PendingNames) {
        if names.created.is_empty() {
            return;
        }
        let mut durable = self.durable();
        if durable.len() >= DURABLE_FOLDER_CAPACITY {
            durable.clear();
        }
        durable.extend(names.created);
    }

    /// Returns those of a folder and its ancestors that are not known to be durable, the innermost first.
    fn not_durable<'a>(&self, folder: &'a Path) -> Vec<&'a Path> {
        let durable = self.durable();
        let above = folder.ancestors().take_while(|above| *above != self.root);
        above.take_while(|above| !durable.contains(*above)).collect()
    }

    /// Removes a folder and all folders beneath it from the record, since they were removed.
    pub(super) fn forget(&self, folder: &Path) {
        let mut durable = self.durable();
        // Paths are ordered by their components, so what lies beneath follows at once.
        let from = (Bound::Included(folder), Bound::Unbounded);
        let gone = durable.range::<Path, _>(from).take_while(|known| known.starts_with(folder));
        for known in gone.cloned().collect::<Vec<_>>() {
            durable.remove(&known);
        }
    }

    fn pending(&self) -> MutexGuard<'_, HashMap<PathBuf, usize>> {
        // Nothing above panics between two changes that belong together.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn durable(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        // A set of paths is as good after a panic as before.
        self.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Creates a folder in an ancestor that was checked, and those between. A folder that exists is checked.
fn create_missing(folder: &Path, check: &impl Fn(&Path) -> io::Result<()>) -> io::Result<()> {
    let mut created = fs::create_dir(folder);
    if created.as_ref().is_err_and(is_absent)
        && let Some(above) = folder.parent()
    {
        create_missing(above, check)?;
        created = fs::create_dir(folder);
    }
    match created {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => check(folder),
        created => created,
    }
}

fn is_absent(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound)
}

/// Names that are not durable yet, by folder.
#[derive(Debug, Default)]
pub(super) struct PendingNames {
    /// Folders in which names have changed.
    changed: BTreeSet<PathBuf>,
    /// Folders that were created, or may have been.
    created: Vec<PathBuf>,
}

impl PendingNames {
    /// Returns the folders to flush.
    pub(super) fn folders(&self) -> impl Iterator<Item = &Path> {
        self.changed.iter().map(PathBuf::as_path)
    }
}

/// Folders that a writer is about to flush.
#[derive(Debug)]
#[must_use]
pub(super) struct PendingFolders(BTreeSet<PathBuf>);

/// Reasons why a folder is not durable.
#[derive(Debug)]
pub(super) enum SyncError {
    /// The folder could not be opened, so that the flush was not tried, and can be later.
    Refused(io::Error),
    /// The flush failed.
    Unflushed(io::Error),
}

/// Flushes the names in a folder. If another program has removed the folder, flushes its innermost existing
/// ancestor instead, which makes the removal durable.
pub(super) fn sync(folder: &Path) -> Result<(), SyncError> {
    let mut folder = folder;
    let opened = loop {
        match (pass("folder.open").and_then(|()| File::open(folder)), folder.parent()) {
            (Err(error), Some(above)) if error.kind() == io::ErrorKind::NotFound => folder = above,
            (opened, _) => break opened,
        }
    };
    opened.map_err(SyncError::Refused)?.sync_all().map_err(SyncError::Unflushed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exists(path: &Path) -> io::Result<()> {
        fs::metadata(path).map(drop)
    }

    /// Creates a folder and returns the folders that had to be flushed.
    fn create_durable(folders: &Folders, folder: &Path) -> Vec<PathBuf> {
        let mut names = PendingNames::default();
        folders.create(folder, exists).unwrap();
        folders.record(folder, &mut names);
        let changed = names.folders().map(Into::into).collect();
        folders.mark_durable(names);
        changed
    }

    #[test]
    fn a_folder_that_was_forgotten_is_created_again() {
        let root = tempfile::tempdir().unwrap();
        let folders = Folders::new(root.path().into());
        let [a, b, deep] = ["a", "a/b", "a/b/c"].map(|name| root.path().join(name));
        assert_eq!(create_durable(&folders, &deep), [root.path(), &a, &b, &deep]);
        assert!(deep.is_dir());
        fs::remove_dir_all(&b).unwrap();
        assert_eq!(create_durable(&folders, &deep), [&*deep]);
        assert!(!deep.exists(), "known folders are not looked at");
        folders.forget(&b);
        assert_eq!(create_durable(&folders, &deep), [&*a, &b, &deep]);
        assert!(deep.is_dir());
    }

    #[test]
    fn only_folders_beneath_are_forgotten() {
        let root = tempfile::tempdir().unwrap();
        let folders = Folders::new(root.path().into());
        let [b, beside, beneath] = ["a/b", "a/b-c", "a/b/c"].map(|name| root.path().join(name));
        for folder in [&beside, &beneath] {
            create_durable(&folders, folder);
        }
        folders.forget(&b);
        assert_eq!(create_durable(&folders, &beside), [&*beside]);
        assert_eq!(create_durable(&folders, &beneath).len(), 3);
    }

    #[test]
    fn a_created_folder_is_not_durable_until_it_is_flushed() {
        let root = tempfile::tempdir().unwrap();
        let folders = Folders::new(root.path().into());
        let [a, b] = ["a", "a/b"].map(|name| root.path().join(name));
        folders.create(&a, exists).unwrap();
        assert_eq!(create_durable(&folders, &b), [root.path(), &a, &b]);
    }

    #[test]
    fn names_are_pending_until_all_writers_have_flushed() {
        let root = tempfile::tempdir().unwrap();
        let folders = Folders::new(root.path().into());
        let [a, file] = ["a", "a/b/file"].map(|name| root.path().join(name));
        let mut names = PendingNames::default();
        folders.record(&a, &mut names);
        let pending = || {
            let mut found = BTreeSet::new();
            folders.pending_above(&file, &mut found);
            found.into_iter().collect::<Vec<_>>()
        };
        assert_eq!(pending(), [""; 0].map(PathBuf::from));
        let (first, second) = (folders.begin(&names), folders.begin(&names));
        folders.finish(first);
        assert_eq!(pending(), [root.path(), &a]);
        folders.finish(second);
        assert_eq!(pending(), [""; 0].map(PathBuf::from));
    }

    #[test]
    fn names_whose_flush_failed_are_pending_until_another_flush_succeeds() {
        let root = tempfile::tempdir().unwrap();
        let folders = Folders::new(root.path().into());
        let pending = || {
            let mut found = BTreeSet::new();
            folders.pending_above(&root.path().join("a/file"), &mut found);
            found
        };
        folders.fail(folders.begin(&Folders::names_in(&root.path().join("a"))));
        assert_eq!(pending().len(), 1);
        assert_eq!(folders.sync_pending(&pending(), |_| Err("full")), Err("full"));
        assert_eq!(pending().len(), 1);
        let flush = |_: &Path| {
            assert_eq!(pending().len(), 1, "a request during the flush must flush, too");
            Ok::<_, ()>(())
        };
        assert_eq!(folders.sync_pending(&pending(), flush), Ok(()));
        assert_eq!(pending().len(), 0);
    }

    #[test]
    fn the_removal_of_a_folder_is_flushed_in_its_ancestor() {
        let root = tempfile::tempdir().unwrap();
        assert!(sync(&root.path().join("a/b/c")).is_ok());
    }
}
