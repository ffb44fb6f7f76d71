//! The limit of requests in flight: grows slowly while the store answers, and is halved when it asks for fewer
//! (additive increase, multiplicative decrease, as in RFC 5681).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{ObjectError, ObjectErrorKind};

/// Greatest number of requests in flight. 256 connections are more than a store of one machine can use, and fewer
/// than the threads that may wait for them.
pub const MAX_IN_FLIGHT: usize = 256;

/// Least limit, with which a registry still serves.
const MIN_IN_FLIGHT: usize = 8;

/// Longest wait for another request to end.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// Limit of requests in flight. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Limit(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    free: Arc<Semaphore>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    limit: usize,
    /// Greatest limit.
    greatest: usize,
    /// Successes since the limit grew: it grows by one after as many as it is.
    successes: usize,
    /// Permits that are taken away as soon as they come back.
    excess: usize,
    /// Time of the last decrease. Requests that began before it say nothing new.
    decreased: Option<Instant>,
    /// Number of answers so far by which the store asked for fewer requests.
    throttlings: u64,
}

/// Permission of one request.
#[derive(Debug)]
pub(super) struct Permit {
    limit: Limit,
    slot: Option<OwnedSemaphorePermit>,
    begun: Instant,
}

// === impl Limit ===

impl Limit {
    /// Creates a limit that is never greater than a number, nor than [`MAX_IN_FLIGHT`].
    pub(super) fn new(greatest: usize) -> Self {
        let greatest = greatest.clamp(MIN_IN_FLIGHT, MAX_IN_FLIGHT);
        let state =
            State { limit: greatest, greatest, successes: 0, excess: 0, decreased: None, throttlings: 0 };
        Self(Arc::new(Inner { free: Arc::new(Semaphore::new(greatest)), state: Mutex::new(state) }))
    }

    /// Waits until another request may be sent.
    pub(super) async fn acquire(&self) -> Result<Permit, ObjectError> {
        let acquired = tokio::time::timeout(MAX_WAIT, self.0.free.clone().acquire_owned()).await;
        let Ok(Ok(permit)) = acquired else {
            let message =
                format!("too many requests to the bucket: none ended within {} seconds", MAX_WAIT.as_secs());
            return Err(ObjectError::new(ObjectErrorKind::Throttled, message));
        };
        Ok(Permit { limit: self.clone(), slot: Some(permit), begun: Instant::now() })
    }

    /// Returns the number of answers so far by which the store asked for fewer requests.
    pub(super) fn throttlings(&self) -> u64 {
        self.state().throttlings
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    fn current(&self) -> usize {
        self.state().limit
    }
}

// === impl Permit ===

impl Permit {
    /// Ends a request that the store answered.
    pub(super) fn succeeded(self) {
        let mut state = self.limit.state();
        state.successes += 1;
        if state.successes >= state.limit && state.limit < state.greatest {
            state.successes = 0;
            state.limit += 1;
            match state.excess.checked_sub(1) {
                Some(excess) => state.excess = excess,
                None => self.limit.0.free.add_permits(1),
            }
        }
        drop(state);
    }

    /// Ends a request to which the store answered that there are too many.
    pub(super) fn throttled(self) {
        let mut state = self.limit.state();
        state.throttlings += 1;
        if state.decreased.is_none_or(|decreased| self.begun > decreased) {
            let lower = (state.limit / 2).max(MIN_IN_FLIGHT);
            state.excess += state.limit - lower;
            state.limit = lower;
            state.successes = 0;
            state.decreased = Some(Instant::now());
            state.excess -= self.limit.0.free.forget_permits(state.excess);
            tracing::debug!(limit = lower, "bucket asks for fewer requests");
        }
        drop(state);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Some(slot) = self.slot.take() else { return };
        let mut state = self.limit.state();
        if let Some(excess) = state.excess.checked_sub(1) {
            state.excess = excess;
            slot.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_limit_is_halved_once_for_requests_that_were_in_flight_together() {
        let limit = Limit::new(MAX_IN_FLIGHT);
        let mut permits = Vec::new();
        for _ in 0..MAX_IN_FLIGHT {
            permits.push(limit.acquire().await.unwrap());
        }
        assert_eq!(limit.0.free.available_permits(), 0);
        permits.pop().unwrap().throttled();
        permits.pop().unwrap().throttled();
        assert_eq!(limit.current(), MAX_IN_FLIGHT / 2);
        drop(permits);
        assert_eq!(limit.0.free.available_permits(), MAX_IN_FLIGHT / 2);
        for _ in 0..20 {
            limit.acquire().await.unwrap().throttled();
        }
        assert_eq!((limit.current(), limit.0.free.available_permits()), (MIN_IN_FLIGHT, MIN_IN_FLIGHT));
    }

    #[tokio::test]
    async fn a_limit_that_is_set_is_not_exceeded() {
        let limit = Limit::new(25);
        for _ in 0..1000 {
            limit.acquire().await.unwrap().succeeded();
        }
        assert_eq!((limit.current(), limit.0.free.available_permits()), (25, 25));
        assert_eq!(Limit::new(usize::MAX).current(), MAX_IN_FLIGHT);
    }

    #[tokio::test]
    async fn the_limit_grows_by_one_after_as_many_successes_as_it_is() {
        let limit = Limit::new(MAX_IN_FLIGHT);
        while limit.current() > MIN_IN_FLIGHT {
            limit.acquire().await.unwrap().throttled();
        }
        for _ in 0..MIN_IN_FLIGHT {
            limit.acquire().await.unwrap().succeeded();
        }
        assert_eq!(
            (limit.current(), limit.0.free.available_permits()),
            (MIN_IN_FLIGHT + 1, MIN_IN_FLIGHT + 1)
        );
        for _ in 0..100_000 {
            limit.acquire().await.unwrap().succeeded();
        }
        assert_eq!((limit.current(), limit.0.free.available_permits()), (MAX_IN_FLIGHT, MAX_IN_FLIGHT));
    }
}
