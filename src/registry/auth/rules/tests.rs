//! Decisions of rules, beside a naive model of them.

use super::*;
use crate::auth::{Ceiling, IdentityProof};

fn place(line: u32) -> Origin {
    Origin::File { file: "c.yml".into(), line, column: 1 }
}

fn rule(line: u32, repositories: &[&str], who: &[&str], can: &[Right]) -> AccessRule {
    let grantee = |text: &&str| match *text {
        "anonymous" => Grantee::Anonymous,
        "authenticated" => Grantee::Authenticated,
        text => match text.strip_prefix("group:") {
            Some(group) => Grantee::Group(group.into()),
            None => Grantee::User(text.into()),
        },
    };
    AccessRule {
        repositories: repositories.iter().map(ToString::to_string).collect(),
        who: who.iter().map(grantee).collect(),
        can: can.to_vec(),
        place: place(line),
    }
}

fn identity(name: &str) -> Identity {
    match name {
        "anonymous" => Identity::anonymous(),
        name => Identity {
            name: Some(name.into()),
            proof: IdentityProof::Password { version: None },
            ceiling: None,
        },
    }
}

fn name(text: &str) -> RepositoryName {
    text.parse().unwrap()
}

fn groups(groups: &[(&str, &[&str])]) -> Vec<Group> {
    let group = |(name, members): &(&str, &[&str])| Group {
        name: (*name).into(),
        members: members.iter().map(ToString::to_string).collect(),
    };
    groups.iter().map(group).collect()
}

fn compile(rules: &[AccessRule], of: &[Group]) -> Rules {
    Rules::new(rules, Groups::new(of).unwrap()).unwrap()
}

/// Returns true if a pattern matches, by trying everything.
fn matches(pattern: &str, repository: &str) -> bool {
    let rules = [rule(1, &[pattern], &["a"], &[Right::Pull])];
    compile(&rules, &[]).decide(&identity("a"), Right::Pull, &name(repository)).is_granted()
}

#[test]
fn row_128_a_pattern_matches_whole_names_by_components() {
    for (pattern, repository, expected) in [
        ("a*", "a/b", false),
        ("a*", "abc", true),
        ("a*", "a", true),
        ("a/**", "a/b", true),
        ("a/**", "a/b/c", true),
        ("a/**", "a", false),
        ("a/**", "ab/c", false),
        ("**", "a/b/c", true),
        ("*", "a", true),
        ("*", "a/b", false),
        ("**/app", "app", true),
        ("**/app", "a/b/app", true),
        ("**/app", "a/myapp", false),
        ("a/*/c", "a/b/c", true),
        ("a/*/c", "a/b/b/c", false),
        ("a/**/c", "a/c", true),
        ("a/**/c", "a/b/b/c", true),
        ("a.b", "a-b", false),
        ("a", "a/b", false),
        ("{a,b}/x", "b/x", true),
        ("v[0-9]", "v1", true),
    ] {
        assert_eq!(matches(pattern, repository), expected, "{pattern} {repository}");
    }
}

#[test]
fn an_exclusion_takes_away_from_its_own_rule_alone() {
    let rules = [
        rule(1, &["team/**", "!team/secret/**"], &["bob", "carol"], &[Right::Push]),
        rule(2, &["team/secret/**"], &["carol"], &[Right::Pull]),
    ];
    let rules = compile(&rules, &[]);
    let decide =
        |who, right, repository: &str| rules.decide(&identity(who), right, &name(repository)).rule().cloned();
    assert_eq!(decide("bob", Right::Push, "team/app"), Some(place(1)));
    assert_eq!(decide("bob", Right::Pull, "team/app"), Some(place(1)), "push includes pull");
    assert_eq!(decide("bob", Right::Pull, "team/secret/app"), None);
    assert_eq!(decide("carol", Right::Pull, "team/secret/app"), Some(place(2)));
    assert_eq!(decide("carol", Right::Push, "team/secret/app"), None);
}

#[test]
fn without_rules_users_may_do_everything_and_others_nothing() {
    let rules = Rules::default();
    for right in Right::ALL {
        assert_eq!(rules.decide(&identity("a"), right, &name("x")), Decision::Granted(None));
        assert_eq!(rules.decide(&identity("anonymous"), right, &name("x")), Decision::NotGranted);
    }
    assert!(!rules.grant_to_anonymous());
    let none = compile(&[], &[]);
    assert_eq!(none.decide(&identity("a"), Right::Pull, &name("x")), Decision::NotGranted);
}

