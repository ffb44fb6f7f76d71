//! Metrics of the operator, in the Prometheus text format. Labels come from closed sets and contain no names
//! of objects, so that the number of series does not grow with the cluster. All series exist from the start:
//! a series that appeared with its first count would hide that count from `increase`.
//!
//! Counted by the driver, served by `admin`. The chart's alerts depend on them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;

use quinistry_http::metrics::{CounterFamily, Exposition, Histogram, LabelValue};

use super::error::Category;
use super::plan::Conditions;
use crate::api::conditions::{ACCEPTED, AVAILABLE, DEGRADED, STORE_READY};
use crate::api::locks::lock;
use crate::crd::BundleStatus;

/// Upper bounds of the histogram's buckets in seconds; a reconcile without verification of pods takes a
/// millisecond.
const BUCKETS: [f64; 9] = [0.001, 0.005, 0.02, 0.1, 0.5, 1.0, 2.5, 10.0, 30.0];

/// Possible statuses of a condition.
const STATUSES: [&str; 3] = ["True", "False", "Unknown"];

/// Types of the conditions of bundles.
const BUNDLE_CONDITIONS: [&str; 3] = [ACCEPTED, AVAILABLE, DEGRADED];

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
#[derive(Debug)]
pub(super) struct Metrics {
    reconciles: Histogram,
    failures: CounterFamily<Category>,
    writes: CounterFamily<Write>,
    verifications: CounterFamily<VerificationResult>,
    resources: Mutex<ReportedResources>,
    bundles: Mutex<ReportedBundles>,
}

/// Last report about each bundle, by UID: type and status of each condition.
#[derive(Debug, Default)]
struct ReportedBundles(BTreeMap<String, Vec<(String, String)>>);

/// Reports about resources.
#[derive(Debug, Default)]
struct ReportedResources {
    /// Last report about each resource, by UID.
    reported: BTreeMap<String, ResourceReport>,
    /// UIDs of the resources that another operator looks after.
    unclaimed: BTreeSet<String>,
}

/// Last report about a resource.
#[derive(Debug)]
struct ResourceReport {
    desired: usize,
    ready: usize,
    /// Type and status of each condition.
    conditions: Vec<(&'static str, &'static str)>,
}

// === impl Write ===

impl LabelValue for Write {
    const ALL: &'static [Self] =
        &[Self::Apply, Self::Delete, Self::Replace, Self::Status, Self::Piece, Self::Label];

    fn as_str(self) -> &'static str {
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

impl LabelValue for VerificationResult {
    const ALL: &'static [Self] = &[Self::Whole, Self::Corrupt, Self::Failed];

    fn as_str(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Corrupt => "corrupt",
            Self::Failed => "failed",
        }
    }
}

// === impl Category ===

impl LabelValue for Category {
    const ALL: &'static [Self] = &Self::ALL;

    fn as_str(self) -> &'static str {
        self.as_str()
    }
}

// === impl ReportedResources ===

impl ReportedResources {
    /// Returns the number of resources for each type and status of a condition.
    fn conditions(&self) -> impl Iterator<Item = ([(&'static str, &'static str); 2], u64)> {
        let types = Conditions::default().all().map(|(kind, _)| kind);
        let series =
            types.into_iter().chain([STORE_READY]).flat_map(|kind| STATUSES.map(|status| (kind, status)));
        series.map(move |one| {
            let count = self.reported.values().filter(|report| report.conditions.contains(&one)).count();
            ([("type", one.0), ("status", one.1)], count as u64)
        })
    }

    /// Returns the sum over all resources.
    fn sum(&self, of: impl Fn(&ResourceReport) -> usize) -> u64 {
        self.reported.values().map(of).sum::<usize>() as u64
    }
}

// === impl ReportedBundles ===

impl ReportedBundles {
    /// Returns the number of bundles for each type and status of a condition.
    fn conditions(&self) -> impl Iterator<Item = ([(&'static str, &'static str); 2], u64)> {
        let series = BUNDLE_CONDITIONS.into_iter().flat_map(|kind| STATUSES.map(|status| (kind, status)));
        series.map(move |(kind, status)| {
            let has =
                |report: &&Vec<(String, String)>| report.iter().any(|one| one.0 == kind && one.1 == status);
            ([("type", kind), ("status", status)], self.0.values().filter(has).count() as u64)
        })
    }
}

// === impl Metrics ===

impl Default for Metrics {
    fn default() -> Self {
        Self {
            reconciles: Histogram::new(&BUCKETS),
            failures: CounterFamily::default(),
            writes: CounterFamily::default(),
            verifications: CounterFamily::default(),
            resources: Mutex::default(),
            bundles: Mutex::default(),
        }
    }
}

