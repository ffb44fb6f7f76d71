//! One cycle of collection of a bucket, led by this process.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use serde::Serialize;
use tokio::runtime::Runtime;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout};

use super::options::CycleOptions;
use super::report::{self, timestamp};
use crate::bucket::BucketOptions;
use crate::cli::output::Report;
use crate::cli::serve::plan::{FolderAccess, StoragePlace, StoragePlan};
use crate::registry::State;
use crate::shutdown::Signals;
use crate::store::{AbsentParts, Cycle, CycleReport, Lead, Store};

/// Longest wait for the lead: a replica that has stopped keeps it for 30 to 40 seconds.
const LEAD_TIMEOUT: Duration = Duration::from_secs(50);

/// Longest time for background work to end after the cycle.
const END_TIMEOUT: Duration = Duration::from_secs(3);

/// Pause between two looks at the lead.
const LEAD_PAUSE: Duration = Duration::from_millis(200);

/// Result of a cycle.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct CycleResult {
    dry_run: bool,
    /// Time before which no cycle can begin, if it is too early for one.
    waits_until: Option<String>,
    /// Report of the cycle, if there was one.
    report: Option<CycleReport>,
}

/// Collects a bucket by one cycle, with the work of a leading registry before and after it.
pub(in crate::cli) fn collect_bucket(
    bucket: &BucketOptions,
    options: CycleOptions,
) -> anyhow::Result<CycleResult> {
    let access = if options.is_preview { FolderAccess::Read } else { FolderAccess::Write };
    let dry_run = options.settings.collection.is_some_and(|collection| collection.dry_run);
    let runtime = runtime()?;
    let result = runtime.block_on(async {
        let mut signals = Signals::listen().context("failed to listen for signals")?;
        let stop = Arc::<AtomicBool>::default();
        let store = open(bucket, access)?;
        let hooks = options.hooks();
        let state = State::stored(store.clone(), options.settings);
        let collected = async {
            let lead =
                if options.is_preview { Lead::of_reader() } else { lead(&state, &store, bucket).await? };
            let cycle = state.lead_cycle(hooks, lead.until(stop.clone())).await;
            let cycle = cycle.context("failed to run a cycle of collection")?;
            // A registry keeps records that it could not write for later. This process ends.
            let records = store.clone();
            let written = spawn_blocking(move || records.flush_deletions()).await?;
            written.context("failed to write the records of the deletions")?;
            cycle.with_context(|| format!("failed to collect {bucket}"))
        };
        tokio::pin!(collected);
        let cycle = tokio::select! {
            cycle = &mut collected => cycle?,
            () = signals.next() => {
                stop.store(true, Ordering::Relaxed);
                // The work after the cycle writes the records of what was removed.
                let _ = timeout(END_TIMEOUT, collected).await;
                anyhow::bail!("interrupted; the next cycle goes on where this one ended")
            }
        };
        Ok(match cycle {
            Cycle::Waits { until } => {
                CycleResult { dry_run, waits_until: Some(timestamp(until)), report: None }
            }
            Cycle::Done(report) => CycleResult { dry_run, waits_until: None, report: Some(report) },
            Cycle::LostLead => anyhow::bail!(
                "lost the lead of {bucket} to another replica, which goes on with the cycle if it collects \
                 (quinistry.gc); otherwise run this again"
            ),
        })
    });
    // After a signal, a cycle may take minutes to notice, and can be cut off anywhere.
    runtime.shutdown_timeout(END_TIMEOUT);
    result
}

/// Makes a runtime of several threads: calls of a bucket block one of them.
pub(super) fn runtime() -> anyhow::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("failed to start")
}

/// Opens a bucket as one replica of several. Must be called within a runtime of several threads.
pub(super) fn open(bucket: &BucketOptions, access: FolderAccess) -> anyhow::Result<Store> {
    let plan = StoragePlan {
        place: StoragePlace::Bucket(Box::new(bucket.clone())),
        access,
        absent_parts: AbsentParts::Refused,
        coherence: None,
        is_exclusive: bucket.is_exclusive,
    };
    Ok(plan.open(None)?.store)
}

/// Takes the lead, and keeps it for as long as the runtime lives.
async fn lead(state: &State, store: &Store, bucket: &BucketOptions) -> anyhow::Result<Lead> {
    // As a registry does: heartbeats, and renewals of the lead.
    tokio::spawn(state.maintain_storage());
    let begin = Instant::now();
    loop {
        if let Some(lead) = store.lead() {
            return Ok(lead);
        }
        anyhow::ensure!(
            begin.elapsed() < LEAD_TIMEOUT,
            "a running replica leads {bucket}: let it collect, by quinistry.gc in its configuration, or stop all replicas \
             and run this again; --dry-run and `quinistry gc status` work beside it"
        );
        sleep(LEAD_PAUSE).await;
    }
}

// === impl CycleResult ===

impl Report for CycleResult {
    fn text(&self) -> String {
        let mut text = String::new();
        if let Some(until) = &self.waits_until {
            writeln!(
                text,
                "too early: the last cycle condemned content that must wait until {until}; run this again then"
            )
            .expect("writing to a string does not fail");
        }
        if let Some(report) = &self.report {
            text += &report::lines(report, SystemTime::now());
        }
        text
    }

    fn essence(&self) -> String {
        String::new()
    }
}
