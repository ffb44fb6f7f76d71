//! Walk through the folders of repositories in the order of whole names, from any name on, until the visitor
//! breaks.
//!
//! The cost of a catalog page must depend on the page, not on the catalog. Folders are therefore read one by
//! one, from the page's first name, and the names in a folder are cached for as long as its listing version stays.

mod cache;

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;

use quinistry_oci::RepositoryName;

use super::layout::{Key, repositories};
use super::names::SortedNames;
use super::storage::ListingVersion;
use super::{Store, StoreError};

pub(super) use self::cache::ListingCache;

/// Depth beyond which no repository can lie: each component of a name has a letter and a slash.
const MAX_DEPTH: usize = RepositoryName::MAX_LEN / 2 + 1;

/// Number of folders whose listing versions are asked for at once.
const VERSIONS_AT_ONCE: usize = 64;

/// A walk: the folders to visit, and the visitor.
struct Walk<'a> {
    store: &'a Store,
    marks: &'a [&'a str],
    visit: &'a mut dyn FnMut(String) -> Result<ControlFlow<()>, StoreError>,
}

/// A folder to walk through, with the names in it if these were read already.
type Pending = (String, Option<Arc<SortedNames>>);

impl Store {
    /// Visits the names of folders beneath that of all repositories which have one of `marks` in them, in
    /// order, from after `last` until the visitor breaks.
    pub(super) fn walk(
        &self,
        last: &str,
        marks: &[&str],
        visit: &mut dyn FnMut(String) -> Result<ControlFlow<()>, StoreError>,
    ) -> Result<(), StoreError> {
        let folder = repositories();
        let entries = self.names_in(&folder)?;
        Walk { store: self, marks, visit }.beneath(&folder, "", &entries, last, MAX_DEPTH).map(|_| ())
    }

