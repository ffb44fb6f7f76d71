//! Immutable and protected tags, and quotas.

use super::{findings, with};
use crate::config::{LimitsConfig, QuotaPolicy, TagPolicy};

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.into()).collect()
}

#[test]
fn tags_and_quotas_are_read() {
    let text = "quinistry:
  immutability:
  - {repositories: ['prod/**', '!prod/tmp/*'], tags: ['*'], except: [latest, 'dev-*']}
  protect: [{repositories: ['base/**'], tags: [lts]}]
  quotas:
  - {repositories: ['team-a/**'], bytes: 500GiB, tags: 10000}
  - {repositories: [b], bytes: 1024}
";
    let expected = LimitsConfig {
        immutable_tags: vec![TagPolicy {
            repositories: texts(&["prod/**", "!prod/tmp/*"]),
            tags: texts(&["*"]),
            except: texts(&["latest", "dev-*"]),
        }],
        protected_tags: vec![TagPolicy {
            repositories: texts(&["base/**"]),
            tags: texts(&["lts"]),
            except: Vec::new(),
        }],
        quotas: vec![
            QuotaPolicy { repositories: texts(&["team-a/**"]), bytes: Some(500 << 30), tags: Some(10_000) },
            QuotaPolicy { repositories: texts(&["b"]), bytes: Some(1024), tags: None },
        ],
    };
    assert_eq!(with(text).limits, expected);
    assert_eq!(with("").limits, LimitsConfig::default());
    assert_eq!(findings(text), Vec::<String>::new());
}

#[test]
fn entries_that_limit_nothing_are_errors() {
    let cases = [
        (
            "immutability: [{repositories: ['Prod/**'], tags: ['*']}]",
            "quinistry.immutability[0].repositories: \"Prod/**\" matches no repository: names have lower-case letters",
        ),
        (
            "immutability: [{repositories: ['!a'], tags: ['*']}]",
            "quinistry.immutability[0].repositories: matches no repository; begin with a pattern without !, such as **",
        ),
        (
            "protect: [{repositories: [a], tags: []}]",
            "quinistry.protect[0].tags: matches no tag; write \"*\" for all",
        ),
        (
            "protect: [{repositories: [a], tags: ['[a']}]",
            "quinistry.protect[0].tags: \"[a\" is not a valid pattern: ",
        ),
        (
            "immutability: [{repositories: [a], tags: ['*'], except: ['!a']}]",
            "quinistry.immutability[0].except: \"!a\" excludes no tag; patterns of tags to leave out belong in except",
        ),
        (
            "quotas: [{repositories: [a]}]",
            "quinistry.quotas[0]: limits nothing; give bytes, such as 500GiB, or tags",
        ),
        ("quotas: [{repositories: [a], bytes: 5XB}]", "must be a number of bytes"),
        ("quotas: [{bytes: 5}]", "repositories"),
    ];
    for (entry, problem) in cases {
        let found = findings(&format!("quinistry:\n  {entry}\n"));
        assert!(
            found.len() == 1 && found[0].contains(": error: ") && found[0].contains(problem),
            "{entry}: {found:?}"
        );
    }
}
