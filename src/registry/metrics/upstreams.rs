//! Metrics of upstreams. No label holds the name of a repository.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use quinistry_fetch::{FetchObserver, Lie};
use quinistry_http::metrics::{Counter, Exposition, Histogram};

use crate::upstreams::circuit::Circuit;

/// Upper bounds of the buckets for the answers of upstreams, in seconds.
const ANSWER_SECONDS: [f64; 8] = [0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 3.0, 10.0];

/// Selection of one counter.
type Select = fn(&ContentCounts) -> &Counter;

/// Metrics of all upstreams of a registry. They outlive its configuration.
#[derive(Debug, Default)]
pub struct UpstreamMetrics(Mutex<BTreeMap<Arc<str>, Arc<UpstreamCounts>>>);

/// Counts of one upstream, and the state of the connection to it.
#[derive(Debug)]
pub(crate) struct UpstreamCounts {
    pub(crate) blobs: ContentCounts,
    pub(crate) manifests: ContentCounts,
    pub(crate) seconds: Histogram,
    pub(crate) coalesced: Counter,
    pub(crate) evicted: Counter,
    poisoned: Counter,
    circuit: Mutex<Circuit>,
    /// A warning has named the circle of caches that the upstream belongs to.
    has_warned_of_circle: AtomicBool,
}

/// Counts of one kind of content, as distribution has them.
#[derive(Debug, Default)]
pub(crate) struct ContentCounts {
    pub(crate) requests: Counter,
    pub(crate) hits: Counter,
    pub(crate) misses: Counter,
    pub(crate) pulled_bytes: Counter,
    pub(crate) pushed_bytes: Counter,
}

/// Sums of counts over all upstreams.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct UpstreamSums {
    pub(crate) blobs: ContentSums,
    pub(crate) manifests: ContentSums,
}

/// Sums of the counts of one kind of content.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ContentSums {
    pub(crate) requests: u64,
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    pub(crate) pulled_bytes: u64,
    pub(crate) pushed_bytes: u64,
}

impl ContentSums {
    fn add(&mut self, counts: &ContentCounts) {
        let ContentCounts { requests, hits, misses, pulled_bytes, pushed_bytes } = counts;
        self.requests += requests.get();
        self.hits += hits.get();
        self.misses += misses.get();
        self.pulled_bytes += pulled_bytes.get();
        self.pushed_bytes += pushed_bytes.get();
    }
}

impl Default for UpstreamCounts {
    fn default() -> Self {
        Self {
            blobs: ContentCounts::default(),
            manifests: ContentCounts::default(),
            seconds: Histogram::new(&ANSWER_SECONDS),
            coalesced: Counter::default(),
            evicted: Counter::default(),
            poisoned: Counter::default(),
            circuit: Mutex::default(),
            has_warned_of_circle: AtomicBool::new(false),
        }
    }
}

impl UpstreamCounts {
    pub(crate) fn circuit(&self) -> MutexGuard<'_, Circuit> {
        self.circuit.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl UpstreamCounts {
    /// Returns true at the first call.
    pub(crate) fn is_first_circle(&self) -> bool {
        !self.has_warned_of_circle.swap(true, Ordering::Relaxed)
    }
}

impl UpstreamMetrics {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Arc<UpstreamCounts>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the counts of an upstream, by its name.
    pub(crate) fn of(&self, upstream: &str) -> Arc<UpstreamCounts> {
        let mut all = self.lock();
        if let Some(counts) = all.get(upstream) {
            return counts.clone();
        }
        all.entry(upstream.into()).or_default().clone()
    }

    /// Returns the sums over all upstreams that the configurations of this process have had.
    pub(crate) fn sums(&self) -> UpstreamSums {
        let mut sums = UpstreamSums::default();
        for counts in self.lock().values() {
            sums.blobs.add(&counts.blobs);
            sums.manifests.add(&counts.manifests);
        }
        sums
    }

