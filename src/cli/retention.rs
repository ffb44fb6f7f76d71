//! `quinistry retention`: shows which tags the policies of a configuration keep, and deletes the others.

mod place;
mod report;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Subcommand;

use self::report::{RetentionOutcome, Scope};
use super::configured::Configured;
use super::exit::Exit;
use super::output::OutputArgs;
use super::storage::folder_or_bucket::FolderOrBucket;
use super::storage::source::StorageSource;
use crate::registry::{TagPolicies, retention};
use crate::store::Store;
use crate::store::retention::{Percentage, Policies, RetentionInputs, RetentionRun};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: RetentionCommand,
}

#[derive(Debug, Subcommand)]
enum RetentionCommand {
    /// Show for each tag which rule keeps it, or that none does, and change nothing
    Plan(PlanArgs),
    /// Delete the tags that no rule keeps
    Run(RunArgs),
}

#[derive(Debug, clap::Args)]
struct PlanArgs {
    #[command(flatten)]
    source: StorageSource,

    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, clap::Args)]
struct RunArgs {
    #[command(flatten)]
    source: StorageSource,

    /// Apply policies that have changed since the last run at once, and not after a dry run
    #[arg(long)]
    now: bool,

    /// Share of a repository's tags that this run may delete, in place of that of the configuration
    #[arg(long, value_name = "PERCENT", value_parser = percentage)]
    max_delete: Option<Percentage>,

    #[command(flatten)]
    output: OutputArgs,
}

/// Policies, and the storage that they are applied to.
struct Source {
    policies: Policies,
    /// Immutable and protected tags.
    tags: TagPolicies,
    place: FolderOrBucket,
}

fn percentage(text: &str) -> Result<Percentage, String> {
    let number = text.strip_suffix('%').unwrap_or(text);
    let percent = number.parse().ok().and_then(Percentage::new);
    percent.ok_or_else(|| "must be a percentage from 0% to 100%".into())
}

// === impl Args ===

impl Args {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            RetentionCommand::Plan(args) => args.run(),
            RetentionCommand::Run(args) => args.run(),
        }
    }
}

// === impl Source ===

impl Source {
    /// Reads the policies; prints the findings and returns `None` if the configuration is not accepted.
    fn read(source: StorageSource) -> anyhow::Result<Option<Self>> {
        let Some(configured) = Configured::find("retention", source.config)? else { return Ok(None) };
        let Some(retention) = &configured.config.retention else {
            let name = &configured.name;
            anyhow::bail!("{name} has no policies; add quinistry.retention, as docs/retention.md says");
        };
        let policies = retention::compile(retention)?;
        let (tags, place) = (configured.tag_policies()?, configured.place(source.place)?);
        Ok(Some(Self { policies, tags, place }))
    }
}

// === impl PlanArgs ===

impl PlanArgs {
    fn run(self) -> anyhow::Result<ExitCode> {
        let Some(Source { policies, tags, place }) = Source::read(self.source)? else {
            return Ok(Exit::Failure.into());
        };
        let outcome = place.with_store(false, |store| {
            store.set_tag_rules(Some(Arc::new(tags)));
            RetentionOutcome::of_plan(store, &policies, Scope::AllTags).context("failed to judge the tags")
        })?;
        self.output.print(&outcome)?;
        Ok(Exit::Success.into())
    }
}

// === impl RunArgs ===

impl RunArgs {
    fn run(self) -> anyhow::Result<ExitCode> {
        let Some(Source { mut policies, tags, place }) = Source::read(self.source)? else {
            return Ok(Exit::Failure.into());
        };
        policies.max_delete = self.max_delete.unwrap_or(policies.max_delete);
        let run = RetentionRun { lead: None, applies_changes_at_once: self.now };
        let outcome = place.with_store(true, |store| {
            store.set_tag_rules(Some(Arc::new(tags)));
            apply(store, &policies, run)
        })?;
        self.output.print(&outcome)?;
        Ok(if outcome.excesses.is_empty() { Exit::Success } else { Exit::Failure }.into())
    }
}

/// Applies policies, and estimates before what that frees.
fn apply(store: &Store, policies: &Policies, run: RetentionRun<'_>) -> anyhow::Result<RetentionOutcome> {
    let planned =
        RetentionOutcome::of_plan(store, policies, Scope::DeletedTags).context("failed to judge the tags")?;
    // Where no registry collects, no leader folds the records of pulls.
    let pulls = store.current_pulls().context("failed to read the records of pulls")?;
    let inputs = RetentionInputs { pulls: &pulls, ..RetentionInputs::of(store) };
    let report = store.run_retention(policies, inputs, run).context("failed to apply the policies")?;
    store.flush_deletions().context("failed to write the records of the deletions")?;
    Ok(planned.applied(&report))
}
