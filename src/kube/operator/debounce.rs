//! Debounce: the delay in which requests are gathered before resources are planned. Changes rarely come
//! alone; with thousands of nodes, each of whose pods changes several times within a minute, a plan for each
//! change would use all the operator's time.
//!
//! Fed by the driver, read by the queue.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Shortest delay: a chain of generations is not noticeably slower by it.
const MIN_DELAY: Duration = Duration::from_millis(25);

/// Longest delay: a user waits for the reaction.
const MAX_DELAY: Duration = Duration::from_secs(1);

/// Ratio of delay to planning time: until the delay is [`MAX_DELAY`], plans take one twentieth of the time.
const PLANNING_SHARE: u32 = 20;

/// Duration of the last plan in microseconds.
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
