//! Storage that the command works on: a folder or a bucket.

use crate::cli::gc::ensure_store;
use crate::cli::serve::plan::{FolderAccess, StoragePlace, StoragePlan};
use crate::cli::storage::bucket;
use crate::cli::storage::folder_or_bucket::FolderOrBucket;
use crate::registry::config::{StorageConfig, StorageLocation};
use crate::store::{AbsentParts, Store};

// === impl FolderOrBucket ===

impl FolderOrBucket {
    /// Returns the storage of a configuration, which `shown` names.
    pub(in crate::cli) fn of_config(config: &StorageConfig, shown: &str) -> anyhow::Result<Self> {
        match &config.location {
            StorageLocation::Folder(folder) => Ok(Self::Folder(folder.clone())),
            StorageLocation::Bucket(config) => Ok(Self::Bucket(Box::new(bucket::options(config)?))),
            StorageLocation::Memory => {
                anyhow::bail!("{shown} keeps content in memory, which ends with the registry; name a storage")
            }
        }
    }

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
