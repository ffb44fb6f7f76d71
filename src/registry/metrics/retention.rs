//! Metrics of retention, which the leader runs before each cycle of collection.

use quinistry_http::metrics::{Counter, Exposition, Gauge};
use quinistry_store::retention::RetentionReport;

/// Metrics of retention. Counted also while no listener shows them.
#[derive(Debug, Default)]
pub(crate) struct RetentionMetrics {
    runs: [Counter; RESULTS.len()],
    deleted: Counter,
    refused: Gauge,
    refusals: Counter,
}

/// Results of runs, as values of the label `result`.
const RESULTS: [&str; 3] = ["applied", "dry", "failed"];

// === impl RetentionMetrics ===

impl RetentionMetrics {
    /// Counts a run that ended with a report.
    pub(crate) fn ran(&self, report: &RetentionReport) {
        let [applied, dry, _] = &self.runs;
        if report.dry_run.is_some() {
            dry.increment();
        } else {
            applied.increment();
            self.deleted.add(report.deleted.len() as u64);
        }
        let refused = report.excesses.len() as u64;
        self.refused.set(refused);
        self.refusals.add(refused);
    }

    /// Forgets the last run, which another replica will make from now on.
    pub(crate) fn forget(&self) {
        self.refused.set(0);
    }

    /// Counts a run that failed.
    pub(crate) fn failed(&self) {
        let [.., failed] = &self.runs;
        failed.increment();
    }

    pub(super) fn write(&self, page: &mut Exposition) {
        page.counter_series(
            "quinistry_retention_runs_total",
            "Runs of retention before cycles of collection.",
            RESULTS.into_iter().zip(&self.runs).map(|(result, runs)| ([("result", result)], runs.get())),
        );
        page.counter(
            "quinistry_retention_deleted_tags_total",
            "Tags that retention has deleted.",
            self.deleted.get(),
        );
        page.gauge(
            "quinistry_retention_refused_repositories",
            "Repositories of which the last run deleted nothing, since it would have deleted more than maxdelete.",
            self.refused.get(),
        );
        page.counter(
            "quinistry_retention_refusals_total",
            "Repositories of which runs deleted nothing, since they would have deleted more than maxdelete.",
            self.refusals.get(),
        );
    }
}

#[cfg(test)]
mod tests {
    use quinistry_store::retention::{DryRun, Excess};

    use super::*;

    #[test]
    fn runs_are_counted_by_result_and_refusals_of_the_last_one_are_shown() {
        let metrics = RetentionMetrics::default();
        let excess = Excess { repository: "app".parse().unwrap(), deleted: 9, tags: 10 };
        metrics
            .ran(&RetentionReport { excesses: vec![excess.clone(), excess], ..RetentionReport::default() });
        metrics.ran(&RetentionReport { dry_run: Some(DryRun::Configured), ..RetentionReport::default() });
        metrics.failed();
        let mut page = Exposition::default();
        metrics.write(&mut page);
        let page = page.into_text();
        for line in [
            "quinistry_retention_runs_total{result=\"applied\"} 1",
            "quinistry_retention_runs_total{result=\"dry\"} 1",
            "quinistry_retention_runs_total{result=\"failed\"} 1",
            "quinistry_retention_refused_repositories 0",
            "quinistry_retention_refusals_total 2",
        ] {
            assert!(page.lines().any(|found| found == line), "{line}: {page}");
        }
    }
}
