//! Pace of a cycle: its requests to the storage per second, so that clients come first.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::Store;
use crate::boottime::LocalClock;

/// Bucket of tokens, one for each request. A second's worth may be saved up.
pub(super) struct Pace {
    clock: LocalClock,
    wait: Arc<dyn Fn(Duration) + Send + Sync>,
    rate: u32,
    /// Time by which all requests so far are within the rate.
    paid: Mutex<Duration>,
}

impl Pace {
    pub(super) fn new(
        clock: LocalClock,
        wait: Arc<dyn Fn(Duration) + Send + Sync>,
        rate: NonZeroU32,
    ) -> Self {
        let paid = Mutex::new(clock.now());
        Self { clock, wait, rate: rate.get(), paid }
    }

    /// Waits until a number of requests may be sent.
    pub(super) fn take(&self, requests: usize) {
        let cost = Duration::from_secs(1) * u32::try_from(requests).unwrap_or(u32::MAX) / self.rate;
        let ahead = {
            let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
            let now = self.clock.now();
            *paid = (*paid).max(now.saturating_sub(Duration::from_secs(1))) + cost;
            paid.saturating_sub(now)
        };
        if !ahead.is_zero() {
            (self.wait)(ahead);
        }
    }
}

impl Store {
    /// Returns the pace of a cycle that begins now.
    pub(super) fn pace(&self, rate: NonZeroU32) -> Pace {
        Pace::new(self.0.collector.clock.clone(), self.0.collector.wait.clone(), rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_beyond_the_rate_wait() {
        let now = Arc::new(Mutex::new(Duration::from_secs(100)));
        let (clock, waits) = (now.clone(), now.clone());
        let clock = LocalClock::of(move || *clock.lock().unwrap());
        let wait = Arc::new(move |by: Duration| *waits.lock().unwrap() += by);
        let pace = Pace::new(clock, wait, NonZeroU32::new(10).unwrap());
        let passed = || now.lock().unwrap().saturating_sub(Duration::from_secs(100));
        (0..5).for_each(|_| pace.take(1));
        assert_eq!(passed(), Duration::from_millis(500));
        pace.take(20);
        assert_eq!(passed(), Duration::from_millis(2500));
        // What was not used for long is not saved up but for a second.
        *now.lock().unwrap() += Duration::from_hours(1);
        let before = passed();
        pace.take(10);
        assert_eq!(passed(), before);
        pace.take(10);
        assert_eq!(passed(), before + Duration::from_secs(1));
    }
}
