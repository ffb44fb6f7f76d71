//! Storages of tests that differ from memory in a few methods.

use std::fmt;

use quinistry_oci::Content;
use quinistry_store::{Abilities, Key, Memory, ObjectTag, Space, Storage, StorageError};

/// Forwards the methods of `Storage` that such a storage does not change to its field `memory`.
macro_rules! forward_to_memory {
    () => {
        fn head(
            &self,
            key: &quinistry_store::Key,
        ) -> Result<Option<quinistry_store::Meta>, quinistry_store::StorageError> {
            self.memory.head(key)
        }

        fn write(
            &self,
            stages: &[&[quinistry_store::Entry<'_>]],
        ) -> Result<(), quinistry_store::StorageError> {
            self.memory.write(stages)
        }

        fn create(
            &self,
            key: &quinistry_store::Key,
            bytes: &[u8],
        ) -> Result<quinistry_store::Created, quinistry_store::StorageError> {
            self.memory.create(key, bytes)
        }

        fn remove(&self, key: &quinistry_store::Key) -> Result<bool, quinistry_store::StorageError> {
            self.memory.remove(key)
        }

        fn remove_if(
            &self,
            key: &quinistry_store::Key,
            tag: &quinistry_store::ObjectTag,
        ) -> Result<quinistry_store::Removed, quinistry_store::StorageError> {
            self.memory.remove_if(key, tag)
        }

        fn clear(&self, folder: &quinistry_store::Key) -> Result<bool, quinistry_store::StorageError> {
            self.memory.clear(folder)
        }

        fn scan(
            &self,
            folder: &quinistry_store::Key,
            after: Option<&quinistry_store::Key>,
            limit: usize,
        ) -> Result<quinistry_store::ScanPage, quinistry_store::StorageError> {
            self.memory.scan(folder, after, limit)
        }

        fn uploads(&self) -> &dyn quinistry_store::Uploads {
            self.memory.uploads()
        }
    };
}

pub(crate) use forward_to_memory;

/// Answer to the question for the room of a storage.
type SpaceAnswer = dyn Fn() -> Result<Space, StorageError> + Send + Sync;

/// Memory with a scripted answer about its room.
pub(crate) struct Roomy {
    memory: Memory,
    space: Box<SpaceAnswer>,
}

impl Roomy {
    /// Creates a storage for a mebibyte.
    pub(crate) fn new(space: impl Fn() -> Result<Space, StorageError> + Send + Sync + 'static) -> Self {
        Self { memory: Memory::new(1 << 20), space: Box::new(space) }
    }
}

impl fmt::Debug for Roomy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Roomy").finish_non_exhaustive()
    }
}

impl Storage for Roomy {
    fn abilities(&self) -> Abilities {
        self.memory.abilities()
    }

    fn open(&self, key: &Key) -> Result<Option<(Content, ObjectTag)>, StorageError> {
        self.memory.open(key)
    }

    forward_to_memory!();

    fn space(&self) -> Result<Space, StorageError> {
        (self.space)()
    }
}