impl Metrics {
    /// Records a reconcile.
    pub(super) fn reconciled(&self, took: Duration, failure: Option<Category>) {
        self.reconciles.observe(took);
        if let Some(category) = failure {
            self.failures.of(category).increment();
        }
    }

    /// Records a write to the API server.
    pub(super) fn wrote(&self, write: Write) {
        self.writes.of(write).increment();
    }

    /// Records the verification of a pod.
    pub(super) fn verified(&self, result: VerificationResult) {
        self.verifications.of(result).increment();
    }

    /// Records the wanted and the proven number of generations of a resource, its conditions, and the status of
    /// `StoreReady` if it has stores.
    pub(super) fn reported(
        &self,
        uid: &str,
        desired: usize,
        ready: usize,
        conditions: &Conditions,
        store: Option<&'static str>,
    ) {
        let conditions = conditions.all().into_iter().map(|(kind, condition)| (kind, condition.status));
        let conditions = conditions.chain(store.map(|status| (STORE_READY, status))).collect();
        self.lock().reported.insert(uid.into(), ResourceReport { desired, ready, conditions });
    }

    /// Records that this operator looks after a resource.
    pub(super) fn claimed(&self, uid: &str) {
        self.lock().unclaimed.remove(uid);
    }

    /// Records that another operator looks after a resource.
    pub(super) fn unclaimed(&self, uid: &str) {
        let mut resources = self.lock();
        resources.reported.remove(uid);
        resources.unclaimed.insert(uid.into());
    }

    /// Removes all resources but those that `alive` returns true for.
    pub(super) fn keep(&self, alive: impl Fn(&str) -> bool) {
        let mut resources = self.lock();
        resources.unclaimed.retain(|uid| alive(uid));
        resources.reported.retain(|uid, _| alive(uid));
    }

    /// Records the conditions of a bundle.
    pub(super) fn bundle_reported(&self, uid: &str, status: &BundleStatus) {
        let conditions = status.conditions.iter().map(|one| (one.type_.clone(), one.status.clone()));
        lock(&self.bundles).0.insert(uid.into(), conditions.collect());
    }

    /// Records that another operator looks after a bundle.
    pub(super) fn bundle_unclaimed(&self, uid: &str) {
        lock(&self.bundles).0.remove(uid);
    }

    /// Removes all bundles but those that `alive` returns true for.
    pub(super) fn keep_bundles(&self, alive: impl Fn(&str) -> bool) {
        lock(&self.bundles).0.retain(|uid, _| alive(uid));
    }

    /// Renders all metrics; resources and bundles are left out while another operator leads.
    #[must_use]
    pub(super) fn render(&self, leads: bool) -> String {
        let mut resources = self.lock();
        let mut bundles = lock(&self.bundles);
        if !leads {
            *resources = ReportedResources::default();
            *bundles = ReportedBundles::default();
        }
        let mut text = Exposition::default();
        text.counter("quinistry_operator_reconciles_total", "Reconciles.", self.reconciles.count());
        text.counters(
            "quinistry_operator_reconcile_failures_total",
            "Reconciles that failed, by what the API server answered.",
            "reason",
            &self.failures,
        );
        text.histogram("quinistry_operator_reconcile_seconds", "Duration of reconciles.", &self.reconciles);
        text.counters("quinistry_operator_writes_total", "Writes to the API server.", "kind", &self.writes);
        text.counters(
            "quinistry_operator_verifications_total",
            "Pods whose every byte was asked for.",
            "result",
            &self.verifications,
        );
        text.gauge("quinistry_operator_leader", "Whether this operator leads.", leads.into());
        text.gauge("quinistry_operator_resources", "Resources.", resources.reported.len() as u64);
        text.gauge(
            "quinistry_operator_resources_unclaimed",
            "Resources that another operator looks after.",
            resources.unclaimed.len() as u64,
        );
        text.gauge(
            "quinistry_operator_generations_desired",
            "Generations wanted, over all resources.",
            resources.sum(|report| report.desired),
        );
        text.gauge(
            "quinistry_operator_generations_ready",
            "Generations proven, over all resources.",
            resources.sum(|report| report.ready),
        );
        text.gauges(
            "quinistry_operator_conditions",
            "Resources that have the condition at the status.",
            resources.conditions(),
        );
        text.gauge("quinistry_operator_bundles", "Bundles.", bundles.0.len() as u64);
        text.gauges(
            "quinistry_operator_bundle_conditions",
            "Bundles that have the condition at the status.",
            bundles.conditions(),
        );
        text.into_text()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, ReportedResources> {
        lock(&self.resources)
    }
}

#[cfg(test)]
mod tests;
