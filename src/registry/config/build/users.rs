//! Users and their keys from a checked tree.

use std::path::PathBuf;

use super::super::model::{HtpasswdConfig, UsersConfig};
use super::Section;

pub(super) fn users(root: Section<'_>) -> UsersConfig {
    let path = |key: &str| Some(root.text(key)).filter(|path| !path.is_empty()).map(PathBuf::from);
    let htpasswd = path("auth.htpasswd.path")
        .map(|path| HtpasswdConfig { realm: root.text("auth.htpasswd.realm"), path });
    let is_none = root.node.at("auth").is_some_and(|auth| auth.entry("none").is_some());
    UsersConfig { is_none, htpasswd, keys_file: path("quinistry.keys.file") }
}
