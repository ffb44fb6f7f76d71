//! Bearer tokens: what the verifiers of this registry's own tokens and of those of another server share.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Instant, SystemTime};

use super::cache::TokenCache;
use crate::auth::authenticator::{Credentials, Verification};
use crate::auth::{AuthenticationError, Identity};

/// Keys in use, which a reload replaces together with all that they verified.
pub(in crate::auth) struct KeysInUse<K, T>(RwLock<Arc<VerifyingKeys<K, T>>>);

/// Keys with the tokens that they verified.
pub(in crate::auth) struct VerifyingKeys<K, T> {
    pub(in crate::auth) keys: K,
    pub(in crate::auth) verified: TokenCache<T>,
}

// === impl KeysInUse ===

impl<K, T> KeysInUse<K, T> {
    pub(in crate::auth) fn new(keys: K) -> Self {
        Self(RwLock::new(Arc::new(VerifyingKeys::new(keys))))
    }

    /// Returns the keys of now.
    pub(in crate::auth) fn current(&self) -> Arc<VerifyingKeys<K, T>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts other keys into use. Tokens of the former ones are verified again.
    pub(in crate::auth) fn replace(&self, keys: K) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(VerifyingKeys::new(keys));
    }
}

// === impl VerifyingKeys ===

impl<K, T> VerifyingKeys<K, T> {
    fn new(keys: K) -> Self {
        Self { keys, verified: TokenCache::default() }
    }
}

/// Answers credentials that are a bearer token by `identify`, which gets the token and the time of now on both clocks:
/// in seconds since the epoch, and monotonic. Other credentials are left to other verifiers.
pub(in crate::auth) fn verify_bearer<'a>(
    credentials: Credentials<'_>,
    identify: impl FnOnce(&str, u64, Instant) -> Option<Result<Identity, AuthenticationError>>,
) -> Verification<'a> {
    let result = match credentials {
        Credentials::Bearer(token) => identify(token, seconds_since_epoch(), Instant::now()),
        Credentials::Basic { .. } => None,
    };
    Box::pin(std::future::ready(result))
}

/// Returns the time of now; a clock before the epoch counts as the epoch, at which no token is valid.
pub(in crate::auth) fn seconds_since_epoch() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
