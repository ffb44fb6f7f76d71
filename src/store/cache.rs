//! Caches of the store: results of reading a repository, so that frequent requests are answered from memory.
//!
//! A change by this program invalidates the repository's entries at once. Another program may change the same
//! folder without notice, so no entry is used for longer than the lifetime that the store's coherence allows.

pub(super) mod manifests;

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use quinistry_oci::RepositoryName;

use super::statistics::CacheUses;

/// Cache of values by repository and key, whose entries expire.
#[derive(Debug)]
pub(super) struct ExpiringCache<K, V> {
    inner: Mutex<Inner<K, V>>,
    /// Lifetime of an entry, and so the delay until another program's change is seen.
    lifetime: Duration,
    /// Greatest total weight of the entries; an insertion beyond it clears the cache first.
    capacity: usize,
}

#[derive(Debug)]
struct Inner<K, V> {
    entries: HashMap<RepositoryName, HashMap<K, CacheEntry<V>>>,
    weight: usize,
    /// Number of changes of repositories.
    changes: u64,
    /// Time at which expired entries were last removed.
    cleaned_at: Instant,
    uses: CacheUses,
}

#[derive(Debug)]
struct CacheEntry<V> {
    value: V,
    weight: usize,
    read_at: Instant,
}

/// Start of a read whose result is to be cached.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReadStart {
    changes: u64,
    at: Instant,
}

impl<K: Eq + Hash, V: Clone> ExpiringCache<K, V> {
    /// Creates a cache of a total weight, in the unit in which the caller weighs the values. Without a lifetime it
    /// never has a value.
    pub(super) fn new(capacity: usize, lifetime: Duration) -> Self {
        let inner = Inner {
            entries: HashMap::new(),
            weight: 0,
            changes: 0,
            cleaned_at: Instant::now(),
            uses: CacheUses::default(),
        };
        Self { inner: Mutex::new(inner), lifetime, capacity }
    }

    /// Records the start of a read, which is a miss of the cache. Call before the storage is read.
    pub(super) fn begin(&self) -> ReadStart {
        let mut inner = self.inner();
        inner.uses.misses += 1;
        ReadStart { changes: inner.changes, at: Instant::now() }
    }

    /// Returns the uses of the cache.
    pub(super) fn uses(&self) -> CacheUses {
        self.inner().uses
    }

    /// Caches the result of a read with its weight, unless a repository was changed since the read began: the
    /// result may then be out of date.
    pub(super) fn insert(&self, begun: ReadStart, name: &RepositoryName, key: K, value: V, weight: usize) {
        let mut inner = self.inner();
        if inner.changes != begun.changes || weight > self.capacity || self.lifetime.is_zero() {
            return;
        }
        // Entries of little weight, too: an open file holds the disk space of a file that another program
        // removed.
        if inner.cleaned_at.elapsed() >= self.lifetime {
            inner.remove_expired(self.lifetime);
        }
        if inner.weight + weight > self.capacity {
            inner.entries.clear();
            inner.weight = 0;
        }
        let entry = CacheEntry { value, weight, read_at: begun.at };
        let replaced = inner.entries.entry(name.clone()).or_default().insert(key, entry);
        inner.weight += weight;
        inner.weight -= replaced.map_or(0, |replaced| replaced.weight);
    }

    /// Returns the cached value, unless it has expired or the repository has changed since.
    pub(super) fn get(&self, name: &RepositoryName, key: &K) -> Option<V> {
        let mut inner = self.inner();
        let entry = inner.entries.get(name)?.get(key)?;
        let value = (entry.read_at.elapsed() < self.lifetime).then(|| entry.value.clone())?;
        inner.uses.hits += 1;
        Some(value)
    }

    /// Removes expired entries.
    pub(super) fn remove_expired(&self) {
        self.inner().remove_expired(self.lifetime);
    }

    /// Runs a change of a repository, and invalidates its entries before and after: a read during the change
    /// goes to the storage, and its result is not cached.
    pub(super) fn invalidate_during<T>(&self, name: &RepositoryName, change: impl FnOnce() -> T) -> T {
        self.invalidate(name);
        // After a panic as well, which leaves the state of the repository unknown.
        let _after = InvalidateOnDrop { cache: self, name };
        change()
    }

    /// Removes all entries. The results of reads that have begun are not cached.
    pub(super) fn clear(&self) {
        let mut inner = self.inner();
        inner.changes += 1;
        inner.entries.clear();
        inner.weight = 0;
    }

    fn invalidate(&self, name: &RepositoryName) {
        let mut inner = self.inner();
        inner.changes += 1;
        let removed = inner.entries.remove(name);
        inner.weight -= removed.into_iter().flatten().map(|(_, entry)| entry.weight).sum::<usize>();
    }