    /// Returns the names of all folders that hold one of `marks`, in order.
    pub(super) fn folders_with(&self, marks: &[&str]) -> Result<Vec<String>, StoreError> {
        if self.is_shared() {
            return self.scan_repositories(marks);
        }
        let mut found = Vec::new();
        self.walk("", marks, &mut |name| {
            found.push(name);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(found)
    }

    /// Returns the names in a folder; none if the folder does not exist.
    pub(super) fn names_in(&self, folder: &Key) -> Result<Arc<SortedNames>, StoreError> {
        let has_versions = self.storage().abilities().has_listing_versions;
        let version = has_versions.then(|| self.storage().listing_version(folder)).transpose()?;
        self.names_at(folder, version)
    }

    /// Returns the names in a folder that has a listing version, if the backend has any.
    fn names_at(
        &self,
        folder: &Key,
        version: Option<ListingVersion>,
    ) -> Result<Arc<SortedNames>, StoreError> {
        if let Some(version) = &version
            && let Some(known) = self.0.listing_cache.get(folder, &version.text)
        {
            return Ok(known);
        }
        // After the version: names that are remembered must not be older.
        let names = Arc::new(SortedNames::of(self.storage().list(folder)?.unwrap_or_default()));
        match version.and_then(ListingVersion::settled) {
            Some(version) => Ok(self.0.listing_cache.put(folder.clone(), version, names)),
            None => Ok(names),
        }
    }

    /// Returns the next of some names in a folder, with the listing versions of those that are folders.
    fn versions_in<'a>(
        &self,
        folder: &Key,
        names: impl Iterator<Item = &'a str>,
    ) -> Result<VecDeque<(&'a str, Option<ListingVersion>)>, StoreError> {
        let names: Vec<&str> = names.take(VERSIONS_AT_ONCE).collect();
        let versions = self.storage().listing_versions(folder, &names)?;
        Ok(names.into_iter().zip(versions).collect())
    }
}

impl Walk<'_> {
    /// Visits what lies in a folder, after `last`, which is relative to it.
    ///
    /// `a-b` comes before `a/b`, as whole names: so what lies in `a` waits until all that sorts before `a/`
    /// was visited.
    fn beneath(
        &mut self,
        folder: &Key,
        prefix: &str,
        entries: &SortedNames,
        last: &str,
        depth: usize,
    ) -> Result<ControlFlow<()>, StoreError> {
        if depth == 0 {
            return Ok(ControlFlow::Continue(()));
        }
        // A name that sorts before `last` can hold more only if `last` begins with it.
        let ends = (1..=last.len()).filter(|end| last.is_char_boundary(*end)).map(|end| &last[..end]);
        let mut pending: Vec<Pending> = ends
            .filter(|name| is_folder_name(name) && entries.contains(name))
            .filter(|name| last[name.len()..].bytes().next().is_none_or(|next| next <= b'/'))
            .map(|name| (name.to_owned(), None))
            .collect();
        let begin = entries.position_after(last);
        let mut rest = entries.range(begin..entries.len()).filter(|entry| is_folder_name(entry));
        let mut versions = VecDeque::new();
        loop {
            if versions.is_empty() {
                versions = self.store.versions_in(folder, rest.by_ref())?;
            }
            let Some((entry, version)) = versions.pop_front() else { break };
            while pending.last().is_some_and(|(name, _)| sorts_before(name, entry)) {
                if self.into(folder, prefix, pending.pop(), last, depth)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            let names = self.store.names_at(&folder.child(entry), version)?;
            if names.iter().any(|name| self.marks.contains(&name))
                && (self.visit)(format!("{prefix}{entry}"))?.is_break()
            {
                return Ok(ControlFlow::Break(()));
            }
            if names.iter().any(is_folder_name) {
                pending.push((entry.to_owned(), Some(names)));
            }
        }
        while !pending.is_empty() {
            if self.into(folder, prefix, pending.pop(), last, depth)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn into(
        &mut self,
        folder: &Key,
        prefix: &str,
        pending: Option<Pending>,
        last: &str,
        depth: usize,
    ) -> Result<ControlFlow<()>, StoreError> {
        let Some((name, names)) = pending else { return Ok(ControlFlow::Continue(())) };
        let folder = folder.child(&name);
        let names = match names {
            Some(names) => names,
            None => self.store.names_in(&folder)?,
        };
        let last = last.strip_prefix(&name).and_then(|rest| rest.strip_prefix('/')).unwrap_or_default();
        self.beneath(&folder, &format!("{prefix}{name}/"), &names, last, depth - 1)
    }
}

/// Returns true if a folder of that name can be, or hold, a repository's.
fn is_folder_name(name: &str) -> bool {
    !name.starts_with('_') && !name.contains('/') && !matches!(name, "." | "..")
}

/// Returns true if all that lies in a folder sorts before another name beside it.
fn sorts_before(folder: &str, name: &str) -> bool {
    folder.bytes().chain([b'/']).lt(name.bytes())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::layout::RepositoryKeys;
    use crate::{Access, Filesystem, Memory, Page};

    const NAMES: [&str; 14] = [
        "a", "a-b", "a-b/c", "a-b.c/d", "a.b", "a/b", "a/b-c", "a/b/c", "a/b0", "a0", "a0/x", "b/c/d/e",
        "b/c/d0", "z",
    ];

    fn page(store: &Store, size: usize, last: &str) -> (Vec<String>, bool) {
        let (names, more) = store.repositories(&Page { size, last: last.into() }).unwrap();
        (names.into_iter().map(String::from).collect(), more)
    }

    fn fill(store: &Store) -> Vec<String> {
        for name in NAMES {
            let name: RepositoryName = name.parse().unwrap();
            let key = RepositoryKeys(&name).layer_link(&quinistry_oci::Digest::sha256(b""));
            store.storage().write(&[&[(key, b"")]]).unwrap();
        }
        let mut sorted = NAMES.map(String::from).to_vec();
        sorted.sort();
        sorted
    }

    #[test]
    fn pages_from_any_name_on_are_those_of_the_sorted_list() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Store::open(Filesystem::open(folder.path(), Access::Write).unwrap(), false).unwrap();
        for store in [disk, Store::open(Memory::new(1 << 20), false).unwrap()] {
            let sorted = fill(&store);
            let others =
                ["", "a-", "a-b.", "a/", "a/b/", "a/b-", "a/zzz", "b", "b/c", "b/c/d", "zz", "ü", "a\u{7f}"];
            for last in NAMES.into_iter().chain(others) {
                let rest: Vec<String> = sorted.iter().filter(|name| name.as_str() > last).cloned().collect();
                assert_eq!(page(&store, 100, last), (rest.clone(), false), "after {last:?}");
                let first: Vec<String> = rest.iter().take(2).cloned().collect();
                assert_eq!(page(&store, 2, last), (first, rest.len() > 2), "after {last:?}");
            }
            assert_eq!(page(&store, 0, ""), (vec![], false));
        }
    }

    #[test]
    fn a_repository_in_a_long_list_is_seen_when_it_comes_and_goes() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(Filesystem::open(folder.path(), Access::Write).unwrap(), false).unwrap();
        let root = folder.path().join(repositories().as_str());
        for i in 0..600 {
            std::fs::create_dir_all(root.join(format!("r{i:04}/_layers"))).unwrap();
        }
        let long_ago = SystemTime::now() - Duration::from_hours(1);
        let touch = || std::fs::File::open(&root).unwrap().set_modified(long_ago).unwrap();
        touch();
        assert_eq!(page(&store, 1, "r0500").0, ["r0501"]);
        std::fs::create_dir_all(root.join("r0500-new/_layers")).unwrap();
        assert_eq!(page(&store, 1, "r0500").0, ["r0500-new"]);
        std::fs::remove_dir_all(root.join("r0501")).unwrap();
        assert_eq!(page(&store, 1, "r0500-new").0, ["r0502"]);
    }

    #[test]
    fn a_folder_that_was_read_before_is_read_again_once_it_has_changed() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(Filesystem::open(folder.path(), Access::Write).unwrap(), false).unwrap();
        let root = folder.path().join(repositories().as_str());
        let long_ago = SystemTime::now() - Duration::from_hours(1);
        let touch =
            |path: &str| std::fs::File::open(root.join(path)).unwrap().set_modified(long_ago).unwrap();
        for path in ["a/_layers", "b", "c/d/_layers"] {
            std::fs::create_dir_all(root.join(path)).unwrap();
        }
        ["", "a", "b", "c", "c/d"].into_iter().for_each(touch);
        for _ in 0..2 {
            assert_eq!(page(&store, 9, "").0, ["a", "c/d"]);
        }
        std::fs::remove_dir(root.join("a/_layers")).unwrap();
        for path in ["b/_manifests", "c/e/_layers"] {
            std::fs::create_dir_all(root.join(path)).unwrap();
        }
        assert_eq!(page(&store, 9, "").0, ["b", "c/d", "c/e"]);
    }

    #[test]
    fn a_change_in_the_instant_of_a_reading_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(Filesystem::open(folder.path(), Access::Write).unwrap(), false).unwrap();
        let root = folder.path().join(repositories().as_str());
        std::fs::create_dir_all(root.join("a")).unwrap();
        let now = SystemTime::now();
        let touch = || std::fs::File::open(root.join("a")).unwrap().set_modified(now).unwrap();
        touch();
        assert_eq!(page(&store, 9, "").0, [""; 0]);
        std::fs::create_dir(root.join("a/_layers")).unwrap();
        touch();
        assert_eq!(page(&store, 9, "").0, ["a"]);
    }
}
