//! The contract of [`Storage`](crate::Storage) for the backends of this crate.

mod minimal;

use std::sync::Arc;

use self::minimal::Minimal;
use crate::contract::Backend;
use crate::{Access, Filesystem, Memory, ObservedStorage, StorageAction, StorageObserver};

/// Capacity of backends in memory, in bytes.
const MEMORY_BYTES: u64 = 64 * 1024 * 1024;

fn memory() -> Memory {
    Memory::new(MEMORY_BYTES)
}

fn filesystem(folder: tempfile::TempDir) -> Backend {
    let storage = Filesystem::open(folder.path(), Access::Write).unwrap();
    Backend::persistent(storage, || filesystem(folder))
}

/// Observer that ignores what it receives.
#[derive(Debug)]
struct Unmoved;

impl StorageObserver for Unmoved {
    fn called(&self, _: StorageAction, _: std::time::Duration) {}

    fn flushed(&self, _: std::time::Duration) {}
}

mod in_memory {
    crate::contract_tests!(crate::tests::contract::Backend::new(crate::tests::contract::memory()));
}

mod in_a_folder {
    crate::contract_tests!(crate::tests::contract::filesystem(crate::tests::folder()));
}

mod observed {
    use super::{Arc, Backend, ObservedStorage, Unmoved, memory};

    fn backend() -> Backend {
        Backend::new(ObservedStorage::new(memory(), Arc::new(Unmoved)))
    }

    crate::contract_tests!(super::backend());
}

mod required_methods_alone {
    crate::contract_tests!(crate::tests::contract::Backend::new(crate::tests::contract::Minimal(
        crate::tests::contract::memory()
    )));
}
