//! Checks of immutable and protected tags, and of quotas.

use super::super::check::quote;
use super::super::findings::Findings;
use super::super::tree::ConfigNode;
use super::access;
use crate::auth::rules::check_pattern;

/// Checks the patterns of all entries, and that each entry limits something.
pub(super) fn check(tree: &ConfigNode, findings: &mut Findings) {
    for section in ["immutability", "protect", "quotas"] {
        let path = format!("quinistry.{section}");
        let entries = tree.at(&path).and_then(ConfigNode::as_list).unwrap_or_default();
        for (index, entry) in entries.iter().enumerate() {
            let path = format!("{path}[{index}]");
            access::repositories(entry, &format!("{path}.repositories"), findings);
            if section == "quotas" {
                if entry.entry("bytes").is_none() && entry.entry("tags").is_none() {
                    let message = "limits nothing; give bytes, such as 500GiB, or tags";
                    findings.error(&entry.origin, &path, message.into());
                }
                continue;
            }
            for key in ["tags", "except"] {
                tags(entry, key, &format!("{path}.{key}"), findings);
            }
        }
    }
}

/// Checks the patterns of tags.
fn tags(entry: &ConfigNode, key: &str, path: &str, findings: &mut Findings) {
    let Some(patterns) = access::texts(entry, key) else { return };
    if patterns.is_empty() && key == "tags" {
        findings.error(&entry.origin, path, "matches no tag; write \"*\" for all".into());
    }
    for (node, text) in patterns {
        let problem = if text.starts_with('!') {
            Some("excludes no tag; patterns of tags to leave out belong in except".to_owned())
        } else {
            check_pattern(text, false).err().map(|problem| problem.to_string())
        };
        if let Some(problem) = problem {
            findings.error(&node.origin, path, format!("\"{}\" {problem}", quote(text)));
        }
    }
}
