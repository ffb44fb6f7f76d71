//! Histograms of durations and of sizes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Distribution of durations in seconds, or of sizes in bytes.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    /// Observations at most as long as each bound and longer than the one before; the last one has no bound.
    buckets: Box<[AtomicU64]>,
    /// Sum in microseconds, or in bytes.
    sum: AtomicU64,
    unit: Unit,
}

#[derive(Clone, Copy, Debug)]
enum Unit {
    Seconds,
    Bytes,
}

impl Histogram {
    /// Makes a histogram of durations with these upper bounds of buckets in seconds, in ascending order.
    #[must_use]
    pub fn new(bounds: &'static [f64]) -> Self {
        Self::with_unit(bounds, Unit::Seconds)
    }

    /// Makes a histogram of sizes with these upper bounds of buckets in bytes, in ascending order.
    #[must_use]
    pub fn of_bytes(bounds: &'static [f64]) -> Self {
        Self::with_unit(bounds, Unit::Bytes)
    }

    fn with_unit(bounds: &'static [f64], unit: Unit) -> Self {
        let buckets = (0..=bounds.len()).map(|_| AtomicU64::default()).collect();
        Self { bounds, buckets, sum: AtomicU64::default(), unit }
    }

    /// Counts one duration.
    pub fn observe(&self, duration: Duration) {
        self.count_one(duration.as_secs_f64(), u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
    }

    /// Counts one size in bytes.
    #[expect(clippy::cast_precision_loss, reason = "a bucket's bound needs no more than 53 bits")]
    pub fn observe_bytes(&self, bytes: u64) {
        self.count_one(bytes as f64, bytes);
    }

    fn count_one(&self, value: f64, summand: u64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(summand, Ordering::Relaxed);
    }

    /// Returns the number of observations.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).sum()
    }

    /// Returns the bounds, infinity at last, each with the number of observations that are not longer.
    pub(super) fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        bounds.zip(&self.buckets).scan(0, |total, (bound, bucket)| {
            *total += bucket.load(Ordering::Relaxed);
            Some((bound, *total))
        })
    }

    /// Returns the sum of all observations, in the unit of the bounds.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "the text format has floating-point numbers alone")]
    pub fn sum(&self) -> f64 {
        let sum = self.sum.load(Ordering::Relaxed);
        match self.unit {
            Unit::Seconds => Duration::from_micros(sum).as_secs_f64(),
            Unit::Bytes => sum as f64,
        }
    }
}
