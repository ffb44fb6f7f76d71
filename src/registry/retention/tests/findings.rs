//! Findings about `quinistry.retention`, the hash of its policies, and the pulls that count.

use super::{config, lines, load_with, policies};
use crate::records::PullingClient;
use crate::retention::{Retention, is_ignored};

/// Warning about a registry without collection.
const NO_COLLECTION: &str = "c.yml:4:3: warning: quinistry.retention: retention runs before each collection, and \
                             quinistry.gc is absent: only `quinistry retention run` applies it";

/// Returns the findings of policies in the flow style, without that about collection.
fn findings(retention: &str) -> Vec<String> {
    let loaded = load_with(&format!("quinistry:\n  retention: {retention}\n"));
    lines(&loaded).into_iter().filter(|line| line != NO_COLLECTION).collect()
}

#[test]
fn defaults_are_dry_and_careful() {
    let config =
        config("quinistry: {retention: {policies: [{repositories: [a], keeptags: [{patterns: [b]}]}]}}\n");
    assert!(config.dry_run);
    assert_eq!(config.max_delete.to_string(), "20%");
    assert_eq!(config.policies[0].untagged, None);
    assert!(!config.policies[0].keeps_referrers);
    assert_eq!(findings("{policies: [{repositories: [a]}]}"), [""; 0]);
    let without = load_with("");
    assert!(without.config.unwrap().retention.is_none());
}

#[test]
fn keys_of_zot_are_accepted_in_any_case() {
    let zot =
        "{DryRun: false, policies: [{Repositories: [a], KeepTags: [{patterns: ['v.*'], pulledWithin: 1h}]}]}";
    let ours =
        "{dryrun: false, policies: [{repositories: [a], keeptags: [{patterns: ['v.*'], pulledwithin: 1h}]}]}";
    let read = |retention: &str| config(&format!("quinistry:\n  retention: {retention}\n"));
    assert_eq!(read(zot), read(ours));
    assert_eq!(
        findings("{policies: [{repositories: [a], keepTags: [], keeptags: []}]}"),
        ["c.yml:4:46: error: quinistry.retention.policies[0].keepTags: is not known; did you mean keeptags?"]
    );
}

#[test]
fn mistakes_are_told_with_their_place_and_remedy() {
    for (retention, expected) in [
        (
            "{maxdelete: 20, policies: [{repositories: [a]}]}",
            "maxdelete: \"20\" must be a percentage from 0% to 100%",
        ),
        ("{maxdelete: 101%, policies: [{repositories: [a]}]}", "maxdelete: \"101%\" must be a percentage"),
        ("{policies: [{keeptags: []}]}", "policies[0].repositories: is missing"),
        (
            "{policies: [{repositories: [a], reponames: [a]}]}",
            "policies[0].reponames: is an old name of zot; use `repo",
        ),
        (
            "{policies: [{repositories: ['tmp**']}]}",
            "policies[0].repositories: \"tmp**\" mixes ** with other text",
        ),
        (
            "{policies: [{repositories: ['!a']}]}",
            "policies[0].repositories: matches no repository; begin with",
        ),
        (
            "{policies: [{repositories: [a], keeptags: {patterns: [a]}}]}",
            "policies[0].keeptags: must be a list of sections",
        ),
        (
            "{policies: [{repositories: [a], keeptags: [{patterns: ['(']}]}]}",
            "keeptags[0].patterns: \"(\" is not a valid regular expression",
        ),
        (
            "{policies: [{repositories: [a], keeptags: [{patterns: ['(?x)a#']}]}]}",
            "keeptags[0].patterns: \"(?x)a#\" cannot match whole names",
        ),
        (
            "{policies: [{repositories: [a], keeptags: [{pushedwithin: 2 weeks}]}]}",
            "keeptags[0].pushedwithin: \"2 weeks\" is not a duration",
        ),
        ("{policies: [{repositories: [a], keeptags: [{pushed: 1h}]}]}", "keeptags[0].pushed: is not known"),
        (
            "{policies: [{repositories: [a], untagged: {}, deleteuntagged: true}]}",
            "policies[0].deleteuntagged: is zot's name of untagged, which is given, too; remove one of them",
        ),
        (
            "{policies: [{repositories: [a], referrers: keep, deletereferrers: true}]}",
            "policies[0].deletereferrers: is zot's name of referrers",
        ),
        ("{policies: [{repositories: [a], untagged: delete}]}", "policies[0].untagged: must be a section"),
        (
            "{policies: [{repositories: [a], referrers: drop}]}",
            "policies[0].referrers: \"drop\" must be one of with-subject, keep",
        ),
    ] {
        let found = findings(retention);
        assert!(
            found.iter().any(|line| line.contains(": error: ") && line.contains(expected)),
            "{retention}: {found:?}"
        );
    }
}

