//! A bucket in memory. Each request takes effect at one point of time.

mod body;
mod clock;
mod objects;
mod state;
#[cfg(test)]
mod tests;
mod uploads;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

pub use self::clock::StoreClock;
use self::state::State;
use crate::{ObjectError, ObjectErrorKind};

/// Time for which a store accepts a request that is signed for a chosen time.
const SIGNED_REQUEST_VALIDITY: Duration = Duration::from_secs(10);

/// Bucket in memory.
#[derive(Debug)]
pub struct Mem {
    options: MemOptions,
    clock: StoreClock,
    state: Mutex<State>,
    /// True from the first answer on.
    has_answered: AtomicBool,
}

/// Properties of a bucket in memory, by which stores differ.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a difference between stores")]
pub struct MemOptions {
    /// Versions of objects.
    pub versions: Versions,
    /// Conditions that are looked at.
    pub conditions: HonoredConditions,
    /// Least length of a part that is not the last, in bytes. S3: 5 MiB.
    pub min_part_bytes: u64,
    /// Greatest number of a part. S3: 10,000.
    pub max_parts: u32,
    /// True if all parts but the last must have one length, as R2 demands.
    pub requires_equal_parts: bool,
    /// Time after which lists show a change. Stores with a guarantee: none.
    pub list_lag: Duration,
    /// True if pages of lists begin with the first key, whatever key they shall begin after.
    pub ignores_start_after: bool,
    /// Length in bytes from which parts of uploads are forgotten and read as zeros. Lets a test push more than its
    /// memory holds. Other objects stay: the program reads records of its own back.
    pub forgets_parts_from: u64,
    /// True if URLs can be signed.
    pub signs: bool,
    /// True if bodies are compared with the SHA-256 that their requests tell.
    pub verifies_sha256: bool,
}

/// Versions of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Versions {
    /// MD5 of the bytes, in quotes: the same bytes have the same version again, as on S3.
    Etags,
    /// A number that grows with each change, as on Google Cloud Storage. Such a store does not check the time of a
    /// removal.
    Generations,
}

/// Conditions that a store looks at. Stores that do not know a condition ignore its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HonoredConditions {
    /// Conditions of all changes.
    All,
    /// Conditions of writes; removals happen always.
    Writes,
    /// None: each change happens.
    Nothing,
    /// None: changes that have a condition are refused as not implemented.
    Refused,
}

impl Default for MemOptions {
    fn default() -> Self {
        Self {
            versions: Versions::Etags,
            conditions: HonoredConditions::All,
            min_part_bytes: 5 << 20,
            max_parts: 10_000,
            requires_equal_parts: false,
            list_lag: Duration::ZERO,
            ignores_start_after: false,
            forgets_parts_from: u64::MAX,
            signs: true,
            verifies_sha256: true,
        }
    }
}

impl Default for Mem {
    fn default() -> Self {
        Self::new(MemOptions::default(), StoreClock::system())
    }
}

// === impl Mem ===

impl Mem {
    /// Makes an empty bucket.
    #[must_use]
    pub fn new(options: MemOptions, clock: StoreClock) -> Self {
        let state = State::default();
        Self { options, clock, state: Mutex::new(state), has_answered: AtomicBool::new(false) }
    }

    /// Returns the clock of the store.
    pub fn clock(&self) -> &StoreClock {
        &self.clock
    }

    /// Returns all keys in the order of their bytes.
    pub fn keys(&self) -> Vec<String> {
        self.lock().objects.keys().cloned().collect()
    }

    /// Returns the bytes of an object.
    pub fn bytes(&self, key: &str) -> Option<Vec<u8>> {
        let state = self.lock();
        let body = &state.objects.get(key)?.body;
        Some(body.chunks(0..body.length()).concat())
    }

    /// Returns the number of uploads in parts that have not ended.
    pub fn pending_uploads(&self) -> usize {
        self.lock().uploads.len()
    }

    /// Sets an object outside any request, with a chosen time of its last change.
    pub fn plant(&self, key: &str, bytes: impl Into<bytes::Bytes>, modified: SystemTime) {
        let body = body::Body::new(&crate::Payload::from(bytes));
        self.lock().insert(&self.options, key, body, None, modified);
    }

    /// Removes an object outside any request, as a store that loses data. Returns true if the object was there.
    pub fn lose(&self, key: &str) -> bool {
        let mut state = self.lock();
        let is_there = state.objects.contains_key(key);
        state.remove(&self.options, key, self.clock.now());
        is_there
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a request at one point of time.
    fn answer<T>(
        &self,
        request: impl FnOnce(&mut State, &MemOptions, SystemTime) -> Result<T, ObjectError>,
    ) -> Result<T, ObjectError> {
        let mut state = self.lock();
        let now = self.clock.now();
        state.settle_lists(&self.options, now);
        let answer = request(&mut state, &self.options, now);
        self.has_answered.store(true, Ordering::Relaxed);
        answer
    }
}

/// Makes an error whose message names the request, its key and the reason.
fn refuse(kind: ObjectErrorKind, request: &str, key: &str, reason: &str) -> ObjectError {
    let message = format!("failed to {request} {}: {reason}", key.escape_debug());
    ObjectError { kind, message, source: None }
}
