//! Keys of two storages side by side, in order, a page of each in memory.

use std::cmp::Ordering;
use std::collections::VecDeque;

use crate::layout::Key;
use crate::storage::{Meta, SCAN_PAGE_SIZE, Storage, StorageError};

/// Keys beneath a folder, in order.
#[derive(Debug)]
pub(super) struct Listing<'a> {
    storage: &'a dyn Storage,
    folder: Key,
    /// Key after which the next page begins.
    after: Option<Key>,
    page: VecDeque<(Key, Meta)>,
    is_complete: bool,
}

/// A key of one of two storages, or of both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) key: Key,
    pub(super) from: Option<Meta>,
    pub(super) to: Option<Meta>,
}

/// Keys of two storages beneath one folder, in order.
#[derive(Debug)]
pub(super) struct Pairs<'a> {
    from: Listing<'a>,
    to: Listing<'a>,
}

// === impl Listing ===

impl<'a> Listing<'a> {
    /// Lists keys beneath a folder from after `after`, which need not exist.
    pub(super) fn new(storage: &'a dyn Storage, folder: &Key, after: Option<Key>) -> Self {
        Self { storage, folder: folder.clone(), after, page: VecDeque::new(), is_complete: false }
    }

    /// Returns the next key, and leaves it.
    fn peek(&mut self) -> Result<Option<&Key>, StorageError> {
        while self.page.is_empty() && !self.is_complete {
            let page = self.storage.scan(&self.folder, self.after.as_ref(), SCAN_PAGE_SIZE)?;
            self.page.extend(page.entries);
            self.is_complete = page.next.is_none();
            self.after = page.next;
        }
        Ok(self.page.front().map(|(key, _)| key))
    }

    pub(super) fn next(&mut self) -> Result<Option<(Key, Meta)>, StorageError> {
        self.peek()?;
        Ok(self.page.pop_front())
    }

    /// Skips all keys up to one, and that one.
    fn skip_to(&mut self, key: &Key) {
        let behind = self.page.partition_point(|(listed, _)| listed <= key);
        self.page.drain(..behind);
        if self.page.is_empty() && self.after.as_ref().is_none_or(|after| after < key) {
            self.after = Some(key.clone());
        }
    }
}

// === impl Pair ===

impl Pair {
    /// Returns true if both storages have the key, with bytes of the same length.
    pub(super) fn has_equal_lengths(&self) -> bool {
        matches!((&self.from, &self.to), (Some(from), Some(to)) if from.length == to.length)
    }
}

// === impl Pairs ===

impl<'a> Pairs<'a> {
    /// Lists keys beneath a folder from after `after`, which need not exist.
    pub(super) fn new(from: &'a dyn Storage, to: &'a dyn Storage, folder: &Key, after: Option<&Key>) -> Self {
        let listing = |storage| Listing::new(storage, folder, after.cloned());
        Self { from: listing(from), to: listing(to) }
    }

    pub(super) fn next(&mut self) -> Result<Option<Pair>, StorageError> {
        let order = match (self.from.peek()?, self.to.peek()?) {
            (None, None) => return Ok(None),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(from), Some(to)) => from.cmp(to),
        };
        let from = if order.is_le() { self.from.next()? } else { None };
        let to = if order.is_ge() { self.to.next()? } else { None };
        let key = from.as_ref().or(to.as_ref()).map(|(key, _)| key.clone()).expect("one of both has a key");
        Ok(Some(Pair { key, from: from.map(|(_, meta)| meta), to: to.map(|(_, meta)| meta) }))
    }

    /// Skips all keys up to one, and that one.
    pub(super) fn skip_to(&mut self, key: &Key) {
        self.from.skip_to(key);
        self.to.skip_to(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Memory;

    fn key(path: &str) -> Key {
        Key::of_path(path.to_owned()).unwrap()
    }

    fn storage(paths: &[&str]) -> Memory {
        let memory = Memory::new(1 << 30);
        let entries: Vec<_> = paths.iter().map(|path| (key(path), path.as_bytes())).collect();
        memory.write(&[&entries]).unwrap();
        memory
    }

    #[test]
    fn keys_of_two_storages_come_in_one_order() {
        let from = storage(&["f/a", "f/c", "f/d/e", "g"]);
        let to = storage(&["f/b", "f/c", "f/z"]);
        let mut pairs = Pairs::new(&from, &to, &key("f"), None);
        let mut found = Vec::new();
        while let Some(pair) = pairs.next().unwrap() {
            found.push((pair.key.to_string(), pair.from.is_some(), pair.to.is_some()));
        }
        let found: Vec<_> = found.iter().map(|(key, from, to)| (key.as_str(), *from, *to)).collect();
        assert_eq!(
            found,
            [
                ("f/a", true, false),
                ("f/b", false, true),
                ("f/c", true, true),
                ("f/d/e", true, false),
                ("f/z", false, true)
            ]
        );
    }

    #[test]
    fn keys_that_are_skipped_are_not_found_on_any_page() {
        let paths: Vec<String> = (0..2500).map(|number| format!("f/{number:04}")).collect();
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        let (from, to) = (storage(&paths), storage(&[]));
        for (skipped, next) in [("f/0003", "f/0004"), ("f/1700", "f/1701"), ("f/2499", "")] {
            let mut pairs = Pairs::new(&from, &to, &key("f"), None);
            pairs.next().unwrap();
            pairs.skip_to(&key(skipped));
            let found = pairs.next().unwrap().map_or_else(String::new, |pair| pair.key.to_string());
            assert_eq!(found, next);
        }
    }
}
