//! Metrics of the operator, in the Prometheus text format. Labels come from closed sets and contain no names
//! of objects, so that the number of series does not grow with the cluster. All series exist from the start:
//! a series that appeared with its first count would hide that count from `increase`.
//!
//! Counted by the driver, served by `admin`. The chart's alerts depend on them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Mutex;
use std::time::Duration;

use super::error::Category;
use super::plan::Conditions;
use crate::api::locks::lock;

/// Upper bounds of the histogram's buckets in seconds; a reconcile without verification of pods takes a
/// millisecond.
const BUCKETS: [f64; 9] = [0.001, 0.005, 0.02, 0.1, 0.5, 1.0, 2.5, 10.0, 30.0];

/// Possible statuses of a condition.
const STATUSES: [&str; 3] = ["True", "False", "Unknown"];

/// A write to the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Write {
    /// Creation or change of a `DaemonSet`.
    Apply,
    /// Deletion of a `DaemonSet`.
    Delete,
    /// Replacement of a pod.
    Replace,
    /// Write of a status.
    Status,
    /// Creation or deletion of a seed part.
    Piece,
    /// Change of a node's carrier label.
    Label,
}

/// Result of the verification of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum VerificationResult {
    /// The whole content matches its digests.
    Whole,
    /// Some content does not match its digest.
    Corrupt,
    /// The pod could not be reached.
    Failed,
}

/// Counters and gauges of the operator.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    counts: Mutex<Counts>,
}

#[derive(Debug)]
struct Counts {
    reconciles: u64,
    seconds: f64,
    buckets: [u64; BUCKETS.len()],
    failures: Counter,
    writes: Counter,
    looks: Counter,
    /// Reported resources by UID.
    resources: BTreeMap<String, Resource>,
    /// UIDs of the resources that another operator looks after.
    unclaimed: BTreeSet<String>,
}

/// Last report about a resource.
#[derive(Debug)]
struct Resource {
    desired: usize,
    ready: usize,
    /// Type and status of each condition.
    conditions: [(&'static str, &'static str); 5],
}

/// Counts by the values of one label.
#[derive(Debug)]
struct Counter {
    label: &'static str,
    counts: BTreeMap<&'static str, u64>,
}

/// Output in the Prometheus text format.
#[derive(Default)]
struct Text(String);

// === impl Write ===

impl Write {
    const ALL: [Self; 6] = [Self::Apply, Self::Delete, Self::Replace, Self::Status, Self::Piece, Self::Label];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Apply => "apply",
            Self::Delete => "delete",
            Self::Replace => "replace",
            Self::Status => "status",
            Self::Piece => "piece",
            Self::Label => "label",
        }
    }
}

// === impl VerificationResult ===

impl VerificationResult {
    const ALL: [Self; 3] = [Self::Whole, Self::Corrupt, Self::Failed];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Corrupt => "corrupt",
            Self::Failed => "failed",
        }
    }
}

// === impl Counts ===

impl Default for Counts {
    fn default() -> Self {
        Self {
            reconciles: 0,
            seconds: 0.0,
            buckets: [0; BUCKETS.len()],
            failures: Counter::new("reason", Category::ALL.map(Category::as_str)),
            writes: Counter::new("kind", Write::ALL.map(Write::as_str)),
            looks: Counter::new("result", VerificationResult::ALL.map(VerificationResult::as_str)),
            resources: BTreeMap::new(),
            unclaimed: BTreeSet::new(),
        }
    }
}

impl Counts {
    fn histogram(&self) -> impl Iterator<Item = (String, f64)> {
        let bounded = BUCKETS.iter().zip(self.buckets);
        let buckets = bounded.map(|(bound, count)| (format!("_bucket{{le=\"{bound}\"}}"), as_float(count)));
        let all = as_float(self.reconciles);
        buckets.chain([
            ("_bucket{le=\"+Inf\"}".into(), all),
            ("_sum".into(), self.seconds),
            ("_count".into(), all),
        ])
    }

    fn conditions(&self) -> impl Iterator<Item = (String, f64)> {
        let types = Conditions::default().all().map(|(kind, _)| kind);
        let series = types.into_iter().flat_map(|kind| STATUSES.map(|status| (kind, status)));
        series.map(move |one| {
            let count = self.resources.values().filter(|resource| resource.conditions.contains(&one)).count();
            (format!("{{type=\"{}\",status=\"{}\"}}", one.0, one.1), as_float(count as u64))
        })
    }

    /// Returns the sum over all resources.
    fn sum(&self, of: impl Fn(&Resource) -> usize) -> u64 {
        self.resources.values().map(of).sum::<usize>() as u64
    }
}

// === impl Counter ===

