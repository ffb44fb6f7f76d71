//! Replicas: their heartbeats, and the intents of those that stopped.
//!
//! Ages are differences between times of the storage, never of this machine: the age of a heartbeat is counted
//! from the time at which the storage stored this process's own one.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use quinistry_oci::to_json;
use serde::Serialize;

use super::format::FORMAT;
use crate::layout::{Key, intents, intents_of, replicas};
use crate::storage::{Created, FENCE_LIFETIME, Fence, Meta, ObjectTag, Removed};
use crate::{Store, StoreError};

/// Time between two heartbeats of a replica.
pub(crate) const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(30);

/// Age of a heartbeat from which its replica counts as stopped, and others finish its changes: ten heartbeats, and
/// longer than any request to a storage takes with its repetitions.
pub(crate) const MAX_HEARTBEAT_AGE: Duration = Duration::from_mins(5);

/// Age of this replica's last heartbeat up to which no other one takes it to be stopped before a removal that begins now is
/// over.
const MAX_HEARD_AGE: Duration = MAX_HEARTBEAT_AGE.saturating_sub(FENCE_LIFETIME.saturating_mul(2));

/// Attempts to remove a key of a change.
const MAX_REMOVALS: usize = 3;

/// Age at which the heartbeat of a stopped replica is removed.
const HEARTBEAT_LIFETIME: Duration = Duration::from_hours(24);

/// Longest heartbeat, or description of the layout, that is read, in bytes.
pub(super) const MAX_NOTE_BYTES: u64 = 64 * 1024;

/// Time between two looks whether another replica has ended a change of this one.
const TAKEOVER_STEP: Duration = Duration::from_millis(250);

/// Greatest time for which a change waits for a replica that has taken it.
const MAX_TAKEOVER_WAIT: Duration = Duration::from_secs(20);

/// Attempts to take an intent whose taker stopped, while other replicas do the same.
const MAX_TAKEOVERS: usize = 8;

/// Ending of the key by which a replica takes an intent of another one.
const TAKEN: &str = ".taken";

/// This process among those that share a storage.
#[derive(Debug)]
pub(crate) struct Replica {
    id: String,
    /// The storage can only be read, so that no other replica hears of this one.
    is_reader: AtomicBool,
    /// Time of the local clock before the last heartbeat, in nanoseconds.
    heard: AtomicU64,
}

/// Content of a heartbeat.
#[derive(Debug, Serialize)]
struct Heartbeat<'a> {
    version: &'a str,
    protocols: [u32; 1],
}

/// Times of the last heartbeats, by replica, and the present time of the storage.
struct Heartbeats {
    last: HashMap<String, Meta>,
    now: SystemTime,
}

// === impl Replica ===

impl Replica {
    pub(super) fn new() -> Self {
        Self {
            id: uuid::Uuid::new_v4().to_string(),
            is_reader: AtomicBool::new(false),
            heard: AtomicU64::new(0),
        }
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Returns true if the storage can only be read.
    pub(crate) fn is_reader(&self) -> bool {
        self.is_reader.load(Ordering::Relaxed)
    }

    /// Returns the time of the local clock at which other replicas have surely not heard the last heartbeat yet; they
    /// hear it for at least [`MAX_HEARTBEAT_AGE`] from then on.
    pub(crate) fn heard(&self) -> Duration {
        Duration::from_nanos(self.heard.load(Ordering::Acquire))
    }

    /// Returns the key of an intent of this replica.
    pub(crate) fn intent(&self, id: &str) -> Key {
        intents_of(&self.id).child(id)
    }
}

// === impl Heartbeats ===

impl Heartbeats {
    /// Returns true if the replica is not heard any more. One without a heartbeat was removed long ago.
    fn has_stopped(&self, replica: &str) -> bool {
        self.last.get(replica).is_none_or(|last| self.is_older(last.modified, MAX_HEARTBEAT_AGE))
    }

