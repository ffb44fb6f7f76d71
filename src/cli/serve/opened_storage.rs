//! Opening the storage of a plan.

use std::path::Path;

use anyhow::Context as _;

use super::opened_bucket::{self, OpenedBucket};
use super::plan::{FolderAccess, StoragePlace, StoragePlan};
use super::shared_folder::{self, KindOf};
use crate::bucket::KeptProbe;
use crate::cli::storage::open_folder;
use crate::layout::Layout;
use crate::registry::metrics::{Driver, RegistryMetrics};
use crate::store::{
    Access, BundleStorage, Filesystem, Memory, ObservedStorage, ReadOnlyStorage, Storage, Store, StoreOptions,
};

/// Store, and whether its storage was opened for writing.
#[derive(Debug)]
pub(in crate::cli) struct OpenedStorage {
    pub(in crate::cli) store: Store,
    pub(in crate::cli) is_writable: bool,
}

impl StoragePlan {
    /// Opens the storage; `metrics` observe its calls.
    pub(in crate::cli) fn open(&self, metrics: Option<&RegistryMetrics>) -> anyhow::Result<OpenedStorage> {
        let (store, is_writable) = match &self.place {
            StoragePlace::Memory { bytes } => {
                (self.store(Memory::new(*bytes), Driver::InMemory, metrics), true)
            }
            StoragePlace::Folder(folder) => {
                let (storage, is_writable) =
                    open(folder, self.access, self.is_exclusive, &shared_folder::kind_of)?;
                if let Some(metrics) = metrics {
                    storage.observe_flushes(metrics.storage_observer(Driver::Filesystem));
                }
                (self.store(storage, Driver::Filesystem, metrics), is_writable)
            }
            StoragePlace::Bucket(options) => {
                let OpenedBucket { bucket, is_writable, probe } = opened_bucket::open(options, self.access)?;
                if let Some(metrics) = metrics {
                    metrics.watch_storage_abilities(bucket.store_abilities().by_name());
                }
                let driver = opened_bucket::driver(options);
                // Calls of a bucket wait for requests on this runtime.
                let store = tokio::task::block_in_place(|| {
                    if is_writable {
                        self.store(bucket, driver, metrics)
                    } else {
                        self.store(ReadOnlyStorage::new(bucket), driver, metrics)
                    }
                    .inspect(|store| keep(store, probe))
                });
                (store, is_writable)
            }
            StoragePlace::Bundle(archive) => {
                (self.store(open_bundle(archive)?, Driver::Filesystem, metrics), false)
            }
        };
        Ok(OpenedStorage { store: store?, is_writable })
    }

    fn store(
        &self,
        storage: impl Storage,
        driver: Driver,
        metrics: Option<&RegistryMetrics>,
    ) -> anyhow::Result<Store> {
        let options = StoreOptions { absent_parts: self.absent_parts, coherence: self.coherence };
        match metrics {
            None => Store::open_with(storage, options),
            Some(metrics) => {
                Store::open_with(ObservedStorage::new(storage, metrics.storage_observer(driver)), options)
            }
        }
        .context("failed to finish what a crash had cut off")
    }
}

/// Opens an archive of images. Those that are not served are logged.
fn open_bundle(archive: &Path) -> anyhow::Result<BundleStorage> {
    let bundle = BundleStorage::open(&Layout::open_archive(archive)?)?;
    for image in bundle.unserved() {
        tracing::warn!(name = %image.name, reason = %image.reason, "image of the bundle not served");
    }
    anyhow::ensure!(
        !bundle.is_empty(),
        "no image of {} can be served; the log has the reason for each",
        archive.display()
    );
    Ok(bundle)
}

/// Keeps the result of a probe for the next start, which otherwise makes another probe.
fn keep(store: &Store, probe: Option<KeptProbe>) {
    let Some(probe) = probe.and_then(|probe| serde_json::to_value(probe).ok()) else { return };
    if let Err(error) = store.keep_note(KeptProbe::FIELD, probe) {
        tracing::warn!(%error, "cannot keep the result of the probe, the next start probes again");
    }
}

/// Opens a folder. Returns true with it if it can be written to.
fn open(
    folder: &Path,
    access: FolderAccess,
    is_exclusive: bool,
    kind_of: KindOf<'_>,
) -> anyhow::Result<(Filesystem, bool)> {
    // Before anything is written: the folder may have a writer on another machine.
    let kind = kind_of(folder);
    let check = |access| kind.map_or(Ok(None), |kind| shared_folder::check(kind, access, is_exclusive));
    let warn = |access| -> anyhow::Result<()> {
        let warning =
            check(access).with_context(|| format!("failed to open storage {}", folder.display()))?;
        if let (Some(warning), Some(kind)) = (warning, kind) {
            tracing::warn!(folder = %folder.display(), kind = kind.name, "{warning}");
        }
        Ok(())
    };
    let read = || -> anyhow::Result<(Filesystem, bool)> {
        warn(Access::Read)?;
        Ok((open_folder(folder, Access::Read)?, false))
    };
    match access {
        FolderAccess::Read => read(),
        FolderAccess::Write => {
            warn(Access::Write)?;
            Ok((open_folder(folder, Access::Write)?, true))
        }
        FolderAccess::WriteIfPossible => {
            let permitted = check(Access::Write).map_err(anyhow::Error::from);
            let opened = permitted.and_then(|_| Ok(Filesystem::open(folder, Access::Write)?));
            match opened {
                Ok(storage) => {
                    warn(Access::Write)?;
                    Ok((storage, true))
                }
                // Several read-only registries serve one folder, and a read-only mount serves too.
                Err(error) => {
                    tracing::info!(error = %format!("{error:#}"), "storage opened for reading only");
                    read()
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::FilesystemKind;

    const NFS: u32 = 0x6969;

    #[test]
    fn a_folder_on_nfs_is_refused_before_anything_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("registry");
        let on_nfs: KindOf<'_> = &|_| Some(FilesystemKind::of_number(NFS));
        let error = open(&root, FolderAccess::Write, false, on_nfs).unwrap_err();
        let error = format!("{error:#}");
        assert!(error.contains("/registry: it is on NFS") && error.contains("--exclusive"), "{error}");
        assert!(!root.exists());
        let (storage, is_writable) = open(&root, FolderAccess::Write, true, on_nfs).unwrap();
        assert!(is_writable);
        drop(storage);
        for access in [FolderAccess::Read, FolderAccess::WriteIfPossible] {
            assert!(!open(&root, access, false, on_nfs).unwrap().1, "{access:?}");
        }
        assert!(open(&root, FolderAccess::WriteIfPossible, true, on_nfs).unwrap().1);
    }
}
