//! Quotas: limits of the content and the tags of repositories.
//!
//! The usage of a repository is the bytes of its distinct blobs and manifests, and the number of its tags. A
//! process that has the storage to itself counts exactly: it scans the repositories of a quota before their
//! first change, and then charges each change before it is made. Replicas of a shared storage begin with the
//! usage that the last mark of a collection has found, and tell each other their changes (`exchange`).
//!
//! Only limits refuse. Deletions always pass, and so does a push of what the repository has.

mod exceeded;
mod exchange;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};

use quinistry_oci::{Algorithm, Digest, RepositoryName, Tag};
use serde::{Deserialize, Serialize};

use self::exchange::Exchange;
use super::layout::{Key, RepositoryKeys, TAG_LINK, blob};
use super::{Store, StoreError};

pub use self::exceeded::QuotaExceeded;

/// Number of blobs and manifests whose length is looked up at once.
const CONTENT_AT_ONCE: usize = 1000;

/// Set of repositories. Must not wait.
pub trait RepositoryMatcher: fmt::Debug + Send + Sync {
    /// Returns true for a repository of the set.
    fn matches(&self, repository: &RepositoryName) -> bool;
}

/// Limits of a set of repositories together.
#[derive(Clone, Debug)]
pub struct Quota {
    /// Name for clients, such as the patterns of the repositories.
    pub name: String,
    /// Repositories whose usage is summed.
    pub repositories: Arc<dyn RepositoryMatcher>,
    /// Most bytes, if they are limited.
    pub bytes: Option<u64>,
    /// Most tags, if they are limited.
    pub tags: Option<u64>,
}

/// Usage of a repository, or of several together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Bytes of distinct blobs and manifests.
    pub bytes: u64,
    /// Number of tags.
    pub tags: u64,
}

/// Quotas in use, and the usage of their repositories.
#[derive(Debug, Default)]
pub(super) struct Quotas {
    is_used: AtomicBool,
    state: Mutex<QuotaState>,
    /// Locked while repositories are scanned.
    loading: Mutex<()>,
}

#[derive(Debug, Default)]
struct QuotaState {
    quotas: Arc<[Quota]>,
    /// Usage of each quota.
    used: Vec<Usage>,
    repositories: HashMap<RepositoryName, Repository>,
    /// Number of repositories without a known usage.
    unknown: usize,
    /// Repositories of the storage were looked for.
    is_listed: bool,
    exchange: Exchange,
}

/// Repository of a quota.
#[derive(Debug)]
struct Repository {
    ledger: Arc<Ledger>,
    /// Indexes of the quotas.
    quotas: Arc<[usize]>,
    /// Usage; `None` if the repository must be scanned.
    usage: Option<Usage>,
}

/// Exclusion between the changes of a repository, as far as their usage depends on one another.
#[derive(Debug, Default)]
struct Ledger {
    /// Shared by changes that add content; exclusive for those that remove content, and for scans.
    changes: RwLock<()>,
    /// Digests that are being added.
    adding: Mutex<HashSet<Digest>>,
    /// Signalled when one was added.
    added: Condvar,
}

/// Turn of a change that adds content of a digest.
struct AddingTurn<'a>(&'a Ledger, Digest);

// === impl Usage ===

impl Usage {
    const fn plus(self, other: Self) -> Self {
        let (bytes, tags) = (self.bytes.saturating_add(other.bytes), self.tags.saturating_add(other.tags));
        Self { bytes, tags }
    }

    const fn minus(self, other: Self) -> Self {
        let (bytes, tags) = (self.bytes.saturating_sub(other.bytes), self.tags.saturating_sub(other.tags));
        Self { bytes, tags }
    }
}

// === impl Quota ===

impl Quota {
    /// Fails if the usage would exceed a limit with what is asked for.
    fn check(&self, used: Usage, asked: Usage) -> Result<(), QuotaExceeded> {
        let exceeds = |limit: Option<u64>, used: u64, asked: u64| {
            limit.filter(|limit| asked > 0 && used.saturating_add(asked) > *limit)
        };
        let quota = || self.name.clone();
        if let Some(limit) = exceeds(self.bytes, used.bytes, asked.bytes) {
            return Err(QuotaExceeded::bytes(quota(), limit, used.bytes, asked.bytes));
        }
        match exceeds(self.tags, used.tags, asked.tags) {
            Some(limit) => Err(QuotaExceeded::tags(quota(), limit, used.tags, asked.tags)),
            None => Ok(()),
        }
    }
}

