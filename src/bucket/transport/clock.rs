//! The clock of a store.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use http::HeaderMap;
use http::header::DATE;
use rustix::time::{ClockId, clock_gettime};

use crate::StoreTime;

/// Clock of a store, by the `Date` of its last answer and the time since. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct StoreClock(Arc<Mutex<Option<Observation>>>);

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
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(observation);
        }
    }

    /// Returns the time of the store, at most the time of an answer's way too early; `None` before the first
    /// answer.
    pub(crate) fn now(&self) -> Option<StoreTime> {
        let Observation { date, at } = (*self.0.lock().unwrap_or_else(PoisonError::into_inner))?;
        Some(StoreTime(date + time_since_boot().saturating_sub(at)))
    }

    /// Returns the time to sign a request with: that of the store, which refuses others, or that of this machine
    /// before the first answer.
    pub(crate) fn to_sign(&self) -> SystemTime {
        self.now().map_or_else(SystemTime::now, |StoreTime(now)| now)
    }
}

/// Returns the time since boot. Includes suspension, unlike that of `Instant`.
fn time_since_boot() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    let nanoseconds = u32::try_from(now.tv_nsec).unwrap_or_default();
    Duration::new(u64::try_from(now.tv_sec).unwrap_or_default(), nanoseconds)
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
        let expected = SystemTime::UNIX_EPOCH + Duration::from_secs(1_577_836_800);
        let passed = clock.now().unwrap().0.duration_since(expected).unwrap();
        assert!(passed < Duration::from_secs(60), "{passed:?}");
        assert_eq!(clock.to_sign().duration_since(expected).unwrap().as_secs() / 60, 0);
        for bad in ["", "yesterday"] {
            headers.insert(DATE, bad.parse().unwrap());
            clock.observe(&headers);
            assert!(clock.now().unwrap().0 >= expected);
        }
    }
}
