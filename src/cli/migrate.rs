//! `quinistry migrate`: copies a registry from one storage to another one.

mod place;
mod progress;
mod report;

use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;

use self::place::{OpenedPlace, Place};
use self::report::MigrationReport;
use super::exit::{Exit, UsageError};
use super::output::OutputArgs;
use crate::store::{Migrated, Migration, Origin, Storage, TargetRole, migrate, running_replicas};

/// Number of changes below which `--follow` ends: the last pass finds the rest in moments, and a registry
/// that is pushed to all the time always has some.
const FEW_CHANGES: u64 = 100;

/// Time by which the clock of one machine that writes to the source may be behind that of another one.
const CLOCK_SLACK: Duration = Duration::from_mins(15);

#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(super) struct Args {
    #[arg(
        value_name = "FROM",
        help = "Storage to copy: a folder, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://ACCOUNT/CONTAINER/PREFIX, or a \
                configuration file that names one. Its registry may run"
    )]
    from: String,

    /// Storage to copy to, in the same form. No registry may write to it
    #[arg(value_name = "TO")]
    to: String,

    /// Read and hash what TO has already, too, and replace what is damaged there
    #[arg(long)]
    verify: bool,

    /// Repeat the copy until a pass finds fewer than 100 changes: FROM is in use, and the last pass shall be
    /// short
    #[arg(long, conflicts_with_all = ["last", "dry_run"])]
    follow: bool,

    /// Make the last pass, while nothing writes to FROM: also remove from TO what was removed from FROM
    #[arg(long = "final", id = "last")]
    last: bool,

    /// Replace tags of a TO that has content of its own, where they refer to other images
    #[arg(long)]
    overwrite: bool,

    /// Show what would be copied, and write nothing
    #[arg(long)]
    dry_run: bool,

    /// Number of blobs, and of repositories, that are copied at the same time
    #[arg(long, value_name = "N", default_value = "8", value_parser = parse_jobs)]
    jobs: NonZeroUsize,

    #[command(flatten)]
    output: OutputArgs,
}

/// Greatest number of jobs: each has a thread, and a part of an upload in memory.
const MAX_JOBS: usize = 64;

fn parse_jobs(text: &str) -> Result<NonZeroUsize, String> {
    let jobs = text.parse::<NonZeroUsize>().ok().filter(|jobs| jobs.get() <= MAX_JOBS);
    jobs.ok_or_else(|| format!("must be a number from 1 to {MAX_JOBS}"))
}

impl Args {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let [from, to] = [&self.from, &self.to].map(|text| Place::parse(text));
        let (from, to) = (from?, to?);
        place::check_apart(&from, &to)?;
        // Buckets wait for their requests on this runtime; the threads of the migration wait for the buckets.
        let runtime =
            tokio::runtime::Builder::new_multi_thread().enable_all().build().context("failed to start")?;
        let source = refuse(from.open_source(&runtime))?;
        let target = refuse(to.open_target(&runtime, self.dry_run))?;
        let report = self.migrate((&from, &source), (&to, &target))?;
        self.output.print(&report)?;
        Ok(if report.has_faults() { Exit::Failure } else { Exit::Success }.into())
    }

    fn migrate(
        &self,
        (from, source): (&Place, &OpenedPlace),
        (to, target): (&Place, &OpenedPlace),
    ) -> anyhow::Result<MigrationReport> {
        let name = from.to_string();
        if !self.dry_run && running_replicas(target.storage())? > 0 {
            return Err(UsageError(format!(
                "a registry writes to {to}, or was stopped less than two minutes ago; stop it, or serve {to} \
                 read-only until the migration has ended"
            ))
            .into());
        }
        let _paused = if self.last { Some(Self::pause(from, source)?) } else { None };
        let role = Origin::claim(target.storage(), &name, self.dry_run)?;
        let is_copy = role == TargetRole::Copy;
        if self.last && !is_copy {
            return Err(UsageError(no_last_pass(to, &role)).into());
        }
        if !is_copy && !self.dry_run {
            // Content of several sources: no last pass of one of them may remove that of another one.
            Origin::complete(target.storage(), &name)?;
        }
        let wanted = Migration {
            verifies: self.verify,
            overwrites: is_copy || self.overwrite,
            removes: self.last,
            is_dry_run: self.dry_run,
            jobs: self.jobs,
            tags_since: None,
        };
        let copied = self.copy(source.storage(), target.storage(), wanted);
        let (passes, copied) = copied.with_context(|| {
            format!(
                "failed to copy {from} to {to}; run the command again, which goes on where this run ended"
            )
        })?;
        if self.last && !self.dry_run && copied.fault_count == 0 {
            Origin::complete(target.storage(), &name)?;
        }
        Ok(MigrationReport::new((name, to.to_string()), (self.dry_run, self.last), passes, copied))
    }

    /// Keeps registries of this program from writing to the source; fails if one does.
    fn pause(from: &Place, source: &OpenedPlace) -> anyhow::Result<Option<std::fs::File>> {
        let in_use = || {
            UsageError(format!(
                "a registry writes to {from}; stop it, or make it read-only, before the last pass"
            ))
        };
        if from.is_bucket() && running_replicas(source.storage())? > 0 {
            return Err(in_use().into());
        }
        from.lock().map_err(|_| in_use().into())
    }

    /// Makes one pass, or passes until one finds few changes. Returns their number, and the sum of what they
    /// did with the faults of the last one.
    fn copy(
        &self,
        from: &dyn Storage,
        to: &dyn Storage,
        mut wanted: Migration,
    ) -> anyhow::Result<(u64, Migrated)> {
        let progress = progress::Progress::new(self.output.is_quiet());
        let mut sum = Migrated::default();
        for number in 1.. {
            // Known once a bucket has answered.
            from.check()?;
            let begun = from.now();
            let pass = migrate(from, to, &wanted, &progress)?;
            let changes = pass.changes();
            sum.add(pass);
            if !self.follow || changes < FEW_CHANGES {
                return Ok((number, sum));
            }
            progress.log_pass(number, changes);
            if sum.fault_count == 0 {
                wanted.tags_since = begun.checked_sub(CLOCK_SLACK);
            }
        }
        unreachable!("the numbers of passes do not end")
    }
}

/// Counts a storage that cannot be opened as a wrong command line.
fn refuse<T>(opened: anyhow::Result<T>) -> Result<T, UsageError> {
    opened.map_err(|error| UsageError(format!("{error:#}")))
}

fn no_last_pass(to: &Place, role: &TargetRole) -> String {
    let reason = match role {
        TargetRole::CopyOfOther(other) => format!("is a copy of {}", super::sanitize(other)),
        _ => "has content of its own, or its migration has ended".to_owned(),
    };
    format!("--final removes from TO what FROM does not have, and {to} {reason}; leave out --final")
}
