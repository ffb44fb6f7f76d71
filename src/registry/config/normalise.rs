//! Short forms of sections into their long forms.

use super::scalar;
use super::tree::{ConfigNode, TreeEntry};

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