    fn inner(&self) -> MutexGuard<'_, Inner<K, V>> {
        // Nothing above panics between two changes that belong together.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K, V> Inner<K, V> {
    fn remove_expired(&mut self, lifetime: Duration) {
        self.cleaned_at = Instant::now();
        let Self { entries, weight, .. } = self;
        entries.retain(|_, of_repository| {
            of_repository.retain(|_, entry| {
                let stays = entry.read_at.elapsed() < lifetime;
                *weight -= if stays { 0 } else { entry.weight };
                stays
            });
            !of_repository.is_empty()
        });
    }
}

struct InvalidateOnDrop<'a, K: Eq + Hash, V: Clone> {
    cache: &'a ExpiringCache<K, V>,
    name: &'a RepositoryName,
}

impl<K: Eq + Hash, V: Clone> Drop for InvalidateOnDrop<'_, K, V> {
    fn drop(&mut self) {
        self.cache.invalidate(self.name);
    }
}

#[cfg(test)]
impl<K: Eq + Hash, V: Clone> ExpiringCache<K, V> {
    /// Returns the number of entries.
    pub(super) fn count(&self) -> usize {
        self.inner().entries.values().map(HashMap::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> RepositoryName {
        text.parse().unwrap()
    }

    const TTL: Duration = Duration::from_secs(1);

    fn cache() -> ExpiringCache<&'static str, u32> {
        ExpiringCache::new(8, TTL)
    }

    #[test]
    fn a_change_invalidates_one_repository_and_no_other() {
        let cache = cache();
        for of in ["a", "b"] {
            cache.insert(cache.begin(), &name(of), "latest", 1, 1);
        }
        cache.invalidate_during(&name("a"), || assert_eq!(cache.get(&name("a"), &"latest"), None));
        assert_eq!(cache.get(&name("a"), &"latest"), None);
        assert_eq!(cache.get(&name("b"), &"latest"), Some(1));
        assert_eq!(cache.uses(), CacheUses { hits: 1, misses: 2 });
    }

    #[test]
    fn a_read_that_began_before_a_change_or_during_it_is_not_cached() {
        let cache = cache();
        let before = cache.begin();
        let during = cache.invalidate_during(&name("a"), || cache.begin());
        for begun in [before, during] {
            cache.insert(begun, &name("a"), "latest", 1, 1);
            assert_eq!(cache.get(&name("a"), &"latest"), None);
        }
        cache.insert(cache.begin(), &name("a"), "latest", 2, 1);
        assert_eq!(cache.get(&name("a"), &"latest"), Some(2));
    }

    #[test]
    fn an_expired_entry_is_not_returned() {
        let cache = cache();
        let Some(long_ago) = Instant::now().checked_sub(TTL) else { return };
        cache.insert(ReadStart { at: long_ago, ..cache.begin() }, &name("a"), "latest", 1, 1);
        assert_eq!(cache.get(&name("a"), &"latest"), None);
    }

    #[test]
    fn expired_entries_are_removed_and_their_weight_with_them() {
        let cache = cache();
        let Some(long_ago) = Instant::now().checked_sub(TTL) else { return };
        let old = ReadStart { at: long_ago, ..cache.begin() };
        let weighed = || (cache.count(), { cache.inner().weight });
        cache.insert(old, &name("a"), "old", 1, 3);
        cache.insert(old, &name("b"), "old", 1, 2);
        cache.insert(cache.begin(), &name("b"), "new", 1, 1);
        cache.remove_expired();
        assert_eq!(weighed(), (1, 1));
        assert_eq!(cache.inner().entries.len(), 1);
        // Expired entries are also removed when an entry is inserted after a while.
        cache.insert(old, &name("a"), "old", 1, 3);
        cache.inner().cleaned_at = long_ago;
        cache.insert(cache.begin(), &name("b"), "newer", 1, 1);
        assert_eq!(weighed(), (2, 2));
    }

    #[test]
    fn a_cache_without_a_lifetime_holds_nothing() {
        let cache = ExpiringCache::new(8, Duration::ZERO);
        cache.insert(cache.begin(), &name("a"), "latest", 1, 1);
        assert_eq!((cache.get(&name("a"), &"latest"), cache.count()), (None, 0));
    }

    #[test]
    fn the_cache_is_bounded() {
        let cache = cache();
        let keys = ["1", "2", "3", "4", "5"];
        for key in keys.into_iter().chain(["5"]) {
            cache.insert(cache.begin(), &name("a"), key, 1, 2);
        }
        assert_eq!(keys.map(|key| cache.get(&name("a"), &key).is_some()), [false, false, false, false, true]);
        assert_eq!(cache.inner().weight, 2);
        cache.insert(cache.begin(), &name("b"), "1", 1, 9);
        assert_eq!(cache.get(&name("b"), &"1"), None, "it alone is too much");
        cache.invalidate_during(&name("a"), || ());
        assert_eq!(cache.inner().weight, 0);
    }
}
