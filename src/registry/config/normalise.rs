//! Short forms of sections into their long forms.

use std::sync::Arc;

use super::scalar;
use super::tree::{ConfigNode, NodeKind, TreeEntry};

/// Writes `storage: inmemory`, `auth: none` and `readonly: true` as sections, and `s3aws` by its other name.
pub(super) fn normalise(tree: &mut ConfigNode) {
    if let Some(storage) = section(tree, "storage") {
        from_name(storage);
        if let Some(entry) = storage.entry_mut("s3aws") {
            entry.key = "s3".into();
        }
        if let Some(readonly) =
            section(storage, "maintenance").and_then(|maintenance| section(maintenance, "readonly"))
        {
            let is_boolean = readonly.as_text().and_then(scalar::boolean).is_some();
            if is_boolean {
                let value = readonly.clone();
                *readonly = ConfigNode::map(value.origin.clone());
                readonly.insert(&"enabled".into(), value);
            }
        }
    }
    if let Some(auth) = section(tree, "auth") {
        from_name(auth);
    }
    if let Some(retention) = section(tree, "quinistry").and_then(|own| section(own, "retention")) {
        to_lower_case(retention);
        keep_untagged(retention);
    }
}

/// Writes the keys of a tree in lower case, so that those of zot are known. Of two keys that would become one, the
/// second keeps its form, which is not known.
fn to_lower_case(node: &mut ConfigNode) {
    match &mut node.kind {
        NodeKind::Map(entries) => {
            for at in 0..entries.len() {
                let lower: Arc<str> = entries[at].key.to_ascii_lowercase().into();
                if !entries.iter().any(|entry| entry.key == lower) {
                    entries[at].key = lower;
                }
                to_lower_case(&mut entries[at].value);
            }
        }
        NodeKind::List(items) => items.iter_mut().for_each(to_lower_case),
        NodeKind::Scalar { .. } => {}
    }
}

/// Takes `untagged: keep` as the absence of rules for manifests without a tag.
fn keep_untagged(retention: &mut ConfigNode) {
    let Some(NodeKind::List(policies)) = section(retention, "policies").map(|node| &mut node.kind) else {
        return;
    };
    for policy in policies {
        if let Some(untagged) = section(policy, "untagged").filter(|node| node.as_text() == Some("keep")) {
            *untagged = ConfigNode::null(untagged.origin.clone());
        }
    }
}

fn section<'a>(node: &'a mut ConfigNode, key: &str) -> Option<&'a mut ConfigNode> {
    node.entry_mut(key).map(|entry: &mut TreeEntry| &mut entry.value)
}

/// Makes a section of the name of a driver or controller.
fn from_name(node: &mut ConfigNode) {
    let Some(name) = node.as_text().filter(|name| !name.is_empty()) else { return };
    // Distribution compares this one name without case.
    let name = if name.eq_ignore_ascii_case("none") { "none" } else { name }.into();
    let origin = node.origin.clone();
    *node = ConfigNode::map(origin.clone());
    node.insert(&name, ConfigNode::null(origin));
}
