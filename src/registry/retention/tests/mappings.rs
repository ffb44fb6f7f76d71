//! Documented examples of zot, Harbor and ECR, mapped to policies, with the tags that stay.
//!
//! Sources: zot's `examples/README.md`, Harbor's "Create Tag Retention Rules", and "Examples of lifecycle
//! policies in Amazon ECR" of its user guide.

use std::collections::BTreeSet;

use super::{ExampleTag, days, judge, judge_untagged, policies};

/// Example with its mapping.
struct Mapping {
    name: &'static str,
    /// `quinistry.retention` in the flow style of YAML.
    retention: &'static str,
    repository: &'static str,
    /// Tags: name, image, days since the push, days since the last pull.
    tags: &'static [(&'static str, &'static str, u64, Option<u64>)],
    /// Tags that stay.
    kept: &'static [&'static str],
}

/// zot's configuration with three policies, pasted.
const ZOT: &str = r#"{
    "dryRun": false,
    "delay": "24h",
    "policies": [
        {
            "repositories": ["infra/*", "prod/*"],
            "deleteReferrers": false,
            "deleteUntagged": true,
            "KeepTags": [
                {"patterns": ["v2.*", ".*-prod"]},
                {"patterns": ["v3.*", ".*-prod"], "pulledWithin": "168h"}
            ]
        },
        {
            "repositories": ["tmp/**"],
            "deleteReferrers": true,
            "deleteUntagged": true,
            "KeepTags": [{"patterns": ["v1.*"], "pulledWithin": "168h", "pushedWithin": "168h"}],
            "keepUntagged": {"pulledWithin": "168h", "pushedWithin": "168h"}
        },
        {
            "repositories": ["**"],
            "deleteReferrers": true,
            "deleteUntagged": true,
            "keepTags": [{
                "mostRecentlyPushedCount": 2,
                "mostRecentlyPulledCount": 1,
                "pulledWithin": "720h",
                "pushedWithin": "720h"
            }]
        }
    ],
    "maxDelete": "100%"
}"#;