    /// Writes the metrics of all upstreams that the configurations of this process have had; nothing without any.
    pub(super) fn write(&self, page: &mut Exposition) {
        let all: Vec<(String, Arc<UpstreamCounts>)> = {
            let all = self.lock();
            all.iter().map(|(name, counts)| (label_value(name), counts.clone())).collect()
        };
        if all.is_empty() {
            return;
        }
        let content: [(&str, &str, Select); 5] = [
            ("registry_proxy_requests_total", "Requests for content of upstreams.", |counts| {
                &counts.requests
            }),
            ("registry_proxy_hits_total", "Requests that stored content answered.", |counts| &counts.hits),
            ("registry_proxy_misses_total", "Requests that stored content did not answer.", |counts| {
                &counts.misses
            }),
            ("registry_proxy_pulled_bytes_total", "Bytes that upstreams have sent.", |counts| {
                &counts.pulled_bytes
            }),
            ("registry_proxy_pushed_bytes_total", "Bytes of answers to clients.", |counts| {
                &counts.pushed_bytes
            }),
        ];
        for (name, help, select) in content {
            let series = all.iter().flat_map(|(upstream, counts)| {
                [("blob", &counts.blobs), ("manifest", &counts.manifests)].map(|(kind, counts)| {
                    ([("type", kind), ("upstream", upstream.as_str())], select(counts).get())
                })
            });
            page.counter_series(name, help, series);
        }
        let now = Instant::now();
        let series = |value: fn(&UpstreamCounts, Instant) -> u64| {
            all.iter().map(move |(name, counts)| ([("upstream", name.as_str())], value(counts, now)))
        };
        page.gauges(
            "quinistry_upstream_up",
            "Whether the upstream has answered when it was asked last.",
            series(|counts, _| counts.circuit().is_up().into()),
        );
        page.gauges(
            "quinistry_upstream_paused",
            "Whether the upstream is not asked, because it limits requests or is away.",
            series(|counts, now| counts.circuit().is_paused(now).into()),
        );
        page.counter_series(
            "quinistry_upstream_coalesced_total",
            "Requests that got the answer or the bytes which another request had asked for.",
            series(|counts, _| counts.coalesced.get()),
        );
        page.counter_series(
            "quinistry_upstream_poisoned_total",
            "Blobs of which the upstream has sent other bytes than their digest says.",
            series(|counts, _| counts.poisoned.get()),
        );
        page.counter_series(
            "quinistry_upstream_evicted_total",
            "Manifests that were removed because no client used them, or for room.",
            series(|counts, _| counts.evicted.get()),
        );
        page.histograms(
            "quinistry_upstream_seconds",
            "Durations of answers of upstreams, without blobs.",
            all.iter().map(|(name, counts)| ([("upstream", name.as_str())], &counts.seconds)),
        );
    }
}

impl FetchObserver for UpstreamMetrics {
    fn poisoned(&self, source: &str, _: Lie) {
        self.of(source).poisoned.increment();
    }

    fn joined(&self, source: &str) {
        self.of(source).coalesced.increment();
    }
}

/// Returns a name as the text format takes it in a label.
pub(super) fn label_value(name: &str) -> String {
    let is_plain = |character: char| !character.is_control() && !matches!(character, '"' | '\\');
    name.chars().filter(|character| is_plain(*character)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_documentation_has_each_metric_with_its_labels() {
        let metrics = UpstreamMetrics::default();
        let mut page = Exposition::default();
        metrics.write(&mut page);
        assert_eq!(page.into_text(), "");
        metrics.of("a\"b\\\nc");
        let mut page = Exposition::default();
        metrics.write(&mut page);
        let text = page.into_text();
        assert!(text.contains("quinistry_upstream_up{upstream=\"abc\"} 1\n"), "{text}");
        let described: BTreeSet<(&str, &str)> =
            text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
        let documentation = include_str!("../../../docs/metrics.md");
        let (_, table) = documentation.split_once("\n| metric of upstreams |").unwrap();
        let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
        let listed: BTreeSet<(&str, &str)> = rows
            .map(|row| {
                let mut cells = row.split('|').skip(1).map(|cell| cell.trim().trim_matches('`'));
                let (name, labels) = cells.next().unwrap().split_once('{').unwrap();
                let is_labelled = text
                    .contains(&format!("{name}{{{}", labels.split([',', '}']).next().unwrap()))
                    || text.contains(&format!("{name}_bucket{{upstream"));
                assert!(is_labelled, "{name}");
                (name, cells.next().unwrap())
            })
            .collect();
        assert_eq!(listed, described);
    }
}
