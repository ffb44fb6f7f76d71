//! Lists of tags and of repositories, a page at a time, in the order of their bytes.

use std::fmt;
use std::num::ParseIntError;
use std::ops::{ControlFlow, Range};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Instant;

use quinistry_oci::{RepositoryName, Tag};

use super::layout::{RepositoryKeys, TAG_LINK};
use super::names::SortedNames;
use super::tag_lists::{Folders, ReadTags};
use super::{Coherence, Store, StoreError};

/// Weight of a cached list of tags beside its names, in bytes.
const ENTRY_OVERHEAD_BYTES: usize = 128;

/// Page of a list.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Page {
    /// Greatest number of entries.
    pub size: usize,
    /// Entry after which the page begins; empty for the first page.
    pub last: String,
}

/// Entries of a page, and true if more follow.
type PageEntries<T> = (Vec<T>, bool);

impl Page {
    /// Returns the entries of a sorted list that are on the page; `take` returns `None` for names that are
    /// not listed.
    pub fn of<T, E>(
        &self,
        sorted: impl Iterator<Item = String>,
        mut take: impl FnMut(&str) -> Result<Option<T>, E>,
    ) -> Result<PageEntries<T>, E> {
        let mut items = Vec::new();
        for name in sorted.skip_while(|name| !self.last.is_empty() && *name <= self.last) {
            if items.len() >= self.size {
                // An empty page has no last entry after which the next one could begin.
                return Ok((items, self.size > 0));
            }
            items.extend(take(&name)?);
        }
        Ok((items, false))
    }
}

/// A client's walk over the pages of one list, which begins with the first page. The pages of a walk show at least the
/// changes that were acknowledged before its begin, at whichever replica they are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListWalk(u128);

impl ListWalk {
    /// Walk of all clients where lists are believed for a while.
    const COMMON: Self = Self(0);

    /// Begins a walk.
    fn begin() -> Self {
        Self(uuid::Uuid::new_v4().as_u128())
    }
}

impl fmt::Display for ListWalk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl FromStr for ListWalk {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u128::from_str_radix(text, 16).map(Self)
    }
}

/// Page of tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagPage {
    /// All tags of the repository.
    all: Arc<SortedNames>,
    /// Positions of the tags on the page.
    positions: Range<usize>,
    /// True if more follow.
    pub has_more: bool,
    /// Walk that the next page belongs to, where that must be known.
    pub walk: Option<ListWalk>,
}

impl TagPage {
    /// Returns the tags on the page, in the order of their bytes.
    pub fn tags(&self) -> impl Iterator<Item = &str> + Clone {
        self.all.range(self.positions.clone())
    }
}

impl Store {
    /// Returns a page of the tags of a repository.
    pub fn tags(&self, name: &RepositoryName, page: &Page) -> Result<PageEntries<Tag>, StoreError> {
        let page = self.tags_of_walk(name, page, None)?;
        Ok((page.tags().filter_map(|tag| tag.parse().ok()).collect(), page.has_more))
    }

    /// Returns a page of the tags of a repository, which may belong to a walk that another page began.
    pub fn tags_of_walk(
        &self,
        name: &RepositoryName,
        page: &Page,
        walk: Option<ListWalk>,
    ) -> Result<TagPage, StoreError> {
        let is_strict = self.0.coherence == Coherence::Strict;
        let known = if is_strict { walk.filter(|_| !page.last.is_empty()) } else { Some(ListWalk::COMMON) };
        let walk = known.unwrap_or_else(ListWalk::begin);
        let all = self.all_tags(name, walk, known.is_some())?;
        let begin = all.position_after(&page.last);
        let end = begin.saturating_add(page.size).min(all.len());
        let has_more = page.size > 0 && end < all.len();
        let walk = Some(walk).filter(|_| is_strict && has_more);
        Ok(TagPage { all, positions: begin..end, has_more, walk })
    }

    /// Returns all tags in order, cached, so that a client that reads several pages has the folder read once, and a
    /// shared storage once by each replica that answers it.
    fn all_tags(
        &self,
        name: &RepositoryName,
        walk: ListWalk,
        may_be_known: bool,
    ) -> Result<Arc<SortedNames>, StoreError> {
        if may_be_known && let Some(known) = self.0.tag_list_cache.get(name, &walk) {
            return Ok(known);
        }
        let begun = self.0.tag_list_cache.begin();
        let Some(all) = self.read_tags(name)? else {
            return if self.is_repository(name)? {
                Ok(Arc::default())
            } else {
                Err(StoreError::RepositoryUnknown)
            };
        };
        let weight = all.weight() + ENTRY_OVERHEAD_BYTES;
        self.0.tag_list_cache.insert(begun, name, walk, all.clone(), weight);
        Ok(all)
    }

