//! Pace of a cycle: its requests to the storage per second, so that clients come first, and half as many while the
//! store asks for fewer.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::Store;
use crate::boottime::LocalClock;

/// Time for which the rate is halved after the store has asked for fewer requests.
const THROTTLED_TIME: Duration = Duration::from_mins(1);

/// Bucket of tokens, one for each request. A second's worth may be saved up.
pub(super) struct Pace {
    clock: LocalClock,
    wait: Arc<dyn Fn(Duration) + Send + Sync>,
    rate: u32,
    /// Returns the number of answers so far by which the store asked for fewer requests.
    throttlings: Box<dyn Fn() -> u64 + Send + Sync>,
    state: Mutex<State>,
}

struct State {
    /// Time by which all requests so far are within the rate.
    paid: Duration,
    throttlings: u64,
    /// Time until which the rate is halved.
    throttled_until: Duration,
}

impl Pace {
    pub(super) fn new(
        clock: LocalClock,
        wait: Arc<dyn Fn(Duration) + Send + Sync>,
        rate: NonZeroU32,
        throttlings: impl Fn() -> u64 + Send + Sync + 'static,
    ) -> Self {
        let state = State { paid: clock.now(), throttlings: throttlings(), throttled_until: Duration::ZERO };
        Self { clock, wait, rate: rate.get(), throttlings: Box::new(throttlings), state: Mutex::new(state) }
    }

    /// Waits until a number of requests may be sent.
    pub(super) fn take(&self, requests: usize) {
        let cost = Duration::from_secs(1) * u32::try_from(requests).unwrap_or(u32::MAX) / self.rate;
        let throttlings = (self.throttlings)();
        let ahead = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let now = self.clock.now();
            if throttlings > state.throttlings {
                (state.throttlings, state.throttled_until) = (throttlings, now + THROTTLED_TIME);
            }
            let cost = if now < state.throttled_until { cost * 2 } else { cost };
            state.paid = state.paid.max(now.saturating_sub(Duration::from_secs(1))) + cost;
            state.paid.saturating_sub(now)
        };
        if !ahead.is_zero() {
            (self.wait)(ahead);
        }
    }
}

impl Store {
    /// Returns the pace of a cycle that begins now.
    pub(super) fn pace(&self, rate: NonZeroU32) -> Pace {
        let (clock, wait, store) =
            (self.0.collector.clock.clone(), self.0.collector.wait.clone(), self.clone());
        Pace::new(clock, wait, rate, move || store.storage().throttlings())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// Pace of ten requests per second on a clock that its waits move, with the number of throttlings.
    fn paced() -> (Pace, Arc<Mutex<Duration>>, Arc<AtomicU64>) {
        let now = Arc::new(Mutex::new(Duration::from_secs(100)));
        let throttlings = Arc::<AtomicU64>::default();
        let (clock, waits, asked) = (now.clone(), now.clone(), throttlings.clone());
        let clock = LocalClock::of(move || *clock.lock().unwrap());
        let wait = Arc::new(move |by: Duration| *waits.lock().unwrap() += by);
        let pace =
            Pace::new(clock, wait, NonZeroU32::new(10).unwrap(), move || asked.load(Ordering::Relaxed));
        (pace, now, throttlings)
    }

    #[test]
    fn requests_beyond_the_rate_wait() {
        let (pace, now, _) = paced();
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

    #[test]
    fn the_rate_is_halved_for_a_minute_after_the_store_has_asked_for_fewer_requests() {
        let (pace, now, throttlings) = paced();
        let time_of = |requests: usize| {
            let before = *now.lock().unwrap();
            (0..requests).for_each(|_| pace.take(1));
            now.lock().unwrap().saturating_sub(before)
        };
        assert_eq!(time_of(10), Duration::from_secs(1));
        throttlings.fetch_add(1, Ordering::Relaxed);
        assert_eq!(time_of(100), Duration::from_secs(20));
        // Asked again, the store has a minute more.
        throttlings.fetch_add(3, Ordering::Relaxed);
        assert_eq!(time_of(300), Duration::from_mins(1));
        assert_eq!(time_of(10), Duration::from_secs(1));
    }
}
