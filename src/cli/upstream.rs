//! `quinistry upstream`: shows the copies of upstreams in a storage, fetches what is to be fetched in advance, and removes
//! copies.

mod report;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Subcommand, ValueHint};

use self::report::{EvictionOutcome, PrefetchOutcome, UpstreamStatus};
use super::configured::Configured;
use super::count;
use super::exit::Exit;
use super::output::OutputArgs;
use super::serve::upstreams::upstreams;
use super::storage::folder_or_bucket::FolderOrBucket;
use crate::oci::RepositoryName;
use crate::registry::{
    CopySelection, Settings, State, StoredUpstreams, TagPolicies, UpstreamSettings, recorded_states,
};
use crate::store::Store;
use crate::store::copies::EvictionReport;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: UpstreamCommand,
}

#[derive(Debug, Subcommand)]
enum UpstreamCommand {
    /// Show for each upstream how many copies the storage has, their bytes and oldest use, and whether the upstream answers
    Status(StatusArgs),
    /// Fetch now what `prefetch` of the configuration names, into a folder that no registry serves, or a bucket
    Prefetch(PrefetchArgs),
    /// Remove copies of upstreams; the next pull fetches them again
    Evict(EvictArgs),
}

#[derive(Debug, clap::Args)]
struct SourceArgs {
    #[arg(
        long = "storage",
        value_name = "DIR|URL",
        value_hint = ValueHint::DirPath,
        help = "Folder of `serve --storage`, or bucket s3://BUCKET/PREFIX, gs://… or az://… [default: the storage of the \
                configuration]"
    )]
    place: Option<FolderOrBucket>,

    #[arg(long, value_name = "CONFIG", value_hint = ValueHint::FilePath)]
    #[arg(help = "Configuration file with the upstreams [default: $REGISTRY_CONFIGURATION_PATH]")]
    config: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct StatusArgs {
    #[command(flatten)]
    source: SourceArgs,

    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, clap::Args)]
struct PrefetchArgs {
    #[command(flatten)]
    source: SourceArgs,

    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, clap::Args)]
struct EvictArgs {
    /// Repositories as clients name them, such as docker.io/library/debian
    #[arg(value_name = "NAME", required_unless_present = "unused_for")]
    names: Vec<RepositoryName>,

    /// Leave copies that were used within this time, such as 30d or 12h
    #[arg(long, value_name = "TIME", value_parser = time)]
    unused_for: Option<Duration>,

    #[command(flatten)]
    source: SourceArgs,

    #[command(flatten)]
    output: OutputArgs,
}

/// Upstreams of a configuration, and the storage of their copies.
struct Source {
    upstreams: Vec<UpstreamSettings>,
    tags: TagPolicies,
    place: FolderOrBucket,
}

/// Parses a number of days, hours, minutes or seconds.
fn time(text: &str) -> Result<Duration, String> {
    let seconds = [("d", 24 * 60 * 60), ("h", 60 * 60), ("m", 60), ("s", 1)];
    let parsed = seconds.iter().find_map(|(unit, seconds)| {
        let digits =
            text.strip_suffix(unit).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
        digits.parse::<u64>().ok()?.checked_mul(*seconds)
    });
    parsed.map(Duration::from_secs).ok_or_else(|| "must be a time such as 30d, 12h, 30m or 45s".into())
}

// === impl Args ===

impl Args {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            UpstreamCommand::Status(args) => args.run(),
            UpstreamCommand::Prefetch(args) => args.run(),
            UpstreamCommand::Evict(args) => args.run(),
        }
    }
}

// === impl SourceArgs ===

impl SourceArgs {
    /// Reads the upstreams; prints the findings and returns `None` if the configuration is not accepted.
    fn read(self) -> anyhow::Result<Option<Source>> {
        let Some(configured) = Configured::find("upstream", self.config)? else { return Ok(None) };
        if configured.config.upstreams.is_empty() {
            let name = &configured.name;
            anyhow::bail!("{name} has no upstreams; add quinistry.upstreams, as docs/upstreams.md says");
        }
        let (tags, place) = (configured.tag_policies()?, configured.place(self.place)?);
        Ok(Some(Source { upstreams: configured.config.upstreams, tags, place }))
    }
}

// === impl StatusArgs ===

impl StatusArgs {
    fn run(self) -> anyhow::Result<ExitCode> {
        let Some(Source { upstreams, place, .. }) = self.source.read()? else {
            return Ok(Exit::Failure.into());
        };
        let stored = StoredUpstreams::new(&upstreams)?;
        let (summaries, states) = place.with_store(false, |store| {
            let summaries = stored.summaries(store).context("failed to read the copies")?;
            Ok((summaries, recorded_states(store).context("failed to read the states of upstreams")?))
        })?;
        let states = states.unwrap_or_default();
        self.output.print(&UpstreamStatus::new(&upstreams, &summaries, states))?;
        Ok(Exit::Success.into())
    }
}

// === impl PrefetchArgs ===

impl PrefetchArgs {
    fn run(self) -> anyhow::Result<ExitCode> {
        let Some(Source { upstreams: settings, tags, place }) = self.source.read()? else {
            return Ok(Exit::Failure.into());
        };
        let asked = upstreams(&settings)?;
        let fetched = place.with_store(true, |store| {
            let tags = Some(Arc::new(tags));
            let state =
                State::stored(store.clone(), Settings { upstreams: asked, tags, ..Settings::default() });
            Ok(tokio::runtime::Handle::current().block_on(state.prefetch_now()))
        })?;
        let outcome = PrefetchOutcome::from(fetched);
        self.output.print(&outcome)?;
        Ok(if outcome.is_complete() { Exit::Success } else { Exit::Failure }.into())
    }
}

// === impl EvictArgs ===

impl EvictArgs {
    fn run(self) -> anyhow::Result<ExitCode> {
        let Some(Source { upstreams, tags, place }) = self.source.read()? else {
            return Ok(Exit::Failure.into());
        };
        let stored = StoredUpstreams::new(&upstreams)?;
        let repositories = stored.resolve(&self.names)?;
        let selection = CopySelection { repositories, unused_for: self.unused_for.unwrap_or_default() };
        let report = place.with_store(true, |store| {
            store.set_tag_rules(Some(Arc::new(tags)));
            evict(store, &stored, &selection)
        })?;
        self.output.print(&EvictionOutcome { evicted: report.evicted() })?;
        if report.failures > 0 {
            anyhow::bail!("failed to remove {}; repeat the command", count(report.failures, "other"));
        }
        Ok(Exit::Success.into())
    }
}

fn evict(
    store: &Store,
    stored: &StoredUpstreams,
    selection: &CopySelection,
) -> anyhow::Result<EvictionReport> {
    let report = stored.evict(store, selection).context("failed to remove copies")?;
    store.flush_deletions().context("failed to write the records of the deletions")?;
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_number_with_a_unit() {
        for (text, seconds) in [("30d", 2_592_000), ("12h", 43_200), ("0s", 0)] {
            assert_eq!(time(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "d", "12", "-1h", "1.5h", "1w", "99999999999999999999d"] {
            assert!(time(text).is_err(), "{text}");
        }
    }
}
