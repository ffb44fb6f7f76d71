//! Lists of tags as they were last read from a storage with listing versions, so that the next reading checks the
//! links of few tags.
//!
//! A tag is listed if its folder holds a link. A folder of tags says by its listing version whether another program
//! has added or removed the folder of a tag, but not whether a link came or went in a folder that stayed: distribution
//! creates the folder of a new tag before the link, and a deletion that is cut off may leave the folder. A reading
//! therefore checks the links of all folders that are new or had none, and those of some others in turn.

mod read;

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use quinistry_oci::{RepositoryName, Tag};

pub(super) use self::read::{Folders, ReadTags};

/// Minimum length of a kept list, in tags. A shorter list is checked completely by each reading.
const MIN_KEPT_TAGS: usize = read::LINKS_IN_TURN;

/// Capacity of all kept lists together, in bytes: a million tags of twenty characters.
const KEPT_LISTS_BYTES: usize = 32 * 1024 * 1024;

/// Maximum number of removals that are remembered of a list, or while it is read. Beyond it, the whole list is read again.
const MAX_REMOVED_TAGS: usize = 1000;

/// Lists of tags as they were last read, by repository.
#[derive(Debug, Default)]
pub(super) struct TagLists(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Lists, the least recently used first.
    lists: VecDeque<KeptList>,
    /// Number of lists that were kept.
    count: u64,
    /// Number of removals of tags by this process.
    removals: u64,
    /// The last of these removals, the earliest first.
    last_removals: VecDeque<(RepositoryName, Tag)>,
}

#[derive(Debug)]
struct KeptList {
    name: RepositoryName,
    /// Number of this list among all that were kept.
    number: u64,
    read: ReadTags,
}

/// Start of a reading whose result is to be kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReadingStart {
    removals: u64,
    /// Number of the list that the reading knows.
    number: Option<u64>,
}

impl TagLists {
    /// Returns what was last read of a repository, if it is kept. Call before the storage is read.
    pub(super) fn begin(&self, name: &RepositoryName) -> (ReadingStart, Option<ReadTags>) {
        let mut inner = self.inner();
        let kept = inner.take(name);
        let known = kept.as_ref().map(|kept| kept.read.clone());
        let begun = ReadingStart { removals: inner.removals, number: kept.as_ref().map(|kept| kept.number) };
        inner.lists.extend(kept);
        (begun, known)
    }

    /// Keeps what was read, unless another reading was kept since this one began. The links of tags that this process has
    /// removed since are checked by the next reading, since this one may have seen them before.
    pub(super) fn put(&self, begun: ReadingStart, name: &RepositoryName, mut read: ReadTags) {
        let mut inner = self.inner();
        let number = inner.lists.iter().find(|kept| kept.name == *name).map(|kept| kept.number);
        let Some(removed) = inner.removals_since(begun.removals).filter(|_| number == begun.number) else {
            return;
        };
        removed.filter(|(of, _)| of == name).for_each(|(_, tag)| read.mark_for_check(tag));
        inner.take(name);
        if read.len() >= MIN_KEPT_TAGS {
            inner.count += 1;
            let number = inner.count;
            inner.lists.push_back(KeptList { name: name.clone(), number, read });
        }
        while inner.lists.iter().map(|kept| kept.read.weight()).sum::<usize>() > KEPT_LISTS_BYTES {
            inner.lists.pop_front();
        }
    }

    /// Forgets a list, since the repository has no folder of tags.
    pub(super) fn forget(&self, name: &RepositoryName) {
        self.inner().take(name);
    }