    /// Reads all tags in order; `None` if the repository has no folder of tags.
    pub(super) fn read_tags(&self, name: &RepositoryName) -> Result<Option<Arc<SortedNames>>, StoreError> {
        if self.is_shared() {
            let tags = self.scan_tags(name)?;
            return Ok(tags.map(|tags| Arc::new(SortedNames::of(tags.iter().map(Tag::as_str)))));
        }
        if self.storage().abilities().has_listing_versions {
            return self.read_changed_tags(name);
        }
        // A tag whose push was interrupted has an index, and refers to no manifest yet.
        let names = self.storage().list_with(&RepositoryKeys(name).tags(), TAG_LINK, Tag::is_tag)?;
        Ok(names.map(|names| Arc::new(SortedNames::of(names))))
    }

    /// Reads all tags, of which those stay that were read before and cannot have changed.
    fn read_changed_tags(&self, name: &RepositoryName) -> Result<Option<Arc<SortedNames>>, StoreError> {
        let folder = RepositoryKeys(name).tags();
        let (begun, known) = self.0.tag_lists.begin(name);
        let now = Instant::now();
        let known = known.filter(|known| !known.is_too_old(now)).unwrap_or_else(|| ReadTags::nothing(now));
        // Before the names, which must not be older than their version.
        let version = self.storage().listing_version(&folder)?;
        let folders = if known.has_names_of(&version.text) {
            Folders::Unchanged
        } else {
            let Some(mut names) = self.storage().list(&folder)? else {
                self.0.tag_lists.forget(name);
                return Ok(None);
            };
            names.retain(|name| Tag::is_tag(name));
            Folders::Listed(names)
        };
        let checks = known.links_to_check(&folders);
        let are_linked = self.storage().have_beneath(&folder, &checks.names, TAG_LINK)?;
        let read = known.after(folders, checks, &are_linked, version.settled(), now);
        let tags = read.tags();
        self.0.tag_lists.put(begun, name, read);
        Ok(Some(tags))
    }

    /// Returns a page of the repositories that have, or had, a manifest or a blob.
    pub fn repositories(&self, page: &Page) -> Result<PageEntries<RepositoryName>, StoreError> {
        let (names, next) = self.listed_repositories(page, usize::MAX, &|_| true)?;
        Ok((names, next.is_some()))
    }

    /// Returns a page of the repositories for which `is_listed` is true, and the name after which the next page
    /// begins, if more may follow. Looks at no more than `max_seen` names, so that a page has fewer entries, or none,
    /// where many names are not listed.
    pub fn listed_repositories(
        &self,
        page: &Page,
        max_seen: usize,
        is_listed: &dyn Fn(&RepositoryName) -> bool,
    ) -> Result<(Vec<RepositoryName>, Option<String>), StoreError> {
        let mut names: Vec<RepositoryName> = Vec::new();
        let mut next = None;
        if page.size == 0 {
            return Ok((names, next));
        }
        let (mut seen, mut last_seen) = (0, String::new());
        let visit: &mut dyn FnMut(String) -> Result<ControlFlow<()>, StoreError> = &mut |text| {
            // Another program may allow names that are not valid here.
            let name = text.parse().ok().filter(is_listed);
            let is_full = names.len() >= page.size && name.is_some();
            if is_full || seen >= max_seen {
                let last_listed = names.last().map(ToString::to_string).filter(|_| is_full);
                next = Some(last_listed.unwrap_or_else(|| std::mem::take(&mut last_seen)));
                return Ok(ControlFlow::Break(()));
            }
            seen += 1;
            last_seen = text;
            names.extend(name);
            Ok(ControlFlow::Continue(()))
        };
        if self.is_shared() {
            self.visit_shared_repositories(&page.last, visit)?;
        } else {
            self.walk(&page.last, &["_manifests", "_layers"], visit)?;
        }
        Ok((names, next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(size: usize, last: &str) -> (Vec<String>, bool) {
        let sorted = ["a", "b", "c", "d"].map(String::from).into_iter();
        let take = |name: &str| Ok::<_, ()>((name != "c").then(|| name.to_owned()));
        Page { size, last: last.into() }.of(sorted, take).unwrap()
    }

    #[test]
    fn a_page_begins_after_the_last_and_says_whether_there_is_more() {
        assert_eq!(page(9, ""), (vec!["a".into(), "b".into(), "d".into()], false));
        assert_eq!(page(1, "a"), (vec!["b".into()], true));
        assert_eq!(page(1, "bb"), (vec!["d".into()], false));
        assert_eq!(page(0, ""), (vec![], false));
        assert_eq!(page(5, "z"), (vec![], false));
    }
}
