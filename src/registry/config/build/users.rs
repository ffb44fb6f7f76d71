//! Users and their keys from a checked tree.

use std::path::PathBuf;

use super::super::model::{HtpasswdConfig, UsersConfig};
use super::Section;

pub(super) fn users(root: Section<'_>) -> UsersConfig {
    let path = |key: &str| Some(root.text(key)).filter(|path| !path.is_empty()).map(PathBuf::from);
    let htpasswd = path("auth.htpasswd.path")
        .map(|path| HtpasswdConfig { realm: root.text("auth.htpasswd.realm"), path });
    UsersConfig { htpasswd, keys_file: path("quinistry.keys.file") }
}
