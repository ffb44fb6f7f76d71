//! Exchange of usage between the replicas of a shared storage.
//!
//! The mark of a collection writes the usage of all repositories, as of the time at which the mark began.
//! Each replica writes what it added and removed in windows of half a minute, and adds the windows of all
//! replicas that ended after the mark began. So pushes of other replicas count half a minute later at the latest, and
//! those around the mark may count twice.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use quinistry_oci::{RepositoryName, to_json};
use serde::{Deserialize, Serialize};

use super::{Usage, lock};
use crate::layout::{Key, name_shard, usage_base, usage_deltas, usage_marked};
use crate::storage::{Meta, ObjectTag};
use crate::{Lead, Store, StoreError};

/// Time between two exchanges of usage. A push waits for the next exchange of its replica, and then for that of another
/// one: it counts there after twice this time at the latest.
const EXCHANGE_INTERVAL: Duration = Duration::from_secs(15);

/// Length of a window.
const WINDOW_LENGTH: Duration = Duration::from_secs(30);

/// Most windows of a replica: a day of pushes. Beyond, the oldest two become one.
const MAX_WINDOWS: usize = 2880;

/// Longest object of usage that is read, in bytes.
const MAX_USAGE_BYTES: u64 = 64 * 1024 * 1024;

/// Age beyond the mark at which the changes of a replica are removed.
const MAX_DELTA_AGE: Duration = Duration::from_hours(1);

type Repositories<T> = BTreeMap<RepositoryName, T>;

/// Usage that this replica exchanges; without effect on a storage of this process alone.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    is_on: bool,
    /// Begin of the mark, in seconds since 1970, or of the scan in place of one.
    marked: Option<u64>,
    origin: Origin,
    base: Repositories<Usage>,
    own: Vec<Window>,
    /// Windows of this replica that were not written yet.
    is_changed: bool,
    others: HashMap<String, (ObjectTag, Vec<Window>)>,
}

/// Origin of the base.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Origin {
    /// Some repositories must be scanned.
    #[default]
    Unknown,
    /// Scans of the repositories that the storage had at first. All later ones are made of changes.
    Scans,
    /// A mark.
    Mark,
}

/// Changes of half a minute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Window {
    /// End of the window, in seconds since 1970.
    until: u64,
    repositories: Repositories<Change>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Change {
    added: Usage,
    removed: Usage,
}

/// Begin of the last mark.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Marked {
    marked: u64,
}

// === impl Change ===

impl Change {
    fn add(&mut self, other: Self) {
        *self = Self { added: self.added.plus(other.added), removed: self.removed.plus(other.removed) };
    }
}

// === impl Exchange ===

impl Exchange {
    pub(super) fn new(is_on: bool) -> Self {
        Self { is_on, ..Self::default() }
    }

    /// Notes a change by this replica.
    pub(super) fn note(&mut self, name: &RepositoryName, added: Usage, removed: Usage, now: u64) {
        let change = Change { added, removed };
        if !self.is_on || change == Change::default() {
            return;
        }
        self.is_changed = true;
        let length = WINDOW_LENGTH.as_secs();
        let until = (now / length + 1) * length;
        if self.own.last().is_none_or(|last| last.until < until) {
            self.own.push(Window { until, repositories: BTreeMap::new() });
        }
        if let Some(last) = self.own.last_mut() {
            last.repositories.entry(name.clone()).or_default().add(change);
        }
        if self.own.len() > MAX_WINDOWS {
            let oldest = self.own.remove(0);
            for (name, change) in oldest.repositories {
                self.own[0].repositories.entry(name).or_default().add(change);
            }
        }
    }

    /// Notes that the repositories which the storage had at first are known.
    pub(super) fn begin(&mut self) {
        if self.is_on && self.origin == Origin::Unknown {
            self.origin = Origin::Scans;
        }
    }

    /// Returns the usage of a repository that was made since the others were scanned: that of all known changes. `None`
    /// if it must be scanned. A scan would count what other replicas have added and not told yet, and then count it again.
    pub(super) fn usage_of_new(&mut self, name: &RepositoryName) -> Option<Usage> {
        if self.origin == Origin::Unknown {
            return None;
        }
        self.base.entry(name.clone()).or_default();
        Some(self.usage(&self.changes(), name))
    }

    /// Notes the usage that a scan has found, in place of a mark.
    pub(super) fn note_scanned(&mut self, name: &RepositoryName, usage: Usage) {
        if !self.is_on {
            return;
        }
        // The scan has seen the changes of this replica.
        let mut own = Change::default();
        for window in &self.own {
            own.add(window.repositories.get(name).copied().unwrap_or_default());
        }
        self.base.insert(name.clone(), usage.plus(own.removed).minus(own.added));
    }

