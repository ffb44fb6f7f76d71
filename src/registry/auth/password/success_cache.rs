//! Passwords that were right a short time ago, as keyed hashes. Pure but for the lock; the caller has the
//! clock.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ring::hmac;
use ring::rand::SystemRandom;

use crate::auth::htpasswd::HashText;

/// Time after the last use at which an entry expires.
const IDLE_TIME: Duration = Duration::from_mins(5);

/// Time after the check by bcrypt at which an entry expires, however often it is used.
const MAX_AGE: Duration = Duration::from_mins(30);

/// Capacity, in entries of 64 bytes.
const CAPACITY: usize = 10_000;

/// HMAC over user, line and password under a random key of this process. Tells nothing about any of them, and
/// an entry for another line of the user has another key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct AttemptKey([u8; 32]);

/// Makes the keys of attempts.
#[derive(Debug)]
pub(super) struct AttemptKeys(hmac::Key);

/// Attempts that succeeded. Only right passwords are entered, so that strangers cannot fill the cache.
#[derive(Debug, Default)]
pub(super) struct SuccessCache(Mutex<HashMap<AttemptKey, Lifetime>>);

#[derive(Clone, Copy, Debug)]
struct Lifetime {
    expires: Instant,
    /// Latest value of `expires`.
    limit: Instant,
}

// === impl AttemptKeys ===

impl AttemptKeys {
    /// Draws the key of this process; fails if the system has no random numbers.
    pub(super) fn random() -> Result<Self, ring::error::Unspecified> {
        Ok(Self(hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())?))
    }

    pub(super) fn key(&self, user: &str, line: &HashText, password: &[u8]) -> AttemptKey {
        let mut context = hmac::Context::with_key(&self.0);
        // Lengths in front of two of the three keep all triples apart.
        for part in [user.as_bytes(), line.0.as_bytes()] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        context.update(password);
        AttemptKey(*context.sign().as_ref().first_chunk().expect("a tag has 32 bytes"))
    }
}

impl std::fmt::Debug for AttemptKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AttemptKey")
    }
}

// === impl SuccessCache ===

impl SuccessCache {
    /// Returns true if the attempt succeeded before, and prolongs its entry.
    pub(super) fn contains(&self, key: &AttemptKey, now: Instant) -> bool {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match entries.get_mut(key) {
            Some(lifetime) if now < lifetime.expires => {
                lifetime.expires = (now + IDLE_TIME).min(lifetime.limit);
                true
            }
            Some(_) => {
                entries.remove(key);
                false
            }
            None => false,
        }
    }

    /// Enters an attempt that has just been checked.
    pub(super) fn insert(&self, key: AttemptKey, now: Instant) {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= CAPACITY {
            entries.retain(|_, lifetime| now < lifetime.expires);
        }
        if entries.len() >= CAPACITY {
            // Each insertion costs a computation of bcrypt, beside which a walk over all entries is nothing.
            let first = entries.iter().min_by_key(|(_, lifetime)| lifetime.expires).map(|(key, _)| *key);
            first.map(|first| entries.remove(&first));
        }
        entries.insert(key, Lifetime { expires: now + IDLE_TIME, limit: now + MAX_AGE });
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn key(number: u32) -> AttemptKey {
        let mut key = [0; 32];
        key[..4].copy_from_slice(&number.to_be_bytes());
        AttemptKey(key)
    }

    #[test]
    fn an_entry_lives_five_minutes_after_its_last_use_and_at_most_thirty() {
        let (cache, begin) = (SuccessCache::default(), Instant::now());
        cache.insert(key(1), begin);
        assert!(cache.contains(&key(1), begin + SECOND * 299));
        assert!(!cache.contains(&key(1), begin + IDLE_TIME * 2), "not used for five minutes");
        assert_eq!(cache.len(), 0, "an expired entry is removed");
        cache.insert(key(1), begin);
        let mut now = begin;
        while now < begin + SECOND * 1799 {
            now += SECOND * 60;
            assert_eq!(cache.contains(&key(1), now), now < begin + MAX_AGE, "{:?}", now - begin);
        }
        assert!(!cache.contains(&key(1), begin + MAX_AGE), "however often it is used");
    }

    #[test]
    fn the_cache_is_bounded_and_the_entry_that_expires_first_makes_room() {
        let (cache, begin) = (SuccessCache::default(), Instant::now());
        for number in 0..10_000 {
            cache.insert(key(number), begin + Duration::from_millis(number.into()));
        }
        let now = begin + SECOND * 20;
        assert!(cache.contains(&key(0), now), "prolonged");
        cache.insert(key(10_000), now);
        assert_eq!(cache.len(), CAPACITY);
        assert!(cache.contains(&key(0), now) && cache.contains(&key(10_000), now));
        assert!(!cache.contains(&key(1), now));
    }

    #[test]
    fn a_key_differs_in_user_line_and_password_and_in_their_borders() {
        let keys = AttemptKeys::random().unwrap();
        let make = |user: &str, line: &str, password: &[u8]| keys.key(user, &HashText(line.into()), password);
        let one = make("ab", "cd", b"ef");
        assert!(one == make("ab", "cd", b"ef"));
        for other in [
            make("a", "bcd", b"ef"),
            make("abc", "d", b"ef"),
            make("ab", "cde", b"f"),
            make("ab", "cd", b"e"),
        ] {
            assert!(one != other);
        }
        assert!(one != AttemptKeys::random().unwrap().key("ab", &HashText("cd".into()), b"ef"));
    }
}
