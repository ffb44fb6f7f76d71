//! Arguments for the storage of `serve`, and opening a folder for `serve` and `gc`.

pub(super) mod bucket;
pub(super) mod folder_or_bucket;
pub(super) mod source;

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use self::folder_or_bucket::FolderOrBucket;
use super::exit::UsageError;
use super::ownership;
use super::serve::plan::{FolderAccess, StoragePlace, StoragePlan};
use crate::bucket::{BucketOptions, InvalidBucketUrl};
use crate::store::{AbsentParts, Access, Filesystem};

/// Default of `--upload-timeout`: a week, as with distribution.
const DEFAULT_UPLOAD_TIMEOUT_MINUTES: u64 = 7 * 24 * 60;

#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(super) struct StorageArgs {
    #[arg(
        long = "storage",
        id = "storage",
        value_name = "STORAGE",
        value_hint = clap::ValueHint::DirPath,
        help = "Accept pushes, and keep the content in this folder, in `memory`, or in a bucket: s3://BUCKET/PREFIX, \
                gs://BUCKET/PREFIX or az://ACCOUNT/CONTAINER/PREFIX"
    )]
    place: Option<StorageArgument>,

    /// Serve the images of this archive, which `quinistry bundle` writes, under their full names, and refuse writes
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath, conflicts_with = "storage")]
    bundle: Option<PathBuf>,

    /// Room for content with --storage memory, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 1024, requires = "storage")]
    memory_limit: u64,

    /// Serve the stored content and refuse writes; the folder may be on a read-only file system
    #[arg(long)]
    read_only: bool,

    /// Refuse to delete tags, manifests and blobs
    #[arg(long)]
    pub(super) no_delete: bool,

    /// End uploads that have received no bytes for this long; the default is a week
    #[arg(long, value_name = "MINUTES", default_value_t = DEFAULT_UPLOAD_TIMEOUT_MINUTES, requires = "storage")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=5_256_000))]
    upload_timeout: u64,

    /// Accept manifests whose blobs or children are missing
    #[arg(long, requires = "storage")]
    allow_sparse: bool,

    /// Collect garbage while serving; only quinistry writes to the storage
    #[arg(long, requires = "storage", conflicts_with = "read_only")]
    pub(super) gc: bool,

    /// No other process writes to the storage: permits NFS, and object stores without atomic creation
    #[arg(long, requires = "storage")]
    exclusive: bool,
}

/// Place that content is kept in.
#[derive(Clone, Debug)]
enum StorageArgument {
    Memory,
    Folder(PathBuf),
    Bucket(Box<BucketOptions>),
}

impl FromStr for StorageArgument {
    type Err = InvalidBucketUrl;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // A folder of such a name can be given as ./memory.
        Ok(match text {
            "memory" => Self::Memory,
            _ => match text.parse()? {
                FolderOrBucket::Folder(folder) => Self::Folder(folder),
                FolderOrBucket::Bucket(bucket) => Self::Bucket(bucket),
            },
        })
    }
}

impl StorageArgs {
    /// Returns true if a flag says where content is kept.
    pub(super) fn names_a_place(&self) -> bool {
        self.place.is_some() || self.bundle.is_some()
    }

    /// Returns true if all writes are refused.
    pub(super) fn is_read_only(&self) -> bool {
        self.read_only || self.bundle.is_some()
    }

    /// Returns the time after which an idle upload ends.
    pub(super) fn upload_timeout(&self) -> Duration {
        Duration::from_mins(self.upload_timeout)
    }

    /// Returns the storage to open, if there is one.
    pub(super) fn plan(&self) -> Result<Option<StoragePlan>, UsageError> {
        if let Some(archive) = &self.bundle {
            return Ok(Some(StoragePlan {
                place: StoragePlace::Bundle(archive.clone()),
                access: FolderAccess::Read,
                absent_parts: AbsentParts::Refused,
                coherence: None,
                is_exclusive: false,
            }));
        }
        let Some(place) = &self.place else {
            let flags = [(self.read_only, "--read-only"), (self.no_delete, "--no-delete")];
            return match flags.iter().find(|(is_given, _)| *is_given) {
                None => Ok(None),
                Some((_, flag)) => {
                    Err(UsageError(format!("{flag} needs --storage DIR or a configuration file")))
                }
            };
        };
        let place = match place {
            StorageArgument::Memory => {
                StoragePlace::Memory { bytes: self.memory_limit.saturating_mul(1 << 20) }
            }
            StorageArgument::Folder(folder) => StoragePlace::Folder(folder.clone()),
            StorageArgument::Bucket(options) => {
                let is_exclusive = self.exclusive;
                StoragePlace::Bucket(Box::new(BucketOptions {
                    is_exclusive,
                    ..BucketOptions::clone(options)
                }))
            }
        };
        let access = if self.read_only { FolderAccess::Read } else { FolderAccess::Write };
        Ok(Some(StoragePlan {
            place,
            access,
            absent_parts: if self.allow_sparse { AbsentParts::Any } else { AbsentParts::Refused },
            coherence: None,
            is_exclusive: self.exclusive,
        }))
    }
}

/// Opens a folder of `serve` or `gc`.
pub(super) fn open_folder(folder: &Path, access: Access) -> anyhow::Result<Filesystem> {
    Filesystem::open(folder, access).map_err(|error| ownership::advise(folder, access, error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storage_is_memory_a_bucket_or_else_a_folder() {
        let place = |text: &str| text.parse::<StorageArgument>().unwrap();
        assert!(matches!(place("memory"), StorageArgument::Memory));
        for url in ["s3://images/team", "gs://images", "az://account/images"] {
            assert!(matches!(place(url), StorageArgument::Bucket(options) if options.to_string() == url));
        }
        for folder in ["./memory", "/srv/s3", "s3:/images"] {
            assert!(matches!(place(folder), StorageArgument::Folder(_)), "{folder}");
        }
        assert!("s3://key:secret@images".parse::<StorageArgument>().is_err());
    }
}
