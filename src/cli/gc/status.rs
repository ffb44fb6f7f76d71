//! `quinistry gc status`: the report of the last cycle of collection.

use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::Context as _;

use super::cycle::{open, runtime};
use super::offline::ensure_store;
use super::report;
use crate::cli::exit::Exit;
use crate::cli::output::{self, OutputFormatArgs};
use crate::cli::serve::plan::FolderAccess;
use crate::cli::storage::folder_or_bucket::FolderOrBucket;
use crate::cli::storage::open_folder;
use crate::cli::storage::source::StorageSource;
use crate::store::{Access, CycleReport, Store};

#[derive(Debug, clap::Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    source: StorageSource,

    #[command(flatten)]
    output: OutputFormatArgs,
}

// === impl StatusArgs ===

impl StatusArgs {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        let Some(place) = self.source.find("gc status")? else { return Ok(Exit::Failure.into()) };
        let report = last_report(&place)?;
        output::print(match report {
            _ if self.output.is_json() => output::document(&report)?,
            Some(report) => report::lines(&report, SystemTime::now()),
            None => {
                "no cycle of collection has ended here: quinistry.gc switches it on (docs/collection.md)\n"
                    .into()
            }
        })?;
        Ok(Exit::Success.into())
    }
}

fn last_report(place: &FolderOrBucket) -> anyhow::Result<Option<CycleReport>> {
    let failed = || format!("failed to read the last report of {place}");
    match place {
        FolderOrBucket::Folder(folder) => {
            ensure_store(folder)?;
            // For reading only, so that a registry may be running.
            let store = Store::open(open_folder(folder, Access::Read)?, false)?;
            store.last_collection().with_context(failed)
        }
        FolderOrBucket::Bucket(bucket) => runtime()?.block_on(async {
            let store = open(bucket, FolderAccess::Read)?;
            tokio::task::block_in_place(|| store.last_collection()).with_context(failed)
        }),
    }
}
