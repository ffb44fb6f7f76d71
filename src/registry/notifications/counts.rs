//! Numbers of the events of an endpoint.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use http::StatusCode;
use quinistry_http::metrics::{Counter, Gauge};

use super::delivery::DropReason;

/// Numbers of the events of one endpoint. They outlive the endpoint, so that no count restarts at a reload.
#[derive(Debug, Default)]
pub(super) struct EndpointCounts {
    pub(super) events: Counter,
    pub(super) successes: Counter,
    pub(super) failures: Counter,
    pub(super) errors: Counter,
    pub(super) pending: Gauge,
    dropped: [Counter; DropReason::ALL.len()],
    statuses: Mutex<BTreeMap<&'static str, u64>>,
}

/// Numbers of one endpoint at one time, under the names of distribution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointStatistics {
    /// Name of the endpoint.
    pub name: String,
    /// Events that the endpoint was meant to get.
    pub events: u64,
    /// Events that the receiver has accepted.
    pub successes: u64,
    /// Attempts that the receiver has answered with another status than 2xx.
    pub failures: u64,
    /// Attempts without an answer.
    pub errors: u64,
    /// Events that wait.
    pub pending: u64,
    /// Answers by status, such as `200 OK`.
    pub statuses: Vec<(&'static str, u64)>,
    /// Events that were not delivered, for each reason.
    pub dropped: [(DropReason, u64); DropReason::ALL.len()],
}

// === impl EndpointCounts ===

impl EndpointCounts {
    /// Counts events that were not delivered.
    pub(super) fn dropped(&self, reason: DropReason, count: usize) {
        self.dropped[reason as usize].add(count as u64);
    }

    /// Counts an answer.
    pub(super) fn answered(&self, status: StatusCode) {
        let mut statuses = self.statuses.lock().unwrap_or_else(PoisonError::into_inner);
        *statuses.entry(status_label(status)).or_default() += 1;
    }

    pub(super) fn read(&self, name: &str) -> EndpointStatistics {
        let mut statuses = self.statuses.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // From the start: a series that appeared with its first count would hide that count from Prometheus.
        statuses.entry(status_label(StatusCode::OK)).or_default();
        EndpointStatistics {
            name: name.to_owned(),
            events: self.events.get(),
            successes: self.successes.get(),
            failures: self.failures.get(),
            errors: self.errors.get(),
            pending: self.pending.get(),
            statuses: statuses.into_iter().collect(),
            dropped: DropReason::ALL.map(|reason| (reason, self.dropped[reason as usize].get())),
        }
    }
}

/// Returns a status as distribution writes it in labels, such as `200 OK`. A status without a name is
/// `other`, so that no receiver can add series without an end.
fn status_label(status: StatusCode) -> &'static str {
    /// Labels of the statuses that have a name, made once.
    static LABELS: std::sync::LazyLock<BTreeMap<u16, String>> = std::sync::LazyLock::new(|| {
        let named = |code: u16| Some((code, StatusCode::from_u16(code).ok()?.canonical_reason()?));
        (100..1000).filter_map(named).map(|(code, name)| (code, format!("{code} {name}"))).collect()
    });
    LABELS.get(&status.as_u16()).map_or("other", String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_named_as_in_distribution() {
        let label = |code| status_label(StatusCode::from_u16(code).unwrap());
        assert_eq!(label(200), "200 OK");
        assert_eq!(label(503), "503 Service Unavailable");
        assert_eq!((label(299), label(999)), ("other", "other"));
    }

    #[test]
    fn each_reason_has_its_own_count() {
        let counts = EndpointCounts::default();
        for (number, reason) in DropReason::ALL.into_iter().enumerate() {
            counts.dropped(reason, number + 1);
        }
        let read = counts.read("a").dropped;
        assert_eq!(read.map(|(_, count)| count), [1, 2, 3, 4, 5]);
        assert_eq!(read.map(|(reason, _)| reason), DropReason::ALL);
    }
}
