//! Clock of a store.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// Clock of a store, which a test may set. Clones show one time.
#[derive(Clone, Debug)]
pub struct StoreClock(Arc<Mutex<Reading>>);

#[derive(Clone, Copy, Debug)]
enum Reading {
    /// Clock of this machine, and an offset.
    System(Duration),
    /// A time that only the test moves.
    Stopped(SystemTime),
}

impl StoreClock {
    /// Returns a clock that shows the time of this machine.
    #[must_use]
    pub fn system() -> Self {
        Self(Arc::new(Mutex::new(Reading::System(Duration::ZERO))))
    }

    /// Returns a clock that stands still.
    #[must_use]
    pub fn stopped(at: SystemTime) -> Self {
        Self(Arc::new(Mutex::new(Reading::Stopped(at))))
    }

    /// Returns the time.
    pub fn now(&self) -> SystemTime {
        match *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Reading::System(offset) => SystemTime::now() + offset,
            Reading::Stopped(at) => at,
        }
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        match &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Reading::System(offset) => *offset += by,
            Reading::Stopped(at) => *at += by,
        }
    }
}
