//! Tags of one repository as they were read, and what the next reading must check. Reads nothing itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use quinistry_oci::Tag;

use crate::names::SortedNames;

/// Number of links that each reading checks in turn, beside new and marked ones: some milliseconds.
pub(super) const LINKS_IN_TURN: usize = 1000;

/// Maximum age of the check of a link.
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
    /// Last name whose link was checked in the current round.
    checked_until: String,
    /// Start of the current round of checks, in which each link has its turn.
    round_began: Instant,
    /// Start of the last complete round.
    last_round_began: Instant,
}

/// Names in the folder of tags.
#[derive(Debug)]
pub(crate) enum Folders {
    /// The names are those of the last reading.
    Unchanged,
    /// The names were listed, in order.
    Listed(Vec<String>),
}

/// Names whose links a reading checks.
#[derive(Debug)]
pub(crate) struct LinkChecks {
    /// Names, in order.
    pub(crate) names: Vec<String>,
    /// Last name that is checked in the current round; `None` at its end.
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
            checked_until: String::new(),
            round_began: now,
            last_round_began: now,
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

    /// Returns true if some link was last checked so long ago that all must be checked.
    pub(crate) fn is_too_old(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last_round_began) > MAX_LINK_AGE
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

    /// Marks a tag so that the next reading checks its link.
    pub(super) fn mark_for_check(&mut self, tag: &Tag) {
        self.removed.push(tag.as_str().into());
    }

    /// Returns the number of marked tags.
    pub(super) fn marked_count(&self) -> usize {
        self.removed.len()
    }

