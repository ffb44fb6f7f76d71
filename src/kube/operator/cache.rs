//! Caches of the watched objects, reduced on arrival to a few hundred bytes each instead of several thousand.
//! A change that the reduced form does not show, such as a node's heartbeat, causes no work.
//!
//! Filled by `watches`, read by the driver.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use kube::runtime::watcher::Event;

use super::observed::{ObservedDaemonSet, ObservedNode, ObservedPart, ObservedPod};
use crate::api::locks::lock;

/// A value that a cache can hold.
pub(super) trait Cacheable: PartialEq {
    /// Takes over from the earlier value what only that knows. Returns `false` if the earlier value is the
    /// newer one.
    fn inherit(&mut self, earlier: &Self) -> bool {
        let _ = earlier;
        true
    }
}

impl Cacheable for ObservedPart {}

impl Cacheable for ObservedNode {
    fn inherit(&mut self, earlier: &Self) -> bool {
        if self.ready == earlier.ready {
            self.seen = earlier.seen;
        }
        true
    }
}

impl Cacheable for ObservedPod {
    fn inherit(&mut self, earlier: &Self) -> bool {
        if self.start == earlier.start && self.ready.is_some() == earlier.ready.is_some() {
            self.seen = earlier.seen;
        }
        true
    }
}

impl Cacheable for ObservedDaemonSet {
    fn inherit(&mut self, earlier: &Self) -> bool {
        self.accepted |= earlier.accepted
            && earlier.server_generation == self.server_generation
            && earlier.applied == self.applied
            && earlier.labels == self.labels;
        // The response to an apply may arrive before the watch shows an older change. A new object of the
        // same name has a higher version too.
        earlier.version <= self.version
    }
}

/// The cached objects of one kind, by key.
#[derive(Debug)]
pub(super) struct Cache<V> {
    entries: Mutex<Entries<V>>,
    synced: AtomicBool,
}

#[derive(Debug)]
struct Entries<V> {
    now: BTreeMap<String, Arc<V>>,
    /// Objects of the list that is being received.
    next: BTreeMap<String, Arc<V>>,
}

// === impl Cache ===

impl<V: Cacheable> Cache<V> {
    pub(super) fn new() -> Self {
        let entries = Entries { now: BTreeMap::new(), next: BTreeMap::new() };
        Self { entries: Mutex::new(entries), synced: AtomicBool::new(false) }
    }

    /// Handles an event, with `None` for an object that is not to be cached. Returns the changed objects, as
    /// they were or as they are; none at the end of a list, after which everything may be new.
    pub(super) fn handle(&self, event: Event<(String, Option<V>)>) -> Vec<Arc<V>> {
        match event {
            Event::Init => {
                self.lock().next.clear();
                Vec::new()
            }
            Event::InitApply((key, value)) => {
                if let Some(value) = value {
                    self.lock().next.insert(key, Arc::new(value));
                }
                Vec::new()
            }
            Event::InitDone => {
                let mut entries = self.lock();
                let mut next = std::mem::take(&mut entries.next);
                for (key, value) in &mut next {
                    // An older list counts nevertheless: the watch brings what it lacks, and after a restore
                    // of the API server's database versions start again from a lower number.
                    if let (Some(earlier), Some(value)) = (entries.now.get(key), Arc::get_mut(value)) {
                        value.inherit(earlier);
                    }
                }
                entries.now = next;
                drop(entries);
                self.synced.store(true, Ordering::Release);
                Vec::new()
            }
            Event::Apply((key, Some(value))) => self.put(key, value),
            // A cached object that has changed must not count any longer.
            Event::Apply((key, None)) | Event::Delete((key, _)) => {
                self.lock().now.remove(&key).into_iter().collect()
            }
        }
    }

    /// Inserts one object, and returns it if that changed anything.
    pub(super) fn put(&self, key: String, mut value: V) -> Vec<Arc<V>> {
        let mut entries = self.lock();
        if let Some(earlier) = entries.now.get(&key)
            && (!value.inherit(earlier) || **earlier == value)
        {
            return Vec::new();
        }
        let value = Arc::new(value);
        entries.now.insert(key, value.clone());
        vec![value]
    }

    /// Returns the object with a key.
    pub(super) fn get(&self, key: &str) -> Option<Arc<V>> {
        self.lock().now.get(key).cloned()
    }

    pub(super) fn select(&self, filter: impl Fn(&V) -> bool) -> Vec<Arc<V>> {
        self.lock().now.values().filter(|value| filter(value)).cloned().collect()
    }

    /// Marks the content as possibly outdated, until a new list is complete.
    pub(super) fn mark_stale(&self) {
        self.synced.store(false, Ordering::Release);
    }

    pub(super) fn is_synced(&self) -> bool {
        self.synced.load(Ordering::Acquire)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Entries<V>> {
        lock(&self.entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A version, and a flag that only the operator knows.
    #[derive(Debug, PartialEq)]
    struct Known(u64, bool);

    impl Cacheable for Known {
        fn inherit(&mut self, earlier: &Self) -> bool {
            self.1 |= earlier.1;
            earlier.0 <= self.0
        }
    }

    fn list(cache: &Cache<Known>, versions: &[u64]) {
        let object = |version: &u64| (String::from("larder"), Some(Known(*version, false)));
        let objects = versions.iter().map(object).map(Event::InitApply);
        for event in std::iter::once(Event::Init).chain(objects).chain([Event::InitDone]) {
            assert!(cache.handle(event).is_empty());
        }
    }

    #[test]
    fn a_new_list_keeps_the_operators_own_knowledge() {
        let cache = Cache::new();
        list(&cache, &[1]);
        cache.put("larder".into(), Known(2, true));
        cache.mark_stale();
        assert!(!cache.is_synced());
        list(&cache, &[2]);
        assert!(cache.is_synced());
        assert_eq!(*cache.select(|_| true)[0], Known(2, true));
    }

    #[test]
    fn an_object_that_cannot_be_read_any_more_is_dropped_and_so_is_one_that_was_never_read() {
        let cache = Cache::new();
        list(&cache, &[1]);
        assert_eq!(*cache.handle(Event::Apply(("larder".into(), None)))[0], Known(1, false));
        assert!(cache.select(|_| true).is_empty());
        list(&cache, &[2]);
        assert_eq!(*cache.handle(Event::Delete(("larder".into(), None)))[0], Known(2, false));
        assert!(cache.handle(Event::Delete(("larder".into(), None))).is_empty());
    }

    #[test]
    fn a_list_stands_even_if_its_versions_are_older() {
        let cache = Cache::new();
        list(&cache, &[9]);
        list(&cache, &[3]);
        assert_eq!(*cache.select(|_| true)[0], Known(3, false));
        list(&cache, &[]);
        assert!(cache.select(|_| true).is_empty());
    }
}
