//! Metrics of the collection of garbage. No label holds the name of a repository.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use quinistry_http::metrics::{Counter, Exposition, Gauge};
use quinistry_store::{CycleReport, GcPhase, KindReport};

use super::retention::RetentionMetrics;
use crate::collection::CollectionSettings;

/// Kinds of subjects, as values of the label `kind`.
const KINDS: [&str; 3] = ["revision", "link", "blob"];

/// Causes for which condemned subjects stay, as values of the label `cause`.
///
/// A cause that this list lacks counts as `other`.
const CAUSES: [&str; 11] =
    ["head", "get", "mount", "blob", "manifest", "tag", "touched", "needed", "live", "absent", "other"];

/// Metrics of the collection of garbage. Counted also while no listener shows them.
#[derive(Debug, Default)]
pub struct CollectionMetrics {
    is_enabled: Gauge,
    /// Time between the begins of two cycles, in seconds.
    interval: Gauge,
    running: Gauge,
    /// Work of the leader before each cycle.
    pub(crate) retention: RetentionMetrics,
    /// Time of the last success in seconds since 1970.
    success: AtomicU64,
    failures: Counter,
    view_failures: Counter,
    damaged: Counter,
    cycles: Mutex<Cycles>,
}

/// Last report, and sums of all that this process has made.
#[derive(Debug, Default)]
struct Cycles {
    last: Option<CycleReport>,
    removed: [u64; 3],
    removed_bytes: [u64; 3],
    revived: [[u64; CAUSES.len()]; 3],
}

/// Cycle in progress, for as long as the value lives.
#[derive(Debug)]
pub(crate) struct RunningCycle<'a>(&'a Gauge);

// === impl RunningCycle ===

impl Drop for RunningCycle<'_> {
    fn drop(&mut self) {
        self.0.decrement();
    }
}

// === impl CollectionMetrics ===

impl CollectionMetrics {
    /// Records whether garbage is collected, and at which interval.
    pub(crate) fn follow(&self, settings: Option<&CollectionSettings>) {
        self.is_enabled.set(settings.is_some().into());
        self.interval.set(settings.map_or(0, |settings| settings.interval.as_secs()));
    }

