//! Storages of tests that differ from memory in a few methods.

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
