//! Rules of prefetch: what is fetched before a client asks for it, and when. Pure.

use std::time::{Duration, Instant};

use quinistry_oci::{Descriptor, PlatformPattern, RepositoryName, Tag};

use crate::auth::rules::{PatternError, PatternIndex};

/// Greatest pause before the next question for tags, if the upstream has not answered one.
const UNLISTED_PAUSE: Duration = Duration::from_mins(10);

/// Tags of a repository that are fetched before a client asks for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrefetchRule {
    /// Name of the repository at the upstream.
    pub repository: RepositoryName,
    /// Patterns of tags: `*` stands for any text.
    pub tags: Vec<String>,
    /// Time between two looks at the tags.
    pub interval: Duration,
}

/// Repository of a rule of which nothing is fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExcludedRepository {
    /// Name of the repository at the upstream, as the rule has it.
    pub repository: RepositoryName,
    /// Reason for which nothing is fetched.
    pub reason: ExclusionReason,
}

/// Reason for which nothing of the repository of a rule is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExclusionReason {
    /// The patterns of the upstream exclude the name.
    #[error(
        "is excluded by allow or deny of the upstream; change these, or remove the repository from prefetch"
    )]
    Denied,
    /// The prefix of another upstream is a longer part of the name.
    #[error(
        "belongs to another upstream, whose prefix is longer; move the repository to prefetch of that upstream"
    )]
    OfOtherUpstream,
    /// The name with the prefix is not one of a repository.
    #[error("has no valid name with the prefix of the upstream; remove the repository from prefetch")]
    InvalidName,
}

/// Rule whose patterns are compiled, with the schedule of its rounds.
#[derive(Debug)]
pub(crate) struct ScheduledRule {
    pub(crate) rule: PrefetchRule,
    tags: PatternIndex,
    schedule: Schedule,
}

/// Time of the next round of a rule, and the place at which a round was interrupted.
#[derive(Clone, Debug, Default)]
struct Schedule {
    /// Time of the next round; `None` before the first one.
    due: Option<Instant>,
    /// Tag with which the round begins; `None` for the first one in order.
    first: Option<Tag>,
    /// Tag with which the round goes on; `None` if no tag of the round was fetched.
    next: Option<Tag>,
}

/// Returns the entries of an index that are fetched: those of the platforms, or all if no platforms are wanted, or if none
/// of the entries is for one, as in an index of artifacts.
pub(crate) fn wanted_entries<'a>(
    entries: &'a [Descriptor],
    platforms: &'a [PlatformPattern],
) -> impl Iterator<Item = &'a Descriptor> {
    let covers = |pattern: &PlatformPattern, entry: &Descriptor| {
        entry.platform.as_ref().is_some_and(|platform| pattern.covers(platform))
    };
    let takes_all = platforms.is_empty() || entries.iter().all(|entry| entry.platform.is_none());
    let is_wanted =
        move |entry: &&Descriptor| takes_all || platforms.iter().any(|platform| covers(platform, entry));
    entries.iter().filter(is_wanted)
}

// === impl ScheduledRule ===

impl ScheduledRule {
    pub(crate) fn new(rule: PrefetchRule) -> Result<Self, (String, PatternError)> {
        let patterns: Vec<(&str, usize)> = rule.tags.iter().map(|text| (text.as_str(), 0)).collect();
        let tags = PatternIndex::new(&patterns, false).map_err(|error| {
            let invalid =
                rule.tags.iter().find(|text| crate::auth::rules::check_pattern(text, false).is_err());
            (invalid.cloned().unwrap_or_default(), error)
        })?;
        Ok(Self { rule, tags, schedule: Schedule::default() })
    }

    /// Returns true if a pattern matches a tag.
    pub(crate) fn matches(&self, tag: &Tag) -> bool {
        !self.tags.find(tag.as_str()).is_empty()
    }