#[test]
fn groups_have_users_and_patterns_of_users() {
    let rules =
        [rule(1, &["**"], &["group:ci"], &[Right::Pull]), rule(2, &["a"], &["group:absent"], &[Right::Push])];
    let rules = compile(&rules, &groups(&[("ci", &["bob", "sa:ci:*"])]));
    for (who, expected) in [
        ("bob", true),
        ("sa:ci:x/y", true),
        ("sa:cd:x", false),
        ("bobby", false),
        ("anonymous", false),
        ("ci", false),
    ] {
        assert_eq!(rules.decide(&identity(who), Right::Pull, &name("a")).is_granted(), expected, "{who}");
    }
    assert_eq!(rules.decide(&identity("absent"), Right::Push, &name("a")), Decision::NotGranted);
}

#[test]
fn a_ceiling_takes_away_and_never_adds() {
    #[derive(Debug)]
    struct PullOfA;
    impl Ceiling for PullOfA {
        fn permits(&self, repository: &RepositoryName, right: Right) -> bool {
            repository.as_str() == "a" && right == Right::Pull
        }
        fn permits_catalog(&self) -> bool {
            false
        }
        fn can_be_widened(&self, _: crate::auth::challenge::Scope<'_>) -> bool {
            true
        }
    }
    let rules = compile(&[rule(1, &["a", "b"], &["bob"], &[Right::Admin])], &[]);
    let limited = |who| Identity { ceiling: Some(Arc::new(PullOfA)), ..identity(who) };
    let line = place(1);
    assert_eq!(rules.decide(&limited("bob"), Right::Pull, &name("a")), Decision::Granted(Some(&line)));
    assert_eq!(rules.decide(&limited("bob"), Right::Push, &name("a")), Decision::BeyondCeiling(Some(&line)));
    assert_eq!(rules.decide(&limited("bob"), Right::Pull, &name("b")), Decision::BeyondCeiling(Some(&line)));
    assert_eq!(rules.decide(&limited("carol"), Right::Pull, &name("a")), Decision::NotGranted);
}

#[test]
fn row_129_deep_patterns_and_many_rules_are_matched_at_once() {
    // A matcher that backtracks would not come back.
    let deep = "**/".repeat(84) + "x";
    let stars = "*a".repeat(100) + "b";
    let long = vec!["a"; 127].join("/");
    for pattern in [deep.as_str(), &stars, &"{a,{a,{a,b}}}*".repeat(15)] {
        assert!(!matches(pattern, &long), "{pattern}");
    }
    let patterns: Vec<String> =
        (0..10_000).map(|number| format!("team-{number}/**/{}", "x*".repeat(8))).collect();
    let rules: Vec<AccessRule> =
        patterns.iter().map(|pattern| rule(1, &[pattern], &["a"], &[Right::Pull])).collect();
    let rules = compile(&rules, &[]);
    assert!(rules.decide(&identity("a"), Right::Pull, &name("team-9999/a/b/xxxxxxxx")).is_granted());
    assert!(!rules.decide(&identity("a"), Right::Pull, &name(&long)).is_granted());
}

// Random rules beside a naive model.

const USERS: [&str; 5] = ["anonymous", "alice", "bob", "sa:ci:1", "sa:cd:1"];
const REPOSITORIES: [&str; 8] = ["a", "b", "a/b", "a/b/c", "a/c", "b/a", "ab", "a-b/c"];
const PATTERNS: [&str; 12] =
    ["**", "*", "a", "a/**", "a/*", "**/c", "a/**/c", "a*", "*/b", "b/**", "a-b/*", "**/b/**"];
const GRANTEES: [&str; 7] =
    ["anonymous", "authenticated", "alice", "bob", "group:ci", "group:all", "group:absent"];

/// Generator of numbers (splitmix64), so that each run has the same rules.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % limit as u64).unwrap()
    }

    fn some<'a>(&mut self, of: &[&'a str]) -> Vec<&'a str> {
        (0..=self.below(2)).map(|_| of[self.below(of.len())]).collect()
    }

    fn rule(&mut self, line: u32) -> AccessRule {
        let mut repositories: Vec<String> = self.some(&PATTERNS).into_iter().map(str::to_owned).collect();
        if self.below(3) == 0 {
            repositories.push(format!("!{}", PATTERNS[self.below(PATTERNS.len())]));
        }
        let rights: Vec<Right> = (0..=self.below(2)).map(|_| Right::ALL[self.below(5)]).collect();
        AccessRule { repositories, ..rule(line, &[], &self.some(&GRANTEES), &rights) }
    }
}

