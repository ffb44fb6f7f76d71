//! Work on the storage of a command: a folder or a bucket.

use crate::cli::gc::ensure_store;
use crate::cli::serve::plan::{FolderAccess, StoragePlace, StoragePlan};
use crate::cli::storage::folder_or_bucket::FolderOrBucket;
use crate::store::{AbsentParts, Store};

// === impl FolderOrBucket ===

impl FolderOrBucket {
    /// Opens the storage for reading or writing, and calls `work` with it on a thread that may block.
    pub(in crate::cli) fn with_store<T>(
        self,
        writes: bool,
        work: impl FnOnce(&Store) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let (place, is_exclusive) = match self {
            Self::Folder(folder) => {
                ensure_store(&folder)?;
                (StoragePlace::Folder(folder), false)
            }
            Self::Bucket(options) => {
                let is_exclusive = options.is_exclusive;
                (StoragePlace::Bucket(options), is_exclusive)
            }
        };
        let access = if writes { FolderAccess::Write } else { FolderAccess::Read };
        let plan =
            StoragePlan { place, access, absent_parts: AbsentParts::Refused, coherence: None, is_exclusive };
        // Requests to a bucket wait for this runtime.
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(async {
            tokio::task::block_in_place(|| {
                let opened = plan.open(None)?;
                work(&opened.store)
            })
        })
    }
}
