//! Metrics of peers. No label holds the name of a repository.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quinistry_fetch::{FetchObserver, Lie, SourceError};
use quinistry_http::metrics::{Counter, Exposition};

use super::upstreams::label_value;

/// Metrics of all peers of a registry.
#[derive(Debug, Default)]
pub struct PeerMetrics(Mutex<BTreeMap<Arc<str>, Arc<PeerCounts>>>);

/// Counts of one peer.
#[derive(Debug, Default)]
pub(crate) struct PeerCounts {
    found: Counter,
    absent: Counter,
    failed: Counter,
    bytes: Counter,
    wrong: Counter,
    is_down: AtomicBool,
}

impl PeerCounts {
    /// Counts a question, by the reason for which the peer has given nothing, if there is one.
    pub(crate) fn note(&self, failure: Option<&SourceError>) {
        match failure {
            None => &self.found,
            Some(SourceError::NotFound) => &self.absent,
            Some(_) => &self.failed,
        }
        .increment();
    }

    pub(crate) fn note_bytes(&self, bytes: usize) {
        self.bytes.add(bytes as u64);
    }

    pub(crate) fn note_wrong(&self) {
        self.wrong.increment();
    }

    pub(crate) fn set_up(&self, is_up: bool) {
        self.is_down.store(!is_up, Ordering::Relaxed);
    }
}

impl PeerMetrics {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Arc<PeerCounts>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the counts of a peer, by its name.
    pub(crate) fn of(&self, peer: &str) -> Arc<PeerCounts> {
        let mut all = self.lock();
        if let Some(counts) = all.get(peer) {
            return counts.clone();
        }
        all.entry(peer.into()).or_default().clone()
    }

    /// Writes the metrics of all peers; nothing without any.
    pub(super) fn write(&self, page: &mut Exposition) {
        let all: Vec<(String, Arc<PeerCounts>)> = {
            let all = self.lock();
            all.iter().map(|(name, counts)| (label_value(name), counts.clone())).collect()
        };
        if all.is_empty() {
            return;
        }
        let series = |value: fn(&PeerCounts) -> u64| {
            all.iter().map(move |(name, counts)| ([("peer", name.as_str())], value(counts)))
        };
        page.gauges(
            "quinistry_peer_up",
            "Whether the peer has answered when it was asked last.",
            series(|counts| u64::from(!counts.is_down.load(Ordering::Relaxed))),
        );
        let questions = all.iter().flat_map(|(peer, counts)| {
            [("found", &counts.found), ("absent", &counts.absent), ("failed", &counts.failed)]
                .map(|(result, count)| ([("peer", peer.as_str()), ("result", result)], count.get()))
        });
        page.counter_series(
            "quinistry_peer_requests_total",
            "Requests to the peer, by their results.",
            questions,
        );
        page.counter_series(
            "quinistry_peer_received_bytes_total",
            "Bytes of blobs that the peer has sent.",
            series(|counts| counts.bytes.get()),
        );
        page.counter_series(
            "quinistry_peer_wrong_content_total",
            "Blobs and manifests of which the peer has sent other bytes than their digest says.",
            series(|counts| counts.wrong.get()),
        );
    }
}

impl FetchObserver for PeerMetrics {
    fn poisoned(&self, source: &str, _: Lie) {
        self.of(source).note_wrong();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_documentation_has_each_metric_with_its_labels() {
        let metrics = PeerMetrics::default();
        let mut page = Exposition::default();
        metrics.write(&mut page);
        assert_eq!(page.into_text(), "");
        metrics.of("http://10.96.0.7:8090").note(None);
        let mut page = Exposition::default();
        metrics.write(&mut page);
        let text = page.into_text();
        let found = "quinistry_peer_requests_total{peer=\"http://10.96.0.7:8090\",result=\"found\"} 1\n";
        assert!(text.contains(found), "{text}");
        let described: BTreeSet<(&str, &str)> =
            text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
        let documentation = include_str!("../../../docs/metrics.md");
        let (_, table) = documentation.split_once("\n| metric of peers |").unwrap();
        let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
        let listed: BTreeSet<(&str, &str)> = rows
            .map(|row| {
                let mut cells = row.split('|').skip(1).map(|cell| cell.trim().trim_matches('`'));
                let (name, labels) = cells.next().unwrap().split_once('{').unwrap();
                let labels: Vec<&str> = labels.trim_end_matches('}').split(',').collect();
                let sample = text.lines().find(|line| line.starts_with(&format!("{name}{{"))).unwrap();
                assert!(labels.iter().all(|label| sample.contains(&format!("{label}=\""))), "{name}");
                (name, cells.next().unwrap())
            })
            .collect();
        assert_eq!(listed, described);
    }
}
