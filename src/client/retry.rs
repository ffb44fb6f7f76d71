//! Conditions of retries, and the time to wait before each.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::{Duration, SystemTime};

use reqwest::StatusCode;
use reqwest::header::{HeaderMap, RETRY_AFTER};

use super::headers;

/// Number of attempts in all.
pub(super) const MAX_ATTEMPTS: u32 = 5;
/// Longest `Retry-After` that is waited for. With a longer one the operation fails, because a user waits for
/// it.
const MAX_RETRY_AFTER: Duration = Duration::from_mins(1);
/// Delay before the first retry; each further delay is twice as long.
const FIRST_RETRY_DELAY: Duration = Duration::from_millis(100);

/// Returns true if another attempt may give another status.
pub(super) fn is_transient(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504)
}

/// Returns the time to wait after the attempt of this number (from 1), or `None` to give up.
pub(super) fn wait(attempt: u32, answer: Option<&HeaderMap>) -> Option<Duration> {
    if attempt >= MAX_ATTEMPTS {
        return None;
    }
    let asked = answer
        .and_then(|headers| headers.get(RETRY_AFTER)?.to_str().ok())
        .and_then(|field| headers::retry_after(field, SystemTime::now()));
    match asked {
        Some(asked) => (asked <= MAX_RETRY_AFTER).then_some(asked),
        None => Some(jittered(FIRST_RETRY_DELAY * 2_u32.pow(attempt - 1))),
    }
}

/// Returns a random time between half of `wait` and all of it, so that clients that failed together do not
/// retry together.
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
        for attempt in 1..MAX_ATTEMPTS {
            let wait = wait(attempt, None).unwrap();
            assert!(
                wait >= FIRST_RETRY_DELAY / 2 && wait <= FIRST_RETRY_DELAY * 2_u32.pow(attempt - 1),
                "{wait:?}"
            );
        }
        assert_eq!(wait(MAX_ATTEMPTS, None), None);
    }

    #[test]
    fn what_a_server_asks_for_is_done_within_reason() {
        let headers = |value: &'static str| HeaderMap::from_iter([(RETRY_AFTER, value.parse().unwrap())]);
        assert_eq!(wait(1, Some(&headers("3"))), Some(Duration::from_secs(3)));
        assert_eq!(wait(1, Some(&headers("3600"))), None);
        assert!(wait(1, Some(&headers("soon"))).unwrap() <= FIRST_RETRY_DELAY);
    }
}
