//! State of collection in one process.

use std::fmt;
use std::sync::Arc;
#[cfg(any(test, feature = "testing"))]
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use crate::boottime::LocalClock;

/// State of collection in one process.
pub(crate) struct Collector {
    /// Clock by which the age of a view is measured.
    pub(super) clock: LocalClock,
    /// Waits for a duration.
    pub(super) wait: Arc<dyn Fn(Duration) + Send + Sync>,
    /// Safeguards that a test has removed, a bit for each.
    #[cfg(any(test, feature = "testing"))]
    pub(super) removed: AtomicU32,
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collector").field("clock", &self.clock).finish_non_exhaustive()
    }
}

impl Collector {
    pub(crate) fn new(clock: LocalClock) -> Self {
        Self {
            clock,
            wait: Arc::new(std::thread::sleep),
            #[cfg(any(test, feature = "testing"))]
            removed: AtomicU32::new(0),
        }
    }
}
