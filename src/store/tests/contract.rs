//! Contract of [`Storage`]: behaviours that every backend has. A new backend is added to [`Backend`] and to
//! [`every_backend`], and then has a test for each of them.

#![expect(clippy::needless_pass_by_value, reason = "a behaviour owns its backend, to restart it")]

mod concurrency;
mod creation;
mod keys;
mod minimal;
mod objects;
mod removal;
mod restart;
mod scans;
mod uploads;

use std::sync::Arc;

use bytes::Bytes;

use self::minimal::Minimal;
use crate::storage::Storage;
use crate::{Access, Filesystem, Key, Memory, ObservedStorage, StorageAction, StorageObserver};

/// Capacity of backends in memory, in bytes.
const MEMORY_BYTES: u64 = 64 * 1024 * 1024;

/// A backend under test, empty at first.
struct Backend {
    storage: Arc<dyn Storage>,
    /// Folder of the filesystem.
    folder: Option<tempfile::TempDir>,
}

impl Backend {
    fn memory() -> Self {
        Self { storage: Arc::new(Memory::new(MEMORY_BYTES)), folder: None }
    }

    fn filesystem() -> Self {
        let folder = super::folder();
        let storage = Filesystem::open(folder.path(), Access::Write).unwrap();
        Self { storage: Arc::new(storage), folder: Some(folder) }
    }

    /// A backend that has the required methods alone.
    fn minimal() -> Self {
        Self { storage: Arc::new(Minimal(Memory::new(MEMORY_BYTES))), folder: None }
    }

    /// Memory with an observer around it.
    fn observed() -> Self {
        let storage = ObservedStorage::new(Memory::new(MEMORY_BYTES), Arc::new(Unmoved));
        Self { storage: Arc::new(storage), folder: None }
    }

    /// Closes the backend and opens it again, as a restart does; `None` if its data ends with the process.
    fn restarted(self) -> Option<Self> {
        let is_persistent = self.storage.abilities().is_persistent;
        drop(self.storage);
        let folder = self.folder.filter(|_| is_persistent)?;
        let storage = Filesystem::open(folder.path(), Access::Write).unwrap();
        Some(Self { storage: Arc::new(storage), folder: Some(folder) })
    }

    fn write(&self, path: &str, bytes: &[u8]) {
        self.storage.write(&[&[(key(path), bytes)]]).unwrap();
    }

    fn read(&self, path: &str) -> Option<Bytes> {
        self.storage.read(&key(path), u64::MAX).unwrap()
    }

    /// Returns the paths of all keys beneath a folder, read in pages of `limit`.
    fn scan(&self, folder: &str, limit: usize) -> Vec<String> {
        let mut paths = Vec::new();
        let mut after = None;
        loop {
            let page = self.storage.scan(&key(folder), after.as_ref(), limit).unwrap();
            assert!(page.entries.len() <= limit);
            paths.extend(page.entries.into_iter().map(|(key, _)| key.to_string()));
            after = page.next;
            if after.is_none() {
                return paths;
            }
        }
    }
}

/// Observer that ignores what it receives.
#[derive(Debug)]
struct Unmoved;

impl StorageObserver for Unmoved {
    fn called(&self, _: StorageAction, _: std::time::Duration) {}

    fn flushed(&self, _: std::time::Duration) {}
}

fn key(path: &str) -> Key {
    Key::of_path(path.into()).unwrap()
}

/// Makes a test of each behaviour for each backend.
macro_rules! every_backend {
    ($($behaviour:ident)*) => {
        mod memory {
            $(#[test]
            fn $behaviour() {
                super::$behaviour($crate::tests::contract::Backend::memory());
            })*
        }
        mod filesystem {
            $(#[test]
            fn $behaviour() {
                super::$behaviour($crate::tests::contract::Backend::filesystem());
            })*
        }
        mod observed {
            $(#[test]
            fn $behaviour() {
                super::$behaviour($crate::tests::contract::Backend::observed());
            })*
        }
        mod required_methods_alone {
            $(#[test]
            fn $behaviour() {
                super::$behaviour($crate::tests::contract::Backend::minimal());
            })*
        }
    };
}
use every_backend;
