//! Tokens that were verified a moment ago.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ring::digest::{SHA256, digest};

/// Longest time for which a token is not verified again.
const MAX_AGE: Duration = Duration::from_mins(5);

/// Most tokens that are remembered. One takes about a kilobyte.
const CAPACITY: usize = 10_000;

/// Cache of verified tokens by the hash of their text. The keys that verified them own it, so that new keys
/// begin with an empty one.
#[derive(Debug)]
pub(in crate::auth) struct TokenCache<T>(Mutex<HashMap<[u8; 32], (Instant, T)>>);

impl<T> Default for TokenCache<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> TokenCache<T> {
    /// Returns the hash of a token.
    pub(in crate::auth) fn key(token: &str) -> [u8; 32] {
        digest(&SHA256, token.as_bytes()).as_ref().try_into().expect("SHA-256 has 32 bytes")
    }

    /// Returns what was found for a token, unless that is too long ago.
    pub(in crate::auth) fn get(&self, key: &[u8; 32], now: Instant) -> Option<T> {
        let found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (verified, value) = found.get(key)?;
        (now.saturating_duration_since(*verified) < MAX_AGE).then(|| value.clone())
    }

    /// Remembers a token. A full cache first forgets the old ones, and all if none is old.
    pub(in crate::auth) fn insert(&self, key: [u8; 32], value: T, now: Instant) {
        let mut found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if found.len() >= CAPACITY {
            found.retain(|_, (verified, _)| now.saturating_duration_since(*verified) < MAX_AGE);
        }
        if found.len() >= CAPACITY {
            found.clear();
        }
        found.insert(key, (now, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_verified_again_after_five_minutes() {
        let cache = TokenCache::default();
        let (key, start) = (TokenCache::<u8>::key("a"), Instant::now());
        cache.insert(key, 1, start);
        assert_eq!(cache.get(&key, start + Duration::from_secs(299)), Some(1));
        assert_eq!(cache.get(&key, start + MAX_AGE), None);
        assert_eq!(cache.get(&TokenCache::<u8>::key("b"), start), None);
    }

    #[test]
    fn the_number_of_tokens_is_bounded() {
        let cache = TokenCache::default();
        let start = Instant::now();
        for number in 0..CAPACITY + 10 {
            cache.insert(TokenCache::<usize>::key(&number.to_string()), number, start);
        }
        let len = cache.0.lock().unwrap().len();
        assert!((10..=CAPACITY).contains(&len), "{len}");
        assert_eq!(
            cache.get(&TokenCache::<usize>::key(&(CAPACITY + 9).to_string()), start),
            Some(CAPACITY + 9)
        );
    }
}
