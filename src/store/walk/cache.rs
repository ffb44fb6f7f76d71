//! Cache of the names in folders, each with the listing version of its folder.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::layout::Key;
use crate::names::SortedNames;

/// Least length of a long list, in names: it takes many system calls to read, so that short ones do not displace it.
const MIN_LONG_LIST: usize = 512;

/// Capacity of all long lists together, in bytes: a million names of twenty characters.
const LONG_LISTS_BYTES: usize = 32 * 1024 * 1024;

/// Capacity of all short lists together, in bytes: 65,000 of about 200 bytes each.
const SHORT_LISTS_BYTES: usize = 13 * 1024 * 1024;

/// Weight of a short list beside its texts, in bytes.
const SHORT_LIST_OVERHEAD_BYTES: usize = 128;

/// Cache of the names in folders. Clears short lists when there are too many, and drops the oldest of long ones.
#[derive(Debug, Default)]
pub(crate) struct ListingCache(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    long: VecDeque<(Key, String, Arc<SortedNames>)>,
    short: HashMap<Key, (String, Arc<SortedNames>)>,
    /// Weight of all short lists, in bytes. A list that several folders share counts for each.
    short_bytes: usize,
    /// The short list that was cached last. Most repositories have the same folders, so that they share it.
    last_short: Arc<SortedNames>,
}

impl ListingCache {
    /// Returns the names in a folder, if they are cached for that version of the folder.
    pub(super) fn get(&self, folder: &Key, version: &str) -> Option<Arc<SortedNames>> {
        let inner = self.inner();
        let short = inner.short.get(folder).map(|(of, names)| (of, names));
        let long = || inner.long.iter().find(|(key, ..)| key == folder).map(|(_, of, names)| (of, names));
        short.or_else(long).filter(|(of, _)| *of == version).map(|(_, names)| names.clone())
    }

    /// Caches and returns the names in a folder.
    pub(super) fn put(&self, folder: Key, version: String, names: Arc<SortedNames>) -> Arc<SortedNames> {
        let mut inner = self.inner();
        if let Some((of, names)) = inner.short.remove(&folder) {
            inner.short_bytes -= short_weight(&folder, &of, &names);
        }
        inner.long.retain(|(key, ..)| *key != folder);
        if names.len() >= MIN_LONG_LIST {
            inner.long.push_back((folder, version, names.clone()));
            while inner.long.iter().map(|(_, _, names)| names.weight()).sum::<usize>() > LONG_LISTS_BYTES {
                inner.long.pop_front();
            }
            return names;
        }
        let names = if names == inner.last_short { inner.last_short.clone() } else { names };
        inner.last_short = names.clone();
        let weight = short_weight(&folder, &version, &names);
        if inner.short_bytes + weight > SHORT_LISTS_BYTES {
            inner.short.clear();
            inner.short_bytes = 0;
        }
        inner.short_bytes += weight;
        inner.short.insert(folder, (version, names.clone()));
        names
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Nothing above panics between two changes that belong together.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the memory that a short list takes, in bytes.
fn short_weight(folder: &Key, version: &str, names: &SortedNames) -> usize {
    folder.as_str().len() + version.len() + names.weight() + SHORT_LIST_OVERHEAD_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::repositories;

    fn names(count: usize, length: usize) -> Arc<SortedNames> {
        Arc::new(SortedNames::of((0..count).map(|number| format!("{number:0length$}"))))
    }

    #[test]
    fn names_are_remembered_until_their_folder_changes() {
        for count in [1, MIN_LONG_LIST] {
            let (lists, folder) = (ListingCache::default(), repositories());
            lists.put(folder.clone(), "1".into(), names(count, 8));
            assert!(lists.get(&folder, "1").is_some());
            assert!(lists.get(&folder, "2").is_none());
            assert!(lists.get(&folder.child("other"), "1").is_none());
        }
    }

    #[test]
    fn a_folder_has_one_list_whatever_its_length() {
        let (lists, folder) = (ListingCache::default(), repositories());
        for (version, count) in [("1", 1), ("2", MIN_LONG_LIST), ("3", 2)] {
            lists.put(folder.clone(), version.into(), names(count, 8));
            assert_eq!(lists.get(&folder, version).unwrap().len(), count);
        }
        assert!(lists.inner().long.is_empty());
    }

    #[test]
    fn the_oldest_long_lists_make_room() {
        let (lists, folder) = (ListingCache::default(), repositories());
        let folders = ["a", "b", "c", "d"].map(|name| folder.child(name));
        for folder in &folders {
            lists.put(folder.clone(), "1".into(), names(120_000, 80));
        }
        let are_cached = folders.each_ref().map(|folder| lists.get(folder, "1").is_some());
        assert_eq!(are_cached, [false, true, true, true]);
    }

    #[test]
    fn equal_short_lists_are_shared() {
        let (lists, folder) = (ListingCache::default(), repositories());
        for number in 0..3 {
            lists.put(folder.child(&number.to_string()), "1".into(), names(2, 8));
        }
        let inner = lists.inner();
        assert!(inner.short.values().all(|(_, names)| Arc::ptr_eq(names, &inner.last_short)));
    }

    #[test]
    fn short_lists_are_bounded_by_their_bytes() {
        let (lists, folder) = (ListingCache::default(), repositories());
        let put = |number: usize| {
            let folder = folder.child(&number.to_string());
            lists.put(folder.clone(), "1".into(), names(MIN_LONG_LIST - 1, 256));
            lists.inner().short[&folder].1.weight()
        };
        let fitting = SHORT_LISTS_BYTES / put(0);
        for number in 0..fitting {
            put(number);
            put(number);
        }
        let inner = lists.inner();
        assert!(inner.short.len() < fitting, "of {fitting}, {} are cached", inner.short.len());
        let weights = inner.short.iter().map(|(folder, (of, names))| short_weight(folder, of, names));
        assert_eq!(weights.sum::<usize>(), inner.short_bytes);
    }
}
