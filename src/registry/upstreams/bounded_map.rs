//! Map of bounded weight, which forgets what was written first. Pure.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// Map that forgets its oldest entries when all of them together weigh more than its capacity.
#[derive(Debug)]
pub(crate) struct BoundedMap<K, V> {
    entries: HashMap<K, Entry<V>>,
    /// Keys in the order in which they were written, with those of former values.
    order: VecDeque<(u64, K)>,
    /// Number of the last write.
    writes: u64,
    weight: usize,
    capacity: usize,
}

#[derive(Debug)]
struct Entry<V> {
    written: u64,
    weight: usize,
    value: V,
}

impl<K: Clone + Eq + Hash, V> BoundedMap<K, V> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { entries: HashMap::new(), order: VecDeque::new(), writes: 0, weight: 0, capacity }
    }

    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|entry| &entry.value)
    }

    /// Writes an entry. One that alone weighs more than the capacity is forgotten at once.
    pub(crate) fn insert(&mut self, key: K, value: V, weight: usize) {
        self.remove(&key);
        self.writes += 1;
        self.weight += weight;
        self.order.push_back((self.writes, key.clone()));
        self.entries.insert(key, Entry { written: self.writes, weight, value });
        while self.weight > self.capacity
            && let Some((written, key)) = self.order.pop_front()
        {
            if self.is_current(written, &key) {
                self.remove(&key);
            }
        }
        // Keys that are written again and again leave their former places.
        if self.order.len() > 2 * self.entries.len() + 16 {
            let mut order = std::mem::take(&mut self.order);
            order.retain(|(written, key)| self.is_current(*written, key));
            self.order = order;
        }
    }

    /// Writes an entry, unless it was written so lately that it stays for as many writes as half of the capacity, if each
    /// weighs 1. Returns true if the entry was written.
    pub(crate) fn refresh(&mut self, key: &K, value: V, weight: usize) -> bool {
        let half = u64::try_from(self.capacity / 2).unwrap_or(u64::MAX);
        let is_young = self.entries.get(key).is_some_and(|entry| self.writes - entry.written < half);
        if !is_young {
            self.insert(key.clone(), value, weight);
        }
        !is_young
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let entry = self.entries.remove(key)?;
        self.weight -= entry.weight;
        Some(entry.value)
    }

    /// Forgets the entries whose keys are not wanted.
    pub(crate) fn retain(&mut self, is_wanted: impl Fn(&K) -> bool) {
        let unwanted: Vec<K> = self.entries.keys().filter(|key| !is_wanted(key)).cloned().collect();
        for key in unwanted {
            self.remove(&key);
        }
    }

    fn is_current(&self, written: u64, key: &K) -> bool {
        self.entries.get(key).is_some_and(|entry| entry.written == written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_entries_are_forgotten() {
        let mut map = BoundedMap::new(3);
        for key in ["a", "b", "c"] {
            map.insert(key, 0, 1);
        }
        map.insert("a", 1, 1);
        map.insert("d", 2, 1);
        assert_eq!(["a", "b", "c", "d"].map(|key| map.get(&key).copied()), [Some(1), None, Some(0), Some(2)]);
        map.insert("e", 3, 2);
        assert_eq!(["a", "c", "d", "e"].map(|key| map.get(&key).copied()), [None, None, Some(2), Some(3)]);
        map.insert("f", 4, 4);
        assert_eq!((map.weight, map.entries.len()), (0, 0));
        map.insert("a", 1, 1);
        map.insert("b", 1, 1);
        map.retain(|key| *key == "b");
        assert_eq!(map.get(&"a"), None);
        assert_eq!((map.remove(&"b"), map.weight), (Some(1), 0));
    }

    #[test]
    fn a_refresh_writes_only_what_is_new_or_old() {
        let mut map = BoundedMap::new(4);
        assert!(map.refresh(&"a", (), 1));
        assert!((0..100).all(|_| !map.refresh(&"a", (), 1)));
        map.insert("b", (), 1);
        assert!(!map.refresh(&"a", (), 1));
        map.insert("c", (), 1);
        assert!(map.refresh(&"a", (), 1));
        for key in ["d", "e"] {
            map.insert(key, (), 1);
        }
        assert!(map.get(&"a").is_some() && map.get(&"b").is_none());
    }

    #[test]
    fn keys_that_are_written_again_take_no_room() {
        let mut map = BoundedMap::new(10);
        for number in 0..10_000 {
            map.insert(number % 3, number, 1);
        }
        assert!(map.order.len() <= 22 && map.entries.len() == 3, "{}", map.order.len());
        for number in 0..100_000 {
            map.insert(number, number, 1);
        }
        assert!(map.order.len() <= 36 && map.entries.len() == 10, "{}", map.order.len());
    }
}
