//! `quinistry gc`: removes content that no manifest needs, from a folder that no registry serves, or from a
//! bucket by one cycle of the collection that registries make while they serve.

mod cycle;
mod offline;
mod options;
mod report;
mod status;

use std::num::NonZeroU32;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Subcommand, ValueEnum};

use self::status::StatusArgs;
use super::configuration::Configuration;
use super::configured::Configured;
use super::exit::{Exit, UsageError};
use super::output::OutputArgs;
use super::storage::folder_or_bucket::FolderOrBucket;
use super::storage::source::StorageSource;
use crate::bucket::BucketOptions;
use crate::store::{Collection, DamagedManifests, Writers};

pub(super) use self::cycle::collect_bucket;
pub(super) use self::offline::{collect as collect_folder, ensure_store, warn_of_other_machines};
pub(super) use self::options::{CycleOptions, GivenOptions};

/// Time of grace of a folder that no registry serves, in minutes.
const FOLDER_GRACE_MINUTES: u64 = 60;

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Option<GcCommand>,

    #[command(flatten)]
    source: StorageSource,

    /// Show what would be removed, and remove nothing
    #[arg(long)]
    dry_run: bool,

    /// Folder: leave content that is younger than this, because a push may be about to refer to it
    /// [default: 60]. Bucket: leave what a cycle has condemned for at least this time [default: that of the
    /// configuration, or 720; with --writers foreign 1440]
    #[arg(long, value_name = "MINUTES")]
    grace: Option<u64>,

    /// Also remove manifests that no tag and no index refers to, unless their subject stays. In a bucket, policies of
    /// the configuration decide first
    #[arg(long)]
    delete_untagged: bool,

    /// On a manifest whose parts cannot be read: stop, or leave alone its repository and all bytes [default: that of
    /// the configuration of a bucket, or stop]
    #[arg(long, value_name = "ACTION", value_enum)]
    damaged: Option<DamagedArg>,

    /// Programs that write to the bucket: only this one, or others too, such as distribution. Needed for a
    /// bucket, unless the configuration says it
    #[arg(long, value_name = "WRITERS", value_enum)]
    writers: Option<WritersArg>,

    /// Requests to a bucket per second [default: those of the configuration, or 100]
    #[arg(long, value_name = "NUMBER")]
    rate: Option<NonZeroU32>,

    /// Bucket: time for which removed bytes can be put back [default: that of the configuration, or 0; with --writers
    /// foreign 2880]
    #[arg(long, value_name = "MINUTES")]
    trash: Option<u64>,

    /// Bucket: greatest length of the filter of what is needed, in MiB; less keeps more garbage for a cycle longer
    /// [default: that of the configuration, or 128]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(16..=1_048_576))]
    memory: Option<u64>,

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
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        if let Some(GcCommand::Status(args)) = &self.command {
            return args.run();
        }
        let configuration = self.source.configuration("gc")?;
        match self.source.storage(configuration.as_ref())? {
            None => Ok(Exit::Failure.into()),
            Some(FolderOrBucket::Folder(folder)) => {
                self.refuse_options_of_buckets()?;
                let wanted = Collection {
                    grace: minutes(self.grace.unwrap_or(FOLDER_GRACE_MINUTES)),
                    untagged: self.delete_untagged,
                    dry_run: self.dry_run,
                    damaged: self.damaged.map_or(DamagedManifests::Stop, Into::into),
                };
                self.output.print(&collect_folder(&folder, &wanted)?)?;
                Ok(Exit::Success.into())
            }
            Some(FolderOrBucket::Bucket(bucket)) => self.collect_bucket(&bucket, configuration.as_ref()),
        }
    }

    fn refuse_options_of_buckets(&self) -> Result<(), UsageError> {
        let given = [
            (self.writers.is_some(), "--writers"),
            (self.rate.is_some(), "--rate"),
            (self.trash.is_some(), "--trash"),
            (self.memory.is_some(), "--memory"),
            (self.source.place.is_some() && self.source.config.is_some(), "--config beside a storage"),
        ];
        match given.iter().find(|(is_given, _)| *is_given) {
            None => Ok(()),
            Some((_, option)) => Err(UsageError(format!(
                "{option} is for a bucket alone; a folder is collected at once, while no registry serves it"
            ))),
        }
    }

    fn collect_bucket(
        &self,
        bucket: &BucketOptions,
        configuration: Option<&Configuration>,
    ) -> anyhow::Result<ExitCode> {
        let given = GivenOptions {
            writers: self.writers.map(Into::into),
            grace: self.grace.map(minutes),
            rate: self.rate,
            trash: self.trash.map(minutes),
            memory: self.memory.map(|mebibytes| mebibytes << 20),
            damaged: self.damaged.map(Into::into),
            removes_untagged: self.delete_untagged,
            is_preview: self.dry_run,
        };
        let options = match configuration {
            None => CycleOptions::new(given)?,
            Some(configuration) => match Configured::read(configuration)? {
                None => return Ok(Exit::Failure.into()),
                Some(configured) => CycleOptions::configured(&configured, given)?,
            },
        };
        self.output.print(&collect_bucket(bucket, options)?)?;
        Ok(Exit::Success.into())
    }
}

fn minutes(number: u64) -> Duration {
    Duration::from_secs(number.saturating_mul(60))
}
