//! Rules and groups.

use super::{SMALLEST, findings, lines, load_text, with};
use crate::auth::Right;
use crate::config::{AccessRule, AuditConfig, AuditPath, Grantee, Group};

/// Source of users, at the end of a file.
const USERS: &str = "auth: {htpasswd: {realm: r, path: p}}\n";

fn rule(rule: &str) -> Vec<String> {
    findings(&format!("quinistry:\n  access:\n    - {{{rule}}}\n{USERS}"))
}

#[test]
fn grants_to_users_are_warned_about_once_where_no_client_can_be_one() {
    let rules = "quinistry:
  access:
    - {repositories: [a], who: [anonymous], can: [pull]}
    - {repositories: [a], who: [anonymous, bob], can: [pull]}
    - {repositories: [a], who: [authenticated], can: [pull]}
";
    let warning = "c.yml:6:44: warning: quinistry.access[1].who: grants to users, and there are none; add \
                   auth.htpasswd, auth.token or quinistry.clientcerts";
    for no_users in ["", "auth: none\nhttp: {addr: 'localhost:1'}\n"] {
        assert_eq!(findings(&format!("{rules}{no_users}")), [warning]);
    }
    assert_eq!(findings(&format!("{rules}{USERS}")), Vec::<String>::new());
    let certificates =
        "  clientcerts: {user: [commonname]}\nhttp: {tls: {certificate: c, key: k, clientcas: [a]}}\n";
    let found = findings(&format!("{rules}{certificates}"));
    assert!(!found.iter().any(|line| line.contains("grants to users")), "{found:?}");
    let public = "quinistry: {access: [{repositories: [a], who: [anonymous], can: [pull]}]}\n";
    assert_eq!(findings(public), Vec::<String>::new());
}