const MAPPINGS: &[Mapping] = &[
    Mapping {
        name: "zot: names alone, or names and pulls",
        retention: ZOT,
        repository: "infra/dns",
        tags: &[
            ("v2.0", "a", 900, None),
            ("1.0-prod", "b", 900, Some(800)),
            ("v3.0", "c", 900, Some(30)),
            ("v3.1", "d", 900, Some(6)),
            ("v3.2", "e", 6, None),
            ("latest", "f", 1, Some(1)),
        ],
        kept: &["v2.0", "1.0-prod", "v3.1", "v3.2"],
    },
    Mapping {
        name: "zot: pushed or pulled within a week",
        retention: ZOT,
        repository: "tmp/a/b",
        tags: &[
            ("v1.0", "a", 30, Some(3)),
            ("v1.1", "b", 3, None),
            ("v1.2", "c", 30, Some(10)),
            ("v2", "d", 1, None),
        ],
        kept: &["v1.0", "v1.1"],
    },
    Mapping {
        name: "zot: counts, or within a month",
        retention: ZOT,
        repository: "web",
        tags: &[
            ("1", "a", 300, Some(280)),
            ("2", "b", 200, None),
            ("3", "c", 100, Some(99)),
            ("4", "d", 90, None),
            ("5", "e", 80, None),
            ("6", "f", 310, Some(20)),
        ],
        kept: &["4", "5", "6"],
    },
    Mapping {
        name: "zot: a default policy keeps all tags",
        retention: r#"{"policies": [{"repositories": ["**"], "keepTags": [{"patterns": [".*"]}]}]}"#,
        repository: "web",
        tags: &[("1", "a", 900, None), ("2", "b", 1, None)],
        kept: &["1", "2"],
    },
    Mapping {
        name: "zot: empty keepTags keep all tags",
        retention: r#"{"policies": [{"repositories": ["**"], "keepTags": []}]}"#,
        repository: "web",
        tags: &[("1", "a", 900, None)],
        kept: &["1"],
    },
    Mapping {
        name: "Harbor 1: the most recently pulled (latestpl), here 3",
        retention: "{maxdelete: 100%, policies: [{repositories: ['**'], keeptags: [{mostrecentlypulledcount: 3}]}]}",
        repository: "project/a",
        tags: &[
            ("1", "a", 60, Some(6)),
            ("2", "b", 60, Some(5)),
            ("3", "c", 60, Some(4)),
            ("4", "d", 60, Some(3)),
            ("5", "e", 60, Some(2)),
        ],
        kept: &["3", "4", "5"],
    },
    Mapping {
        name: "Harbor 1: fewer artifacts than the count",
        retention: "{maxdelete: 100%, policies: [{repositories: ['**'], keeptags: [{mostrecentlypulledcount: 10}]}]}",
        repository: "project/b",
        tags: &[("1", "a", 60, Some(40)), ("2", "b", 60, None), ("3", "c", 60, None)],
        kept: &["1", "2", "3"],
    },
    Mapping {
        name: "Harbor 2: pulled within 7 days (dayspl)",
        retention: "{maxdelete: 100%, policies: [{repositories: ['**'], keeptags: [{pulledwithin: 168h}]}]}",
        repository: "project/a",
        tags: &[("1", "a", 60, Some(6)), ("2", "b", 60, Some(40)), ("3", "c", 60, None)],
        kept: &["1"],
    },
    Mapping {
        name: "Harbor 4: two rules are joined by OR",
        retention: "{maxdelete: 100%, policies: [{repositories: ['**'], keeptags: [
            {pulledwithin: 168h, mostrecentlypulledcount: 2}]}]}",
        repository: "project/a",
        tags: &[
            ("1", "a", 60, Some(6)),
            ("2", "b", 60, Some(5)),
            ("3", "c", 60, Some(4)),
            ("4", "d", 60, Some(40)),
        ],
        kept: &["1", "2", "3"],
    },
    Mapping {
        name: "Harbor 5: two rules for different tags, and one that is excluded",
        retention: "{maxdelete: 100%, policies: [{repositories: ['**'], keeptags: [
            {patterns: ['2\\.1-your_repo-prod'], pushedwithin: 0s},
            {patterns: ['2.*'], mostrecentlypushedcount: 10},
            {patterns: ['.*-prod'], mostrecentlypushedcount: 10}]}]}",
        repository: "project/a",
        tags: &[
            ("2.1-your_repo-prod", "a", 60, None),
            ("2.1-your_repo-rc", "b", 60, None),
            ("2.1-your_repo-release", "c", 60, None),
            ("2.2-your_repo-prod", "d", 50, None),
            ("2.2-your_repo-rc", "e", 50, None),
            ("2.2-your_repo-release", "f", 50, None),
            ("3.1-your_repo-prod", "g", 40, None),
            ("3.1-your_repo-rc", "h", 40, None),
            ("3.1-your_repo-release", "i", 40, None),
            ("4.4-your_repo-prod", "j", 30, None),
            ("4.4-your_repo-rc", "k", 30, None),
            ("4.4-your_repo-release", "l", 30, None),
        ],
        kept: &[
            "2.1-your_repo-rc",
            "2.1-your_repo-release",
            "2.2-your_repo-prod",
            "2.2-your_repo-rc",
            "2.2-your_repo-release",
            "3.1-your_repo-prod",
            "4.4-your_repo-prod",
        ],
    },
    Mapping {
        name: "Harbor: all tags of an artifact stay with one of them (latestps 2)",
        retention: "{maxdelete: 100%, policies: [{repositories: ['**'], keeptags: [
            {patterns: ['harbor-.*'], mostrecentlypushedcount: 2}]}]}",
        repository: "project/harbor",
        tags: &[
            ("harbor-1.8", "a", 8, None),
            ("harbor-release", "a", 6, None),
            ("harbor-nightly", "a", 3, None),
            ("harbor-latest", "a", 1, None),
        ],
        kept: &["harbor-1.8", "harbor-release", "harbor-nightly", "harbor-latest"],
    },
    Mapping {
        name: "Harbor: pushed within 10 days (daysps), and always",
        retention: "{maxdelete: 100%, policies: [{repositories: ['**'], keeptags: [
            {patterns: ['v.*']}, {pushedwithin: 240h}]}]}",
        repository: "project/a",
        tags: &[("v1", "a", 900, None), ("dev", "b", 9, None), ("old", "c", 11, Some(1))],
        kept: &["v1", "dev"],
    },
    Mapping {
        name: "ECR: images of prod* older than 14 days",
        retention: "{maxdelete: 100%, policies: [{repositories: ['**'], keeptags: [
            {patterns: ['prod.*'], pushedwithin: 336h}, {}]}]}",
        repository: "web",
        tags: &[("prod-1", "a", 15, Some(1)), ("prod-2", "b", 13, None), ("beta-1", "c", 90, None)],
        kept: &["prod-2", "beta-1"],
    },
    Mapping {
        name: "ECR: multiple rules, example A",
        retention: "{maxdelete: 100%, policies: [{repositories: ['**'], keeptags: [
            {patterns: ['prod.*'], mostrecentlypushedcount: 1},
            {patterns: ['beta.*'], mostrecentlypushedcount: 1}, {}]}]}",
        repository: "web",
        tags: &[
            ("beta-1", "a", 10, None),
            ("prod-1", "a", 10, None),
            ("beta-2", "b", 9, None),
            ("prod-2", "b", 9, None),
            ("beta-3", "c", 8, None),
        ],
        // Image A goes, as there; image B loses the tag `beta-2`.
        kept: &["prod-2", "beta-3"],
    },
    Mapping {
        name: "ECR: multiple rules, example B",
        retention: "{maxdelete: 100%, policies: [{repositories: ['**'], keeptags: [
            {patterns: ['beta.*'], mostrecentlypushedcount: 1},
            {patterns: ['prod.*'], mostrecentlypushedcount: 1}, {}]}]}",
        repository: "web",
        tags: &[
            ("beta-1", "a", 10, None),
            ("prod-1", "a", 10, None),
            ("beta-2", "b", 9, None),
            ("prod-2", "b", 9, None),
            ("beta-3", "c", 8, None),
        ],
        // ECR expires image B, too; here its tag `prod-2` stays, since each tag is judged.
        kept: &["prod-2", "beta-3"],
    },
    Mapping {
        name: "ECR: all images, example A",
        retention: "{maxdelete: 100%, policies: [{repositories: ['**'], keeptags: [
            {mostrecentlypushedcount: 1}], untagged: {keepfor: 0s}}]}",
        repository: "web",
        tags: &[("alpha-1", "a", 4, None), ("beta-1", "b", 3, None), ("alpha-2", "d", 1, None)],
        kept: &["alpha-2"],
    },
    Mapping {
        name: "ECR: images that were not pulled for 90 days",
        retention: "{maxdelete: 100%, policies: [{repositories: ['**'], keeptags: [{pulledwithin: 2160h}]}]}",
        repository: "web",
        tags: &[("1", "a", 300, Some(89)), ("2", "b", 300, Some(92)), ("3", "c", 300, None)],
        kept: &["1"],
    },
];

