//! Arguments for the storage of `serve`, opening it for `serve` and `gc`, and the expiry of uploads.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use anyhow::Context as _;

use super::ownership;
use crate::registry::Settings;
use crate::store::{Access, Filesystem, Memory, Store};

/// Default of `--upload-timeout`: a week, as with distribution.
const DEFAULT_UPLOAD_TIMEOUT_MINUTES: u64 = 7 * 24 * 60;

/// Longest time between two searches for idle upload sessions.
const UPLOAD_SWEEP_INTERVAL: Duration = Duration::from_hours(1);

#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub(super) struct StorageArgs {
    /// Accept pushes, and keep the content in this folder, or in `memory`
    #[arg(long = "storage", id = "storage", value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    place: Option<StorageLocation>,

    /// Room for content with --storage memory, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 1024, requires = "storage")]
    memory_limit: u64,

    /// Serve the stored content and refuse writes; the folder may be on a read-only file system
    #[arg(long, requires = "storage")]
    read_only: bool,

    /// Refuse to delete tags, manifests and blobs
    #[arg(long, requires = "storage")]
    no_delete: bool,

    /// End uploads that have received no bytes for this long; the default is a week
    #[arg(long, value_name = "MINUTES", default_value_t = DEFAULT_UPLOAD_TIMEOUT_MINUTES, requires = "storage")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=5_256_000))]
    upload_timeout: u64,

    /// Accept manifests whose blobs or children are missing
    #[arg(long, requires = "storage")]
    allow_sparse: bool,
}

/// Place that content is kept in.
#[derive(Clone, Debug)]
enum StorageLocation {
    Memory,
    Folder(PathBuf),
}

impl FromStr for StorageLocation {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // A folder of that name can be given as ./memory.
        Ok(if text == "memory" { Self::Memory } else { Self::Folder(text.into()) })
    }
}

impl StorageArgs {
    /// Ends idle upload sessions of the store for as long as the program runs.
    pub(super) fn sweep(&self, store: &Store) {
        if !self.read_only {
            sweep(store.clone(), Duration::from_mins(self.upload_timeout));
        }
    }

    /// Opens the store, if one is configured.
    pub(super) fn open(&self) -> anyhow::Result<Option<(Store, Settings)>> {
        let Some(place) = &self.place else { return Ok(None) };
        let store = match place {
            StorageLocation::Memory => {
                Store::open(Memory::new(self.memory_limit.saturating_mul(1 << 20)), self.allow_sparse)
            }
            StorageLocation::Folder(folder) => {
                let access = if self.read_only { Access::Read } else { Access::Write };
                let storage = open_folder(folder, access)?;
                Store::open(storage, self.allow_sparse)
            }
        };
        let store = store.context("failed to finish what a crash had cut off")?;
        let options = Settings { read_only: self.read_only, delete: !self.no_delete, ..Settings::default() };
        tracing::info!(storage = %match place {
            StorageLocation::Memory => "memory".into(),
            StorageLocation::Folder(folder) => folder.display().to_string(),
        }, read_only = self.read_only, "storage opened");
        Ok(Some((store, options)))
    }
}

/// Opens a folder of `serve` or `gc`.
pub(super) fn open_folder(folder: &Path, access: Access) -> anyhow::Result<Filesystem> {
    Filesystem::open(folder, access).map_err(|error| ownership::advise(folder, access, error.into()))
}

/// Ends idle upload sessions periodically, until the program ends.
fn sweep(store: Store, idle: Duration) {
    tokio::spawn(async move {
        loop {
            let store = store.clone();
            let swept = tokio::task::spawn_blocking(move || store.expire_uploads(idle)).await;
            match swept {
                Ok(Ok(0)) => {}
                Ok(Ok(sessions)) => tracing::info!(sessions, "ended idle upload sessions"),
                Ok(Err(error)) => tracing::warn!(%error, "failed to look for idle upload sessions"),
                Err(_) => return,
            }
            tokio::time::sleep(UPLOAD_SWEEP_INTERVAL.min(idle)).await;
        }
    });
}
