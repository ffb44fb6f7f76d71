//! Snapshots of the last pulls, into which the leader folds the objects of all processes.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use quinistry_oci::{Digest, RepositoryName, Tag, to_json};
use serde::{Deserialize, Serialize};

use super::{HOUR, Pull};
use crate::layout::{Key, name_shard, pull_logs, pull_snapshot, pulls_since};
use crate::storage::SCAN_PAGE_SIZE;
use crate::{Lead, Store, StoreError};

/// Longest snapshot that is read, in bytes.
const MAX_SNAPSHOT_BYTES: u64 = 256 * 1024 * 1024;

/// Longest object of pulls that is read, in bytes: ten thousand pulls of the longest names.
pub(super) const MAX_LOG_BYTES: u64 = 16 * 1024 * 1024;

/// Objects of pulls that are folded at once, so that their pulls fit into memory.
const MAX_LOGS_AT_ONCE: usize = 100;

/// Time without a fold after which pulls are counted as unknown until then.
const MAX_GAP: Duration = Duration::from_hours(48);

/// Age of a last pull that is forgotten.
const MAX_PULL_AGE_HOURS: u64 = 5 * 365 * 24;

/// Last pull of a tag or a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastPull {
    /// Latest time of the last pull: the end of its hour.
    At(SystemTime),
    /// No pull since [`Pulls::recording_since`], before which pulls are not known.
    Unknown,
}

/// Last pulls of a repository.
#[derive(Clone, Debug, Default)]
pub struct Pulls {
    since: Option<SystemTime>,
    last: RepositoryPulls,
}

/// Hours of the last pulls of a repository.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RepositoryPulls {
    #[serde(default)]
    tags: HashMap<Tag, u64>,
    #[serde(default)]
    manifests: HashMap<Digest, u64>,
}

pub(super) type Snapshot = BTreeMap<RepositoryName, RepositoryPulls>;

/// Begin and end of the time of which all pulls are known, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Recorded {
    since: u64,
    until: u64,
}

// === impl Pulls ===

impl Pulls {
    /// Returns the time from which all pulls are known; `None` if pulls were never recorded. What was pushed
    /// after that time and has no pull was never pulled.
    #[must_use]
    pub const fn recording_since(&self) -> Option<SystemTime> {
        self.since
    }

    /// Returns the last pull by a tag.
    #[must_use]
    pub fn tag(&self, tag: &Tag) -> LastPull {
        self.last_pull(self.last.tags.get(tag))
    }

    /// Returns the last pull of a manifest, by any tag or by its digest.
    #[must_use]
    pub fn manifest(&self, digest: &Digest) -> LastPull {
        self.last_pull(self.last.manifests.get(digest))
    }

    /// Adds later pulls. Those before `unknown_until` may have been lost.
    pub(super) fn add(&mut self, later: Option<&RepositoryPulls>, unknown_until: Option<SystemTime>) {
        if let Some(later) = later {
            self.last.merge(later.clone());
        }
        self.since = self.since.map(|since| since.max(unknown_until.unwrap_or(since)));
    }

    fn last_pull(&self, hour: Option<&u64>) -> LastPull {
        let end = hour.and_then(|hour| time_of(hour.checked_add(1)?.checked_mul(HOUR.as_secs())?));
        match end {
            // Pulls after an older one may have been lost.
            Some(end) if self.since.is_none_or(|since| end >= since) => LastPull::At(end),
            _ => LastPull::Unknown,
        }
    }
}

// === impl RepositoryPulls ===

impl RepositoryPulls {
    pub(super) fn add(&mut self, Pull { digest, tag, hour, .. }: Pull) {
        let tag = tag.map(|tag| self.tags.entry(tag).or_default());
        for last in [Some(self.manifests.entry(digest).or_default()), tag].into_iter().flatten() {
            *last = hour.max(*last);
        }
    }

    fn merge(&mut self, other: Self) {
        for (tag, hour) in other.tags {
            let last = self.tags.entry(tag).or_default();
            *last = hour.max(*last);
        }
        for (digest, hour) in other.manifests {
            let last = self.manifests.entry(digest).or_default();
            *last = hour.max(*last);
        }
    }

    /// Forgets pulls before an hour. Returns false if none are left.
    fn forget_before(&mut self, hour: u64) -> bool {
        self.tags.retain(|_, last| *last >= hour);
        self.manifests.retain(|_, last| *last >= hour);
        !self.tags.is_empty() || !self.manifests.is_empty()
    }
}