    /// Returns the usage of a repository by the base and all windows after it.
    fn usage(&self, changes: &HashMap<&RepositoryName, Change>, name: &RepositoryName) -> Usage {
        let Change { added, removed } = changes.get(name).copied().unwrap_or_default();
        self.base.get(name).copied().unwrap_or_default().plus(added).minus(removed)
    }

    /// Returns the changes of all replicas after the mark.
    fn changes(&self) -> HashMap<&RepositoryName, Change> {
        let mut changes: HashMap<&RepositoryName, Change> = HashMap::new();
        let marked = self.marked.unwrap_or(0);
        let windows = self.others.values().flat_map(|(_, windows)| windows).chain(&self.own);
        for window in windows.filter(|window| window.until > marked) {
            for (name, change) in &window.repositories {
                changes.entry(name).or_default().add(*change);
            }
        }
        changes
    }
}

impl Store {
    /// Returns the time after which [`exchange_usage`](Self::exchange_usage) must be called again; `None`
    /// without quotas, or if no other process has the storage.
    #[must_use]
    pub fn usage_interval(&self) -> Option<Duration> {
        let has_quotas = self.0.quotas.is_used.load(std::sync::atomic::Ordering::Acquire);
        (has_quotas && self.is_shared()).then_some(EXCHANGE_INTERVAL)
    }

    /// Tells the other replicas what this one has added and removed, and learns the same of them. Blocks.
    pub fn exchange_usage(&self) -> Result<(), StoreError> {
        let Some(shared) = &self.0.shared else { return Ok(()) };
        if self.usage_interval().is_none() {
            return Ok(());
        }
        let own = {
            let mut state = lock(&self.0.quotas.state);
            std::mem::take(&mut state.exchange.is_changed).then(|| to_json(&state.exchange.own))
        };
        let key = usage_deltas().child(shared.replica().id());
        if let Some(own) = own
            && let Err(error) = self.storage().write(&[&[(key.clone(), &own)]])
        {
            lock(&self.0.quotas.state).exchange.is_changed = true;
            return Err(error.into());
        }
        self.read_others(key.as_str())?;
        let marked = self.usage_mark()?;
        let is_new = {
            let state = lock(&self.0.quotas.state);
            state.is_listed
                && marked.is_some_and(|marked| state.exchange.marked.is_none_or(|known| known < marked))
        };
        if is_new {
            self.read_base(marked)?;
        }
        self.sum_usage();
        Ok(())
    }

    /// Finds the usage of a shared storage: by the last mark, or by a scan if there was none. Returns true if
    /// a mark was found.
    pub(super) fn load_shared_usage(&self) -> Result<bool, StoreError> {
        let marked = self.usage_mark()?;
        let has_base = {
            let state = lock(&self.0.quotas.state);
            state.exchange.origin == Origin::Mark && state.exchange.marked == marked
        };
        if has_base {
            self.sum_usage();
            return Ok(true);
        }
        if marked.is_none() {
            // A scan follows, which sees what was pushed before.
            let now = self.usage_time();
            let mut state = lock(&self.0.quotas.state);
            state.exchange.marked.get_or_insert(now);
            return Ok(false);
        }
        self.read_others("")?;
        self.read_base(marked)?;
        self.sum_usage();
        Ok(true)
    }

    /// Replaces the usage of all repositories by what a mark has found that began at `marked`. Called by the
    /// leader of a collection. On a storage of this process alone, the process knows the usage better.
    pub fn set_usage_base(
        &self,
        marked: SystemTime,
        usage: &BTreeMap<RepositoryName, Usage>,
    ) -> Result<(), StoreError> {
        if !self.is_shared() {
            return Ok(());
        }
        let mut shards: BTreeMap<u8, Repositories<Usage>> =
            (0..=u8::MAX).map(|shard| (shard, BTreeMap::new())).collect();
        for (name, usage) in usage {
            shards.entry(name_shard(name)).or_default().insert(name.clone(), *usage);
        }
        let shards: Vec<_> =
            shards.iter().map(|(shard, usage)| (usage_base(*shard), to_json(usage))).collect();
        let shards: Vec<_> = shards.iter().map(|(key, bytes)| (key.clone(), &bytes[..])).collect();
        let seconds = marked.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let mark = to_json(&Marked { marked: seconds });
        self.storage().write(&[&shards, &[(usage_marked(), &mark)]])?;
        let mut old = Vec::new();
        self.scan(&usage_deltas(), |key, meta: Meta| {
            if meta.modified + MAX_DELTA_AGE < marked {
                old.push((key, meta.tag));
            }
            Ok(())
        })?;
        for (key, tag) in old {
            self.storage().remove_if(&key, &tag)?;
        }
        Ok(())
    }

