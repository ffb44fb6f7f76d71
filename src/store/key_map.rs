//! Objects by their keys in one sorted map, as storages have them whose keys are all in memory.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::layout::Key;
use super::storage::{Meta, ScanPage};

/// Returns the text with which all keys beneath a folder begin.
pub(super) fn prefix_of(folder: &Key) -> String {
    format!("{folder}/")
}

/// Returns the objects whose keys begin with a prefix, in order.
pub(super) fn beneath<'a, T>(
    objects: &'a BTreeMap<String, T>,
    prefix: &'a str,
) -> impl Iterator<Item = (&'a String, &'a T)> {
    let from: (Bound<&str>, Bound<&str>) = (Bound::Included(prefix), Bound::Unbounded);
    objects.range::<str, _>(from).take_while(move |(key, _)| key.starts_with(prefix))
}

/// Returns a page of the objects beneath a folder, from behind a key on.
pub(super) fn scan<T>(
    objects: &BTreeMap<String, T>,
    folder: &Key,
    after: Option<&Key>,
    limit: usize,
    meta: impl Fn(&T) -> Meta,
) -> ScanPage {
    let prefix = prefix_of(folder);
    let from = match after {
        Some(after) if after.as_str() >= prefix.as_str() => Bound::Excluded(after.as_str()),
        _ => Bound::Included(prefix.as_str()),
    };
    let keys = objects.range::<str, _>((from, Bound::Unbounded));
    let mut rest = keys.take_while(|(key, _)| key.starts_with(&prefix)).peekable();
    let mut entries = Vec::new();
    while let Some((key, object)) = rest.next_if(|_| entries.len() < limit) {
        entries.extend(Key::of_path(key.clone()).map(|key| (key, meta(object))));
    }
    let last = entries.last().map(|(key, _)| key.clone());
    ScanPage { next: rest.next().and(last), entries }
}

/// Returns the names directly beneath a folder, in order; `None` if there are none.
pub(super) fn names_in<T>(objects: &BTreeMap<String, T>, folder: &Key) -> Option<Vec<String>> {
    let prefix = prefix_of(folder);
    let mut names: Vec<String> = Vec::new();
    let mut from = prefix.clone();
    while let Some((key, _)) = objects.range::<String, _>(&from..).next() {
        let Some(rest) = key.strip_prefix(&prefix) else { break };
        let (name, is_folder) = rest.split_once('/').map_or((rest, false), |(name, _)| (name, true));
        // Skips all keys beneath the folder: `0` follows `/`.
        from = format!("{prefix}{name}{}", if is_folder { "0" } else { "\0" });
        names.push(name.into());
    }
    // In the order of whole keys, `a.b` stands before what is beneath `a`.
    names.sort_unstable();
    names.dedup();
    (!names.is_empty()).then_some(names)
}