    /// Returns the tags that the patterns name, if none of them stands for others: no list of tags is needed then.
    pub(crate) fn plain_tags(&self) -> Option<Vec<Tag>> {
        let is_plain = |text: &String| !text.contains(['*', '?', '[', '{', '\\', '!']);
        self.rule.tags.iter().map(|text| text.parse().ok().filter(|_| is_plain(text))).collect()
    }

    /// Returns the time of the next round; `None` before the first one.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.schedule.due
    }

    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.schedule.due.is_none_or(|due| now >= due)
    }

    /// Returns the tags of a round in their order, without those that an interrupted round has fetched already.
    pub(crate) fn left_of_round(&self, mut tags: Vec<Tag>) -> Vec<Tag> {
        let Schedule { first, next, .. } = &self.schedule;
        // Tags before the first one have their turn at the end.
        let rank = |tag: &Tag| (first.as_ref().is_some_and(|first| tag < first), tag.clone());
        tags.sort_by_cached_key(rank);
        tags.dedup();
        // A tag that the upstream does not have any more leaves its place to the one behind it.
        let done = next.as_ref().map_or(0, |next| {
            let next = rank(next);
            tags.partition_point(|tag| rank(tag) < next)
        });
        tags.split_off(done)
    }

    /// Notes that a tag is about to be fetched: a round that is interrupted goes on with it.
    pub(crate) fn note_tag(&mut self, tag: &Tag) {
        self.schedule.next = Some(tag.clone());
    }

    /// Notes that a round has ended.
    pub(crate) fn note_round(&mut self, now: Instant) {
        self.schedule = Schedule { due: Some(now + self.rule.interval), ..Schedule::default() };
    }

    /// Notes that the storage is full: the next round begins with the tag at which this one has ended.
    pub(crate) fn note_full(&mut self, now: Instant) {
        let Schedule { first, next, .. } = std::mem::take(&mut self.schedule);
        self.schedule = Schedule { due: Some(now + self.rule.interval), first: next.or(first), next: None };
    }

    /// Notes that the upstream has sent no list of tags: the round goes on soon where it is.
    pub(crate) fn note_unlisted(&mut self, now: Instant) {
        self.schedule.due = Some(now + self.rule.interval.min(UNLISTED_PAUSE));
    }

    /// Takes over the schedule of the same rule before a reload.
    pub(crate) fn inherit(&mut self, former: &Self) {
        self.schedule = former.schedule.clone();
    }
}

#[cfg(test)]
mod tests {
    use quinistry_oci::{Platform, media_type};

    use super::*;

    fn entry(os: &str, architecture: &str, variant: Option<&str>) -> Descriptor {
        let platform = Platform {
            os: os.into(),
            architecture: architecture.into(),
            variant: variant.map(Into::into),
            ..Platform::default()
        };
        Descriptor {
            platform: Some(platform),
            ..Descriptor::of(media_type::OCI_MANIFEST, format!("{os}{architecture}{variant:?}").as_bytes())
        }
    }

    #[test]
    fn entries_are_wanted_by_their_platforms() {
        let entries = [
            entry("linux", "amd64", None),
            entry("linux", "arm", Some("v7")),
            entry("linux", "arm", Some("v6")),
            entry("unknown", "unknown", None),
            Descriptor::of(media_type::OCI_MANIFEST, b"without a platform"),
        ];
        for (platforms, expected) in [
            (&[][..], &[0, 1, 2, 3, 4][..]),
            (&["linux/amd64"], &[0]),
            (&["linux/arm"], &[1, 2]),
            (&["linux/arm/v7", "windows/amd64"], &[1]),
            (&["windows/amd64"], &[]),
        ] {
            let platforms: Vec<PlatformPattern> =
                platforms.iter().map(|text| text.parse().unwrap()).collect();
            let found: Vec<_> = wanted_entries(&entries, &platforms).collect();
            let expected: Vec<_> = expected.iter().map(|at| &entries[*at]).collect();
            assert_eq!(found, expected, "{platforms:?}");
        }
        let all_of = |entries: &[Descriptor], text: &str| {
            wanted_entries(entries, &[text.parse().unwrap()]).count() == entries.len()
        };
        assert!(all_of(&entries[4..], "linux/amd64"), "an index of artifacts has no platforms");
        for (listed, wanted, is_wanted) in [
            (None, "linux/arm64", true),
            (None, "linux/arm64/v8", true),
            (Some("v8"), "linux/arm64", true),
            (Some("v8"), "linux/arm64/v8", true),
            (Some("v9"), "linux/arm64/v8", false),
        ] {
            assert_eq!(all_of(&[entry("linux", "arm64", listed)], wanted), is_wanted, "{listed:?} {wanted}");
        }
    }

