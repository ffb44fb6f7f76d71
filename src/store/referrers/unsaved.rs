//! Descriptors that are not on the storage.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quinistry_oci::RepositoryName;

use super::Row;

/// Descriptors of repositories that another program has written to, with the version that they were built
/// for. They are served from memory until they are saved, or for good on a storage that cannot be written.
#[derive(Debug, Default)]
pub(crate) struct UnsavedReferrers(Mutex<Inner>);

#[derive(Debug, Default)]
pub(super) struct Inner {
    pub(super) known: HashMap<RepositoryName, VersionedRows>,
    /// Number of changes of repositories.
    changes: u64,
}

/// A version of the revisions, and the descriptors built from it.
type VersionedRows = (String, Arc<Vec<Row>>);

impl UnsavedReferrers {
    /// Capacity in repositories.
    const CAPACITY: usize = 64;

    pub(super) fn get(&self, name: &RepositoryName, version: &str) -> Option<Arc<Vec<Row>>> {
        self.inner().known.get(name).filter(|(of, _)| of == version).map(|(_, rows)| rows.clone())
    }

    /// Returns the present number of changes. Call before descriptors are built.
    pub(super) fn begin(&self) -> u64 {
        self.inner().changes
    }

    /// Stores descriptors, unless a repository was changed since their building began.
    pub(super) fn put(&self, begun: u64, name: &RepositoryName, version: &str, rows: &Arc<Vec<Row>>) {
        let mut inner = self.inner();
        if inner.changes != begun {
            return;
        }
        if inner.known.len() >= Self::CAPACITY {
            inner.known.clear();
        }
        inner.known.insert(name.clone(), (version.into(), rows.clone()));
    }

    /// Drops descriptors that are read from the storage from now on: they may be long, and many.
    pub(super) fn remove_saved(&self, name: &RepositoryName) {
        self.inner().known.remove(name);
    }

    /// Runs a change of a repository, and drops its descriptors before and after: not every storage changes
    /// its listing version.
    pub(crate) fn invalidate_during<T>(&self, name: &RepositoryName, change: impl FnOnce() -> T) -> T {
        self.forget(name);
        let result = change();
        self.forget(name);
        result
    }

    fn forget(&self, name: &RepositoryName) {
        let mut inner = self.inner();
        inner.changes += 1;
        inner.known.remove(name);
    }

    pub(super) fn inner(&self) -> MutexGuard<'_, Inner> {
        // Nothing above panics between two changes that belong together.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
