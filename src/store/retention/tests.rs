//! Properties of plans, for random facts. The examples of zot, Harbor and ECR are in the crate that reads
//! policies.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use quinistry_oci::{Digest, RepositoryName, Tag};

use super::*;
use crate::RepositoryMatcher;

/// Matcher of all names that begin with a text.
#[derive(Debug)]
struct Prefix(&'static str);

impl TagMatcher for Prefix {
    fn matches(&self, name: &str) -> bool {
        name.starts_with(self.0)
    }
}

impl RepositoryMatcher for Prefix {
    fn matches(&self, repository: &RepositoryName) -> bool {
        repository.as_str().starts_with(self.0)
    }
}

/// Generator of pseudo-random numbers (xorshift64*), the same in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % end
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let at = usize::try_from(self.below(last as u64 + 1)).unwrap();
            items.swap(last, at);
        }
    }
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_hours(24 * 365)
}

fn ago(hours: u64) -> SystemTime {
    now() - Duration::from_hours(hours)
}

fn name() -> RepositoryName {
    "team/app".parse().unwrap()
}

fn policies(rules: Vec<TagRule>, untagged: Option<Criteria>) -> Policies {
    let policy = Policy {
        repositories: Arc::new(Prefix("team/")),
        keep_tags: rules,
        untagged,
        keeps_referrers: false,
    };
    let hash = Digest::sha256(b"policies");
    Policies { dry_run: false, max_delete: Percentage::ALL, list: vec![policy], hash }
}

fn rule(prefix: &'static str, criteria: Criteria) -> TagRule {
    TagRule { tags: Arc::new(Prefix(prefix)), criteria }
}

fn random_tags(random: &mut Random) -> Vec<TagFacts> {
    let count = random.below(24);
    let tag = |number: u64, random: &mut Random| {
        let begin = ["v", "pr-", "x"][usize::try_from(random.below(3)).unwrap()];
        TagFacts {
            tag: format!("{begin}{number}").parse().unwrap(),
            digest: Digest::sha256(&[u8::try_from(random.below(12)).unwrap()]),
            pushed: ago(random.below(100)),
            pulled: (random.below(2) == 0).then(|| ago(random.below(100))),
            is_protected: random.below(10) == 0,
        }
    };
    (0..count).map(|number| tag(number, random)).collect()
}

fn random_criteria(random: &mut Random) -> Criteria {
    let duration =
        |random: &mut Random| (random.below(3) == 0).then(|| Duration::from_hours(random.below(90)));
    let count =
        |random: &mut Random| (random.below(3) == 0).then(|| usize::try_from(random.below(6)).unwrap());
    Criteria {
        pushed_within: duration(random),
        pulled_within: duration(random),
        most_recently_pushed: count(random),
        most_recently_pulled: count(random),
    }
}

fn deleted(plan: &RepositoryPlan) -> BTreeSet<&Tag> {
    let deleted = plan.tags.iter().filter(|tag| tag.verdict.deletes());
    deleted.map(|tag| &tag.facts.tag).collect()
}

/// Calls `check` with many random policies, facts and begins of recording.
fn each_case(mut check: impl FnMut(&mut Random, [Criteria; 2], Vec<TagFacts>, Option<SystemTime>)) {
    let mut random = Random(0x0051_7e57);
    for _ in 0..2_000 {
        let criteria = [random_criteria(&mut random), random_criteria(&mut random)];
        let tags = random_tags(&mut random);
        let since = (random.below(4) > 0).then(|| ago(random.below(120)));
        check(&mut random, criteria, tags, since);
    }
}

fn two_rules([one, other]: [Criteria; 2]) -> Policies {
    policies(vec![rule("v", one), rule("pr-", other)], None)
}

#[test]
fn the_order_of_facts_does_not_matter() {
    let mut judged = 0;
    each_case(|random, criteria, mut tags, since| {
        let policies = two_rules(criteria);
        let first = plan(&policies, &name(), tags.clone(), since, now());
        judged += deleted(&first).len();
        random.shuffle(&mut tags);
        assert_eq!(plan(&policies, &name(), tags, since, now()), first);
    });
    assert!(judged > 1_000, "tags were deleted: {judged}");
}