    #[test]
    fn a_rule_is_due_at_first_and_after_its_interval() {
        let rule = |tags: &[&str]| PrefetchRule {
            repository: "library/app".parse().unwrap(),
            tags: tags.iter().map(ToString::to_string).collect(),
            interval: Duration::from_hours(6),
        };
        let (mut scheduled, now) = (ScheduledRule::new(rule(&["1.*", "latest"])).unwrap(), Instant::now());
        assert!(scheduled.is_due(now));
        scheduled.note_round(now);
        assert!(!scheduled.is_due(now + Duration::from_hours(5)));
        assert!(scheduled.is_due(now + Duration::from_hours(6)));
        let found =
            ["1.0", "1.2-rc", "latest", "2.0", "latest2"].map(|tag| scheduled.matches(&tag.parse().unwrap()));
        assert_eq!(found, [true, true, true, false, false]);
        assert_eq!(scheduled.plain_tags(), None);
        let plain = ScheduledRule::new(rule(&["1.0", "latest"])).unwrap();
        assert_eq!(plain.plain_tags().unwrap().len(), 2);
        assert_eq!(ScheduledRule::new(rule(&["[a"])).unwrap_err().0, "[a");
    }

    #[test]
    fn each_tag_has_its_turn_though_rounds_are_interrupted() {
        let rule = PrefetchRule {
            repository: "library/app".parse().unwrap(),
            tags: vec!["*".into()],
            interval: Duration::from_hours(6),
        };
        let (mut rule, now) = (ScheduledRule::new(rule).unwrap(), Instant::now());
        let tag = |text: &str| text.parse::<Tag>().unwrap();
        let left = |rule: &ScheduledRule, tags: &[&str]| {
            let left = rule.left_of_round(tags.iter().map(|text| tag(text)).collect());
            left.iter().map(ToString::to_string).collect::<Vec<_>>().concat()
        };
        let all = ["c", "a", "b", "d", "a"];
        assert_eq!(left(&rule, &all), "abcd");
        rule.note_tag(&tag("c"));
        assert_eq!(left(&rule, &all), "cd");
        assert_eq!(left(&rule, &["a", "b", "d", "e"]), "de", "the tag is gone");
        assert_eq!(left(&rule, &["a", "b"]), "", "all that were behind the tag are gone");
        // The next round has all tags, and begins where the storage was full.
        rule.note_full(now);
        assert!(!rule.is_due(now));
        assert_eq!(left(&rule, &all), "cdab");
        rule.note_tag(&tag("a"));
        assert_eq!(left(&rule, &all), "ab");
        assert_eq!(left(&rule, &[]), "");
        rule.note_tag(&tag("b"));
        assert_eq!(left(&rule, &["a", "c", "d"]), "", "the last tag of the round is gone");
        rule.note_tag(&tag("a"));
        rule.note_full(now);
        rule.note_full(now);
        assert_eq!(left(&rule, &all), "abcd");
        rule.note_tag(&tag("d"));
        let mut reloaded = ScheduledRule::new(rule.rule.clone()).unwrap();
        reloaded.inherit(&rule);
        assert_eq!((left(&reloaded, &all), reloaded.is_due(now)), ("d".into(), false));
        reloaded.note_round(now);
        assert_eq!(left(&reloaded, &all), "abcd");
    }
}
