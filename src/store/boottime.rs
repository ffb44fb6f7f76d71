//! The local clock by which durations are measured.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Returns the time since boot (`CLOCK_BOOTTIME`). Includes suspension, unlike that of `Instant`: a process that was
/// frozen with its machine must see that time has passed.
#[must_use]
pub fn time_since_boot() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    let nanoseconds = u32::try_from(now.tv_nsec).unwrap_or_default();
    Duration::new(u64::try_from(now.tv_sec).unwrap_or_default(), nanoseconds)
}

/// Clock that measures durations on this machine. Clones show one time.
#[derive(Clone)]
pub struct LocalClock(Arc<dyn Fn() -> Duration + Send + Sync>);

impl fmt::Debug for LocalClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LocalClock").field(&self.now()).finish()
    }
}

// === impl LocalClock ===

impl LocalClock {
    /// Returns the clock of this machine.
    pub(crate) fn boot() -> Self {
        Self(Arc::new(time_since_boot))
    }

    /// Returns a clock that a test moves.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn of(now: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// Returns the time since a fixed point.
    #[must_use]
    pub fn now(&self) -> Duration {
        (self.0)()
    }
}
