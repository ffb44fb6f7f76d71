//! Tags of one repository as they were read, and what the next reading must look at. Reads nothing itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use quinistry_oci::Tag;

use crate::names::SortedNames;

/// Number of links that each reading looks at in turn, beside those in doubt: some milliseconds.
pub(super) const LINKS_IN_TURN: usize = 1000;

/// Longest time for which a link is believed to be there because its folder is.
const MAX_LINK_AGE: Duration = Duration::from_hours(1);

/// Tags of a repository as they were read.
#[derive(Clone, Debug)]
pub(crate) struct ReadTags {
    tags: Arc<SortedNames>,
    /// Listing version that the folder of tags had; `None` if a later change may leave it as it is.
    version: Option<String>,
    /// Names that have a folder, and had no link.
    unlinked: Vec<String>,
    /// Tags that this process has removed since.
    removed: Vec<String>,
    /// Name up to which the links were looked at in turn.
    looked_until: String,
    /// Time at which this turn through all links began.
    turn_began: Instant,
    /// Time since which each link was looked at.
    all_looked_since: Instant,
}

/// Names in the folder of tags.
#[derive(Debug)]
pub(crate) enum Folders {
    /// The names are those of the last reading.
    Unchanged,
    /// The names were listed, in order.
    Listed(Vec<String>),
}

/// Names whose links a reading looks at.
#[derive(Debug)]
pub(crate) struct Looks {
    /// Names, in order.
    pub(crate) names: Vec<String>,
    /// Name up to which the links will have been looked at in turn; `None` at the end of a turn.
    until: Option<String>,
}

impl ReadTags {
    /// Creates the state in which nothing was read.
    pub(crate) fn nothing(now: Instant) -> Self {
        Self::of(SortedNames::default(), None, now)
    }

    /// Creates the state after a reading of all links.
    pub(super) fn of(tags: SortedNames, version: Option<String>, now: Instant) -> Self {
        Self {
            tags: Arc::new(tags),
            version,
            unlinked: Vec::new(),
            removed: Vec::new(),
            looked_until: String::new(),
            turn_began: now,
            all_looked_since: now,
        }
    }

    /// Returns the tags.
    pub(crate) fn tags(&self) -> Arc<SortedNames> {
        self.tags.clone()
    }

    /// Returns true if the names in the folder of tags are still the same, by its listing version.
    pub(crate) fn has_names_of(&self, version: &str) -> bool {
        self.version.as_deref() == Some(version)
    }