// === impl Ledger ===

impl Ledger {
    /// Waits until no other change adds content of the digest.
    fn wait_to_add(&self, digest: &Digest) -> AddingTurn<'_> {
        let mut adding = lock(&self.adding);
        while !adding.insert(digest.clone()) {
            adding = self.added.wait(adding).unwrap_or_else(PoisonError::into_inner);
        }
        AddingTurn(self, digest.clone())
    }
}

impl Drop for AddingTurn<'_> {
    fn drop(&mut self) {
        lock(&self.0.adding).remove(&self.1);
        self.0.added.notify_all();
    }
}

// === impl QuotaState ===

impl QuotaState {
    /// Returns the indexes of the quotas that a repository belongs to.
    fn quotas_of(&self, name: &RepositoryName) -> Arc<[usize]> {
        let quotas = self.quotas.iter().enumerate();
        quotas.filter(|(_, quota)| quota.repositories.matches(name)).map(|(index, _)| index).collect()
    }

    /// Returns true if the usage of all repositories is known.
    const fn is_loaded(&self) -> bool {
        self.is_listed && self.unknown == 0
    }

    /// Adds a repository, if it belongs to a quota.
    fn add(&mut self, name: &RepositoryName) -> Option<Arc<Ledger>> {
        if let Some(known) = self.repositories.get(name) {
            return Some(known.ledger.clone());
        }
        let quotas = self.quotas_of(name);
        if quotas.is_empty() {
            return None;
        }
        let repository = Repository { ledger: Arc::default(), quotas, usage: None };
        let ledger = repository.ledger.clone();
        self.repositories.insert(name.clone(), repository);
        self.unknown += 1;
        Some(ledger)
    }

    /// Sets the usage of a repository.
    fn set(&mut self, name: &RepositoryName, usage: Option<Usage>) {
        let Some(repository) = self.repositories.get_mut(name) else { return };
        let former = std::mem::replace(&mut repository.usage, usage);
        self.unknown -= usize::from(former.is_none());
        self.unknown += usize::from(usage.is_none());
        let former = former.unwrap_or_default();
        for index in &*repository.quotas {
            self.used[*index] = self.used[*index].minus(former).plus(usage.unwrap_or_default());
        }
    }

    /// Charges a repository. Returns false if the usage is not known.
    fn charge(&mut self, name: &RepositoryName, asked: Usage, now: u64) -> Result<bool, QuotaExceeded> {
        let Some(repository) = self.repositories.get(name).filter(|_| self.is_loaded()) else {
            return Ok(false);
        };
        for index in &*repository.quotas {
            self.quotas[*index].check(self.used[*index], asked)?;
        }
        let usage = repository.usage.map(|usage| usage.plus(asked));
        self.set(name, usage);
        self.exchange.note(name, asked, Usage::default(), now);
        Ok(true)
    }

