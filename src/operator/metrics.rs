//! What the operator counts, in the Prometheus text format. Labels come from closed sets: no names of objects, so that
//! the number of series does not grow with the cluster.
//!
//! Counted by the driver, shown by `admin`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::time::Duration;

use super::error::Category;

/// Upper bounds of the histogram's buckets in seconds; a reconcile without a look at pods takes a millisecond.
const BUCKETS: [f64; 9] = [0.001, 0.005, 0.02, 0.1, 0.5, 1.0, 2.5, 10.0, 30.0];

/// What came of a look at a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Look {
    /// All bytes are what they should be.
    Whole,
    /// Some are not.
    Corrupt,
    /// The pod could not be reached.
    Failed,
}

/// All counters.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    reconciles: u64,
    seconds: f64,
    buckets: [u64; BUCKETS.len()],
    failures: BTreeMap<&'static str, u64>,
    writes: BTreeMap<&'static str, u64>,
    looks: BTreeMap<Look, u64>,
    /// Generations desired and ready, by resource.
    generations: BTreeMap<String, (usize, usize)>,
}

// === impl Metrics ===

impl Metrics {
    /// A reconcile ended.
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
            *counts.failures.entry(category.as_str()).or_default() += 1;
        }
    }

    /// Something was written to the API server.
    pub(super) fn wrote(&self, what: &'static str) {
        *self.lock().writes.entry(what).or_default() += 1;
    }

    /// A pod was looked at.
    pub(super) fn looked(&self, look: Look) {
        *self.lock().looks.entry(look).or_default() += 1;
    }

    /// A resource wants so many generations and has so many.
    pub(super) fn generations(&self, uid: &str, desired: usize, ready: usize) {
        self.lock().generations.insert(uid.into(), (desired, ready));
    }

    /// Only these resources are left.
    pub(super) fn keep(&self, alive: impl Fn(&str) -> bool) {
        self.lock().generations.retain(|uid, _| alive(uid));
    }

    /// Everything, as Prometheus reads it.
    #[must_use]
    pub(super) fn render(&self) -> String {
        let counts = self.lock();
        let mut text = String::new();
        let mut family = |name: &str, kind: &str, help: &str, samples: Vec<(String, f64)>| {
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for (suffix, value) in samples {
                let _ = writeln!(text, "{name}{suffix} {value}");
            }
        };
        let reconciles = as_float(counts.reconciles);
        family(
            "quinistry_operator_reconciles_total",
            "counter",
            "Reconciles.",
            vec![(String::new(), reconciles)],
        );
        let failures = [
            Category::Conflict,
            Category::Forbidden,
            Category::Invalid,
            Category::NotFound,
            Category::Unreachable,
        ]
        .map(|category| {
            let count = counts.failures.get(category.as_str()).copied().unwrap_or_default();
            (format!("{{reason=\"{}\"}}", category.as_str()), as_float(count))
        });
        family(
            "quinistry_operator_reconcile_failures_total",
            "counter",
            "Failed reconciles.",
            failures.into(),
        );
        let mut histogram: Vec<_> = BUCKETS
            .iter()
            .zip(counts.buckets)
            .map(|(bound, count)| (format!("_bucket{{le=\"{bound}\"}}"), as_float(count)))
            .collect();
        histogram.push(("_bucket{le=\"+Inf\"}".into(), reconciles));
        histogram.push(("_sum".into(), counts.seconds));
        histogram.push(("_count".into(), reconciles));
        family("quinistry_operator_reconcile_seconds", "histogram", "Duration of reconciles.", histogram);
        let writes = ["apply", "delete", "replace", "status"].map(|what| {
            (format!("{{kind=\"{what}\"}}"), as_float(counts.writes.get(what).copied().unwrap_or_default()))
        });
        family("quinistry_operator_writes_total", "counter", "Writes to the API server.", writes.into());
        let looks = [(Look::Whole, "whole"), (Look::Corrupt, "corrupt"), (Look::Failed, "failed")].map(
            |(look, name)| {
                (
                    format!("{{result=\"{name}\"}}"),
                    as_float(counts.looks.get(&look).copied().unwrap_or_default()),
                )
            },
        );
        family(
            "quinistry_operator_verifications_total",
            "counter",
            "Pods whose every byte was asked for.",
            looks.into(),
        );
        let (desired, ready) = counts
            .generations
            .values()
            .fold((0, 0), |(all, done), (desired, ready)| (all + desired, done + ready));
        let resources = vec![(String::new(), as_float(counts.generations.len() as u64))];
        family("quinistry_operator_resources", "gauge", "Resources.", resources);
        let desired = vec![(String::new(), as_float(desired as u64))];
        family(
            "quinistry_operator_generations_desired",
            "gauge",
            "Generations wanted, over all resources.",
            desired,
        );
        let ready = vec![(String::new(), as_float(ready as u64))];
        family(
            "quinistry_operator_generations_ready",
            "gauge",
            "Generations proven, over all resources.",
            ready,
        );
        text
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.counts.lock().expect("nothing panics while it is held")
    }
}

#[expect(clippy::cast_precision_loss, reason = "counters stay far below 2^53")]
const fn as_float(count: u64) -> f64 {
    count as f64
}
