//! `quinistry garbage-collect`: distribution's command of this name, with its arguments.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::ValueHint;

use super::configuration::Configuration;
use super::configured::Configured;
use super::exit::{Exit, UsageError};
use super::gc::{self, CycleOptions, GivenOptions};
use super::output::{self, Report as _};
use super::storage::bucket;
use crate::registry::config::{BucketConfig, StorageLocation};
use crate::store::{Collection, DamagedManifests};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Configuration file of the registry whose storage is collected
    #[arg(value_name = "CONFIG", value_hint = ValueHint::FilePath)]
    config: Option<PathBuf>,

    /// Show what would be removed, and remove nothing
    #[arg(long, short)]
    dry_run: bool,

    /// Also remove manifests that no tag and no index refers to, unless their subject stays. In a bucket, policies of
    /// the configuration decide first
    #[arg(long, short = 'm')]
    delete_untagged: bool,

    /// Print nothing
    #[arg(long, short)]
    quiet: bool,
}

impl Args {
    pub(super) fn run(mut self) -> anyhow::Result<ExitCode> {
        let configuration = Configuration::find(self.config.take()).ok_or_else(|| {
            UsageError("garbage-collect needs CONFIG, or REGISTRY_CONFIGURATION_PATH to name it".into())
        })?;
        let (storage, remarks) = match configuration.read()?.accept_storage() {
            Ok(accepted) => accepted,
            Err(refused) => {
                refused.report();
                return Ok(Exit::Failure.into());
            }
        };
        remarks.log();
        let folder = match storage.location {
            StorageLocation::Folder(folder) => folder,
            StorageLocation::Memory => {
                anyhow::bail!("{configuration} keeps content in memory, which ends with the registry")
            }
            StorageLocation::Bucket(bucket) => return self.collect_bucket(&configuration, &bucket),
        };
        let wanted = Collection {
            damaged: DamagedManifests::Stop,
            // Distribution spares nothing either. No registry of ours can be writing, since the folder is locked.
            grace: Duration::ZERO,
            untagged: self.delete_untagged,
            dry_run: self.dry_run,
        };
        let report = gc::collect_folder(&folder, &wanted)
            .with_context(|| format!("failed to collect {}", folder.display()))?;
        if !self.quiet {
            output::print(report.text())?;
        }
        Ok(Exit::Success.into())
    }

    /// Leads one cycle of collection of a bucket, as a registry with the configuration does.
    fn collect_bucket(self, configuration: &Configuration, place: &BucketConfig) -> anyhow::Result<ExitCode> {
        let place = bucket::options(place)?;
        // The storage alone does not say which programs write to it.
        let Some(configured) = Configured::read(configuration)? else {
            return Ok(Exit::Failure.into());
        };
        let given = GivenOptions {
            removes_untagged: self.delete_untagged,
            is_preview: self.dry_run,
            ..GivenOptions::default()
        };
        let options = CycleOptions::configured(&configured, given)?;
        let result = gc::collect_bucket(&place, options)?;
        if !self.quiet {
            output::print(result.text())?;
        }
        Ok(Exit::Success.into())
    }
}