#[test]
fn what_has_no_effect_is_warned_about() {
    assert_eq!(
        findings("{}"),
        [
            "c.yml:4:3: warning: quinistry.retention: there is no policy, and nothing is deleted; add policies, or remove it"
        ]
    );
    let lines = |retention: &str| lines(&load_with(&format!("quinistry:\n  retention: {retention}\n")));
    assert_eq!(lines("{policies: [{repositories: [a]}]}"), [NO_COLLECTION]);
    let found = findings("{policies: [{repositories: ['**']}, {repositories: [a]}]}");
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0]
            .ends_with("quinistry.retention.policies[1]: is never used: policies[0] is for every repository")
    );
    assert_eq!(findings("{policies: [{repositories: ['**', '!b']}, {repositories: [b]}]}"), [""; 0]);
    let found = findings("{policies: [{repositories: [a], keeptags: [{}, {patterns: [b]}]}]}");
    assert!(
        found[0].ends_with("policies[0].keeptags[1]: is never used: keeptags[0] is for every tag"),
        "{found:?}"
    );
}

#[test]
fn the_hash_changes_with_the_policies_and_with_nothing_else() {
    let hash = |text: &str| policies(&format!("quinistry: {{retention: {{{text}}}}}\n")).hash;
    let one = hash("policies: [{repositories: [a], keeptags: [{pushedwithin: 60m}]}]");
    assert_eq!(
        hash("dryrun: false, maxdelete: 5%, policies: [{repositories: [a], keeptags: [{pushedwithin: 1h}]}]"),
        one
    );
    for other in [
        "policies: [{repositories: [b], keeptags: [{pushedwithin: 1h}]}]",
        "policies: [{repositories: [a], keeptags: [{pushedwithin: 2h}]}]",
        "policies: [{repositories: [a], keeptags: [{pushedwithin: 1h}], untagged: {}}]",
        "policies: [{repositories: [a], keeptags: [{pushedwithin: 1h}], referrers: keep}]",
        "policies: [{repositories: [a], keeptags: [{patterns: [x], pushedwithin: 1h}]}]",
    ] {
        assert_ne!(hash(other), one, "{other}");
    }
}

#[test]
fn patterns_match_whole_names() {
    let policies = policies(
        "quinistry: {retention: {policies: [{repositories: ['a/*', '!a/b'], keeptags: [{patterns: ['v1|v2', '(?i)rc']}]}]}}\n",
    );
    let is_policed = |name: &str| policies.of(&name.parse().unwrap()).is_some();
    assert_eq!(["a/c", "a/b", "a/c/d", "a"].map(is_policed), [true, false, false, false]);
    let tags = &policies.list[0].keep_tags[0].tags;
    let names = ["v1", "v2", "RC", "v11", "xv1", "v1-rc", "v1\n"];
    assert_eq!(names.map(|name| tags.matches(name)), [true, true, true, false, false, false, false]);
}

#[test]
fn only_rules_about_pulls_need_their_records() {
    for (policy, needs) in [
        ("keeptags: [{pushedwithin: 1h, mostrecentlypushedcount: 1}], untagged: {}", false),
        ("keeptags: [{pulledwithin: 1h}]", true),
        ("keeptags: [{mostrecentlypulledcount: 1}]", true),
        ("untagged: {pulledwithin: 1h}", true),
    ] {
        let text = format!("quinistry: {{retention: {{policies: [{{repositories: [a], {policy}}}]}}}}\n");
        assert_eq!(policies(&text).need_pulls(), needs, "{policy}");
    }
}

#[test]
fn pulls_of_scanners_do_not_count() {
    let names = ["trivy".to_owned(), "scanner".to_owned()];
    for (account, user_agent, expected) in [
        (None, None, false),
        (Some("scanner"), None, true),
        (Some("scanner-2"), Some("docker/29.0"), false),
        (Some("alice"), Some("Trivy/0.70 (linux)"), true),
        (None, Some("docker/29.0 trivy"), false),
        (None, Some("tri"), false),
    ] {
        assert_eq!(
            is_ignored(&names, PullingClient { account, user_agent }),
            expected,
            "{account:?} {user_agent:?}"
        );
    }
}

#[test]
fn pulls_are_recorded_if_a_rule_needs_them() {
    for (entry, needs) in [("pushedwithin: 1h", false), ("pulledwithin: 1h", true)] {
        let text = format!(
            "quinistry: {{retention: {{policies: [{{repositories: [a], keeptags: [{{{entry}}}]}}]}}}}\n"
        );
        assert_eq!(Retention::new(&config(&text)).unwrap().recording().is_some(), needs, "{entry}");
    }
}