    /// Returns true if some link was not looked at for so long that all must be.
    pub(crate) fn is_too_old(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.all_looked_since) > MAX_LINK_AGE
    }

    /// Returns the number of names.
    pub(super) fn len(&self) -> usize {
        self.tags.len() + self.unlinked.len()
    }

    /// Returns the memory that the names take, in bytes.
    pub(super) fn weight(&self) -> usize {
        let unlinked = self.unlinked.iter().map(|name| name.capacity() + size_of::<String>());
        self.tags.weight() + unlinked.sum::<usize>()
    }

    /// Has the next reading look at the link of a tag.
    pub(super) fn doubt(&mut self, tag: &Tag) {
        self.removed.push(tag.as_str().into());
    }

    /// Returns the number of tags in doubt.
    pub(super) fn doubt_count(&self) -> usize {
        self.removed.len()
    }

    /// Returns the names whose links a reading must look at: of new folders, of those that had none, of tags in doubt,
    /// and of the next ones in turn.
    pub(crate) fn looks(&self, folders: &Folders) -> Looks {
        let begin = self.tags.position_after(&self.looked_until);
        let end = begin.saturating_add(LINKS_IN_TURN).min(self.tags.len());
        let in_turn = self.tags.range(begin..end);
        let new = match folders {
            Folders::Unchanged => Vec::new(),
            Folders::Listed(names) => self.new_among(names),
        };
        let doubted = self.unlinked.iter().chain(&self.removed).map(String::as_str);
        let mut names: Vec<&str> = in_turn.chain(doubted).chain(new).collect();
        if let Folders::Listed(listed) = folders {
            // Others have no folder any more.
            names.retain(|name| listed.binary_search_by(|one| one.as_str().cmp(name)).is_ok());
        }
        names.sort_unstable();
        names.dedup();
        let until = (end < self.tags.len()).then(|| self.tags.get(end - 1)).flatten();
        Looks { until: until.map(Into::into), names: names.into_iter().map(Into::into).collect() }
    }

    /// Returns those of sorted names that are no known tags.
    fn new_among<'a>(&self, names: &'a [String]) -> Vec<&'a str> {
        let mut known = self.tags.iter().peekable();
        let is_new = |name: &&str| {
            while known.next_if(|tag| tag < name).is_some() {}
            known.peek() != Some(name)
        };
        names.iter().map(String::as_str).filter(is_new).collect()
    }

    /// Returns the state after a reading that began at `now`: for each of the looks, `are_linked` says whether there
    /// was a link.
    pub(crate) fn after(
        self,
        folders: Folders,
        looks: Looks,
        are_linked: &[bool],
        version: Option<String>,
        now: Instant,
    ) -> Self {
        let found = || looks.names.iter().map(String::as_str).zip(are_linked.iter().copied());
        let unlinked = found().filter(|(_, is_linked)| !is_linked).map(|(name, _)| name.to_owned()).collect();
        let tags = match folders {
            Folders::Unchanged if found().all(|(name, is_linked)| self.tags.contains(name) == is_linked) => {
                self.tags
            }
            Folders::Unchanged => {
                let known = self.tags.iter().map(|name| (name, true));
                Arc::new(with_looks(known, found()))
            }
            Folders::Listed(names) => {
                let listed = names.iter().map(|name| (name.as_str(), true));
                let tags = with_looks(listed, found());
                if tags == *self.tags { self.tags } else { Arc::new(tags) }
            }
        };
        let (turn_began, all_looked_since) = match looks.until {
            Some(_) => (self.turn_began, self.all_looked_since),
            None => (now, self.turn_began),
        };
        Self {
            tags,
            version,
            unlinked,
            removed: Vec::new(),
            looked_until: looks.until.unwrap_or_default(),
            turn_began,
            all_looked_since,
        }
    }
}

