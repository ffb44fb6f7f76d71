//! Gauges.

use std::sync::atomic::{AtomicU64, Ordering};

/// Number that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Adds one.
    pub fn increment(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Subtracts one that was added before.
    pub fn decrement(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// Moves the share of one of several holders from its former number to another one.
    pub fn move_share(&self, from: u64, to: u64) {
        // Modulo 2^64, so that a smaller share subtracts.
        self.0.fetch_add(to.wrapping_sub(from), Ordering::Relaxed);
    }

    /// Sets the number.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Returns the number.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
