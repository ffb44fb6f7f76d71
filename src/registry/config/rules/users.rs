//! Checks of users and their keys.

use super::super::findings::Findings;
use super::super::tree::ConfigNode;
use super::is_empty;

/// Checks users and keys.
pub(super) fn check(tree: &ConfigNode, findings: &mut Findings) {
    for path in ["auth.htpasswd.realm", "auth.htpasswd.path", "quinistry.keys.file"] {
        if let Some(node) = tree.at(path).filter(|node| is_empty(node)) {
            findings.error(&node.origin, path, "must not be empty".into());
        }
    }
    let realm = tree.at("auth.htpasswd.realm");
    if let Some(node) = realm
        && node.as_text().is_some_and(|text| !text.bytes().all(|byte| matches!(byte, b' '..=b'~')))
    {
        let message = "must consist of printable ASCII, since it is sent in a header".into();
        findings.error(&node.origin, "auth.htpasswd.realm", message);
    }
    let keys = tree.at("quinistry.keys").filter(|keys| !keys.is_idle());
    if let Some(keys) = keys
        && tree.at("auth.htpasswd").is_none()
    {
        let message = "keys need users, and there are none: each key belongs to a user of auth.htpasswd; add it, or \
                       remove the keys";
        findings.error(&keys.origin, "quinistry.keys", message.into());
    }
}