/// Returns the names that have a link, where the looks are right about names in both.
fn with_looks<'a>(
    names: impl Iterator<Item = (&'a str, bool)>,
    looks: impl Iterator<Item = (&'a str, bool)>,
) -> SortedNames {
    let (mut names, mut looks) = (names.peekable(), looks.peekable());
    let mut merged = || match (names.peek(), looks.peek()) {
        (Some((name, _)), Some((look, _))) if name < look => names.next(),
        (Some((name, _)), Some((look, _))) => {
            if name == look {
                names.next();
            }
            looks.next()
        }
        (_, None) => names.next(),
        (None, _) => looks.next(),
    };
    let all = std::iter::from_fn(&mut merged);
    SortedNames::of(all.filter(|(_, is_linked)| *is_linked).map(|(name, _)| name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(range: std::ops::Range<usize>) -> Vec<String> {
        range.map(|number| format!("v{number:05}")).collect()
    }

    fn known(range: std::ops::Range<usize>) -> ReadTags {
        ReadTags::of(SortedNames::of(names(range)), Some("1".into()), Instant::now())
    }

    /// Reads folders of which those in `unlinked` have no link, and returns the names that were looked at.
    fn read(known: &mut ReadTags, listed: Option<&[&str]>, unlinked: &[&str]) -> Vec<String> {
        let folders = listed.map_or(Folders::Unchanged, |names| {
            Folders::Listed(names.iter().map(ToString::to_string).collect())
        });
        let looks = known.looks(&folders);
        let looked_at = looks.names.clone();
        let are_linked: Vec<bool> = looked_at.iter().map(|name| !unlinked.contains(&name.as_str())).collect();
        *known = known.clone().after(folders, looks, &are_linked, Some("1".into()), Instant::now());
        looked_at
    }

    fn tags(known: &ReadTags) -> Vec<String> {
        known.tags.iter().map(Into::into).collect()
    }

    #[test]
    fn the_first_reading_looks_at_every_link() {
        let mut known = ReadTags::nothing(Instant::now());
        assert_eq!(read(&mut known, Some(&["a", "b", "c"]), &["b"]), ["a", "b", "c"]);
        assert_eq!(tags(&known), ["a", "c"]);
    }

    #[test]
    fn a_folder_without_a_link_is_looked_at_until_it_has_one() {
        let mut known = ReadTags::nothing(Instant::now());
        read(&mut known, Some(&["a", "b"]), &["b"]);
        assert_eq!(read(&mut known, None, &["b"]), ["a", "b"]);
        assert_eq!(tags(&known), ["a"]);
        read(&mut known, None, &[]);
        assert_eq!(tags(&known), ["a", "b"]);
    }

    #[test]
    fn names_come_and_go_with_their_folders() {
        let mut known = ReadTags::nothing(Instant::now());
        read(&mut known, Some(&["a", "b", "d"]), &["d"]);
        read(&mut known, Some(&["0", "b", "c"]), &[]);
        assert_eq!(tags(&known), ["0", "b", "c"]);
        assert!(known.unlinked.is_empty());
        read(&mut known, Some(&[]), &[]);
        assert_eq!(tags(&known), [""; 0]);
    }

    #[test]
    fn few_links_of_a_long_list_are_looked_at_and_each_in_its_turn() {
        let count = 2 * LINKS_IN_TURN + 1;
        let mut known = known(0..count);
        let begun = known.all_looked_since;
        let mut looked_at = Vec::new();
        for _ in 0..3 {
            let some = read(&mut known, None, &[]);
            assert!(some.len() <= LINKS_IN_TURN);
            looked_at.extend(some);
        }
        assert_eq!(looked_at, names(0..count));
        assert_eq!(known.all_looked_since, begun, "the first turn began with the list");
        assert_eq!(read(&mut known, None, &["v00001"])[1], "v00001", "the next turn");
        assert_eq!(known.tags.len(), count - 1);
    }

    #[test]
    fn a_new_folder_is_looked_at_out_of_turn() {
        let mut known = known(0..LINKS_IN_TURN + 1);
        read(&mut known, None, &[]);
        let listed = names(0..LINKS_IN_TURN + 3);
        let listed: Vec<&str> = listed.iter().map(String::as_str).collect();
        let (torn, new) = (listed[LINKS_IN_TURN + 1], listed[LINKS_IN_TURN + 2]);
        assert_eq!(read(&mut known, Some(&listed), &[torn]), [listed[LINKS_IN_TURN], torn, new]);
        assert!(known.tags.contains(new) && !known.tags.contains(torn));
    }

    #[test]
    fn a_removed_tag_is_looked_at_if_its_folder_is_there() {
        let mut known = known(0..LINKS_IN_TURN + 2);
        let last = names(0..LINKS_IN_TURN + 2).pop().unwrap();
        known.doubt(&last.parse().unwrap());
        known.doubt(&"gone".parse().unwrap());
        let listed = names(0..LINKS_IN_TURN + 2);
        let listed: Vec<&str> = listed.iter().map(String::as_str).collect();
        let looked_at = read(&mut known, Some(&listed), &[&last]);
        assert!(looked_at.contains(&last) && !looked_at.contains(&"gone".into()));
        assert!(!known.tags.contains(&last));
        assert_eq!(known.doubt_count(), 0);
    }

    #[test]
    fn an_unchanged_list_is_shared() {
        let mut known = known(0..3);
        let before = known.tags();
        read(&mut known, None, &[]);
        read(&mut known, Some(&["v00000", "v00001", "v00002"]), &[]);
        assert!(Arc::ptr_eq(&before, &known.tags()));
    }

    #[test]
    fn links_are_not_believed_for_long() {
        let known = known(0..3);
        assert!(!known.is_too_old(known.all_looked_since + MAX_LINK_AGE));
        assert!(known.is_too_old(known.all_looked_since + MAX_LINK_AGE + Duration::from_secs(1)));
    }
}
