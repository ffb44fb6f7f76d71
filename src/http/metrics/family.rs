//! Metrics of one name, one for each combination of the values of several labels.

use super::{Counter, Gauge, LabelValue};

/// Values of one label or of several, in the order of their names.
pub trait LabelSet: Copy + 'static {
    /// Number of combinations.
    const COUNT: usize;

    /// Returns the combination at a place in the order of all combinations.
    fn at(index: usize) -> Self;

    /// Returns the place of the combination.
    fn index(self) -> usize;

    /// Returns the values as they are shown.
    fn values(self) -> Vec<&'static str>;
}

/// Metrics of one name.
#[derive(Debug)]
pub struct Family<S, M> {
    metrics: Box<[M]>,
    labels: std::marker::PhantomData<S>,
}

/// Counters with several labels.
pub type Counters<S> = Family<S, Counter>;

/// Gauges with several labels.
pub type Gauges<S> = Family<S, Gauge>;

// === impl Family ===

impl<S: LabelSet, M: Default> Default for Family<S, M> {
    fn default() -> Self {
        Self::new(M::default)
    }
}

impl<S: LabelSet, M> Family<S, M> {
    /// Creates the metrics of all combinations.
    pub fn new(mut create: impl FnMut() -> M) -> Self {
        Self { metrics: (0..S::COUNT).map(|_| create()).collect(), labels: std::marker::PhantomData }
    }

    /// Returns the metric of a combination.
    #[must_use]
    pub fn of(&self, labels: S) -> &M {
        &self.metrics[labels.index()]
    }

    /// Returns all metrics with their labels.
    pub fn iter(&self) -> impl Iterator<Item = (S, &M)> {
        self.metrics.iter().enumerate().map(|(index, metric)| (S::at(index), metric))
    }
}

// === impl LabelSet ===

impl<A: LabelValue> LabelSet for (A,) {
    const COUNT: usize = A::ALL.len();

    fn at(index: usize) -> Self {
        (A::ALL[index],)
    }

    fn index(self) -> usize {
        self.0.index()
    }

    fn values(self) -> Vec<&'static str> {
        vec![self.0.as_str()]
    }
}

impl<A: LabelValue, B: LabelValue> LabelSet for (A, B) {
    const COUNT: usize = A::ALL.len() * B::ALL.len();

    fn at(index: usize) -> Self {
        (A::ALL[index / B::ALL.len()], B::ALL[index % B::ALL.len()])
    }

    fn index(self) -> usize {
        self.0.index() * B::ALL.len() + self.1.index()
    }

    fn values(self) -> Vec<&'static str> {
        vec![self.0.as_str(), self.1.as_str()]
    }
}

impl<A: LabelValue, B: LabelValue, C: LabelValue> LabelSet for (A, B, C) {
    const COUNT: usize = A::ALL.len() * <(B, C)>::COUNT;

    fn at(index: usize) -> Self {
        let (b, c) = <(B, C)>::at(index % <(B, C)>::COUNT);
        (A::ALL[index / <(B, C)>::COUNT], b, c)
    }

    fn index(self) -> usize {
        self.0.index() * <(B, C)>::COUNT + (self.1, self.2).index()
    }

    fn values(self) -> Vec<&'static str> {
        vec![self.0.as_str(), self.1.as_str(), self.2.as_str()]
    }
}