#[test]
fn one_more_criterion_deletes_no_tag_that_stayed() {
    each_case(|random, [one, other], tags, since| {
        let more = random_criteria(random);
        // Of no criterion the name keeps, so that any is fewer.
        let or = Criteria {
            pushed_within: one.pushed_within.max(more.pushed_within),
            pulled_within: one.pulled_within.max(more.pulled_within),
            most_recently_pushed: one.most_recently_pushed.max(more.most_recently_pushed),
            most_recently_pulled: one.most_recently_pulled.max(more.most_recently_pulled),
        };
        if one == Criteria::default() {
            return;
        }
        let before = plan(&two_rules([one, other]), &name(), tags.clone(), since, now());
        let after = plan(&two_rules([or, other]), &name(), tags, since, now());
        assert!(deleted(&after).is_subset(&deleted(&before)), "{one:?} {or:?}");
    });
}

#[test]
fn protected_tags_and_those_of_other_repositories_stay() {
    each_case(|_, criteria, tags, since| {
        let policies = two_rules(criteria);
        let planned = plan(&policies, &name(), tags.clone(), since, now());
        assert!(planned.tags.iter().all(|tag| !tag.facts.is_protected || !tag.verdict.deletes()));
        let other = "other/app".parse().unwrap();
        assert!(deleted(&plan(&policies, &other, tags.clone(), since, now())).is_empty());
        let none = self::policies(Vec::new(), None);
        assert!(deleted(&plan(&none, &name(), tags, since, now())).is_empty());
    });
}

#[test]
fn no_run_deletes_more_than_the_share_and_else_nothing() {
    let mut excesses = 0;
    each_case(|random, criteria, tags, since| {
        let all = plan(&two_rules(criteria), &name(), tags.clone(), since, now());
        let max_delete = Percentage::new(u8::try_from(random.below(101)).unwrap()).unwrap();
        let policies = Policies { max_delete, ..two_rules(criteria) };
        let planned = plan(&policies, &name(), tags, since, now());
        let (wanted, count) = (deleted(&all).len(), all.tags.len());
        if max_delete.allows(wanted, count) {
            assert_eq!((planned.excess, deleted(&planned).len()), (None, wanted));
        } else {
            excesses += 1;
            assert_eq!((planned.excess, deleted(&planned).len()), (Some(wanted), 0));
        }
    });
    assert!(excesses > 100, "{excesses}");
}

#[test]
fn tags_of_one_image_have_one_fate_by_counts() {
    each_case(|random, _, mut tags, since| {
        for tag in &mut tags {
            tag.is_protected = false;
        }
        let count = usize::try_from(random.below(5)).unwrap();
        for criteria in [
            Criteria { most_recently_pushed: Some(count), ..Criteria::default() },
            Criteria { most_recently_pulled: Some(count), ..Criteria::default() },
        ] {
            let planned =
                plan(&policies(vec![rule("", criteria)], None), &name(), tags.clone(), since, now());
            let digests = |goes: bool| {
                let tags = planned.tags.iter().filter(move |tag| tag.verdict.deletes() == goes);
                tags.map(|tag| tag.facts.digest.clone()).collect::<BTreeSet<_>>()
            };
            assert!(digests(true).is_disjoint(&digests(false)));
            let all = digests(true).len() + digests(false).len();
            assert!(digests(false).len() >= count.min(all));
        }
    });
}

/// Tag with the hours since its push and last pull.
fn tag(name: &str, pushed: u64, pulled: Option<u64>) -> TagFacts {
    TagFacts {
        tag: name.parse().unwrap(),
        digest: Digest::sha256(name.as_bytes()),
        pushed: ago(pushed),
        pulled: pulled.map(ago),
        is_protected: false,
    }
}

/// Returns the tags that stay by criteria, with what keeps them.
fn kept(criteria: Criteria, since: Option<u64>, tags: &[TagFacts]) -> Vec<String> {
    let policies = policies(vec![rule("", criteria)], None);
    let planned = plan(&policies, &name(), tags.to_vec(), since.map(ago), now());
    let kept = planned.tags.iter().filter(|tag| !tag.verdict.deletes());
    let shown = |tag: &JudgedTag| match tag.verdict {
        Verdict::Kept { by, .. } => format!("{} {by:?}", tag.facts.tag),
        verdict => format!("{} {verdict}", tag.facts.tag),
    };
    kept.map(shown).collect()
}

#[test]
fn a_pull_may_be_an_hour_older_and_a_push_counts() {
    let criteria = Criteria { pulled_within: Some(Duration::from_hours(10)), ..Criteria::default() };
    let tags = [
        tag("edge", 99, Some(11)),
        tag("late", 99, Some(12)),
        tag("never", 99, None),
        tag("new", 11, None),
        tag("unpulled", 12, None),
    ];
    let recorded = kept(criteria, Some(200), &tags);
    assert_eq!(recorded, ["edge PulledWithin", "new PulledWithin"]);
}

