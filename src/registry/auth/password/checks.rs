//! Checks of passwords by bcrypt: few at once, each attempt once, and none on the threads that serve
//! requests.

use std::collections::HashMap;
use std::num::NonZero;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use quinistry_http::Network;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::processors::Processors;
use super::success_cache::{AttemptKey, AttemptKeys, SuccessCache};
use super::throttle::{Attempt, Throttle};
use crate::auth::AuthenticationError;
use crate::auth::htpasswd::{BcryptHash, HashText};
use crate::metrics::{AuthMetrics, CacheResult};

/// Attempts that may wait for a processor, for each processor. A check takes a tenth of a second, and clients
/// give up after some seconds.
const MAX_WAITING_PER_PROCESSOR: usize = 64;

/// Time to wait when too many attempts are waiting, in the answer to the client.
const QUEUE_RETRY_AFTER_SECONDS: u32 = 1;

/// State of the password checks of a registry: what succeeded, what failed, and what is being computed.
/// Outlives the configuration.
#[derive(Debug)]
pub struct PasswordChecks {
    keys: AttemptKeys,
    successes: SuccessCache,
    throttle: Arc<Throttle>,
    /// Attempts that are being checked, with their results to come.
    flights: Mutex<HashMap<AttemptKey, watch::Receiver<Option<bool>>>>,
    /// Permits to wait or to compute.
    queue: Arc<Semaphore>,
    processors: Arc<Processors>,
    metrics: Arc<AuthMetrics>,
}

/// One password to check.
pub(super) struct PasswordAttempt<'a> {
    pub(super) network: Network,
    pub(super) user: &'a str,
    pub(super) line: &'a HashText,
    pub(super) hash: &'a BcryptHash,
    pub(super) password: &'a [u8],
}

/// Computation of one attempt, which ends even if all its clients leave: it was paid for, and its result
/// counts.
struct Flight {
    checks: Arc<PasswordChecks>,
    key: AttemptKey,
    network: Network,
    result: watch::Sender<Option<bool>>,
}

// === impl PasswordChecks ===

impl PasswordChecks {
    /// Makes the state, for all processors but one. Fails if the system has no random numbers.
    pub fn new(metrics: Arc<AuthMetrics>) -> Result<Self, ring::error::Unspecified> {
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self::on_processors(processors, metrics)
    }

    /// Makes the state for a machine with so many processors.
    pub(super) fn on_processors(
        processors: usize,
        metrics: Arc<AuthMetrics>,
    ) -> Result<Self, ring::error::Unspecified> {
        let computing = processors.saturating_sub(1).max(1);
        Ok(Self {
            keys: AttemptKeys::random()?,
            successes: SuccessCache::default(),
            throttle: Arc::default(),
            flights: Mutex::default(),
            queue: Arc::new(Semaphore::new(computing + processors * MAX_WAITING_PER_PROCESSOR)),
            processors: Arc::new(Processors::new(computing)),
            metrics,
        })
    }

    pub(crate) fn metrics(&self) -> &AuthMetrics {
        &self.metrics
    }

    /// Returns true if the password matches the hash.
    pub(super) async fn check(
        self: &Arc<Self>,
        attempt: PasswordAttempt<'_>,
        now: Instant,
    ) -> Result<bool, AuthenticationError> {
        let key = self.keys.key(attempt.user, attempt.line, attempt.password);
        if self.successes.contains(&key, now) {
            self.metrics.looked_up(CacheResult::Hit);
            return Ok(true);
        }
        let Some(mut result) = self.join_or_begin(key, &attempt, now)? else { return Ok(true) };
        // The sender is dropped without a result only if the computation panicked.
        let result = result.wait_for(Option::is_some).await.map(|result| *result);
        Ok(result.ok().flatten().unwrap_or(false))
    }

    /// Returns the result to come of an equal attempt, or begins a computation; `None` if the attempt has
    /// just succeeded.
    fn join_or_begin(
        self: &Arc<Self>,
        key: AttemptKey,
        attempt: &PasswordAttempt<'_>,
        now: Instant,
    ) -> Result<Option<watch::Receiver<Option<bool>>>, AuthenticationError> {
        let mut flights = self.flights();
        if let Some(result) = flights.get(&key) {
            self.metrics.looked_up(CacheResult::Joined);
            return Ok(Some(result.clone()));
        }
        // A computation may have ended since the look into the cache; it enters its success before it ends.
        if self.successes.contains(&key, now) {
            self.metrics.looked_up(CacheResult::Hit);
            return Ok(None);
        }
        let begun = self.throttle.begin(attempt.network, attempt.user, now).map_err(|refused| {
            let seconds = refused.retry_after.as_millis().div_ceil(1000);
            AuthenticationError::TooManyAttempts {
                retry_after_seconds: u32::try_from(seconds).unwrap_or(u32::MAX),
            }
        })?;
        let permit = self.queue.clone().try_acquire_owned().map_err(|_| {
            AuthenticationError::TooManyAttempts { retry_after_seconds: QUEUE_RETRY_AFTER_SECONDS }
        })?;
        self.metrics.looked_up(CacheResult::Miss);
        let (sender, result) = watch::channel(None);
        flights.insert(key, result.clone());
        // A runtime that ends drops the task at once, and the flight with it, which then leaves the table.
        drop(flights);
        let flight = Flight { checks: self.clone(), key, network: attempt.network, result: sender };
        tokio::spawn(flight.run(begun, permit, attempt.hash.clone(), attempt.password.into()));
        Ok(Some(result))
    }

    fn flights(&self) -> MutexGuard<'_, HashMap<AttemptKey, watch::Receiver<Option<bool>>>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn throttle_len(&self) -> usize {
        self.throttle.len()
    }
}

// === impl Flight ===

impl Flight {
    async fn run(
        self,
        attempt: Attempt,
        _permit: OwnedSemaphorePermit,
        hash: BcryptHash,
        password: Box<[u8]>,
    ) {
        let processor = self.checks.processors.acquire(self.network).await;
        let compute = move || {
            let _processor = processor;
            let begun = Instant::now();
            let is_right = hash.matches(&password);
            (is_right, begun.elapsed())
        };
        // Only the end of the runtime cancels the task.
        let Ok((is_right, duration)) = tokio::task::spawn_blocking(compute).await else { return };
        self.checks.metrics.computed(duration);
        let now = Instant::now();
        if is_right {
            self.checks.successes.insert(self.key, now);
            attempt.succeeded(now);
        } else {
            attempt.failed(now);
        }
        self.result.send_replace(Some(is_right));
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.checks.flights().remove(&self.key);
    }
}