    /// Finds the usage of all repositories that have quotas, and makes it the base of all replicas. Called by
    /// the leader after a collection. Without effect on a storage of this process alone.
    pub fn renew_usage_base(&self, lead: &Lead) -> Result<(), StoreError> {
        if !self.is_shared() || !self.0.quotas.is_used.load(Ordering::Acquire) {
            return Ok(());
        }
        let marked = self.storage().now();
        let mut usage = BTreeMap::new();
        for name in self.folders_with(&["_manifests", "_layers"])? {
            if !lead.still() {
                return Ok(());
            }
            if let Ok(name) = name.parse::<RepositoryName>()
                && self.has_quota(&name)
            {
                let found = self.scan_usage(&name)?;
                usage.insert(name, found);
            }
        }
        self.set_usage_base(marked, &usage)
    }

    fn usage_mark(&self) -> Result<Option<u64>, StoreError> {
        let note = self.read_note(&usage_marked(), crate::MAX_LINK_BYTES)?;
        Ok(note.and_then(|note| serde_json::from_slice::<Marked>(&note).ok()).map(|found| found.marked))
    }

    /// Reads the windows of the other replicas that have changed.
    fn read_others(&self, own: &str) -> Result<(), StoreError> {
        let mut found = Vec::new();
        self.scan(&usage_deltas(), |key, meta| {
            found.push((key, meta.tag));
            Ok(())
        })?;
        found.retain(|(key, _)| key.as_str() != own);
        let mut others = HashMap::new();
        for (key, tag) in found {
            let known = lock(&self.0.quotas.state).exchange.others.remove(key.as_str());
            let windows = match known.filter(|(known, _)| *known == tag) {
                Some((_, windows)) => windows,
                None => self.read_windows(&key)?,
            };
            others.insert(key.to_string(), (tag, windows));
        }
        lock(&self.0.quotas.state).exchange.others = others;
        Ok(())
    }

    /// Reads the windows of another replica.
    fn read_windows(&self, key: &Key) -> Result<Vec<Window>, StoreError> {
        let Some(note) = self.read_note(key, MAX_USAGE_BYTES)? else { return Ok(Vec::new()) };
        Ok(serde_json::from_slice(&note).unwrap_or_else(|error| {
            tracing::warn!(%key, %error, "ignoring damaged changes of usage until the next mark");
            Vec::new()
        }))
    }

    /// Reads the usage that the last mark has found.
    fn read_base(&self, marked: Option<u64>) -> Result<(), StoreError> {
        let keys: Vec<_> = (0..=u8::MAX).map(usage_base).collect();
        let mut base = Repositories::new();
        for (key, bytes) in keys.iter().zip(self.storage().read_all(&keys, MAX_USAGE_BYTES)?) {
            let Some(bytes) = bytes else { continue };
            match serde_json::from_slice::<Repositories<Usage>>(&bytes) {
                Ok(usage) => base.extend(usage),
                Err(error) => tracing::warn!(%key, %error, "ignoring damaged usage until the next mark"),
            }
        }
        let mut state = lock(&self.0.quotas.state);
        for name in base.keys() {
            state.add(name);
        }
        let exchange = &mut state.exchange;
        (exchange.base, exchange.marked, exchange.origin) = (base, marked, Origin::Mark);
        exchange.own.retain(|window| marked.is_none_or(|marked| window.until > marked));
        Ok(())
    }

    /// Computes the usage of all repositories from base and windows.
    fn sum_usage(&self) {
        let mut state = lock(&self.0.quotas.state);
        if !state.is_listed {
            return;
        }
        let names: Vec<RepositoryName> = state.exchange.changes().into_keys().cloned().collect();
        for name in names {
            // Another replica has made the repository since the scan.
            if !state.repositories.contains_key(&name) && state.add(&name).is_some() {
                state.exchange.base.entry(name).or_default();
            }
        }
        let changes = state.exchange.changes();
        let usage: Vec<(RepositoryName, Usage)> = state
            .repositories
            .keys()
            // Others are scanned before their first change.
            .filter(|name| state.exchange.origin == Origin::Mark || state.exchange.base.contains_key(*name))
            .map(|name| (name.clone(), state.exchange.usage(&changes, name)))
            .collect();
        drop(changes);
        for (name, usage) in usage {
            state.set(&name, Some(usage));
        }
    }
}