impl Counter {
    fn new(label: &'static str, values: impl IntoIterator<Item = &'static str>) -> Self {
        Self { label, counts: values.into_iter().map(|value| (value, 0)).collect() }
    }

    fn count(&mut self, value: &'static str) {
        *self.counts.entry(value).or_default() += 1;
    }

    fn samples(&self) -> impl Iterator<Item = (String, f64)> {
        self.counts
            .iter()
            .map(move |(value, count)| (format!("{{{}=\"{value}\"}}", self.label), as_float(*count)))
    }
}

// === impl Text ===

impl Text {
    /// Writes the samples of one metric: suffix of the name, and value.
    fn family(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        samples: impl IntoIterator<Item = (String, f64)>,
    ) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (suffix, value) in samples {
            let _ = writeln!(self.0, "{name}{suffix} {value}");
        }
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "gauge", help, [(String::new(), as_float(value))]);
    }
}

// === impl Metrics ===

impl Metrics {
    /// Records a reconcile.
    pub(super) fn reconciled(&self, took: Duration, failure: Option<Category>) {
        let mut counts = self.lock();
        let seconds = took.as_secs_f64();
        counts.reconciles += 1;
        counts.seconds += seconds;
        for (bucket, bound) in BUCKETS.iter().enumerate() {
            if seconds <= *bound {
                counts.buckets[bucket] += 1;
            }
        }
        if let Some(category) = failure {
            counts.failures.count(category.as_str());
        }
    }

    /// Records a write to the API server.
    pub(super) fn wrote(&self, write: Write) {
        self.lock().writes.count(write.as_str());
    }

    /// Records the verification of a pod.
    pub(super) fn looked(&self, look: VerificationResult) {
        self.lock().looks.count(look.as_str());
    }

    /// Records the wanted and the proven number of generations of a resource, and its conditions.
    pub(super) fn reported(&self, uid: &str, desired: usize, ready: usize, conditions: &Conditions) {
        let conditions = conditions.all().map(|(kind, condition)| (kind, condition.status));
        self.lock().resources.insert(uid.into(), Resource { desired, ready, conditions });
    }

    /// Records that this operator looks after a resource.
    pub(super) fn claimed(&self, uid: &str) {
        self.lock().unclaimed.remove(uid);
    }

    /// Records that another operator looks after a resource.
    pub(super) fn unclaimed(&self, uid: &str) {
        let mut counts = self.lock();
        counts.resources.remove(uid);
        counts.unclaimed.insert(uid.into());
    }

    /// Removes all resources but those that `alive` returns true for.
    pub(super) fn keep(&self, alive: impl Fn(&str) -> bool) {
        let mut counts = self.lock();
        counts.unclaimed.retain(|uid| alive(uid));
        counts.resources.retain(|uid, _| alive(uid));
    }

    /// Renders all metrics; resources are left out while another operator leads.
    #[must_use]
    pub(super) fn render(&self, leads: bool) -> String {
        let mut counts = self.lock();
        if !leads {
            counts.resources.clear();
            counts.unclaimed.clear();
        }
        let mut text = Text::default();
        let reconciles = [(String::new(), as_float(counts.reconciles))];
        text.family("quinistry_operator_reconciles_total", "counter", "Reconciles.", reconciles);
        text.family(
            "quinistry_operator_reconcile_failures_total",
            "counter",
            "Reconciles that failed, by what the API server answered.",
            counts.failures.samples(),
        );
        text.family(
            "quinistry_operator_reconcile_seconds",
            "histogram",
            "Duration of reconciles.",
            counts.histogram(),
        );
        text.family(
            "quinistry_operator_writes_total",
            "counter",
            "Writes to the API server.",
            counts.writes.samples(),
        );
        text.family(
            "quinistry_operator_verifications_total",
            "counter",
            "Pods whose every byte was asked for.",
            counts.looks.samples(),
        );
        text.gauge("quinistry_operator_leader", "Whether this operator leads.", leads.into());
        text.gauge("quinistry_operator_resources", "Resources.", counts.resources.len() as u64);
        text.gauge(
            "quinistry_operator_resources_unclaimed",
            "Resources that another operator looks after.",
            counts.unclaimed.len() as u64,
        );
        text.gauge(
            "quinistry_operator_generations_desired",
            "Generations wanted, over all resources.",
            counts.sum(|resource| resource.desired),
        );
        text.gauge(
            "quinistry_operator_generations_ready",
            "Generations proven, over all resources.",
            counts.sum(|resource| resource.ready),
        );
        text.family(
            "quinistry_operator_conditions",
            "gauge",
            "Resources that have the condition at the status.",
            counts.conditions(),
        );
        text.0
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Counts> {
        lock(&self.counts)
    }
}

#[expect(clippy::cast_precision_loss, reason = "counters stay far below 2^53")]
const fn as_float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests;
