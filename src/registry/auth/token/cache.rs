//! Tokens that were verified a moment ago.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ring::digest::{SHA256, digest};

/// Longest time for which a token is not verified again.
const MAX_AGE: Duration = Duration::from_mins(5);

/// Capacity, in bytes of tokens. The parsed access of a token takes at most about five times its text, so all of
/// them take at most 20 MiB, although clients choose how long their tokens are.
const CAPACITY_BYTES: usize = 4 * 1024 * 1024;

/// Memory of a remembered token beside its claims, in bytes: hash, times and text of their own allocations.
const ENTRY_BYTES: usize = 256;

/// Cache of verified tokens by the hash of their text. The keys that verified them own it, so that new keys
/// begin with an empty one.
#[derive(Debug)]
pub(in crate::auth) struct TokenCache<T>(Mutex<Tokens<T>>);

#[derive(Debug)]
struct Tokens<T> {
    found: HashMap<[u8; 32], Entry<T>>,
    /// Sum of the bytes of all entries.
    bytes: usize,
}

#[derive(Debug)]
struct Entry<T> {
    verified: Instant,
    bytes: usize,
    value: T,
}

impl<T> Default for Tokens<T> {
    fn default() -> Self {
        Self { found: HashMap::new(), bytes: 0 }
    }
}

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
        let tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = tokens.found.get(key)?;
        entry.is_fresh(now).then(|| entry.value.clone())
    }

    /// Remembers a token of `length` bytes. A full cache first forgets the old ones, and all if too few are old.
    pub(in crate::auth) fn insert(&self, key: [u8; 32], length: usize, value: T, now: Instant) {
        let bytes = length + ENTRY_BYTES;
        let mut tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if tokens.bytes + bytes > CAPACITY_BYTES {
            tokens.found.retain(|_, entry| entry.is_fresh(now));
            tokens.bytes = tokens.found.values().map(|entry| entry.bytes).sum();
        }
        if tokens.bytes + bytes > CAPACITY_BYTES {
            *tokens = Tokens::default();
        }
        let former = tokens.found.insert(key, Entry { verified: now, bytes, value });
        tokens.bytes += bytes;
        tokens.bytes -= former.map_or(0, |entry| entry.bytes);
    }
}

impl<T> Entry<T> {
    fn is_fresh(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.verified) < MAX_AGE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_verified_again_after_five_minutes() {
        let cache = TokenCache::default();
        let (key, start) = (TokenCache::<u8>::key("a"), Instant::now());
        cache.insert(key, 100, 1, start);
        assert_eq!(cache.get(&key, start + Duration::from_secs(299)), Some(1));
        assert_eq!(cache.get(&key, start + MAX_AGE), None);
        assert_eq!(cache.get(&TokenCache::<u8>::key("b"), start), None);
    }

    #[test]
    fn the_memory_of_tokens_is_bounded_whatever_their_length() {
        let start = Instant::now();
        for length in [100, 2_000, 16 * 1024] {
            let cache = TokenCache::default();
            let key = |number: usize| TokenCache::<usize>::key(&number.to_string());
            for number in 0..20_000 {
                cache.insert(key(number), length, number, start);
                let tokens = cache.0.lock().unwrap();
                let bytes = tokens.found.len() * (length + ENTRY_BYTES);
                assert_eq!(tokens.bytes, bytes);
                assert!(bytes <= CAPACITY_BYTES, "{bytes}");
            }
            assert_eq!(cache.get(&key(19_999), start), Some(19_999));
            // The same token again takes no more.
            let bytes = cache.0.lock().unwrap().bytes;
            cache.insert(key(19_999), length, 1, start);
            assert_eq!(cache.0.lock().unwrap().bytes, bytes);
        }
    }
}