    /// Records that a cycle is in progress, for as long as the returned value lives.
    pub(crate) fn run(&self) -> RunningCycle<'_> {
        self.running.increment();
        RunningCycle(&self.running)
    }

    /// Counts a failed attempt to collect.
    pub(crate) fn failed(&self) {
        self.failures.increment();
    }

    /// Counts manifests whose parts could not be read.
    pub(crate) fn found_damaged(&self, manifests: u64) {
        self.damaged.add(manifests);
    }

    /// Counts a failed attempt to refresh the view of condemned subjects.
    pub(crate) fn view_failed(&self) {
        self.view_failures.increment();
    }

    /// Shows the report of the last cycle, which another process may have made.
    pub(crate) fn show(&self, report: &CycleReport) {
        self.success.store(report.ended, Ordering::Relaxed);
        self.cycles().last = Some(report.clone());
    }

    /// Counts a cycle that this process has made.
    pub(crate) fn succeeded(&self, report: &CycleReport, now: SystemTime) {
        self.show(report);
        self.success.store(seconds(now), Ordering::Relaxed);
        self.found_damaged(report.unknown.iter().filter(|manifest| manifest.is_damaged).count() as u64);
        let mut cycles = self.cycles();
        for (index, (_, kind)) in kinds(report).into_iter().enumerate() {
            cycles.removed[index] += kind.doomed;
            cycles.removed_bytes[index] += kind.doomed_bytes;
            for (cause, count) in &kind.revived {
                let known = CAUSES.iter().position(|known| known == cause);
                cycles.revived[index][known.unwrap_or(CAUSES.len() - 1)] += count;
            }
        }
    }

    fn cycles(&self) -> std::sync::MutexGuard<'_, Cycles> {
        self.cycles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows the numbers, and the phase of the cycle that this replica is in.
    pub(super) fn write(&self, page: &mut Exposition, phase: GcPhase) {
        let cycles = self.cycles();
        let last = cycles.last.clone().unwrap_or_default();
        page.gauge(
            "quinistry_gc_enabled",
            "Whether garbage is collected while serving.",
            self.is_enabled.get(),
        );
        page.gauge(
            "quinistry_gc_running",
            "Whether this replica is in a cycle of collection.",
            self.running.get(),
        );
        page.gauge(
            "quinistry_gc_interval_seconds",
            "Time between the begins of two cycles of collection, 0 if garbage is not collected.",
            self.interval.get(),
        );
        page.gauges(
            "quinistry_gc_phase",
            "Phase of collection that this replica is in: 1 for the present one.",
            GcPhase::ALL.map(|one| ([("phase", one.as_str())], u64::from(one == phase))),
        );
        page.gauge("quinistry_gc_epoch", "Number of the last epoch of collection.", last.epoch);
        page.gauge(
            "quinistry_gc_last_success_timestamp_seconds",
            "Time of the last cycle of collection that succeeded.",
            self.success.load(Ordering::Relaxed),
        );
        page.gauge(
            "quinistry_gc_duration_seconds",
            "Duration of the last cycle of collection.",
            last.ended.saturating_sub(last.begun),
        );
        let states = |of: fn(&KindReport) -> [(&'static str, u64); 4]| {
            let last = &last;
            kinds(last).into_iter().flat_map(move |(kind, report)| {
                of(report).map(|(state, value)| ([("kind", kind), ("state", state)], value))
            })
        };
        page.gauges(
            "quinistry_gc_subjects",
            "Manifests, links and blobs of the last cycle of collection by what became of them.",
            states(|kind| {
                let revived = kind.revived.values().sum();
                [
                    ("found", kind.found),
                    ("condemned", kind.condemned),
                    ("revived", revived),
                    ("removed", kind.doomed),
                ]
            }),
        );
        page.gauges(
            "quinistry_gc_condemned_bytes",
            "Bytes that the next cycle of collection frees, unless they are used.",
            kinds(&last).map(|(kind, report)| ([("kind", kind)], report.condemned_bytes)),
        );
        let sums = |sums: [u64; 3]| KINDS.into_iter().zip(sums).map(|(kind, sum)| ([("kind", kind)], sum));
        page.counter_series(
            "quinistry_gc_removed_total",
            "Manifests, links and blobs that this replica has removed.",
            sums(cycles.removed),
        );
        page.counter_series(
            "quinistry_gc_removed_bytes_total",
            "Bytes that this replica has removed.",
            sums(cycles.removed_bytes),
        );
        page.counter_series(
            "quinistry_gc_revived_total",
            "Condemned manifests, links and blobs that stay.",
            KINDS.into_iter().zip(&cycles.revived).flat_map(|(kind, sums)| {
                CAUSES
                    .into_iter()
                    .zip(sums)
                    .map(move |(cause, sum)| ([("kind", kind), ("cause", cause)], *sum))
            }),
        );
        page.counter(
            "quinistry_gc_damaged_total",
            "Damaged manifests that cycles of collection met.",
            self.damaged.get(),
        );
        page.counter("quinistry_gc_failures_total", "Failed cycles of collection.", self.failures.get());
        page.counter(
            "quinistry_gc_view_failures_total",
            "Failed reads of the list of what is condemned.",
            self.view_failures.get(),
        );
        self.retention.write(page);
    }
}

fn kinds(report: &CycleReport) -> [(&'static str, &KindReport); 3] {
    let [revision, link, blob] = KINDS;
    [(revision, &report.revisions), (link, &report.links), (blob, &report.blobs)]
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removed_and_revived_subjects_add_up_and_the_report_of_another_replica_does_not() {
        let mut report = CycleReport { epoch: 7, begun: 100, ended: 160, ..CycleReport::default() };
        report.blobs.doomed = 3;
        report.blobs.doomed_bytes = 50;
        report.blobs.condemned_bytes = 9;
        report.links.revived = [("head".to_owned(), 2), ("a later cause".to_owned(), 1)].into();
        let metrics = CollectionMetrics::default();
        metrics.show(&report);
        metrics.succeeded(&report, UNIX_EPOCH + std::time::Duration::from_secs(200));
        metrics.succeeded(&report, UNIX_EPOCH + std::time::Duration::from_mins(5));
        let mut page = Exposition::default();
        metrics.write(&mut page, GcPhase::Sweep);
        let page = page.into_text();
        for line in [
            "quinistry_gc_epoch 7",
            "quinistry_gc_duration_seconds 60",
            "quinistry_gc_last_success_timestamp_seconds 300",
            "quinistry_gc_condemned_bytes{kind=\"blob\"} 9",
            "quinistry_gc_removed_total{kind=\"blob\"} 6",
            "quinistry_gc_phase{phase=\"sweep\"} 1",
            "quinistry_gc_phase{phase=\"mark\"} 0",
            "quinistry_gc_subjects{kind=\"link\",state=\"revived\"} 3",
            "quinistry_gc_subjects{kind=\"blob\",state=\"removed\"} 3",
            "quinistry_gc_removed_bytes_total{kind=\"blob\"} 100",
            "quinistry_gc_revived_total{kind=\"link\",cause=\"head\"} 4",
            "quinistry_gc_revived_total{kind=\"link\",cause=\"other\"} 2",
        ] {
            assert!(page.lines().any(|found| found == line), "{line}: {page}");
        }
    }
}
