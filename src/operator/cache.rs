//! What the watches have brought, reduced at arrival to what is looked at: a few hundred bytes per object instead of
//! several thousand, and no work for changes that do not show in it, such as a node's heartbeat.
//!
//! Filled by `observe`, read by the driver.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use kube::runtime::watcher::Event;
use tokio::sync::watch;

use super::observed::{DaemonSet, Node, Part, Pod};

/// What can be kept.
pub(super) trait Entry: PartialEq {
    /// Takes over what only the earlier one knows. `false`: the earlier one is the newer one after all.
    fn succeed(&mut self, earlier: &Self) -> bool {
        let _ = earlier;
        true
    }
}

impl Entry for Node {}
impl Entry for Pod {}
impl Entry for Part {}

impl Entry for DaemonSet {
    fn succeed(&mut self, earlier: &Self) -> bool {
        self.accepted |= earlier.accepted
            && earlier.server_generation == self.server_generation
            && earlier.applied == self.applied
            && earlier.labels == self.labels;
        // The answer to an apply may be here before the watch tells of an older change. A new object of the same name
        // has a higher version too.
        earlier.version <= self.version
    }
}

/// The objects of one kind.
#[derive(Debug)]
pub(super) struct Cache<V> {
    entries: Mutex<Entries<V>>,
    synced: watch::Sender<bool>,
}

#[derive(Debug)]
struct Entries<V> {
    now: BTreeMap<String, Arc<V>>,
    /// What an initial list has brought so far.
    next: BTreeMap<String, Arc<V>>,
}

// === impl Cache ===

impl<V: Entry> Cache<V> {
    pub(super) fn new() -> Self {
        let entries = Entries { now: BTreeMap::new(), next: BTreeMap::new() };
        Self { entries: Mutex::new(entries), synced: watch::Sender::new(false) }
    }

    /// Takes an event in, and returns what changed, as it was or as it is.
    pub(super) fn take<K>(&self, event: Event<K>, view: impl Fn(K) -> Option<(String, V)>) -> Vec<Arc<V>> {
        match event {
            Event::Init => {
                self.lock().next.clear();
                Vec::new()
            }
            Event::InitApply(object) => {
                if let Some((key, value)) = view(object) {
                    self.lock().next.insert(key, Arc::new(value));
                }
                Vec::new()
            }
            Event::InitDone => {
                let mut entries = self.lock();
                let next = std::mem::take(&mut entries.next);
                let before = std::mem::replace(&mut entries.now, next);
                let mut changed: Vec<_> = before
                    .iter()
                    .filter(|(key, _)| !entries.now.contains_key(*key))
                    .map(|(_, value)| value.clone())
                    .collect();
                changed.extend(
                    entries
                        .now
                        .iter()
                        .filter(|(key, value)| before.get(*key) != Some(value))
                        .map(|(_, value)| value.clone()),
                );
                drop(entries);
                self.synced.send_replace(true);
                changed
            }
            Event::Apply(object) => match view(object) {
                Some((key, value)) => self.put(key, value),
                None => Vec::new(),
            },
            Event::Delete(object) => {
                let key = view(object).map(|(key, _)| key);
                key.and_then(|key| self.lock().now.remove(&key)).into_iter().collect()
            }
        }
    }

    /// Puts one entry in place.
    pub(super) fn put(&self, key: String, mut value: V) -> Vec<Arc<V>> {
        let mut entries = self.lock();
        if let Some(earlier) = entries.now.get(&key)
            && (!value.succeed(earlier) || **earlier == value)
        {
            return Vec::new();
        }
        let value = Arc::new(value);
        entries.now.insert(key, value.clone());
        vec![value]
    }

    pub(super) fn select(&self, filter: impl Fn(&V) -> bool) -> Vec<Arc<V>> {
        self.lock().now.values().filter(|value| filter(value)).cloned().collect()
    }

    /// From now on what is here may be old, until a list has been brought again.
    pub(super) fn lost(&self) {
        self.synced.send_replace(false);
    }

    pub(super) fn is_synced(&self) -> bool {
        *self.synced.borrow()
    }

    pub(super) async fn synced(&self) {
        // The sender lives as long as this.
        let _ = self.synced.subscribe().wait_for(|synced| *synced).await;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Entries<V>> {
        self.entries.lock().expect("nothing panics while it is held")
    }
}
