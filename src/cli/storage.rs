//! The storage of `serve` and `gc`: which, and what may be done with it.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use anyhow::Context as _;

use super::ownership;
use crate::registry::RegistryOptions;
use crate::store::{Access, Filesystem, Memory, Store};

/// How many minutes an upload session may lie idle: a week, as with distribution.
const IDLE: u64 = 7 * 24 * 60;

/// How often idle sessions are looked for, unless they end sooner.
const SWEEP: Duration = Duration::from_hours(1);

#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub(super) struct Storage {
    /// Also be a registry to push to, which keeps what is pushed in this folder, or in `memory`
    #[arg(long = "storage", id = "storage", value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    place: Option<Place>,

    /// With --storage memory: how much content there is room for, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 1024, requires = "storage")]
    memory_limit: u64,

    /// Serve what is stored, and take nothing: the folder may be one that nobody can write
    #[arg(long, requires = "storage")]
    read_only: bool,

    /// Refuse to delete tags, manifests and blobs
    #[arg(long, requires = "storage")]
    no_delete: bool,

    /// End uploads that nobody has gone on with for so many minutes; the default is a week
    #[arg(long, value_name = "MINUTES", default_value_t = IDLE, requires = "storage")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=5_256_000))]
    upload_timeout: u64,

    /// Accept manifests of which blobs or children are missing
    #[arg(long, requires = "storage")]
    allow_sparse: bool,
}

/// Where content is kept.
#[derive(Clone, Debug)]
enum Place {
    Memory,
    Folder(PathBuf),
}

impl FromStr for Place {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // A folder of that name can be had as ./memory.
        Ok(if text == "memory" { Self::Memory } else { Self::Folder(text.into()) })
    }
}

impl Storage {
    /// Ends what nobody goes on with in the store, for as long as the program runs.
    pub(super) fn sweep(&self, store: &Store) {
        if !self.read_only {
            sweep(store.clone(), Duration::from_mins(self.upload_timeout));
        }
    }

    /// The store, if there shall be one.
    pub(super) fn open(&self) -> anyhow::Result<Option<(Store, RegistryOptions)>> {
        let Some(place) = &self.place else { return Ok(None) };
        let store = match place {
            Place::Memory => {
                Store::open(Memory::new(self.memory_limit.saturating_mul(1 << 20)), self.allow_sparse)
            }
            Place::Folder(folder) => {
                let access = if self.read_only { Access::Read } else { Access::Write };
                let storage = open_folder(folder, access)?;
                Store::open(storage, self.allow_sparse)
            }
        };
        let store = store.context("failed to finish what a crash had cut off")?;
        let options = RegistryOptions {
            read_only: self.read_only,
            delete: !self.no_delete,
            ..RegistryOptions::default()
        };
        tracing::info!(storage = %match place {
            Place::Memory => "memory".into(),
            Place::Folder(folder) => folder.display().to_string(),
        }, read_only = self.read_only, "keeping what is pushed");
        Ok(Some((store, options)))
    }
}

/// Opens a folder of `serve` or `gc`.
pub(super) fn open_folder(folder: &Path, access: Access) -> anyhow::Result<Filesystem> {
    Filesystem::open(folder, access).map_err(|error| ownership::advise(folder, access, error.into()))
}

/// Ends upload sessions that nobody goes on with, now and then, until the program ends.
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
            tokio::time::sleep(SWEEP.min(idle)).await;
        }
    });
}