    /// Takes removed content from the usage of a repository, if the usage is known.
    fn credit(&mut self, name: &RepositoryName, removed: Usage, now: u64) {
        let usage = self.repositories.get(name).and_then(|repository| repository.usage);
        if let Some(usage) = usage {
            self.set(name, Some(usage.minus(removed)));
        }
        self.exchange.note(name, Usage::default(), removed, now);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Store {
    /// Replaces the quotas. The usage is found again before the next push.
    pub fn set_quotas(&self, quotas: Vec<Quota>) {
        let is_shared = self.is_shared();
        let mut state = lock(&self.0.quotas.state);
        let used = vec![Usage::default(); quotas.len()];
        self.0.quotas.is_used.store(!quotas.is_empty(), Ordering::Release);
        // Changes that hold a ledger go on; what they add is found by the scan, which waits for them.
        let ledgers: HashMap<RepositoryName, Repository> = std::mem::take(&mut state.repositories);
        *state = QuotaState {
            quotas: quotas.into(),
            used,
            exchange: Exchange::new(is_shared),
            ..QuotaState::default()
        };
        for (name, former) in ledgers {
            let quotas = state.quotas_of(&name);
            if !quotas.is_empty() {
                state.repositories.insert(name, Repository { ledger: former.ledger, quotas, usage: None });
                state.unknown += 1;
            }
        }
    }

    /// Returns true if a quota limits a repository.
    #[must_use]
    pub fn has_quota(&self, name: &RepositoryName) -> bool {
        self.0.quotas.is_used.load(Ordering::Acquire)
            && !lock(&self.0.quotas.state).quotas_of(name).is_empty()
    }

    /// Returns each quota with its present usage; `None` until the usage was found.
    #[must_use]
    pub fn quota_usage(&self) -> Vec<(Quota, Option<Usage>)> {
        let state = lock(&self.0.quotas.state);
        let is_loaded = state.is_loaded();
        let usage = |index: usize| is_loaded.then(|| state.used[index]);
        state.quotas.iter().cloned().enumerate().map(|(index, quota)| (quota, usage(index))).collect()
    }

    /// Fails if an upload of `bytes` new bytes into a repository would exceed a quota; without a number, if a
    /// quota is used up. May scan repositories, and blocks.
    pub fn check_quota(&self, name: &RepositoryName, bytes: Option<u64>) -> Result<(), StoreError> {
        if !self.has_quota(name) {
            return Ok(());
        }
        self.load_usage()?;
        let state = lock(&self.0.quotas.state);
        let asked = Usage { bytes: bytes.unwrap_or(1), tags: 0 };
        for index in &*state.quotas_of(name) {
            state.quotas[*index].check(state.used[*index], asked)?;
        }
        Ok(())
    }

    /// Makes a change that adds content to a repository, unless a quota refuses it. `cost` finds the usage
    /// that the change adds, and `change` returns false beside its result if it added nothing after all. Of
    /// several changes that add content of one digest, each waits for the one before.
    pub(super) fn within_quota<T>(
        &self,
        name: &RepositoryName,
        digest: Option<&Digest>,
        cost: impl Fn() -> Result<Usage, StoreError>,
        change: impl FnOnce() -> Result<(T, bool), StoreError>,
    ) -> Result<T, StoreError> {
        let Some(ledger) = self.ledger(name) else { return change().map(|(result, _)| result) };
        loop {
            self.load_usage()?;
            let _shared = ledger.changes.read().unwrap_or_else(PoisonError::into_inner);
            let _turn = digest.map(|digest| ledger.wait_to_add(digest));
            let asked = cost()?;
            let now = self.usage_time();
            if !lock(&self.0.quotas.state).charge(name, asked, now)? {
                // Another change has failed, and the repository must be scanned.
                continue;
            }
            let changed = change();
            match &changed {
                Ok((_, true)) => {}
                // Scans of a shared storage are long, and the next mark corrects the usage.
                Err(_) if !self.is_shared() => lock(&self.0.quotas.state).set(name, None),
                _ => lock(&self.0.quotas.state).credit(name, asked, now),
            }
            return changed.map(|(result, _)| result);
        }
    }

    /// Makes a change that removes content from a repository, and returns with its result the usage that it
    /// removed. Never fails because of a quota.
    pub(super) fn freeing_quota<T>(
        &self,
        name: &RepositoryName,
        change: impl FnOnce() -> Result<(T, Usage), StoreError>,
    ) -> Result<T, StoreError> {
        let Some(ledger) = self.ledger(name) else { return change().map(|(result, _)| result) };
        let _exclusive = ledger.changes.write().unwrap_or_else(PoisonError::into_inner);
        let changed = change();
        let mut state = lock(&self.0.quotas.state);
        match changed {
            Ok((result, removed)) => {
                state.credit(name, removed, self.usage_time());
                Ok(result)
            }
            Err(error) => {
                // Some of it may be removed.
                if !self.is_shared()
                    && !matches!(error, StoreError::ManifestUnknown | StoreError::BlobUnknown)
                {
                    state.set(name, None);
                }
                Err(error)
            }
        }
    }

    fn ledger(&self, name: &RepositoryName) -> Option<Arc<Ledger>> {
        if !self.0.quotas.is_used.load(Ordering::Acquire) {
            return None;
        }
        lock(&self.0.quotas.state).add(name)
    }

    /// Returns the usage that a blob's link adds. Without `length`, that of the stored bytes.
    pub(super) fn blob_cost(
        &self,
        name: &RepositoryName,
        canonical: &Digest,
        length: Option<u64>,
    ) -> Result<Usage, StoreError> {
        if self.storage().head(&RepositoryKeys(name).layer_link(canonical))?.is_some() {
            return Ok(Usage::default());
        }
        let bytes = match length {
            Some(length) => length,
            None => self.stored_bytes(canonical)?,
        };
        Ok(Usage { bytes, tags: 0 })
    }

    /// Returns the usage that a manifest of `length` bytes and its tags add.
    pub(super) fn manifest_cost(
        &self,
        name: &RepositoryName,
        (canonical, length): (&Digest, usize),
        tags: &[Tag],
    ) -> Result<Usage, StoreError> {
        let place = RepositoryKeys(name);
        let is_new = self.storage().head(&place.revision_link(canonical))?.is_none();
        let mut cost = Usage { bytes: if is_new { length as u64 } else { 0 }, tags: 0 };
        for tag in tags {
            cost.tags += u64::from(self.storage().head(&place.tag_link(tag))?.is_none());
        }
        Ok(cost)
    }

    /// Returns the length of stored content; 0 if it is absent, or the repository has no quota.
    pub(super) fn quota_bytes(&self, name: &RepositoryName, canonical: &Digest) -> Result<u64, StoreError> {
        if self.has_quota(name) { self.stored_bytes(canonical) } else { Ok(0) }
    }

    fn stored_bytes(&self, canonical: &Digest) -> Result<u64, StoreError> {
        Ok(self.storage().head(&blob(canonical))?.map_or(0, |meta| meta.length))
    }

    /// Finds the usage of all repositories of quotas that is not known.
    fn load_usage(&self) -> Result<(), StoreError> {
        if lock(&self.0.quotas.state).is_loaded() {
            return Ok(());
        }
        let _loading = lock(&self.0.quotas.loading);
        let is_listed = lock(&self.0.quotas.state).is_listed;
        if !is_listed {
            let names = self.folders_with(&["_manifests", "_layers"])?;
            let mut state = lock(&self.0.quotas.state);
            for name in names {
                if let Ok(name) = name.parse() {
                    state.add(&name);
                }
            }
            state.is_listed = true;
        }
        if self.is_shared() && self.load_shared_usage()? {
            return Ok(());
        }
        loop {
            let (name, ledger) = {
                let mut state = lock(&self.0.quotas.state);
                let unknown = state.repositories.iter().find(|(_, repository)| repository.usage.is_none());
                let Some((name, ledger)) =
                    unknown.map(|(name, repository)| (name.clone(), repository.ledger.clone()))
                else {
                    state.exchange.begin();
                    return Ok(());
                };
                if let Some(usage) = state.exchange.usage_of_new(&name) {
                    state.set(&name, Some(usage));
                    continue;
                }
                (name, ledger)
            };
            let _exclusive = ledger.changes.write().unwrap_or_else(PoisonError::into_inner);
            let usage = self.scan_usage(&name)?;
            let mut state = lock(&self.0.quotas.state);
            state.exchange.note_scanned(&name, usage);
            state.set(&name, Some(usage));
        }
    }

    /// Returns the usage of a repository from its links.
    fn scan_usage(&self, name: &RepositoryName) -> Result<Usage, StoreError> {
        let place = RepositoryKeys(name);
        let mut usage = Usage::default();
        let mut add = |content: &[Key]| -> Result<(), StoreError> {
            for meta in self.storage().head_all(content)?.into_iter().flatten() {
                usage.bytes = usage.bytes.saturating_add(meta.length);
            }
            Ok(())
        };
        // Content with another name is linked by its SHA-256, too.
        for folder in [place.layers(Algorithm::Sha256), place.revisions(Algorithm::Sha256)] {
            let mut content = Vec::new();
            self.scan(&folder, |key, _| {
                if let Some((hex, "link")) = key.beneath(&folder)
                    && let Ok(digest) = format!("{}:{hex}", Algorithm::Sha256.as_str()).parse()
                {
                    content.push(blob(&digest));
                    if content.len() == CONTENT_AT_ONCE {
                        add(&content)?;
                        content.clear();
                    }
                }
                Ok(())
            })?;
            add(&content)?;
        }
        let is_tag = |name: &str| name.parse::<Tag>().is_ok();
        let tags = self.storage().list_with(&place.tags(), TAG_LINK, is_tag)?.unwrap_or_default();
        usage.tags = tags.len() as u64;
        Ok(usage)
    }

    /// Returns the time of the storage, in seconds since 1970.
    fn usage_time(&self) -> u64 {
        let now = self.storage().now().duration_since(std::time::SystemTime::UNIX_EPOCH);
        now.unwrap_or_default().as_secs()
    }
}
