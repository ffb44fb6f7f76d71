//! Rules, groups and the audit log from a checked tree.

use super::super::model::{AccessConfig, AccessRule, AuditConfig, AuditPath, Grantee, Group};
use super::super::rules::access::GROUP;
use super::super::tree::ConfigNode;
use super::super::values;
use super::Section;
use crate::auth::Right;

pub(super) fn access(root: Section<'_>) -> AccessConfig {
    // An empty list denies everything, and an absent one lets every user do everything.
    let rules = root.value("quinistry.access").and_then(ConfigNode::as_list);
    let groups = root.value("quinistry.groups").and_then(|node| values::texts_map(node).ok());
    let group = |(name, members): (String, Vec<String>)| Group { name: name.into(), members };
    AccessConfig {
        rules: rules.map(|rules| rules.iter().map(rule).collect()),
        groups: groups.unwrap_or_default().into_iter().map(group).collect(),
        builtin_is_public: root.boolean("quinistry.builtin.anonymous"),
        audit: audit(root),
    }
}

fn rule(node: &ConfigNode) -> AccessRule {
    let texts = |key: &str| -> Vec<&str> {
        node.at(key).and_then(|node| values::texts(node).ok()).unwrap_or_default()
    };
    let right = |text: &str| Right::ALL.into_iter().find(|right| right.as_str().eq_ignore_ascii_case(text));
    AccessRule {
        repositories: texts("repositories").into_iter().map(str::to_owned).collect(),
        who: texts("who").into_iter().map(grantee).collect(),
        can: texts("can").into_iter().filter_map(right).collect(),
        place: node.origin.clone(),
    }
}

fn grantee(text: &str) -> Grantee {
    match text {
        "authenticated" => Grantee::Authenticated,
        "anonymous" => Grantee::Anonymous,
        text => match text.strip_prefix(GROUP) {
            Some(group) => Grantee::Group(group.into()),
            None => Grantee::User(text.into()),
        },
    }
}

fn audit(root: Section<'_>) -> Option<AuditConfig> {
    let path = match root.text("quinistry.audit.path").as_str() {
        "off" => return None,
        "stdout" => AuditPath::Stdout,
        path => AuditPath::File(path.into()),
    };
    Some(AuditConfig { path, pulls: root.boolean("quinistry.audit.pulls") })
}
