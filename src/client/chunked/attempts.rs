//! Attempts of one upload: how often it may break, and how long to wait. Pure.

use std::time::Duration;

use reqwest::header::HeaderMap;

use crate::retry;

/// Number of new bytes after which a break resets the count of attempts. The blob's size then bounds the attempts.
const MIN_PROGRESS_BYTES: u64 = 1024 * 1024;
/// Number of times that a registry may say that an earlier request still writes: it notices a connection that broke
/// without a word when its own time limit ends.
const MAX_OUT_OF_ORDER: u32 = 14;
/// Longest wait for such a request.
const MAX_OUT_OF_ORDER_WAIT: Duration = Duration::from_secs(10);
/// First wait for such a request; each further wait is twice as long.
const FIRST_OUT_OF_ORDER_WAIT: Duration = Duration::from_millis(100);

/// Count of attempts.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    failures: u32,
    out_of_order: u32,
    /// Greatest number of bytes that the registry has had.
    best: u64,
    /// Value of `best` when the count began.
    best_at_begin: u64,
    /// True after a break, until the registry says what it has.
    is_after_break: bool,
}

// === impl Attempts ===

impl Attempts {
    /// Notes that the registry has these bytes.
    pub(super) fn received(&mut self, offset: u64) {
        self.best = self.best.max(offset);
        self.is_after_break = false;
    }

    /// Returns the time to wait after a failure, or `None` to give up.
    pub(super) fn broken(&mut self, answer: Option<&HeaderMap>) -> Option<Duration> {
        self.begin_again_after_progress();
        self.failures += 1;
        self.is_after_break = true;
        retry::wait(self.failures, answer)
    }

    /// Returns the time to wait after the registry lost the session, or `None` to give up. A loss by a break counts as
    /// that break alone.
    pub(super) fn lost(&mut self) -> Option<Duration> {
        let is_after_break = std::mem::take(&mut self.is_after_break);
        let wait = if is_after_break { Some(Duration::ZERO) } else { self.broken(None) };
        self.is_after_break = false;
        wait
    }

    /// Returns the time to wait for an earlier request to end, or `None` to give up.
    pub(super) fn out_of_order(&mut self) -> Option<Duration> {
        self.begin_again_after_progress();
        self.out_of_order += 1;
        let wait = FIRST_OUT_OF_ORDER_WAIT * 2_u32.pow(self.out_of_order - 1);
        (self.out_of_order < MAX_OUT_OF_ORDER).then_some(wait.min(MAX_OUT_OF_ORDER_WAIT))
    }

    fn begin_again_after_progress(&mut self) {
        if self.best >= self.best_at_begin + MIN_PROGRESS_BYTES {
            *self = Self { best: self.best, best_at_begin: self.best, ..Self::default() };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_that_gets_on_may_break_any_number_of_times() {
        let mut attempts = Attempts::default();
        for number in 0..100 {
            attempts.received(number * MIN_PROGRESS_BYTES);
            assert!(attempts.broken(None).is_some(), "{number}");
        }
    }

    #[test]
    fn a_session_that_a_break_loses_counts_once() {
        let mut attempts = Attempts::default();
        let rounds = (0..100).map_while(|_| attempts.broken(None).and_then(|_| attempts.lost()));
        assert_eq!(rounds.count(), retry::MAX_ATTEMPTS as usize - 1);
        let mut attempts = Attempts::default();
        assert_eq!((0..100).map_while(|_| attempts.lost()).count(), retry::MAX_ATTEMPTS as usize - 1);
    }

    #[test]
    fn an_upload_that_does_not_get_on_ends() {
        let mut attempts = Attempts::default();
        attempts.received(100 * MIN_PROGRESS_BYTES);
        // Another session begins with nothing, and gets as far as the first one.
        let waits = (0..100).map_while(|number| {
            attempts.received((number + 1) * MIN_PROGRESS_BYTES);
            attempts.broken(None)
        });
        assert_eq!(waits.count(), retry::MAX_ATTEMPTS as usize - 1);
        let mut attempts = Attempts::default();
        assert_eq!((0..100).map_while(|_| attempts.out_of_order()).count(), MAX_OUT_OF_ORDER as usize - 1);
    }
}