/// Returns true if components match, by trying every length of `**`.
fn naive_match(pattern: &[&str], name: &[&str]) -> bool {
    fn component(pattern: &[u8], text: &[u8]) -> bool {
        match pattern {
            [] => text.is_empty(),
            [b'*', rest @ ..] => (0..=text.len()).any(|count| component(rest, &text[count..])),
            [first, rest @ ..] => text.first() == Some(first) && component(rest, &text[1..]),
        }
    }
    match pattern {
        [] => name.is_empty(),
        // A final `**` stands for at least one component behind a slash.
        ["**"] => !name.is_empty(),
        ["**", rest @ ..] => (0..=name.len()).any(|count| naive_match(rest, &name[count..])),
        [first, rest @ ..] => {
            name.first().is_some_and(|text| component(first.as_bytes(), text.as_bytes()))
                && naive_match(rest, &name[1..])
        }
    }
}

fn naive_decision(rules: &[AccessRule], groups: &[Group], who: &str, right: Right, repository: &str) -> bool {
    let matches = |pattern: &str| {
        naive_match(&pattern.split('/').collect::<Vec<_>>(), &repository.split('/').collect::<Vec<_>>())
    };
    let is_member = |group: &str| {
        let members = groups.iter().filter(|known| &*known.name == group).flat_map(|group| &group.members);
        let mut members = members.map(String::as_str);
        members.any(|member| match member.strip_suffix('*') {
            Some(start) => who.starts_with(start),
            None => who == member,
        })
    };
    let is_for = |grantee: &Grantee| match grantee {
        Grantee::Anonymous => who == "anonymous",
        Grantee::Authenticated => who != "anonymous",
        Grantee::User(user) => who == &**user,
        Grantee::Group(group) => who != "anonymous" && is_member(group),
    };
    let includes = |granted: &Right| {
        *granted == right || *granted == Right::Admin || *granted == Right::Push && right == Right::Pull
    };
    rules.iter().any(|rule| {
        let (taken, added): (Vec<_>, Vec<_>) =
            rule.repositories.iter().partition(|pattern| pattern.starts_with('!'));
        added.iter().any(|pattern| matches(pattern))
            && !taken.iter().any(|pattern| matches(&pattern[1..]))
            && rule.who.iter().any(is_for)
            && rule.can.iter().any(includes)
    })
}

/// Returns all decisions: of each user, right and repository.
fn decisions(rules: &Rules) -> Vec<bool> {
    let mut all = Vec::new();
    for who in USERS {
        for right in Right::ALL {
            for repository in REPOSITORIES {
                all.push(rules.decide(&identity(who), right, &name(repository)).is_granted());
            }
        }
    }
    all
}

#[test]
fn decisions_equal_a_naive_model() {
    let groups = groups(&[("ci", &["sa:ci:*"]), ("all", &["*"])]);
    let mut numbers = Numbers(1);
    for _ in 0..150 {
        let rules: Vec<AccessRule> = (0..=numbers.below(5)).map(|_| numbers.rule(1)).collect();
        let mut compiled = decisions(&compile(&rules, &groups)).into_iter();
        for who in USERS {
            for right in Right::ALL {
                for repository in REPOSITORIES {
                    let expected = naive_decision(&rules, &groups, who, right, repository);
                    assert_eq!(compiled.next(), Some(expected), "{who} {right:?} {repository} {rules:#?}");
                }
            }
        }
    }
}

#[test]
fn a_rule_more_removes_no_right_and_a_rule_less_adds_none() {
    let groups = groups(&[("ci", &["sa:ci:*"]), ("all", &["*"])]);
    let mut numbers = Numbers(2);
    for _ in 0..150 {
        let mut rules: Vec<AccessRule> = (0..=numbers.below(5)).map(|_| numbers.rule(1)).collect();
        let before = decisions(&compile(&rules, &groups));
        let position = numbers.below(rules.len() + 1);
        rules.insert(position, numbers.rule(2));
        let after = decisions(&compile(&rules, &groups));
        assert!(before.iter().zip(&after).all(|(before, after)| before <= after), "{rules:#?}");
        rules.remove(numbers.below(rules.len()));
        let less = decisions(&compile(&rules, &groups));
        assert!(less.iter().zip(&after).all(|(less, after)| less <= after), "{rules:#?}");
    }
}
