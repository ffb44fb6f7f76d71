//! Clock of the election. `CLOCK_BOOTTIME` includes the time in which the machine is suspended, while
//! `CLOCK_MONOTONIC`, and with it [`std::time::Instant`], does not: a leader that wakes up must find its time
//! to have passed.

use std::ops::Add;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// An instant on `CLOCK_BOOTTIME`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::operator) struct BootInstant(Duration);

// === impl BootInstant ===

impl BootInstant {
    /// Reads the clock.
    pub(in crate::operator) fn now() -> Self {
        let now = clock_gettime(ClockId::Boottime);
        // Neither field is negative on this clock.
        Self(Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or_default()))
    }

    /// Returns the time since an earlier instant; zero if that is later.
    pub(in crate::operator) const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for BootInstant {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }
}

#[cfg(test)]
mod tests {
    use super::BootInstant;

    #[test]
    fn the_clock_counts_the_time_that_the_machine_was_suspended() {
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
        let seconds: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
        // The kernel shows CLOCK_BOOTTIME there; read a moment earlier.
        assert!(BootInstant::now().0.as_secs_f64() >= seconds - 0.02);
        assert!(BootInstant::now() <= BootInstant::now());
    }
}