    fn is_older(&self, time: SystemTime, age: Duration) -> bool {
        self.now.duration_since(time).is_ok_and(|passed| passed > age)
    }
}

/// Returns the key by which a replica takes an intent.
fn taken(intent: &Key) -> Option<Key> {
    Key::of_path(format!("{intent}{TAKEN}"))
}

impl Store {
    /// Returns the time after which [`maintain`](Self::maintain) must be called again; `None` if the storage is not
    /// shared, or can only be read.
    #[must_use]
    pub fn maintenance_interval(&self) -> Option<Duration> {
        self.0.shared.as_ref().filter(|shared| !shared.replica.is_reader()).map(|_| HEARTBEAT_INTERVAL)
    }

    /// Tells the other replicas that this one runs. The leader then finishes the changes of those that stopped, and
    /// gives each repository its register.
    pub fn maintain(&self) -> Result<(), StoreError> {
        let Some(shared) = &self.0.shared else { return Ok(()) };
        self.beat(&shared.replica)?;
        let Some(lead) = self.lead() else { return Ok(()) };
        let beats = self.heartbeats(&shared.replica)?;
        self.finish_intents_of_others(&shared.replica, &beats)?;
        for (id, last) in &beats.last {
            let is_forgotten = *id != shared.replica.id && beats.is_older(last.modified, HEARTBEAT_LIFETIME);
            if is_forgotten && lead.still() {
                self.storage().remove_if(&replicas().child(id), &last.tag)?;
            }
        }
        self.complete_registers(beats.now, &lead)
    }

    /// Joins the replicas of a shared storage. Fails if this program does not understand the storage.
    pub(crate) fn join(&self) -> Result<(), StoreError> {
        let Some(super::Shared { replica, .. }) = &self.0.shared else { return Ok(()) };
        if !self.check_format()? {
            replica.is_reader.store(true, Ordering::Relaxed);
            return Ok(());
        }
        self.beat(replica)?;
        let beats = self.heartbeats(replica)?;
        self.finish_intents_of_others(replica, &beats)?;
        self.complete_registers_of_empty(beats.now)
    }

    /// Writes the heartbeat.
    fn beat(&self, replica: &Replica) -> Result<(), StoreError> {
        let heartbeat = Heartbeat { version: env!("CARGO_PKG_VERSION"), protocols: [FORMAT] };
        let own = replicas().child(&replica.id);
        let begun = self.0.collector.clock().now();
        self.storage().write(&[&[(own, &to_json(&heartbeat))]])?;
        replica.heard.fetch_max(u64::try_from(begun.as_nanos()).unwrap_or(u64::MAX), Ordering::AcqRel);
        Ok(())
    }

    /// Returns the heartbeats of all replicas, right after that of this one.
    fn heartbeats(&self, replica: &Replica) -> Result<Heartbeats, StoreError> {
        let mut last = HashMap::new();
        self.scan(&replicas(), |key, meta| {
            last.extend(key.beneath(&replicas()).map(|(id, _)| (id.to_owned(), meta)));
            Ok(())
        })?;
        let now = last.get(&replica.id).map_or(SystemTime::UNIX_EPOCH, |own: &Meta| own.modified);
        Ok(Heartbeats { last, now })
    }

    /// Finishes the changes of replicas that stopped. Of several replicas that see one, one finishes the change.
    fn finish_intents_of_others(&self, replica: &Replica, beats: &Heartbeats) -> Result<(), StoreError> {
        let mut found = Vec::new();
        self.scan(&intents(), |key, meta| {
            found.push((key, meta));
            Ok(())
        })?;
        for (key, meta) in &found {
            if let Some(intent) = key.as_str().strip_suffix(TAKEN) {
                // The replica that took the intent stopped after it had removed the intent.
                let is_left = found.iter().all(|(other, _)| other.as_str() != intent);
                if is_left && beats.is_older(meta.modified, MAX_HEARTBEAT_AGE) {
                    self.storage().remove(key)?;
                }
                continue;
            }
            let Some((owner, id)) = key.beneath(&intents()) else { continue };
            // An intent without an owner is of a folder that was copied here.
            let has_stopped = if id.is_empty() {
                beats.is_older(meta.modified, MAX_HEARTBEAT_AGE)
            } else {
                owner != replica.id && beats.has_stopped(owner)
            };
            if has_stopped {
                self.take_over(replica, beats, key, meta.modified)?;
            }
        }
        Ok(())
    }

