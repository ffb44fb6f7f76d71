//! How long requests are gathered before resources are looked at: a change rarely comes alone, and where there are
//! thousands of nodes, each of whose pods changes several times within a minute, to plan anew for each change would be all
//! that the operator and its node do.
//!
//! Told by the driver, asked by the queue.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// At least so long: it costs a chain of generations nothing that can be noticed.
const MIN_DELAY: Duration = Duration::from_millis(25);

/// At most so long: people wait.
const MAX_DELAY: Duration = Duration::from_secs(1);

/// Plans may take one part in so many of the time.
const PLANNING_SHARE: u32 = 20;

/// How long the last plan took.
#[derive(Debug, Default)]
pub(super) struct Debounce(AtomicU64);

impl Debounce {
    pub(super) fn record_plan(&self, took: Duration) {
        self.0.store(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(super) fn delay(&self) -> Duration {
        let took = Duration::from_micros(self.0.load(Ordering::Relaxed));
        took.saturating_mul(PLANNING_SHARE).clamp(MIN_DELAY, MAX_DELAY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_that_take_long_are_made_less_often_but_not_seldom() {
        let debounce = Debounce::default();
        assert_eq!(debounce.delay(), MIN_DELAY);
        debounce.record_plan(Duration::from_millis(10));
        assert_eq!(debounce.delay(), Duration::from_millis(200));
        debounce.record_plan(Duration::from_secs(2));
        assert_eq!(debounce.delay(), MAX_DELAY);
    }
}