    /// Marks a tag that this process has removed, or may have removed, so that the next reading checks its link: the
    /// folder of the tag can be there again without one.
    pub(super) fn note_removal(&self, name: &RepositoryName, tag: &Tag) {
        let mut inner = self.inner();
        inner.removals += 1;
        inner.last_removals.push_back((name.clone(), tag.clone()));
        if inner.last_removals.len() > MAX_REMOVED_TAGS {
            inner.last_removals.pop_front();
        }
        if let Some(mut kept) = inner.take(name) {
            kept.read.mark_for_check(tag);
            if kept.read.marked_count() <= MAX_REMOVED_TAGS {
                inner.lists.push_back(kept);
            }
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Nothing above panics between two changes that belong together.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Returns the removals after the first `count`; `None` if they are not all remembered.
    fn removals_since(&self, count: u64) -> Option<impl Iterator<Item = &(RepositoryName, Tag)>> {
        let number = usize::try_from(self.removals - count).ok()?;
        let begin = self.last_removals.len().checked_sub(number)?;
        Some(self.last_removals.range(begin..))
    }

    fn take(&mut self, name: &RepositoryName) -> Option<KeptList> {
        let position = self.lists.iter().position(|kept| kept.name == *name)?;
        self.lists.remove(position)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::names::SortedNames;

    fn name(text: &str) -> RepositoryName {
        text.parse().unwrap()
    }

    fn list(count: usize, length: usize) -> ReadTags {
        let names = (0..count).map(|number| format!("{number:0length$}"));
        ReadTags::of(SortedNames::of(names), Some("1".into()), Instant::now())
    }

    #[test]
    fn a_long_list_is_kept_and_a_short_one_is_not() {
        let lists = TagLists::default();
        for (text, count, is_kept) in [("short", MIN_KEPT_TAGS - 1, false), ("long", MIN_KEPT_TAGS, true)] {
            lists.put(lists.begin(&name(text)).0, &name(text), list(count, 8));
            assert_eq!(lists.begin(&name(text)).1.is_some(), is_kept, "{text}");
        }
    }

    #[test]
    fn the_least_recently_used_lists_make_room() {
        let lists = TagLists::default();
        let put = |text: &str| lists.put(lists.begin(&name(text)).0, &name(text), list(120_000, 80));
        let is_kept = |text: &str| lists.inner().lists.iter().any(|kept| kept.name.as_str() == text);
        for text in ["a", "b", "c"] {
            put(text);
        }
        lists.begin(&name("a"));
        put("d");
        assert_eq!(["a", "b", "c", "d"].map(is_kept), [true, false, true, true]);
    }

    #[test]
    fn tags_that_are_removed_while_a_list_is_read_are_marked_for_the_next_reading() {
        let lists = TagLists::default();
        lists.note_removal(&name("a"), &"v0".parse().unwrap());
        let (begun, _) = lists.begin(&name("a"));
        for (of, tag) in [("b", "v1"), ("a", "v2"), ("a", "v3")] {
            lists.note_removal(&name(of), &tag.parse().unwrap());
        }
        lists.put(begun, &name("a"), list(MIN_KEPT_TAGS, 8));
        assert_eq!(lists.begin(&name("a")).1.map(|read| read.marked_count()), Some(2));
    }

    #[test]
    fn a_list_is_not_kept_after_more_removals_than_are_remembered() {
        let lists = TagLists::default();
        for (count, is_kept) in [(MAX_REMOVED_TAGS, true), (MAX_REMOVED_TAGS + 1, false)] {
            let (begun, _) = lists.begin(&name("a"));
            for number in 0..count {
                lists.note_removal(&name("b"), &format!("v{number}").parse().unwrap());
            }
            lists.put(begun, &name("a"), list(MIN_KEPT_TAGS, 8));
            assert_eq!(lists.begin(&name("a")).1.is_some(), is_kept);
            lists.forget(&name("a"));
        }
    }

    #[test]
    fn of_two_readings_at_the_same_time_the_first_that_ends_is_kept() {
        let lists = TagLists::default();
        let [one, other] = [(); 2].map(|()| lists.begin(&name("a")).0);
        lists.put(one, &name("a"), list(MIN_KEPT_TAGS, 8));
        lists.put(other, &name("a"), list(MIN_KEPT_TAGS + 1, 8));
        assert_eq!(lists.begin(&name("a")).1.map(|read| read.len()), Some(MIN_KEPT_TAGS));
    }

    #[test]
    fn a_list_with_many_removals_is_read_again() {
        let lists = TagLists::default();
        lists.put(lists.begin(&name("a")).0, &name("a"), list(MIN_KEPT_TAGS, 8));
        for number in 0..=MAX_REMOVED_TAGS {
            assert!(lists.begin(&name("a")).1.is_some());
            lists.note_removal(&name("a"), &format!("v{number}").parse().unwrap());
        }
        assert!(lists.begin(&name("a")).1.is_none());
    }
}