    /// Fails if other replicas may take this one to be stopped, and carry out its changes: what they or clients write then
    /// must stay.
    pub(crate) fn check_heard(&self) -> Result<(), StoreError> {
        let Some(shared) = &self.0.shared else { return Ok(()) };
        let since = self.0.collector.clock().now().saturating_sub(shared.replica.heard());
        // The client repeats the request, or the next maintenance does.
        if since > MAX_HEARD_AGE { Err(StoreError::Unvouched) } else { Ok(()) }
    }

    /// Removes a key as part of a change, unless other replicas may carry it out. A request that is held up on its way
    /// does not harm what is written after they have; on a storage without fences, only a stop of this process between
    /// the check and the request is left.
    pub(crate) fn remove_while_heard(&self, key: &Key) -> Result<(), StoreError> {
        for _ in 0..MAX_REMOVALS {
            let fence = self.storage().fence();
            self.check_heard()?;
            let Some(fence) = fence else {
                self.storage().remove(key)?;
                return Ok(());
            };
            if self.storage().remove_fenced(std::slice::from_ref(key), fence)?.is_empty() {
                return Ok(());
            }
        }
        Err(StoreError::Unvouched)
    }

    /// Removes a key if it has a tag that was read after a fence. Returns `None` if it may still be there.
    ///
    /// A store may give the same tag to equal bytes that are written later. The fence refuses the removal if this process
    /// was stopped since it has read the tag, so that a push in the meantime stays.
    pub(crate) fn remove_within(
        &self,
        fence: Option<Fence>,
        key: &Key,
        tag: &ObjectTag,
    ) -> Result<Option<Removed>, StoreError> {
        let removed = match fence {
            Some(fence) => self.storage().remove_if_fenced(key, tag, fence)?,
            // On a store without fences, only the tag guards what others write.
            None => Some(self.storage().remove_if(key, tag)?),
        };
        Ok(removed)
    }

    /// Waits until no other replica carries out an intent of this one, which it has removed before. `heard` is the time
    /// of the last heartbeat before the intent was written.
    ///
    /// A replica that was stopped for minutes, as in suspension, counts as gone, and another one takes its change. What
    /// this one writes afterwards must not be undone by that one. It takes an intent first, and then reads it; this
    /// replica has removed the intent first, and then looks whether it was taken: one sees the other.
    pub(crate) fn await_takeover(&self, key: &Key, heard: Duration) -> Result<(), StoreError> {
        let clock = self.0.collector.clock();
        let begun = clock.now();
        let was_heard = begun.saturating_sub(heard) <= MAX_HEARTBEAT_AGE / 2;
        let Some(taken) = taken(key).filter(|_| !was_heard) else { return Ok(()) };
        while self.storage().head(&taken)?.is_some() {
            if clock.now().saturating_sub(begun) >= MAX_TAKEOVER_WAIT {
                // The client repeats the request.
                return Err(StoreError::Unvouched);
            }
            self.0.collector.pause(TAKEOVER_STEP);
        }
        Ok(())
    }

    /// Finishes one change, unless another replica does so.
    fn take_over(
        &self,
        replica: &Replica,
        beats: &Heartbeats,
        key: &Key,
        begun: SystemTime,
    ) -> Result<(), StoreError> {
        let Some(taken) = taken(key) else { return Ok(()) };
        let mut is_own = false;
        for _ in 0..MAX_TAKEOVERS {
            let other = match self.storage().create(&taken, replica.id.as_bytes())? {
                Created::New => replica.id.as_bytes().to_vec(),
                Created::Exists(other) => other.to_vec(),
            };
            is_own = other == replica.id.as_bytes();
            if is_own {
                break;
            }
            if !std::str::from_utf8(&other).is_ok_and(|other| beats.has_stopped(other)) {
                return Ok(());
            }
            // The replica that took the intent stopped as well.
            let Some(found) = self.storage().head(&taken)? else { continue };
            if self.storage().remove_if(&taken, &found.tag)? == Removed::Changed {
                return Ok(());
            }
        }
        if !is_own {
            // The next maintenance tries again.
            return Ok(());
        }
        self.finish_intent(key, Some(begun))?;
        self.storage().remove(&taken)?;
        Ok(())
    }
}
