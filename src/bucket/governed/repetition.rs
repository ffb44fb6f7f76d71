//! Repetition of requests: pauses that grow, with jitter, and a budget for the whole process, so that a store in
//! trouble does not get ten times the requests.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::ObjectErrorKind;

/// Longest pause before a repetition.
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// Time after which a request is not repeated again, beside that of its body: clients of a registry wait as long.
const MAX_ELAPSED: Duration = Duration::from_secs(30);

/// Tenths of a repetition that a request earns for the process: ten repetitions for a hundred requests.
const EARNED_TENTHS: u32 = 1;

/// Tenths of a repetition that the budget holds at most, and at first.
const BUDGET_TENTHS: u32 = 1000;

/// Policy of repetitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RepetitionPolicy {
    /// Greatest number of repetitions of one request.
    pub max_repetitions: u32,
    /// Longest pause before the first repetition, doubled for each later one.
    pub first_pause: Duration,
}

impl Default for RepetitionPolicy {
    fn default() -> Self {
        Self { max_repetitions: 8, first_pause: Duration::from_millis(100) }
    }
}

/// Repetitions of one request.
#[derive(Debug)]
pub(crate) struct Repetition {
    policy: RepetitionPolicy,
    begun: Instant,
    /// Time in which the body of the request moves.
    transfer: Duration,
    /// Number of attempts that failed.
    failed: u32,
}

// === impl Repetition ===

impl Repetition {
    pub(crate) fn new(policy: RepetitionPolicy) -> Self {
        Self { policy, begun: Instant::now(), transfer: Duration::ZERO, failed: 0 }
    }

    /// Returns the repetitions of a request whose body moves for some time. One connection that ends late must not fail
    /// a push of gigabytes.
    pub(super) fn with_transfer(self, transfer: Duration) -> Self {
        Self { transfer, ..self }
    }

    pub(crate) const fn attempts(&self) -> u32 {
        self.failed
    }

    /// Returns the pause before the next attempt; `None` if there shall be none.
    pub(crate) fn pause(&mut self, kind: ObjectErrorKind) -> Option<Duration> {
        self.pause_after(self.begun.elapsed(), kind)
    }

    fn pause_after(&mut self, elapsed: Duration, kind: ObjectErrorKind) -> Option<Duration> {
        self.failed += 1;
        let is_passing =
            matches!(kind, ObjectErrorKind::Throttled | ObjectErrorKind::Unknown | ObjectErrorKind::Conflict);
        if !is_passing || self.failed > self.policy.max_repetitions {
            return None;
        }
        let longest = self.policy.first_pause.saturating_mul(1 << (self.failed - 1).min(16)).min(MAX_PAUSE);
        let pause = longest.mul_f64(fraction());
        (elapsed + pause < MAX_ELAPSED + self.transfer).then_some(pause)
    }
}

/// Returns a random number from 0 to 1: replicas that failed together must not come back together.
pub(crate) fn fraction() -> f64 {
    let random = u32::try_from(RandomState::new().build_hasher().finish() >> 32).unwrap_or_default();
    f64::from(random) / f64::from(u32::MAX)
}

/// Budget of repetitions, in tenths.
#[derive(Debug)]
pub(super) struct Budget(AtomicU32);

impl Default for Budget {
    fn default() -> Self {
        Self(AtomicU32::new(BUDGET_TENTHS))
    }
}

// === impl Budget ===

impl Budget {
    /// Counts a request, which earns a tenth of a repetition.
    pub(super) fn earn(&self) {
        let grow = |tenths: u32| (tenths < BUDGET_TENTHS).then_some(tenths + EARNED_TENTHS);
        // A full budget stays as it is.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grow);
    }

    /// Takes a repetition; false if none is left.
    pub(super) fn spend(&self) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |tenths| tenths.checked_sub(10)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_bound_and_end() {
        for _ in 0..50 {
            let mut repetition = Repetition::new(RepetitionPolicy::default());
            let pauses: Vec<Duration> =
                std::iter::from_fn(|| repetition.pause(ObjectErrorKind::Unknown)).collect();
            assert_eq!(pauses.len(), 8);
            for (i, pause) in pauses.iter().enumerate() {
                assert!(*pause <= Duration::from_millis(100 << i).min(MAX_PAUSE), "{i}: {pause:?}");
            }
        }
    }

    #[test]
    fn a_refusal_is_not_repeated() {
        for kind in [ObjectErrorKind::Denied, ObjectErrorKind::NotFound, ObjectErrorKind::Precondition] {
            assert_eq!(Repetition::new(RepetitionPolicy::default()).pause(kind), None, "{kind:?}");
        }
        let none = RepetitionPolicy { max_repetitions: 0, ..RepetitionPolicy::default() };
        assert_eq!(Repetition::new(none).pause(ObjectErrorKind::Throttled), None);
    }

    #[test]
    fn a_body_may_be_sent_again_although_it_took_long() {
        let unknown = ObjectErrorKind::Unknown;
        let minute = Duration::from_mins(1);
        let repetition = || Repetition::new(RepetitionPolicy::default());
        assert_eq!(repetition().pause_after(minute, unknown), None);
        let transfer = minute * 2;
        assert!(repetition().with_transfer(transfer).pause_after(minute, unknown).is_some());
        assert_eq!(repetition().with_transfer(transfer).pause_after(minute * 3, unknown), None);
    }

    #[test]
    fn a_hundred_requests_earn_ten_repetitions() {
        let budget = Budget::default();
        while budget.spend() {}
        (0..100).for_each(|_| budget.earn());
        assert_eq!(std::iter::from_fn(|| budget.spend().then_some(())).count(), 10);
        (0..100_000).for_each(|_| budget.earn());
        assert_eq!(std::iter::from_fn(|| budget.spend().then_some(())).count(), 100);
    }
}