    /// Returns the names whose links a reading must check: of new folders, of those that had none, of marked tags, and
    /// of the next ones in the round.
    pub(crate) fn links_to_check(&self, folders: &Folders) -> LinkChecks {
        let begin = self.tags.position_after(&self.checked_until);
        let end = begin.saturating_add(LINKS_IN_TURN).min(self.tags.len());
        let in_turn = self.tags.range(begin..end);
        let new = match folders {
            Folders::Unchanged => Vec::new(),
            Folders::Listed(names) => self.new_among(names),
        };
        let marked = self.unlinked.iter().chain(&self.removed).map(String::as_str);
        let mut names: Vec<&str> = in_turn.chain(marked).chain(new).collect();
        if let Folders::Listed(listed) = folders {
            // Others have no folder any more.
            names.retain(|name| listed.binary_search_by(|one| one.as_str().cmp(name)).is_ok());
        }
        names.sort_unstable();
        names.dedup();
        let until = (end < self.tags.len()).then(|| self.tags.get(end - 1)).flatten();
        LinkChecks { until: until.map(Into::into), names: names.into_iter().map(Into::into).collect() }
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

    /// Returns the state after a reading that began at `now`: for each of the checks, `are_linked` says whether there
    /// was a link.
    pub(crate) fn after(
        self,
        folders: Folders,
        checks: LinkChecks,
        are_linked: &[bool],
        version: Option<String>,
        now: Instant,
    ) -> Self {
        let found = || checks.names.iter().map(String::as_str).zip(are_linked.iter().copied());
        let unlinked = found().filter(|(_, is_linked)| !is_linked).map(|(name, _)| name.to_owned()).collect();
        let tags = match folders {
            Folders::Unchanged if found().all(|(name, is_linked)| self.tags.contains(name) == is_linked) => {
                self.tags
            }
            Folders::Unchanged => {
                let known = self.tags.iter().map(|name| (name, true));
                Arc::new(with_checks(known, found()))
            }
            Folders::Listed(names) => {
                let listed = names.iter().map(|name| (name.as_str(), true));
                let tags = with_checks(listed, found());
                if tags == *self.tags { self.tags } else { Arc::new(tags) }
            }
        };
        let (round_began, last_round_began) = match checks.until {
            Some(_) => (self.round_began, self.last_round_began),
            None => (now, self.round_began),
        };
        Self {
            tags,
            version,
            unlinked,
            removed: Vec::new(),
            checked_until: checks.until.unwrap_or_default(),
            round_began,
            last_round_began,
        }
    }
}

/// Returns the names that have a link, where the checks are right about names in both.
fn with_checks<'a>(
    names: impl Iterator<Item = (&'a str, bool)>,
    checks: impl Iterator<Item = (&'a str, bool)>,
) -> SortedNames {
    let (mut names, mut checks) = (names.peekable(), checks.peekable());
    let mut merged = || match (names.peek(), checks.peek()) {
        (Some((name, _)), Some((check, _))) if name < check => names.next(),
        (Some((name, _)), Some((check, _))) => {
            if name == check {
                names.next();
            }
            checks.next()
        }
        (_, None) => names.next(),
        (None, _) => checks.next(),
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

    /// Reads folders of which those in `unlinked` have no link, and returns the names that were checked.
    fn read(known: &mut ReadTags, listed: Option<&[&str]>, unlinked: &[&str]) -> Vec<String> {
        let folders = listed.map_or(Folders::Unchanged, |names| {
            Folders::Listed(names.iter().map(ToString::to_string).collect())
        });
        let checks = known.links_to_check(&folders);
        let checked = checks.names.clone();
        let are_linked: Vec<bool> = checked.iter().map(|name| !unlinked.contains(&name.as_str())).collect();
        *known = known.clone().after(folders, checks, &are_linked, Some("1".into()), Instant::now());
        checked
    }

    fn tags(known: &ReadTags) -> Vec<String> {
        known.tags.iter().map(Into::into).collect()
    }

    #[test]
    fn the_first_reading_checks_every_link() {
        let mut known = ReadTags::nothing(Instant::now());
        assert_eq!(read(&mut known, Some(&["a", "b", "c"]), &["b"]), ["a", "b", "c"]);
        assert_eq!(tags(&known), ["a", "c"]);
    }

    #[test]
    fn a_folder_without_a_link_is_checked_until_it_has_one() {
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
    fn few_links_of_a_long_list_are_checked_and_each_in_its_turn() {
        let count = 2 * LINKS_IN_TURN + 1;
        let mut known = known(0..count);
        let begun = known.last_round_began;
        let mut checked = Vec::new();
        for _ in 0..3 {
            let some = read(&mut known, None, &[]);
            assert!(some.len() <= LINKS_IN_TURN);
            checked.extend(some);
        }
        assert_eq!(checked, names(0..count));
        assert_eq!(known.last_round_began, begun, "the first round began with the list");
        assert_eq!(read(&mut known, None, &["v00001"])[1], "v00001", "the next round");
        assert_eq!(known.tags.len(), count - 1);
    }

    #[test]
    fn a_new_folder_is_checked_out_of_turn() {
        let mut known = known(0..LINKS_IN_TURN + 1);
        read(&mut known, None, &[]);
        let listed = names(0..LINKS_IN_TURN + 3);
        let listed: Vec<&str> = listed.iter().map(String::as_str).collect();
        let (torn, new) = (listed[LINKS_IN_TURN + 1], listed[LINKS_IN_TURN + 2]);
        assert_eq!(read(&mut known, Some(&listed), &[torn]), [listed[LINKS_IN_TURN], torn, new]);
        assert!(known.tags.contains(new) && !known.tags.contains(torn));
    }

    #[test]
    fn a_removed_tag_is_checked_if_its_folder_is_there() {
        let mut known = known(0..LINKS_IN_TURN + 2);
        let last = names(0..LINKS_IN_TURN + 2).pop().unwrap();
        known.mark_for_check(&last.parse().unwrap());
        known.mark_for_check(&"gone".parse().unwrap());
        let listed = names(0..LINKS_IN_TURN + 2);
        let listed: Vec<&str> = listed.iter().map(String::as_str).collect();
        let checked = read(&mut known, Some(&listed), &[&last]);
        assert!(checked.contains(&last) && !checked.contains(&"gone".into()));
        assert!(!known.tags.contains(&last));
        assert_eq!(known.marked_count(), 0);
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
    fn checks_of_links_expire() {
        let known = known(0..3);
        assert!(!known.is_too_old(known.last_round_began + MAX_LINK_AGE));
        assert!(known.is_too_old(known.last_round_began + MAX_LINK_AGE + Duration::from_secs(1)));
    }
}
