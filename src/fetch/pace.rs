//! Least pace of a source. A source that sends a byte now and then would otherwise hold its clients for ever. Pure.

use std::time::Duration;

/// Bytes that must come within each window. With a window of 30 seconds that is 2 KiB/s, less than any usable
/// connection has.
const MIN_WINDOW_BYTES: u64 = 64 * 1024;

/// Bytes of an answer within a window, of which only the time of waiting for the source counts: a slow client is not a
/// slow source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pace {
    waited: Duration,
    bytes: u64,
}

impl Pace {
    /// Returns the rest of a window of this length.
    pub(crate) fn left_of(&self, window: Duration) -> Duration {
        window.saturating_sub(self.waited)
    }

    pub(crate) fn waited(&mut self, time: Duration) {
        self.waited += time;
    }

    pub(crate) fn received(&mut self, bytes: u64) {
        self.bytes += bytes;
    }

    /// Ends the window, and begins another. Returns false if too few bytes have come.
    pub(crate) fn next_window(&mut self) -> bool {
        std::mem::take(self).bytes >= MIN_WINDOW_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_now_and_then_do_not_extend_a_window() {
        let window = Duration::from_secs(30);
        let mut pace = Pace::default();
        for second in 1..=30 {
            pace.waited(Duration::from_secs(1));
            pace.received(1);
            assert_eq!(pace.left_of(window), Duration::from_secs(30 - second));
        }
        assert!(!pace.next_window());
        pace.received(MIN_WINDOW_BYTES);
        assert!(pace.next_window());
        assert_eq!(pace, Pace::default());
    }
}
