//! State of collection in one process.

use std::fmt;
#[cfg(any(test, feature = "testing"))]
use std::sync::atomic::AtomicU32;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::phase::PhaseCell;
use super::view::{VIEW_LIFETIME, View};
use crate::boottime::LocalClock;
use crate::{Store, StoreError};

/// State of collection in one process.
pub(crate) struct Collector {
    /// Clock by which the age of a view is measured.
    pub(super) clock: LocalClock,
    /// Waits for a duration.
    pub(super) wait: Arc<dyn Fn(Duration) + Send + Sync>,
    /// Time for which a view counts.
    pub(super) view_lifetime: Duration,
    view: Mutex<Arc<View>>,
    /// Held while the view is read: one request at a time.
    pub(super) refreshing: Mutex<()>,
    /// Number of refreshments that have ended, also without a fresh view.
    pub(super) refreshments: AtomicU64,
    /// Held during a cycle.
    pub(super) running: Mutex<()>,
    pub(super) phase: PhaseCell,
    /// Safeguards that a test has removed, a bit for each.
    #[cfg(any(test, feature = "testing"))]
    pub(super) removed: AtomicU32,
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collector")
            .field("clock", &self.clock)
            .field("view", &self.view)
            .finish_non_exhaustive()
    }
}

// === impl Collector ===

impl Collector {
    pub(crate) fn new(clock: LocalClock) -> Self {
        Self {
            clock,
            wait: Arc::new(std::thread::sleep),
            view_lifetime: shortened().unwrap_or(VIEW_LIFETIME),
            view: Mutex::default(),
            refreshing: Mutex::default(),
            refreshments: AtomicU64::new(0),
            running: Mutex::default(),
            phase: PhaseCell::default(),
            #[cfg(any(test, feature = "testing"))]
            removed: AtomicU32::new(0),
        }
    }

    /// Measures views of this lifetime, and waits by `wait`.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn with(
        self,
        view_lifetime: Duration,
        wait: impl Fn(Duration) + Send + Sync + 'static,
    ) -> Self {
        Self { view_lifetime, wait: Arc::new(wait), ..self }
    }

    pub(crate) const fn clock(&self) -> &LocalClock {
        &self.clock
    }

    /// Waits before another look at the storage.
    pub(crate) fn pause(&self, time: Duration) {
        (self.wait)(time);
    }

    pub(super) fn view(&self) -> Arc<View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the view, unless there is one of a later epoch.
    pub(super) fn set_view(&self, view: View) {
        let mut current = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        if view.epoch >= current.epoch {
            *current = Arc::new(view);
        }
    }

    /// Returns the time for which a view counts.
    pub(crate) const fn view_lifetime(&self) -> Duration {
        self.view_lifetime
    }
}

/// Returns the lifetime of a view that a test sets.
///
/// A test with a grace of seconds needs a lifetime of less. Debug builds, and those with the feature `failpoints`,
/// take a number of seconds from `QUINISTRY_GC_VIEW_LIFETIME`; the program that is released has one lifetime.
fn shortened() -> Option<Duration> {
    #[cfg(any(debug_assertions, feature = "failpoints"))]
    return std::env::var("QUINISTRY_GC_VIEW_LIFETIME").ok()?.parse().ok().map(Duration::from_secs);
    #[cfg(not(any(debug_assertions, feature = "failpoints")))]
    None
}

impl Store {
    /// Loads the view when the store is opened.
    pub(crate) fn open_view(&self) -> Result<(), StoreError> {
        if self.is_reader() {
            return Ok(());
        }
        self.load_view(self.0.collector.clock.now())
    }

    /// Returns true if this process can only read the storage, so that it holds nothing.
    pub(super) fn is_reader(&self) -> bool {
        self.0.shared.as_ref().is_some_and(|shared| shared.replica().is_reader())
    }
}
