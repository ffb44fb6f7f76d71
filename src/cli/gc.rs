//! `quinistry gc`: removes content that no manifest needs, from a folder that no registry serves, or from a
//! bucket by one cycle of the collection that registries make while they serve.

mod cycle;
mod offline;
mod report;
mod rules;
mod status;

use std::num::NonZeroU32;
use std::time::Duration;

use clap::{Subcommand, ValueEnum};

use self::status::StatusArgs;
use super::exit::UsageError;
use super::output::OutputArgs;
use super::storage::folder_or_bucket::FolderOrBucket;
use crate::store::{Collection, DamagedManifests, Writers};

pub(super) use self::cycle::{CycleOptions, collect_bucket};
pub(super) use self::offline::{collect as collect_folder, ensure_store, warn_of_other_machines};

/// Time of grace of a folder that no registry serves, in minutes.
const FOLDER_GRACE_MINUTES: u64 = 60;

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Option<GcCommand>,

    #[arg(
        value_name = "DIR|URL",
        value_hint = clap::ValueHint::DirPath,
        required = true,
        help = "Folder of `serve --storage`, or distribution's root directory; or a bucket: s3://BUCKET/PREFIX, \
                gs://BUCKET/PREFIX or az://ACCOUNT/CONTAINER/PREFIX"
    )]
    place: Option<FolderOrBucket>,

    /// Show what would be removed, and remove nothing
    #[arg(long)]
    dry_run: bool,

    /// Folder: leave content that is younger than this, because a push may be about to refer to it
    /// [default: 60]. Bucket: leave what a cycle has condemned for at least this time [default: 720; with
    /// --writers foreign 1440]
    #[arg(long, value_name = "MINUTES")]
    grace: Option<u64>,

    /// Also remove manifests that no tag and no index refers to, unless their subject stays
    #[arg(long)]
    delete_untagged: bool,

    /// On a manifest whose parts cannot be read: stop, or leave alone its repository and all bytes
    #[arg(long, value_name = "ACTION", value_enum, default_value = "stop")]
    damaged: DamagedArg,

    /// Programs that write to the bucket: only this one, or others too, such as distribution. Needed for a
    /// bucket
    #[arg(long, value_name = "WRITERS", value_enum)]
    writers: Option<WritersArg>,

    /// Requests to a bucket per second
    #[arg(long, value_name = "NUMBER", default_value = "100")]
    rate: NonZeroU32,

    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Subcommand)]
enum GcCommand {
    /// Show what the last cycle of collection did, and what the next one will free
    Status(StatusArgs),
}

/// Value of `--damaged`.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum DamagedArg {
    /// Remove nothing
    Stop,
    /// Go on with the other repositories
    KeepRepository,
}

/// Value of `--writers`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum WritersArg {
    /// Only this program
    Ours,
    /// Other programs too
    Foreign,
}

// === impl DamagedArg ===

impl From<DamagedArg> for DamagedManifests {
    fn from(argument: DamagedArg) -> Self {
        match argument {
            DamagedArg::Stop => Self::Stop,
            DamagedArg::KeepRepository => Self::KeepRepository,
        }
    }
}

// === impl WritersArg ===

impl From<WritersArg> for Writers {
    fn from(argument: WritersArg) -> Self {
        match argument {
            WritersArg::Ours => Self::Ours,
            WritersArg::Foreign => Self::Foreign,
        }
    }
}

// === impl Args ===

impl Args {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match (&self.command, &self.place) {
            (Some(GcCommand::Status(args)), _) => args.run(),
            (None, Some(FolderOrBucket::Folder(folder))) => {
                if self.writers.is_some() {
                    let message =
                        "--writers is for a bucket alone; a folder is collected while no registry serves it";
                    return Err(UsageError(message.into()).into());
                }
                let wanted = Collection {
                    grace: minutes(self.grace.unwrap_or(FOLDER_GRACE_MINUTES)),
                    untagged: self.delete_untagged,
                    dry_run: self.dry_run,
                    damaged: self.damaged.into(),
                };
                self.output.print(&collect_folder(folder, &wanted)?)
            }
            (None, Some(FolderOrBucket::Bucket(bucket))) => {
                self.output.print(&collect_bucket(bucket, &self.cycle_options()?)?)
            }
            (None, None) => Err(UsageError("gc needs a folder or the URL of a bucket".into()).into()),
        }
    }

    fn cycle_options(&self) -> Result<CycleOptions, UsageError> {
        let Some(writers) = self.writers else {
            return Err(UsageError(
                "a bucket needs --writers ours if only quinistry writes to it, or --writers foreign if distribution or \
                 another program does; a wrong answer loses content"
                    .into(),
            ));
        };
        let mut options = CycleOptions::of(writers.into());
        options.untagged = self.delete_untagged;
        options.settings.dry_run = self.dry_run;
        options.settings.damaged = self.damaged.into();
        options.settings.rate = self.rate;
        if let Some(grace) = self.grace.map(minutes) {
            options.set_grace(grace).map_err(UsageError)?;
        }
        Ok(options)
    }
}

fn minutes(number: u64) -> Duration {
    Duration::from_secs(number.saturating_mul(60))
}