fn example(repository: &str, (tag, image, pushed, pulled): (&str, &str, u64, Option<u64>)) -> ExampleTag {
    ExampleTag {
        repository: repository.into(),
        tag: tag.into(),
        image: image.into(),
        pushed: days(pushed),
        pulled: pulled.map(days),
    }
}

#[test]
fn documented_examples_of_other_registries_have_the_documented_outcome() {
    for Mapping { name, retention, repository, tags, kept } in MAPPINGS {
        let policies = policies(&format!("quinistry:\n  retention: {retention}\n"));
        let tags: Vec<_> = tags.iter().map(|tag| example(repository, *tag)).collect();
        let verdicts = judge(&policies, Some(days(1000)), &tags);
        let stay = tags.iter().zip(verdicts).filter(|(_, verdict)| !verdict.deletes());
        let stay: BTreeSet<_> = stay.map(|(tag, _)| tag.tag.as_str()).collect();
        assert_eq!(stay, kept.iter().copied().collect(), "{name}");
    }
}

#[test]
fn rules_for_images_without_a_tag_are_mapped() {
    let manifest = |image, pushed, pulled| example("tmp/a", ("", image, pushed, pulled));
    let all =
        [manifest("a", 0, None), manifest("b", 5, None), manifest("c", 30, Some(3)), manifest("d", 30, None)];
    for (name, retention, expected) in [
        ("zot: keepUntagged", ZOT, [true, true, true, false]),
        (
            "zot: deleteUntagged",
            "{delay: 24h, policies: [{repositories: ['**'], deleteUntagged: true}]}",
            [true, false, false, false],
        ),
        (
            "zot: deleteUntagged is false",
            "{policies: [{repositories: ['**'], deleteUntagged: false, keepUntagged: {pulledWithin: 1h}}]}",
            [true; 4],
        ),
        ("none", "{policies: [{repositories: ['**']}]}", [true; 4]),
        ("keep", "{policies: [{repositories: ['**'], untagged: keep}]}", [true; 4]),
        ("default", "{policies: [{repositories: ['**'], untagged: {}}]}", [true, false, false, false]),
        (
            "ECR: keep only one untagged image",
            "{policies: [{repositories: ['**'], untagged: {keepfor: 0s, mostrecentlypushedcount: 1}}]}",
            [true, false, false, false],
        ),
        (
            "ECR: untagged images older than 14 days",
            "{policies: [{repositories: ['**'], untagged: {keepfor: 336h}}]}",
            [true, true, false, false],
        ),
    ] {
        let policies = policies(&format!("quinistry:\n  retention: {retention}\n"));
        assert_eq!(judge_untagged(&policies, Some(days(1000)), &all), expected, "{name}");
    }
}

#[test]
fn referrers_go_with_their_subject_unless_a_policy_keeps_them() {
    for (policy, keeps) in [
        ("", false),
        (", referrers: keep", true),
        (", referrers: With-Subject", false),
        (", deleteReferrers: true", false),
        (", deleteReferrers: false", true),
    ] {
        let text = format!("quinistry: {{retention: {{policies: [{{repositories: ['a/**']{policy}}}]}}}}\n");
        let policies = policies(&text);
        assert_eq!(policies.keeps_referrers(&"a/b".parse().unwrap()), keeps, "{policy}");
        assert!(!policies.keeps_referrers(&"c".parse().unwrap()));
    }
}
