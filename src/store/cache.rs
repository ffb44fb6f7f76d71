//! What was found when something was looked up in a repository: so that what everybody asks for is answered from memory.
//!
//! What this program changes is forgotten at once. Another program may change the same folder, and nobody tells us; so
//! nothing is believed for longer than [`BELIEVED`].

pub(super) mod manifests;

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use quinistry_oci::RepositoryName;

/// How late another program's changes are seen.
const BELIEVED: Duration = Duration::from_secs(1);

/// Values by repository, and by what was looked up there.
#[derive(Debug)]
pub(super) struct Lookups<K, V> {
    inner: Mutex<Inner<K, V>>,
    /// What all of them may weigh; when it is more, all are forgotten.
    most: usize,
}

#[derive(Debug)]
struct Inner<K, V> {
    known: HashMap<RepositoryName, HashMap<K, Found<V>>>,
    weight: usize,
    /// How often something was changed.
    changes: u64,
    /// When what nobody believes any more was last dropped.
    tidied: Instant,
}

#[derive(Debug)]
struct Found<V> {
    value: V,
    weight: usize,
    since: Instant,
}

/// When a look-up began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Begun {
    changes: u64,
    at: Instant,
}

impl<K: Eq + Hash, V: Clone> Lookups<K, V> {
    /// Room for so much, in whatever unit the values are weighed.
    pub(super) fn new(most: usize) -> Self {
        let inner = Inner { known: HashMap::new(), weight: 0, changes: 0, tidied: Instant::now() };
        Self { inner: Mutex::new(inner), most }
    }

    /// To be asked before something is looked up.
    pub(super) fn begin(&self) -> Begun {
        Begun { changes: self.inner().changes, at: Instant::now() }
    }

    /// What was found, and what that weighs; unless something was changed since, in which case it may be too old.
    pub(super) fn found(&self, begun: Begun, name: &RepositoryName, key: K, value: V, weight: usize) {
        let mut inner = self.inner();
        if inner.changes != begun.changes || weight > self.most {
            return;
        }
        // Also what weighs little: an open file keeps the room of what another program has removed.
        if inner.tidied.elapsed() >= BELIEVED {
            inner.tidy();
        }
        if inner.weight + weight > self.most {
            inner.known.clear();
            inner.weight = 0;
        }
        let found = Found { value, weight, since: begun.at };
        let before = inner.known.entry(name.clone()).or_default().insert(key, found);
        inner.weight += weight;
        inner.weight -= before.map_or(0, |before| before.weight);
    }

    /// What was found a moment ago, if nothing in the repository has changed since.
    pub(super) fn get(&self, name: &RepositoryName, key: &K) -> Option<V> {
        let inner = self.inner();
        let found = inner.known.get(name)?.get(key)?;
        (found.since.elapsed() < BELIEVED).then(|| found.value.clone())
    }

    /// Drops what nobody believes any more.
    pub(super) fn tidy(&self) {
        self.inner().tidy();
    }

    /// Runs what changes a repository. Who looks something up meanwhile sees the storage as it is.
    pub(super) fn changing<T>(&self, name: &RepositoryName, change: impl FnOnce() -> T) -> T {
        self.forget(name);
        // Also if it panics: then nobody knows what is so.
        let _after = Forget { lookups: self, name };
        change()
    }

    fn forget(&self, name: &RepositoryName) {
        let mut inner = self.inner();
        inner.changes += 1;
        let gone = inner.known.remove(name);
        inner.weight -= gone.into_iter().flatten().map(|(_, found)| found.weight).sum::<usize>();
    }

    fn inner(&self) -> MutexGuard<'_, Inner<K, V>> {
        // Nothing above panics between two changes that belong together.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K, V> Inner<K, V> {
    fn tidy(&mut self) {
        self.tidied = Instant::now();
        let Self { known, weight, .. } = self;
        known.retain(|_, found| {
            found.retain(|_, found| {
                let stays = found.since.elapsed() < BELIEVED;
                *weight -= if stays { 0 } else { found.weight };
                stays
            });
            !found.is_empty()
        });
    }
}

