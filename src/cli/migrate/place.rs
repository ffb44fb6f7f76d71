//! Storages that `migrate` copies from and to.

use std::fmt;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tokio::runtime::Runtime;

use crate::bucket::BucketOptions;
use crate::cli::configuration::Configuration;
use crate::cli::exit::UsageError;
use crate::cli::gc::ensure_store;
use crate::cli::serve::opened_bucket;
use crate::cli::serve::plan::FolderAccess;
use crate::cli::storage::{bucket, open_folder};
use crate::registry::config::StorageLocation;
use crate::store::{Access, Filesystem, Memory, ReadOnlyStorage, Storage};

/// File that a registry of this program locks.
const LOCK: &str = "docker/registry/v2/_quinistry/lock";

/// Storage on the command line.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// Folder, by a path without symbolic links as far as it exists.
    Folder(PathBuf),
    Bucket(Box<BucketOptions>),
}

/// Storage that is open.
#[derive(Debug)]
pub(super) struct OpenedPlace(Box<dyn Storage>);

// === impl Place ===

impl Place {
    /// Returns the storage that an argument names: by a URL, a configuration file, or the path of a folder.
    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        if BucketOptions::is_url(text) {
            let parsed = text.parse().map_err(|error| UsageError(format!("{error}")))?;
            return Ok(Self::Bucket(Box::new(parsed)));
        }
        let path = Path::new(text);
        if path.is_file() {
            return Self::of_configuration(path);
        }
        let whole = std::path::absolute(path).map_err(|error| UsageError(format!("{text:?}: {error}")))?;
        Ok(Self::Folder(resolve(&whole)))
    }

    fn of_configuration(path: &Path) -> anyhow::Result<Self> {
        let configuration = Configuration::find(Some(path.into())).context("a file is a configuration")?;
        let storage = match configuration.read()?.accept_storage() {
            Ok((storage, _)) => storage,
            Err(refused) => {
                refused.report();
                return Err(UsageError(format!("{configuration} names no valid storage")).into());
            }
        };
        match storage.location {
            StorageLocation::Folder(folder) => Ok(Self::Folder(resolve(&folder))),
            StorageLocation::Bucket(config) => {
                let options = bucket::options(&config).map_err(|error| UsageError(error.to_string()))?;
                Ok(Self::Bucket(Box::new(options)))
            }
            StorageLocation::Memory => {
                let problem = "keeps content in memory, which ends with the registry; use push and pull";
                Err(UsageError(format!("{configuration} {problem}")).into())
            }
        }
    }

    pub(super) const fn is_bucket(&self) -> bool {
        matches!(self, Self::Bucket(_))
    }

    /// Opens the storage for reading. A registry may run on it.
    pub(super) fn open_source(&self, runtime: &Runtime) -> anyhow::Result<OpenedPlace> {
        match self {
            Self::Folder(folder) => {
                ensure_store(folder)?;
                Ok(OpenedPlace(Box::new(open_folder(folder, Access::Read)?)))
            }
            Self::Bucket(options) => {
                let opened = runtime.block_on(async { opened_bucket::open(options, FolderAccess::Read) })?;
                Ok(OpenedPlace(Box::new(ReadOnlyStorage::new(opened.bucket))))
            }
        }
    }

    /// Opens the storage for writing; a folder is created. For a dry run, nothing is changed.
    pub(super) fn open_target(&self, runtime: &Runtime, is_dry_run: bool) -> anyhow::Result<OpenedPlace> {
        match self {
            // Stands for the empty folder that would be created.
            Self::Folder(folder) if is_dry_run && !folder.exists() => {
                Ok(OpenedPlace(Box::new(Memory::new(0))))
            }
            Self::Folder(folder) => {
                let access = if is_dry_run { Access::Read } else { Access::Write };
                let opened: Filesystem = open_folder(folder, access)?;
                Ok(OpenedPlace(Box::new(opened)))
            }
            Self::Bucket(options) => {
                let access = if is_dry_run { FolderAccess::Read } else { FolderAccess::Write };
                let opened = runtime.block_on(async { opened_bucket::open(options, access) })?;
                Ok(OpenedPlace(Box::new(opened.bucket)))
            }
        }
    }

    /// Takes the lock of a folder beside others that read it, so that no registry of this program can begin
    /// to write while the file lives. `None` if there is no such lock. Fails if a registry holds it.
    pub(super) fn lock(&self) -> Result<Option<File>, TryLockError> {
        let Self::Folder(folder) = self else { return Ok(None) };
        // The folder may be of distribution, or on a read-only file system.
        let Ok(file) = File::open(folder.join(LOCK)) else { return Ok(None) };
        match file.try_lock_shared() {
            Ok(()) => Ok(Some(file)),
            Err(error @ TryLockError::WouldBlock) => Err(error),
            // The file system has no locks, so that no registry holds one.
            Err(TryLockError::Error(_)) => Ok(None),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => folder.display().fmt(f),
            Self::Bucket(options) => options.fmt(f),
        }
    }
}