fn time_of(seconds: u64) -> Option<SystemTime> {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

fn seconds_of(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

impl Store {
    /// Begins the record of pulls, or continues one that was interrupted for less than two days. Call once
    /// before pulls are noted.
    pub fn begin_pull_records(&self) -> Result<(), StoreError> {
        let now = seconds_of(self.storage().now());
        match self.recorded_pulls()? {
            Some(recorded) if now <= recorded.until.saturating_add(MAX_GAP.as_secs()) => Ok(()),
            _ => self.restart_pull_records(),
        }
    }

    /// Records that pulls before now are not all known.
    pub(super) fn restart_pull_records(&self) -> Result<(), StoreError> {
        let now = seconds_of(self.storage().now());
        self.write_recorded(Recorded { since: now, until: now })
    }

    fn write_recorded(&self, recorded: Recorded) -> Result<(), StoreError> {
        Ok(self.storage().write(&[&[(pulls_since(), &to_json(&recorded))]])?)
    }

    fn recorded_pulls(&self) -> Result<Option<Recorded>, StoreError> {
        let note = self.read_note(&pulls_since(), crate::MAX_LINK_BYTES)?;
        Ok(note.and_then(|note| serde_json::from_slice(&note).ok()))
    }

    /// Returns the last pulls of a repository, as of the last [`fold_pulls`](Self::fold_pulls).
    pub fn last_pulls(&self, name: &RepositoryName) -> Result<Pulls, StoreError> {
        let since = self.recorded_pulls()?.and_then(|recorded| time_of(recorded.since));
        let Some(mut snapshot) = self.pull_snapshot(name_shard(name))? else {
            return Ok(Pulls { since: since.map(|_| self.storage().now()), ..Pulls::default() });
        };
        Ok(Pulls { since, last: snapshot.remove(name).unwrap_or_default() })
    }

    /// Folds the pulls that all processes have recorded into the snapshots, if this process leads. Begins
    /// with a [`flush_pulls`](Self::flush_pulls). A repetition after an interruption does no harm.
    pub fn fold_pulls(&self) -> Result<(), StoreError> {
        let Some(lead) = self.lead() else { return Ok(()) };
        self.flush_pulls()?;
        loop {
            let page = self.storage().scan(&pull_logs(), None, MAX_LOGS_AT_ONCE.min(SCAN_PAGE_SIZE))?;
            let logs: Vec<Key> = page.entries.into_iter().map(|(key, _)| key).collect();
            if !logs.is_empty() && !self.fold_logs(&logs, &lead)? {
                return Ok(());
            }
            if page.next.is_none() {
                break;
            }
        }
        let Some(recorded) = self.recorded_pulls()? else { return Ok(()) };
        self.write_recorded(Recorded { until: seconds_of(self.storage().now()), ..recorded })
    }

    /// Folds some objects of pulls, and removes them. Returns false once the lead is lost.
    fn fold_logs(&self, logs: &[Key], lead: &Lead) -> Result<bool, StoreError> {
        let mut shards: BTreeMap<u8, Snapshot> = BTreeMap::new();
        let mut is_incomplete = false;
        for key in logs {
            let Some(bytes) = self.read_note(key, MAX_LOG_BYTES)? else {
                is_incomplete = true;
                continue;
            };
            for pull in pulls_in(key, &bytes) {
                let Some(pull) = pull else {
                    is_incomplete = true;
                    continue;
                };
                let snapshot = shards.entry(name_shard(&pull.repository)).or_default();
                snapshot.entry(pull.repository.clone()).or_default().add(pull);
            }
        }
        let oldest = (seconds_of(self.storage().now()) / HOUR.as_secs()).saturating_sub(MAX_PULL_AGE_HOURS);
        for (shard, added) in shards {
            let former = self.pull_snapshot(shard)?;
            is_incomplete |= former.is_none();
            let mut snapshot = former.unwrap_or_default();
            for (name, pulls) in added {
                snapshot.entry(name).or_default().merge(pulls);
            }
            snapshot.retain(|_, pulls| pulls.forget_before(oldest));
            // A successor may have folded later pulls by now.
            if !lead.still() {
                return Ok(false);
            }
            self.storage().write(&[&[(pull_snapshot(shard), &to_json(&snapshot))]])?;
        }
        if is_incomplete {
            self.restart_pull_records()?;
        }
        for key in logs {
            self.storage().remove(key)?;
        }
        Ok(true)
    }

    /// Reads a snapshot, which is empty if there is none; `None` if its form is unknown.
    fn pull_snapshot(&self, shard: u8) -> Result<Option<Snapshot>, StoreError> {
        let key = pull_snapshot(shard);
        if self.storage().head(&key)?.is_none() {
            return Ok(Some(Snapshot::default()));
        }
        let Some(bytes) = self.read_note(&key, MAX_SNAPSHOT_BYTES)? else { return Ok(None) };
        let snapshot = serde_json::from_slice(&bytes);
        if let Err(error) = &snapshot {
            tracing::warn!(%key, %error, "ignoring damaged record of pulls, earlier pulls are unknown");
        }
        Ok(snapshot.ok())
    }
}

/// Returns the pulls of an object, with `None` for each line of another form.
pub(super) fn pulls_in(key: &Key, bytes: &Bytes) -> Vec<Option<Pull>> {
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let pulls: Vec<Option<Pull>> = lines.map(|line| serde_json::from_slice(line).ok()).collect();
    let damaged = pulls.iter().filter(|pull| pull.is_none()).count();
    if damaged > 0 {
        tracing::warn!(%key, lines = damaged, "ignoring damaged record of pulls, earlier pulls are unknown");
    }
    pulls
}