struct Forget<'a, K: Eq + Hash, V: Clone> {
    lookups: &'a Lookups<K, V>,
    name: &'a RepositoryName,
}

impl<K: Eq + Hash, V: Clone> Drop for Forget<'_, K, V> {
    fn drop(&mut self) {
        self.lookups.forget(self.name);
    }
}

#[cfg(test)]
impl<K: Eq + Hash, V: Clone> Lookups<K, V> {
    /// How much is remembered, in pieces.
    pub(super) fn count(&self) -> usize {
        self.inner().known.values().map(HashMap::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> RepositoryName {
        text.parse().unwrap()
    }

    fn lookups() -> Lookups<&'static str, u32> {
        Lookups::new(8)
    }

    #[test]
    fn what_is_changed_is_forgotten_and_nothing_else() {
        let lookups = lookups();
        for of in ["a", "b"] {
            lookups.found(lookups.begin(), &name(of), "latest", 1, 1);
        }
        lookups.changing(&name("a"), || assert_eq!(lookups.get(&name("a"), &"latest"), None));
        assert_eq!(lookups.get(&name("a"), &"latest"), None);
        assert_eq!(lookups.get(&name("b"), &"latest"), Some(1));
    }

    #[test]
    fn what_was_looked_up_before_a_change_or_during_it_is_not_remembered() {
        let lookups = lookups();
        let before = lookups.begin();
        let during = lookups.changing(&name("a"), || lookups.begin());
        for begun in [before, during] {
            lookups.found(begun, &name("a"), "latest", 1, 1);
            assert_eq!(lookups.get(&name("a"), &"latest"), None);
        }
        lookups.found(lookups.begin(), &name("a"), "latest", 2, 1);
        assert_eq!(lookups.get(&name("a"), &"latest"), Some(2));
    }

    #[test]
    fn what_was_looked_up_long_ago_is_not_believed() {
        let lookups = lookups();
        let Some(long_ago) = Instant::now().checked_sub(BELIEVED) else { return };
        lookups.found(Begun { at: long_ago, ..lookups.begin() }, &name("a"), "latest", 1, 1);
        assert_eq!(lookups.get(&name("a"), &"latest"), None);
    }

    #[test]
    fn what_is_not_believed_is_dropped_and_its_weight_with_it() {
        let lookups = lookups();
        let Some(long_ago) = Instant::now().checked_sub(BELIEVED) else { return };
        let old = Begun { at: long_ago, ..lookups.begin() };
        let weighed = || (lookups.count(), { lookups.inner().weight });
        lookups.found(old, &name("a"), "old", 1, 3);
        lookups.found(old, &name("b"), "old", 1, 2);
        lookups.found(lookups.begin(), &name("b"), "new", 1, 1);
        lookups.tidy();
        assert_eq!(weighed(), (1, 1));
        assert_eq!(lookups.inner().known.len(), 1);
        // By itself, too, whenever something is found after a while.
        lookups.found(old, &name("a"), "old", 1, 3);
        lookups.inner().tidied = long_ago;
        lookups.found(lookups.begin(), &name("b"), "newer", 1, 1);
        assert_eq!(weighed(), (2, 2));
    }

    #[test]
    fn there_is_an_end_to_what_is_remembered() {
        let lookups = lookups();
        let keys = ["1", "2", "3", "4", "5"];
        for key in keys.into_iter().chain(["5"]) {
            lookups.found(lookups.begin(), &name("a"), key, 1, 2);
        }
        assert_eq!(
            keys.map(|key| lookups.get(&name("a"), &key).is_some()),
            [false, false, false, false, true]
        );
        assert_eq!(lookups.inner().weight, 2);
        lookups.found(lookups.begin(), &name("b"), "1", 1, 9);
        assert_eq!(lookups.get(&name("b"), &"1"), None, "it alone is too much");
        lookups.changing(&name("a"), || ());
        assert_eq!(lookups.inner().weight, 0);
    }
}
