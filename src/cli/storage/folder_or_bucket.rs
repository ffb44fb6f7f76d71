//! Argument of the commands that work on the storage of a registry.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::bucket;
use crate::bucket::{BucketOptions, InvalidBucketUrl};
use crate::registry::config::{StorageConfig, StorageLocation};

/// Storage that outlives a registry: a folder, or a bucket by its URL.
#[derive(Clone, Debug)]
pub(in crate::cli) enum FolderOrBucket {
    Folder(PathBuf),
    Bucket(Box<BucketOptions>),
}

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

    /// Returns the folder; `None` for a bucket.
    pub(in crate::cli) fn folder(&self) -> Option<&Path> {
        match self {
            Self::Folder(folder) => Some(folder),
            Self::Bucket(_) => None,
        }
    }
}

impl FromStr for FolderOrBucket {
    type Err = InvalidBucketUrl;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(if BucketOptions::is_url(text) {
            Self::Bucket(Box::new(text.parse()?))
        } else {
            Self::Folder(text.into())
        })
    }
}

impl fmt::Display for FolderOrBucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => folder.display().fmt(f),
            Self::Bucket(bucket) => bucket.fmt(f),
        }
    }
}
