//! The clock of a store.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use http::HeaderMap;
use http::header::DATE;
use quinistry_store::time_since_boot;

use crate::StoreTime;

/// Difference of the clocks from which on there is a warning. Stores refuse signatures that are 15 minutes off.
const MAX_DIFFERENCE: Duration = Duration::from_mins(5);

/// Clock of a store, by the `Date` of its last answer and the time since. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct StoreClock(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    last: Mutex<Option<Observation>>,
    /// True after a warning about the clock of this machine.
    has_warned: AtomicBool,
}

#[derive(Clone, Copy, Debug)]
struct Observation {
    date: SystemTime,
    /// Time since boot at which the answer came.
    at: Duration,
}

// === impl StoreClock ===

impl StoreClock {
    /// Takes the `Date` of an answer, also of one that refuses the request.
    pub(crate) fn observe(&self, headers: &HeaderMap) {
        let date = headers.get(DATE).and_then(|date| date.to_str().ok());
        if let Some(date) = date.and_then(|date| httpdate::parse_http_date(date).ok()) {
            let observation = Observation { date, at: time_since_boot() };
            *self.last() = Some(observation);
            self.compare(date);
        }
    }

    /// Warns once of a clock of this machine that is far off.
    fn compare(&self, date: SystemTime) {
        let now = SystemTime::now();
        let difference = now.duration_since(date).or_else(|_| date.duration_since(now)).unwrap_or_default();
        if difference > MAX_DIFFERENCE && !self.0.has_warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                ?difference,
                "clock differs from that of the object store, signing with the store's"
            );
        }
    }

    fn last(&self) -> MutexGuard<'_, Option<Observation>> {
        self.0.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the time of the store, at most the time of an answer's way too early; `None` before the first
    /// answer.
    pub(crate) fn now(&self) -> Option<StoreTime> {
        let Observation { date, at } = (*self.last())?;
        Some(StoreTime(date + time_since_boot().saturating_sub(at)))
    }

    /// Returns the time to sign a request with: that of the store, which refuses others, or that of this machine
    /// before the first answer.
    pub(crate) fn to_sign(&self) -> SystemTime {
        self.now().map_or_else(SystemTime::now, |StoreTime(now)| now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_the_store_is_that_of_its_last_answer_and_the_time_since() {
        let clock = StoreClock::default();
        assert_eq!(clock.now(), None);
        let mut headers = HeaderMap::new();
        headers.insert(DATE, "Wed, 01 Jan 2020 00:00:00 GMT".parse().unwrap());
        clock.observe(&headers);
        let expected = SystemTime::UNIX_EPOCH + Duration::from_hours(438_288);
        let passed = clock.now().unwrap().0.duration_since(expected).unwrap();
        assert!(passed < Duration::from_mins(1), "{passed:?}");
        assert_eq!(clock.to_sign().duration_since(expected).unwrap().as_secs() / 60, 0);
        for bad in ["", "yesterday"] {
            headers.insert(DATE, bad.parse().unwrap());
            clock.observe(&headers);
            assert!(clock.now().unwrap().0 >= expected);
        }
    }
}