#[test]
fn rules_groups_and_the_audit_log_are_read() {
    let text = "quinistry:
  access:
    - {repositories: ['**'], who: [anonymous], can: [pull]}
    - {repositories: [team/**, '!team/secret/**'], who: ['group:dev', authenticated, bob], can: [Push, delete]}
  groups: {dev: [bob, 'sa:ci:*']}
  builtin: {anonymous: no}
  audit: {path: /var/log/audit, pulls: yes}
";
    let access = with(text).access;
    let rules = access.rules.unwrap();
    let AccessRule { repositories, who, can, place } = &rules[1];
    assert_eq!(repositories, &["team/**", "!team/secret/**"]);
    let (dev, bob) = (Grantee::Group("dev".into()), Grantee::User("bob".into()));
    assert_eq!(who, &[dev, Grantee::Authenticated, bob]);
    assert_eq!(can, &[Right::Push, Right::Delete]);
    assert_eq!(place.to_string(), "c.yml:6:7");
    assert_eq!(rules[0].who, [Grantee::Anonymous]);
    let members = vec!["bob".into(), "sa:ci:*".into()];
    assert_eq!(access.groups, [Group { name: "dev".into(), members }]);
    assert!(!access.builtin_is_public);
    assert_eq!(
        access.audit,
        Some(AuditConfig { path: AuditPath::File("/var/log/audit".into()), pulls: true })
    );
    let none = with("").access;
    assert_eq!((none.rules, none.builtin_is_public, none.audit), (None, true, None));
}

#[test]
fn row_92_an_empty_list_of_rules_denies_everything_with_a_warning() {
    let loaded = load_text(SMALLEST, &[("REGISTRY_QUINISTRY_ACCESS", "[]")]);
    assert_eq!(
        lines(&loaded),
        [
            "REGISTRY_QUINISTRY_ACCESS: warning: quinistry.access: there is no rule, and no client may do anything; add \
          rules, or remove it"
        ]
    );
    assert_eq!(loaded.config.unwrap().access.rules, Some(Vec::new()));
    for null in ["", "~"] {
        let loaded = load_text(&format!("{SMALLEST}quinistry: {{access: {null}}}\n"), &[]);
        assert!(loaded.config.is_none(), "{:?}", lines(&loaded));
    }
}

#[test]
fn a_rule_is_complete() {
    for (text, missing) in [
        ("who: [a], can: [pull]", "repositories"),
        ("repositories: [a], can: [pull]", "who"),
        ("repositories: [a], who: [a]", "can"),
        ("repositories: , who: [a], can: [pull]", "repositories"),
    ] {
        let found = rule(text);
        assert_eq!(found, [format!("c.yml:5:7: error: quinistry.access[0].{missing}: is missing")], "{text}");
    }
    assert!(rule("repositories: [a], who: [a], can: [read]")[0].contains("must be one of pull, push"));
    assert!(rule("repositories: a, who: [a], can: [pull]")[0].contains("must be a list"));
    for text in ["repositories: [a], who: [], can: [pull]", "repositories: [a], who: [a], can: []"] {
        assert!(rule(text)[0].contains("warning") && rule(text)[0].contains("grants nothing"), "{text}");
    }
}

#[test]
fn patterns_that_match_no_repository_are_errors() {
    for (pattern, problem) in [
        ("Team/*", "lower-case"),
        ("/team", "begin or end"),
        ("team/", "begin or end"),
        ("team:1", "consist of"),
        ("te am", "consist of"),
        ("a..b", "not a valid name"),
        ("''", "is empty"),
        ("a{b", "not a valid pattern"),
        ("!a", "matches no repository"),
        ("a//*", "two / in a row"),
        ("***", "mixes **"),
        ("team**", "mixes **"),
        ("a/**b", "mixes **"),
    ] {
        let found = rule(&format!("repositories: ['{}'], who: [a], can: [pull]", pattern.trim_matches('\'')));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].contains("error: quinistry.access[0].repositories: ") && found[0].contains(problem),
            "{found:?}"
        );
    }
    for (pattern, problem) in [("!!a/*", "two !"), ("!a//b", "two / in a row"), ("!**a**", "mixes **")] {
        let found = rule(&format!("repositories: ['**', '{pattern}'], who: [a], can: [pull]"));
        assert!(found.len() == 1 && found[0].contains(problem), "{found:?}");
    }
    let long = "a".repeat(256);
    assert!(
        rule(&format!("repositories: [{long}], who: [a], can: [pull]"))[0].contains("longer than 255 bytes")
    );
}

#[test]
fn grants_that_are_hardly_meant_are_warned_about() {
    let anonymous = rule("repositories: [a], who: [anonymous], can: [pull, push, delete]");
    assert_eq!(
        anonymous,
        [
            "c.yml:5:33: warning: quinistry.access[0].who: every client that reaches the registry can push, delete without \
          credentials"
        ]
    );
    let group = rule("repositories: [a], who: ['group:dev'], can: [pull]");
    assert!(
        group[0].ends_with("group \"dev\" has no members: quinistry.groups does not have it"),
        "{group:?}"
    );
    let pattern = rule("repositories: [a], who: ['ci-*'], can: [pull]");
    assert!(
        pattern[0].ends_with("is the name of one user; patterns belong in quinistry.groups"),
        "{pattern:?}"
    );
}

#[test]
fn groups_are_lists_of_patterns() {
    let found = findings("quinistry: {groups: {dev: bob}}\n");
    assert!(found[0].contains("error: quinistry.groups.dev: \"bob\" must be a list"), "{found:?}");
    let found = findings("quinistry: {groups: {dev: ['a{b']}}\n");
    assert!(found[0].contains("error: quinistry.groups.dev: \"a{b\" is not a valid pattern"), "{found:?}");
    let found = findings("quinistry: {groups: {dev: ['*', '!bob']}}\n");
    assert!(found[0].contains("error: quinistry.groups.dev: \"!bob\" excludes no member"), "{found:?}");
    assert!(findings("quinistry: {groups: [a]}\n")[0].contains("must be a map"));
}

#[test]
fn words_of_the_rules_in_another_form_are_no_users() {
    for who in ["Anonymous", "anonymous ", "AUTHENTICATED", "Group:dev", "group :dev"] {
        let found = rule(&format!("repositories: [a], who: ['{who}'], can: [pull]"));
        assert!(found.len() == 1 && found[0].contains("is no user"), "{found:?}");
    }
}

#[test]
fn a_place_of_the_audit_log_that_is_probably_no_file_is_told() {
    let found = |path: &str| findings(&format!("quinistry: {{audit: {{path: {path}}}}}\n"));
    for path in ["off", "stdout", "/var/log/audit", "./audit", "'./no'"] {
        assert_eq!(found(path), [""; 0], "{path}");
    }
    let key = "c.yml:3:27: error: quinistry.audit.path:";
    for path in ["no", "False", "yes"] {
        let expected = format!(
            "{key} is {path}, a boolean in YAML 1.1; write off or stdout, or ./{path} for a file of this name"
        );
        assert_eq!(found(path), [expected]);
    }
    assert_eq!(found("OFF"), [format!("{key} write off in lower case, or ./OFF for a file of this name")]);
    let relative = found("audit.log");
    assert!(
        relative.len() == 1
            && relative[0].contains("warning: quinistry.audit.path: \"audit.log\" is a file in the"),
        "{relative:?}"
    );
}