#[test]
fn tags_without_statistics_stay_until_the_whole_time_was_recorded() {
    let criteria = Criteria { pulled_within: Some(Duration::from_hours(10)), ..Criteria::default() };
    let tags = [tag("known", 40, Some(30)), tag("old", 99, None), tag("since", 15, None)];
    for (since, expected) in [
        (None, &["old NoPullStatistics", "since NoPullStatistics"][..]),
        (Some(5), &["old NoPullStatistics", "since NoPullStatistics"]),
        (Some(10), &["old NoPullStatistics", "since NoPullStatistics"]),
        (Some(11), &[]),
        (Some(50), &[]),
    ] {
        assert_eq!(kept(criteria, since, &tags), expected, "{since:?}");
    }
}

#[test]
fn an_image_without_statistics_counts_as_pulled_until_enough_others_were() {
    let criteria = Criteria { most_recently_pulled: Some(2), ..Criteria::default() };
    let (old, young) = (tag("old", 99, None), tag("young", 5, None));
    let one = tag("one", 90, Some(4));
    let tags = [old.clone(), young.clone(), one.clone()];
    // Pulls are recorded since 50 hours: `young` was never pulled, and nothing is known of `old`.
    assert_eq!(kept(criteria, Some(50), &tags), ["old MostRecentlyPulled", "one MostRecentlyPulled"]);
    let tags = [old, young, one, tag("two", 90, Some(3))];
    assert_eq!(kept(criteria, Some(50), &tags), ["one MostRecentlyPulled", "two MostRecentlyPulled"]);
}

#[test]
fn of_images_of_one_time_the_last_names_are_the_newest() {
    let criteria = Criteria { most_recently_pushed: Some(2), ..Criteria::default() };
    let tags = ["a", "b", "c"].map(|name| tag(name, 5, None));
    assert_eq!(kept(criteria, None, &tags), ["b MostRecentlyPushed", "c MostRecentlyPushed"]);
}

#[test]
fn loose_manifests_stay_by_age_pulls_and_counts() {
    let loose = |number: u8, pushed: u64, pulled: Option<u64>| LooseFacts {
        digest: Digest::sha256(&[number]),
        pushed: ago(pushed),
        pulled: pulled.map(ago),
    };
    let all = [loose(0, 5, None), loose(1, 30, None), loose(2, 90, Some(20)), loose(3, 90, None)];
    let kept = |criteria: Option<Criteria>, repository: &str| {
        let policies = policies(Vec::new(), criteria);
        let kept = policies.kept_untagged(&repository.parse().unwrap(), &all, Some(ago(200)), now());
        all.iter().map(|facts| kept.contains(&facts.digest)).collect::<Vec<_>>()
    };
    let day = Criteria { pushed_within: Some(Duration::from_hours(24)), ..Criteria::default() };
    assert_eq!(kept(None, "team/app"), [true; 4]);
    assert_eq!(kept(Some(day), "other/app"), [true; 4]);
    assert_eq!(kept(Some(day), "team/app"), [true, false, false, false]);
    let pulled = Criteria { pulled_within: Some(Duration::from_hours(24)), ..day };
    assert_eq!(kept(Some(pulled), "team/app"), [true, false, true, false]);
    let counted = Criteria { most_recently_pushed: Some(2), ..pulled };
    assert_eq!(kept(Some(counted), "team/app"), [true, true, true, false]);
}

#[test]
fn a_verdict_is_shown_as_the_key_that_decides() {
    let by = |by| Verdict::Kept { policy: 0, entry: 1, by };
    let shown: Vec<(&dyn fmt::Display, &str)> = vec![
        (&Verdict::Protected, "protect"),
        (&Verdict::NoPolicy, "no policy"),
        (&Verdict::NoEntries(2), "policies[2] without keeptags"),
        (&Verdict::TooMany(0), "maxdelete"),
        (&Verdict::Deleted { policy: 0, entry: None }, "no pattern of policies[0].keeptags"),
        (&Verdict::Deleted { policy: 0, entry: Some(3) }, "no criterion of policies[0].keeptags[3]"),
    ];
    for (verdict, text) in shown {
        assert_eq!(verdict.to_string(), text);
    }
    assert_eq!(by(Criterion::Name).to_string(), "policies[0].keeptags[1].patterns");
    let unknown = by(Criterion::NoPullStatistics).to_string();
    assert_eq!(unknown, "policies[0].keeptags[1].pulledwithin (no statistics)");
}
