//! Pace of a scrub: a bound on the bytes per second.

use std::fmt;
use std::num::NonZeroU64;
use std::ops::ControlFlow;
use std::time::Duration;

/// Cost of a request that reads no content, as bytes of the rate.
pub(super) const REQUEST_BYTES: u64 = 64 * 1024;

/// Time by which reads may be ahead of the rate: fewer and longer pauses cost fewer wake-ups.
const MAX_LEAD: Duration = Duration::from_millis(100);

/// Clock of a scrub, and the pauses that it makes.
pub trait ScrubClock: fmt::Debug + Send + Sync {
    /// Returns the time since some moment in the past.
    fn now(&self) -> Duration;

    /// Waits. Returns at once, also without a wait, when the scrub shall stop.
    fn pause(&self, duration: Duration) -> ControlFlow<()>;
}

/// Pace of the reads of one scrub.
pub(super) struct Pace<'a> {
    clock: &'a dyn ScrubClock,
    rate: NonZeroU64,
    /// Time at which the bytes that were read are paid for.
    paid_at: Duration,
}

impl<'a> Pace<'a> {
    pub(super) fn new(clock: &'a dyn ScrubClock, rate: NonZeroU64) -> Self {
        Self { clock, rate, paid_at: clock.now() }
    }

    /// Counts bytes that were read, and waits if that was too fast.
    pub(super) fn spend(&mut self, bytes: u64) -> ControlFlow<()> {
        let now = self.clock.now();
        let nanoseconds = u128::from(bytes) * 1_000_000_000 / u128::from(self.rate.get());
        let cost = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
        self.paid_at = self.paid_at.max(now).saturating_add(cost);
        let ahead = self.paid_at.saturating_sub(now);
        self.clock.pause(if ahead > MAX_LEAD { ahead } else { Duration::ZERO })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::{Mutex, PoisonError};

    use super::*;

    /// Clock that pauses move.
    #[derive(Debug, Default)]
    pub(in crate::scrub) struct PausedClock {
        now: Mutex<Duration>,
        /// Time from which the scrub shall stop, if it shall.
        pub(in crate::scrub) stop_at: Option<Duration>,
    }

    impl ScrubClock for PausedClock {
        fn now(&self) -> Duration {
            *self.now.lock().unwrap_or_else(PoisonError::into_inner)
        }

        fn pause(&self, duration: Duration) -> ControlFlow<()> {
            let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
            *now += duration;
            let stops = self.stop_at.is_some_and(|stop| *now >= stop);
            if stops { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }
    }

    #[test]
    fn reads_take_the_time_that_the_rate_asks_for_and_idle_time_is_not_saved_up() {
        let clock = PausedClock::default();
        let mut pace = Pace::new(&clock, NonZeroU64::new(1000).unwrap());
        for _ in 0..100 {
            assert!(pace.spend(50).is_continue());
        }
        let took = clock.now();
        assert!(took <= Duration::from_secs(5) && took + MAX_LEAD >= Duration::from_secs(5), "{took:?}");
        let _ = clock.pause(Duration::from_hours(1));
        let begun = clock.now();
        assert!(pace.spend(2000).is_continue());
        assert_eq!(clock.now().saturating_sub(begun), Duration::from_secs(2));
    }

    #[test]
    fn a_scrub_that_shall_stop_stops_also_where_no_pause_is_due() {
        let clock = PausedClock { stop_at: Some(Duration::ZERO), ..PausedClock::default() };
        assert!(Pace::new(&clock, NonZeroU64::MAX).spend(0).is_break());
    }
}