/// Resolves symbolic links in the part of a path that exists.
fn resolve(path: &Path) -> PathBuf {
    for above in path.ancestors() {
        if let Ok(real) = above.canonicalize() {
            let rest = path.strip_prefix(above).unwrap_or(Path::new(""));
            return if rest.as_os_str().is_empty() { real } else { real.join(rest) };
        }
    }
    path.into()
}

/// Refuses a storage that would be copied into itself.
pub(super) fn check_apart(from: &Place, to: &Place) -> Result<(), UsageError> {
    match (from, to) {
        _ if from.to_string() == to.to_string() => Err(UsageError(format!("FROM and TO are both {from}"))),
        (Place::Folder(one), Place::Folder(other)) if one.starts_with(other) || other.starts_with(one) => {
            Err(UsageError(format!("one of {from} and {to} lies in the other; choose a folder beside it")))
        }
        _ => Ok(()),
    }
}

// === impl OpenedPlace ===

impl OpenedPlace {
    pub(super) fn storage(&self) -> &dyn Storage {
        &*self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storage_is_not_copied_into_itself() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        std::os::unix::fs::symlink(&root, root.join("link")).unwrap();
        let place = |text: &str| Place::parse(text).unwrap();
        let inside = |path: &str| place(root.join(path).to_str().unwrap());
        for (from, to) in [
            (inside("a"), inside("a")),
            (inside("a"), inside("link/a")),
            (inside("a"), inside("a/b/c")),
            (inside("a/b"), inside("link/a")),
            (place("s3://bucket/a"), place("s3://bucket/a?region=eu-west-1")),
        ] {
            assert!(check_apart(&from, &to).is_err(), "{from} and {to}");
        }
        for (from, to) in [
            (inside("a"), inside("ab")),
            (inside("a"), place("s3://bucket/a")),
            (place("s3://bucket/a"), place("s3://bucket/b")),
            (place("s3://bucket"), place("gs://bucket")),
            (place("s3://bucket?endpoint=http://one"), place("s3://bucket?endpoint=http://two")),
        ] {
            assert!(check_apart(&from, &to).is_ok(), "{from} and {to}");
        }
    }

    #[test]
    fn a_configuration_file_names_its_storage() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.yml");
        std::fs::write(&file, "version: 0.1\nstorage: {s3: {bucket: b, region: r, rootdirectory: /a}}\n")
            .unwrap();
        assert_eq!(Place::parse(file.to_str().unwrap()).unwrap().to_string(), "s3://b/a");
        std::fs::write(&file, "version: 0.1\nstorage: {inmemory: {}}\n").unwrap();
        let error = Place::parse(file.to_str().unwrap()).unwrap_err();
        assert!(error.is::<UsageError>(), "{error}");
    }
}
