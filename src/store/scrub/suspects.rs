//! Suspects: content that a read found damaged, to be checked before all other.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use quinistry_oci::{Algorithm, Digest};
use tokio::sync::Notify;

use crate::Store;

/// Capacity of the queue, in digests. What finds no place is found by a later read, or by the round.
const CAPACITY: usize = 1024;

/// Time for which damage that stays in its place is no suspect again: each check of it looks for the
/// repositories that have the content, and clients may ask for it many times a second.
const REST: Duration = Duration::from_hours(1);

/// Queue of content to be checked.
#[derive(Debug, Default)]
pub(crate) struct Suspects {
    queue: Mutex<VecDeque<Digest>>,
    added: Notify,
    /// Damage that stays in its place, with the time of its check.
    resting: Mutex<VecDeque<(Digest, Instant)>>,
}

impl Suspects {
    fn add(&self, canonical: &Digest) {
        if self.rests(canonical) {
            return;
        }
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.len() < CAPACITY && !queue.contains(canonical) {
            queue.push_back(canonical.clone());
            self.added.notify_one();
        }
    }

    /// Returns the content to be checked next, and leaves it in the queue: reads that find it damaged until
    /// the end of the check are answered by that check.
    pub(super) fn first(&self) -> Option<Digest> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).front().cloned()
    }

    /// Returns true if content was checked a short time ago, and its damage stays in its place.
    fn rests(&self, canonical: &Digest) -> bool {
        let resting = self.resting.lock().unwrap_or_else(PoisonError::into_inner);
        resting.iter().any(|(digest, since)| digest == canonical && since.elapsed() < REST)
    }

    /// Leaves damage in its place for a while.
    pub(super) fn rest(&self, canonical: &Digest) {
        let mut resting = self.resting.lock().unwrap_or_else(PoisonError::into_inner);
        resting.retain(|(digest, since)| digest != canonical && since.elapsed() < REST);
        if resting.len() >= CAPACITY {
            resting.pop_front();
        }
        resting.push_back((canonical.clone(), Instant::now()));
    }

    /// Removes content that was checked.
    pub(super) fn remove(&self, canonical: &Digest) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).retain(|digest| digest != canonical);
    }
}

impl Store {
    /// Has content checked soon, because a read of it had another digest. Never waits.
    pub fn suspect(&self, digest: &Digest) {
        // Bytes lie under their SHA-256. That of a longer digest stands in a link, which may be wrong in
        // place of them.
        if digest.algorithm() == Algorithm::Sha256 {
            self.0.suspects.add(digest);
        }
    }

    /// Waits until there is content to be checked soon.
    pub async fn suspected(&self) {
        self.0.suspects.added.notified().await;
    }
}
