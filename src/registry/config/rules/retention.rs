//! Checks of the policies of retention.

use quinistry_store::retention::Percentage;

use super::super::check::quote;
use super::super::findings::Findings;
use super::super::tree::ConfigNode;
use crate::auth::rules::check_pattern;
use crate::retention::tag_expression;

const RETENTION: &str = "quinistry.retention";

/// Checks the policies of retention.
pub(super) fn check(tree: &ConfigNode, findings: &mut Findings) {
    let Some(entry) = tree.at("quinistry").and_then(|own| own.entry("retention")) else { return };
    let retention = &entry.value;
    if let Some(node) = retention.at("maxdelete").filter(|node| !node.is_null())
        && node.as_text().is_some_and(|text| percentage(text).is_none())
    {
        let text = quote(node.as_text().unwrap_or_default());
        let message = format!("\"{text}\" must be a percentage from 0% to 100%, such as 20%");
        findings.error(&node.origin, &format!("{RETENTION}.maxdelete"), message);
    }
    let policies = retention.at("policies").and_then(ConfigNode::as_list).unwrap_or_default();
    if policies.is_empty() {
        let message = "there is no policy, and nothing is deleted; add policies, or remove it";
        return findings.warn(&entry.origin, RETENTION, message.into());
    }
    if tree.at("quinistry.gc").is_none_or(ConfigNode::is_idle) {
        let message = "retention runs before each collection, and quinistry.gc is absent: only `quinistry retention run` \
                       applies it";
        findings.warn(&entry.origin, RETENTION, message.into());
    }
    let mut catch_all = None;
    for (index, policy) in policies.iter().enumerate() {
        let path = format!("{RETENTION}.policies[{index}]");
        if let Some(first) = catch_all {
            let message = format!("is never used: policies[{first}] is for every repository");
            findings.warn(&policy.origin, &path, message);
        }
        if repositories(policy, &path, findings) {
            catch_all = catch_all.or(Some(index));
        }
        entries(policy, &path, findings);
        one_name(policy, &path, findings);
    }
}

/// Reads a share such as `20%`.
pub(in super::super) fn percentage(text: &str) -> Option<Percentage> {
    let number = text.trim().strip_suffix('%')?.trim_end();
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    number.parse().ok().filter(|_| is_number).and_then(Percentage::new)
}

/// Returns the elements of a list of texts; `None` if the key is absent or has another form.
fn texts<'a>(node: &'a ConfigNode, key: &str) -> Option<Vec<(&'a ConfigNode, &'a str)>> {
    let items = node.entry(key)?.value.as_list()?;
    items.iter().map(|item| Some((item, item.as_text()?))).collect()
}

/// Checks patterns of repositories. Returns true if they match every repository.
fn repositories(policy: &ConfigNode, path: &str, findings: &mut Findings) -> bool {
    let Some(patterns) = texts(policy, "repositories") else { return false };
    let path = format!("{path}.repositories");
    for (node, text) in &patterns {
        let pattern = text.strip_prefix('!').unwrap_or(text);
        if let Err(problem) = check_pattern(pattern, true) {
            findings.error(&node.origin, &path, format!("\"{}\" {problem}", quote(text)));
        }
    }
    let is_exclusion = |(_, text): &(&ConfigNode, &str)| text.starts_with('!');
    if patterns.iter().all(is_exclusion) {
        let message = "matches no repository; begin with a pattern without !, such as **";
        findings.error(&policy.origin, &path, message.into());
    }
    patterns.iter().any(|(_, text)| *text == "**") && !patterns.iter().any(is_exclusion)
}

/// Checks the entries for tags.
fn entries(policy: &ConfigNode, path: &str, findings: &mut Findings) {
    let entries = policy.at("keeptags").and_then(ConfigNode::as_list).unwrap_or_default();
    let mut catch_all = None;
    for (index, entry) in entries.iter().enumerate() {
        let path = format!("{path}.keeptags[{index}]");
        if let Some(first) = catch_all {
            let message = format!("is never used: keeptags[{first}] is for every tag");
            findings.warn(&entry.origin, &path, message);
        }
        let patterns = texts(entry, "patterns").unwrap_or_default();
        for (node, text) in &patterns {
            // A text that is no expression was refused by its type; one may still not fit into another.
            if regex_lite::Regex::new(text).is_ok()
                && let Err(error) = tag_expression([*text])
            {
                let message = format!("\"{}\" cannot match whole names: {error}", quote(text));
                findings.error(&node.origin, &format!("{path}.patterns"), message);
            }
        }
        if patterns.is_empty() || patterns.iter().any(|(_, text)| *text == ".*") {
            catch_all = catch_all.or(Some(index));
        }
    }
}

/// Refuses a setting that is written by two names.
fn one_name(policy: &ConfigNode, path: &str, findings: &mut Findings) {
    let is_said = |key: &str| policy.entry(key).filter(|entry| !entry.value.is_null());
    for (own, zots) in
        [("untagged", "deleteuntagged"), ("untagged", "keepuntagged"), ("referrers", "deletereferrers")]
    {
        if let (Some(_), Some(entry)) = (is_said(own), is_said(zots)) {
            let message = format!("is zot's name of {own}, which is given, too; remove one of them");
            findings.error(&entry.origin, &format!("{path}.{zots}"), message);
        }
    }
}
