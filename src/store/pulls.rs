//! Last pulls of tags and manifests, recorded without a write for each pull.
//!
//! Each process notes the first pull of a tag or manifest in an hour, in memory. Objects under `pulls/log`
//! record what was noted since the last one; the leader folds them into one snapshot for each of 256 parts of
//! the repositories. A crash loses the pulls since the last object, of a quarter of an hour at most.

mod current;
mod snapshot;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use quinistry_oci::{Digest, RepositoryName, Tag, to_json};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::layout::pulls_of;
use super::{Store, StoreError};

pub use self::current::CurrentPulls;
pub use self::snapshot::{LastPull, Pulls};

/// Number of locks, so that requests seldom wait for one another.
const SHARDS: usize = 16;

/// Noted pulls from which an object is written at once.
const MAX_PULLS_PER_OBJECT: usize = 10_000;

/// Most noted pulls while the storage refuses objects: some twenty megabytes. Later ones are lost, and the
/// record says so.
const MAX_WAITING_PULLS: usize = 10 * MAX_PULLS_PER_OBJECT;

/// Most pulls of an hour that one lock remembers. Beyond, pulls of the hour are noted a second time.
const MAX_SEEN_PER_SHARD: usize = 65_536;

const HOUR: Duration = Duration::from_hours(1);

/// Pulls that this process has noted.
#[derive(Debug, Default)]
pub(super) struct PullRecorder {
    shards: [Mutex<Shard>; SHARDS],
    /// Two hashes of a pull, which no client can choose to be equal for two pulls.
    hashers: [RandomState; 2],
    waiting: AtomicUsize,
    /// Notified when there are pulls for a whole object.
    is_full: Notify,
    /// Pulls were lost.
    has_lost: AtomicBool,
    /// Number of the last object that this process wrote.
    last_object: Mutex<u64>,
    written_objects: AtomicU64,
}

#[derive(Debug, Default)]
struct Shard {
    /// Hour of the pulls in `seen`.
    hour: u64,
    seen: HashSet<u128>,
    waiting: Vec<Pull>,
}

/// First pull of a tag or manifest in an hour.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Pull {
    repository: RepositoryName,
    digest: Digest,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tag: Option<Tag>,
    /// Hours since 1970.
    hour: u64,
}

// === impl PullRecorder ===

impl PullRecorder {
    fn note(&self, name: &RepositoryName, digest: &Digest, tag: Option<&Tag>, hour: u64) {
        let hash = |hasher: &RandomState| u128::from(hasher.hash_one((name, digest, tag)));
        let key = hash(&self.hashers[0]) << 64 | hash(&self.hashers[1]);
        let index = usize::try_from(key % SHARDS as u128).unwrap_or_default();
        let mut shard = lock(&self.shards[index]);
        if shard.hour != hour || shard.seen.len() >= MAX_SEEN_PER_SHARD {
            shard.hour = hour;
            shard.seen.clear();
        }
        if !shard.seen.insert(key) {
            return;
        }
        let waiting = self.waiting.fetch_add(1, Ordering::Relaxed) + 1;
        if waiting > MAX_WAITING_PULLS {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            self.has_lost.store(true, Ordering::Relaxed);
            return;
        }
        let (repository, digest, tag) = (name.clone(), digest.clone(), tag.cloned());
        shard.waiting.push(Pull { repository, digest, tag, hour });
        drop(shard);
        if waiting.is_multiple_of(MAX_PULLS_PER_OBJECT) {
            self.is_full.notify_one();
        }
    }

    /// Takes the noted pulls of all hours.
    fn take(&self) -> Vec<Pull> {
        let mut pulls = Vec::new();
        for shard in &self.shards {
            pulls.append(&mut lock(shard).waiting);
        }
        self.waiting.fetch_sub(pulls.len(), Ordering::Relaxed);
        pulls
    }

    /// Gives pulls back that could not be written.
    fn restore(&self, mut pulls: Vec<Pull>) {
        self.waiting.fetch_add(pulls.len(), Ordering::Relaxed);
        lock(&self.shards[0]).waiting.append(&mut pulls);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the hours since 1970.
fn hour_of(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs() / HOUR.as_secs()
}

impl Store {
    /// Notes that a client got a manifest, by tag or by digest. Never waits for the storage.
    ///
    /// A pull of an index is that of the index, and a pull of one of its manifests is that of the manifest.
    /// Clients get an index before its manifests, so that both are noted. The time is that of the storage, by whose clock
    /// retention judges.
    pub fn note_pull(&self, name: &RepositoryName, digest: &Digest, tag: Option<&Tag>) {
        self.0.pulls.note(name, digest, tag, hour_of(self.storage().now()));
    }

    /// Waits until so many pulls are noted that [`flush_pulls`](Self::flush_pulls) shall be called at once.
    pub async fn pulls_are_many(&self) {
        self.0.pulls.is_full.notified().await;
    }

    /// Returns the number of objects of pulls that this process has written.
    #[must_use]
    pub fn written_pull_objects(&self) -> u64 {
        self.0.pulls.written_objects.load(Ordering::Relaxed)
    }

    /// Writes the noted pulls to the storage, as objects of at most 10,000. After an error the pulls stay in
    /// memory. Blocks.
    pub fn flush_pulls(&self) -> Result<(), StoreError> {
        let recorder = &self.0.pulls;
        let mut last = lock(&recorder.last_object);
        if recorder.has_lost.swap(false, Ordering::Relaxed)
            && let Err(error) = self.restart_pull_records()
        {
            recorder.has_lost.store(true, Ordering::Relaxed);
            return Err(error);
        }
        let mut pulls = recorder.take();
        let date = Timestamp::try_from(self.storage().now()).unwrap_or_default().to_string();
        let date = date.split_once('T').map_or(&*date, |(date, _)| date);
        while !pulls.is_empty() {
            let rest = pulls.split_off(pulls.len().min(MAX_PULLS_PER_OBJECT));
            let mut lines = Vec::new();
            for pull in &pulls {
                lines.extend(to_json(pull));
                lines.push(b'\n');
            }
            if let Err(error) = self.create_numbered(&pulls_of(date), ".jsonl", &mut last, &lines) {
                recorder.restore(pulls);
                recorder.restore(rest);
                return Err(error);
            }
            recorder.written_objects.fetch_add(1, Ordering::Relaxed);
            pulls = rest;
        }
        Ok(())
    }
}
