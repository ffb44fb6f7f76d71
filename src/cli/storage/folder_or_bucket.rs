//! Argument of the commands that work on the storage of a registry.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::bucket::{BucketOptions, InvalidBucketUrl};

/// Storage that outlives a registry: a folder, or a bucket by its URL.
#[derive(Clone, Debug)]
pub(in crate::cli) enum FolderOrBucket {
    Folder(PathBuf),
    Bucket(Box<BucketOptions>),
}

impl FolderOrBucket {
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
