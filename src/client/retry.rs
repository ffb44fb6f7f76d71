//! When to try again, and how long to wait before.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::{Duration, SystemTime};

use reqwest::StatusCode;
use reqwest::header::{HeaderMap, RETRY_AFTER};

use super::headers;

/// How often anything is tried in all.
pub(super) const TRIES: u32 = 5;
/// What is asked to wait longer fails instead: somebody sits before it.
const LONGEST_WAIT: Duration = Duration::from_mins(1);
/// The first wait; each further one is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// Whether an answer may be another one the next time.
pub(super) fn is_transient(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504)
}

/// How long to wait after the try of this number (from 1), or `None` to give up.
pub(super) fn wait(attempt: u32, answer: Option<&HeaderMap>) -> Option<Duration> {
    if attempt >= TRIES {
        return None;
    }
    let asked = answer
        .and_then(|headers| headers.get(RETRY_AFTER)?.to_str().ok())
        .and_then(|field| headers::retry_after(field, SystemTime::now()));
    match asked {
        Some(asked) => (asked <= LONGEST_WAIT).then_some(asked),
        None => Some(jittered(FIRST_WAIT * 2_u32.pow(attempt - 1))),
    }
}

/// Between a half and the whole, so that those who failed together do not come back together.
fn jittered(wait: Duration) -> Duration {
    let random = RandomState::new().build_hasher().finish();
    let half = wait / 2;
    half + half * u32::try_from(random % 1024).expect("below 1024") / 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_end() {
        for attempt in 1..TRIES {
            let wait = wait(attempt, None).unwrap();
            assert!(wait >= FIRST_WAIT / 2 && wait <= FIRST_WAIT * 2_u32.pow(attempt - 1), "{wait:?}");
        }
        assert_eq!(wait(TRIES, None), None);
    }

    #[test]
    fn what_a_server_asks_for_is_done_within_reason() {
        let headers = |value: &'static str| HeaderMap::from_iter([(RETRY_AFTER, value.parse().unwrap())]);
        assert_eq!(wait(1, Some(&headers("3"))), Some(Duration::from_secs(3)));
        assert_eq!(wait(1, Some(&headers("3600"))), None);
        assert!(wait(1, Some(&headers("soon"))).unwrap() <= FIRST_WAIT);
    }
}
