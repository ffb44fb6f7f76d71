//! Sorted collections of iterators, by insertion: `collect` and `from` sort their elements first, and the
//! code of a stable sort has six kilobytes for each type of element.

use std::collections::{BTreeMap, BTreeSet};

pub(crate) trait Sorted: Iterator + Sized {
    /// Inserts all elements into a set.
    fn into_set(self) -> BTreeSet<Self::Item>
    where
        Self::Item: Ord,
    {
        let mut set = BTreeSet::new();
        set.extend(self);
        set
    }

    /// Inserts all entries into a map.
    fn into_map<K: Ord, V>(self) -> BTreeMap<K, V>
    where
        Self: Iterator<Item = (K, V)>,
    {
        let mut map = BTreeMap::new();
        map.extend(self);
        map
    }
}

impl<I: Iterator> Sorted for I {}
