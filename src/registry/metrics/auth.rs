//! Metrics of credentials. No label holds a name.

use std::time::Duration;

use quinistry_http::metrics::{Counters, Exposition, Histogram, LabelValue};

use crate::auth::{AuthenticationError, Identity};

/// Upper bounds of the buckets for computations of bcrypt in seconds: cost 8 to 16 on machines of now.
const BCRYPT_SECONDS: [f64; 9] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// Metrics of credentials. Counted also while no listener shows them.
#[derive(Debug)]
pub struct AuthMetrics {
    attempts: Counters<(AuthMethod, AuthResult)>,
    bcrypt: Histogram,
    cache: Counters<(CacheResult,)>,
}

/// Kind of credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMethod {
    /// User name and password.
    Password,
    /// API key.
    Key,
    /// Token of this registry or of another server.
    Token,
    /// Client certificate.
    Certificate,
}

/// Result of verifying credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AuthResult {
    Success,
    Failure,
    Throttled,
}

/// Result of looking up a password that was right before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CacheResult {
    Hit,
    /// Equal attempt that is being checked already.
    Joined,
    Miss,
}

// === impl AuthMetrics ===

impl Default for AuthMetrics {
    fn default() -> Self {
        Self {
            attempts: Counters::default(),
            bcrypt: Histogram::new(&BCRYPT_SECONDS),
            cache: Counters::default(),
        }
    }
}

impl AuthMetrics {
    /// Counts credentials that were verified.
    pub fn attempted(&self, how: AuthMethod, result: &Result<Identity, AuthenticationError>) {
        let result = match result {
            Ok(_) => AuthResult::Success,
            Err(AuthenticationError::TooManyAttempts { .. }) => AuthResult::Throttled,
            Err(_) => AuthResult::Failure,
        };
        self.attempts.of((how, result)).increment();
    }

    pub(crate) fn looked_up(&self, result: CacheResult) {
        self.cache.of((result,)).increment();
    }

    /// Records a computation of bcrypt.
    pub(crate) fn computed(&self, duration: Duration) {
        self.bcrypt.observe(duration);
    }

    /// Returns the number of computations of bcrypt.
    #[cfg(test)]
    pub(crate) fn computations(&self) -> u64 {
        self.bcrypt.count()
    }

    pub(crate) fn write(&self, page: &mut Exposition) {
        page.family(
            "quinistry_auth_attempts_total",
            "Credentials that were verified.",
            &["how", "result"],
            &self.attempts,
            |_| true,
        );
        page.histogram("quinistry_auth_bcrypt_seconds", "Durations of computations of bcrypt.", &self.bcrypt);
        page.family(
            "quinistry_auth_cache_total",
            "Look-ups of passwords that were right before.",
            &["result"],
            &self.cache,
            |_| true,
        );
    }
}

impl LabelValue for AuthMethod {
    const ALL: &'static [Self] = &[Self::Password, Self::Key, Self::Token, Self::Certificate];

    fn as_str(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::Key => "key",
            Self::Token => "token",
            Self::Certificate => "certificate",
        }
    }

    fn index(self) -> usize {
        self as usize
    }
}

impl LabelValue for AuthResult {
    const ALL: &'static [Self] = &[Self::Success, Self::Failure, Self::Throttled];

    fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Throttled => "throttled",
        }
    }

    fn index(self) -> usize {
        self as usize
    }
}

impl LabelValue for CacheResult {
    const ALL: &'static [Self] = &[Self::Hit, Self::Joined, Self::Miss];

    fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Joined => "joined",
            Self::Miss => "miss",
        }
    }

    fn index(self) -> usize {
        self as usize
    }
}
