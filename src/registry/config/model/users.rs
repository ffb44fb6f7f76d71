//! Users and their keys.

use std::path::PathBuf;

/// Sources of users.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UsersConfig {
    /// True if `auth: none` says that there are no users, so that their absence is no accident.
    pub is_none: bool,
    /// File of users and passwords.
    pub htpasswd: Option<HtpasswdConfig>,
    /// File of API keys.
    pub keys_file: Option<PathBuf>,
}

/// File of users and passwords.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HtpasswdConfig {
    /// Name of the protected space, which clients show.
    pub realm: String,
    /// Path of the file.
    pub path: PathBuf,
}
