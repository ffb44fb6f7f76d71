//! Counters, alone or one for each value of a label.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};

/// Number of events since the start of the process.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

/// Closed set of the values of a label.
pub trait LabelValue: Copy + Eq + 'static {
    /// All values, in the order in which they are shown.
    const ALL: &'static [Self];

    /// Returns the value as it is shown: no quotation marks, backslashes or line breaks.
    fn as_str(self) -> &'static str;

    /// Returns the place of the value in [`ALL`](Self::ALL).
    fn index(self) -> usize {
        Self::ALL.iter().position(|other| *other == self).expect("ALL has every value")
    }
}

/// Counters of one name, one for each value of a label.
#[derive(Debug)]
pub struct CounterFamily<V> {
    counters: Box<[Counter]>,
    values: PhantomData<V>,
}

// === impl Counter ===

impl Counter {
    /// Counts one event.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Counts `count` events, or units such as bytes.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Returns the count.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

// === impl CounterFamily ===

impl<V: LabelValue> Default for CounterFamily<V> {
    fn default() -> Self {
        Self { counters: V::ALL.iter().map(|_| Counter::default()).collect(), values: PhantomData }
    }
}

impl<V: LabelValue> CounterFamily<V> {
    /// Returns the counter of a value.
    #[must_use]
    pub fn of(&self, value: V) -> &Counter {
        &self.counters[value.index()]
    }

    /// Returns the values with their counts.
    pub fn counts(&self) -> impl Iterator<Item = (V, u64)> {
        V::ALL.iter().zip(&self.counters).map(|(value, counter)| (*value, counter.get()))
    }
}
