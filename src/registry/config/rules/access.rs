//! Checks of rules and groups.

use std::collections::BTreeSet;

use super::super::check::quote;
use super::super::findings::Findings;
use super::super::tree::ConfigNode;
use crate::auth::rules::check_pattern;

/// Prefix of a group among the identities of a rule.
pub(in super::super) const GROUP: &str = "group:";

/// Rights that change content.
const WRITES: [&str; 4] = ["push", "overwrite", "delete", "admin"];

/// Checks rules and groups.
pub(super) fn check(tree: &ConfigNode, findings: &mut Findings) {
    groups(tree, findings);
    let Some(access) = tree.at("quinistry").and_then(|own| own.entry("access")) else { return };
    if access.value.is_null() {
        let message = "is empty; write [] to deny everything, or remove it to let every user do everything";
        return findings.error(&access.origin, "quinistry.access", message.into());
    }
    let Some(rules) = access.value.as_list() else { return };
    if rules.is_empty() {
        let message = "there is no rule, and no client may do anything; add rules, or remove it";
        findings.warn(&access.value.origin, "quinistry.access", message.into());
    }
    let groups: BTreeSet<&str> = tree.at("quinistry.groups").map(names).unwrap_or_default();
    for (index, rule) in rules.iter().enumerate() {
        let path = format!("quinistry.access[{index}]");
        repositories(rule, &format!("{path}.repositories"), findings);
        who(rule, &groups, &path, findings);
        if texts(rule, "can").is_some_and(|rights| rights.is_empty()) {
            findings.warn(&rule.origin, &format!("{path}.can"), "grants nothing; name a right".into());
        }
    }
    if !has_source_of_users(tree) {
        grants_to_users(rules, findings);
    }
}

/// Returns true if a client can be a user.
fn has_source_of_users(tree: &ConfigNode) -> bool {
    let sources = ["auth.htpasswd", "auth.token", "quinistry.clientcerts.user"];
    sources.iter().any(|path| tree.at(path).is_some_and(|node| !node.is_idle()))
}

/// Returns true if a rule grants something to clients without credentials.
pub(super) fn grants_to_anonymous(tree: &ConfigNode) -> bool {
    let rules = tree.at("quinistry.access").and_then(ConfigNode::as_list).unwrap_or_default();
    let has = |rule, key, is_wanted: fn(&str) -> bool| {
        texts(rule, key).is_some_and(|texts| texts.iter().any(|(_, text)| is_wanted(text)))
    };
    rules.iter().any(|rule| has(rule, "who", |who| who == "anonymous") && has(rule, "can", |_| true))
}

/// Warns about the first grant to users where no client can be one.
fn grants_to_users(rules: &[ConfigNode], findings: &mut Findings) {
    for (index, rule) in rules.iter().enumerate() {
        let grantees = texts(rule, "who").unwrap_or_default();
        if let Some((node, _)) = grantees.iter().find(|(_, text)| *text != "anonymous") {
            let message =
                "grants to users, and there are none; add auth.htpasswd, auth.token or quinistry.clientcerts";
            return findings.warn(&node.origin, &format!("quinistry.access[{index}].who"), message.into());
        }
    }
}

fn names(map: &ConfigNode) -> BTreeSet<&str> {
    map.entries().iter().map(|entry| &*entry.key).collect()
}

/// Returns the elements of a list of texts; `None` if the key is absent or has another form.
pub(super) fn texts<'a>(node: &'a ConfigNode, key: &str) -> Option<Vec<(&'a ConfigNode, &'a str)>> {
    let items = node.entry(key)?.value.as_list()?;
    items.iter().map(|item| Some((item, item.as_text()?))).collect()
}

pub(super) fn repositories(rule: &ConfigNode, path: &str, findings: &mut Findings) {
    let Some(patterns) = texts(rule, "repositories") else { return };
    for (node, text) in &patterns {
        let pattern = text.strip_prefix('!').unwrap_or(text);
        if let Err(problem) = check_pattern(pattern, true) {
            findings.error(&node.origin, path, format!("\"{}\" {problem}", quote(text)));
        }
    }
    if !patterns.iter().any(|(_, text)| !text.starts_with('!')) {
        let message = "matches no repository; begin with a pattern without !, such as **";
        findings.error(&rule.origin, path, message.into());
    }
}

fn who(rule: &ConfigNode, groups: &BTreeSet<&str>, path: &str, findings: &mut Findings) {
    let Some(grantees) = texts(rule, "who") else { return };
    let place = format!("{path}.who");
    if grantees.is_empty() {
        findings.warn(
            &rule.origin,
            &place,
            "grants nothing; name a user, group:NAME, authenticated or anonymous".into(),
        );
    }
    for (node, text) in &grantees {
        let text = *text;
        match text.strip_prefix(GROUP) {
            Some(group) if !groups.contains(group) => {
                let message =
                    format!("group \"{}\" has no members: quinistry.groups does not have it", quote(group));
                findings.warn(&node.origin, &place, message);
            }
            None if text.is_empty() => {
                findings.error(&node.origin, &place, "must not be empty".into());
            }
            None if is_misspelt_word(text) => {
                let message = format!(
                    "\"{}\" is no user; write anonymous, authenticated or group:NAME in lower case, without spaces",
                    quote(text)
                );
                findings.error(&node.origin, &place, message);
            }
            None if text.contains('*') => {
                let message = format!(
                    "\"{}\" is the name of one user; patterns belong in quinistry.groups",
                    quote(text)
                );
                findings.warn(&node.origin, &place, message);
            }
            None if text == "anonymous" => {
                let rights = texts(rule, "can").unwrap_or_default();
                let writes: Vec<&str> = rights
                    .iter()
                    .map(|(_, right)| *right)
                    .filter(|right| WRITES.iter().any(|write| write.eq_ignore_ascii_case(right)))
                    .collect();
                if !writes.is_empty() {
                    let message = format!(
                        "every client that reaches the registry can {} without credentials",
                        writes.join(", ")
                    );
                    findings.warn(&node.origin, &place, message);
                }
            }
            Some(_) | None => {}
        }
    }
}

/// Returns true for a word of the rules in another case or with spaces, which would be the name of a user.
fn is_misspelt_word(text: &str) -> bool {
    let word: String = text.chars().filter(|character| !character.is_whitespace()).collect();
    let word = word.to_ascii_lowercase();
    let is_word = matches!(&*word, "anonymous" | "authenticated") || word.starts_with(GROUP);
    is_word && !matches!(text, "anonymous" | "authenticated")
}

fn groups(tree: &ConfigNode, findings: &mut Findings) {
    let Some(groups) = tree.at("quinistry.groups") else { return };
    for group in groups.entries() {
        let path = format!("quinistry.groups.{}", super::super::yaml::name(&group.key));
        let members = group.value.as_list().unwrap_or_default();
        for (node, text) in members.iter().filter_map(|node| Some((node, node.as_text()?))) {
            let problem = if text.starts_with('!') {
                Some("excludes no member; a group has the users that match one of its patterns".to_owned())
            } else {
                check_pattern(text, false).err().map(|problem| problem.to_string())
            };
            if let Some(problem) = problem {
                findings.error(&node.origin, &path, format!("\"{}\" {problem}", quote(text)));
            }
        }
    }
}
