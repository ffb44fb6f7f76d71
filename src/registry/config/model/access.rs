//! Rules of access, groups and the audit log.

use std::path::PathBuf;

pub use crate::auth::rules::{AccessRule, Grantee, Group};

/// Access to repositories, and its record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessConfig {
    /// Rules; `None` if every user may do everything, and clients without credentials nothing.
    pub rules: Option<Vec<AccessRule>>,
    /// Groups that rules name.
    pub groups: Vec<Group>,
    /// True if clients without credentials may read the built-in repository.
    pub builtin_is_public: bool,
    /// Audit log, if there is one.
    pub audit: Option<AuditConfig>,
}

/// Audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditConfig {
    /// Place of the lines.
    pub path: AuditPath,
    /// True if reads are recorded, too.
    pub pulls: bool,
}

/// Place of the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuditPath {
    /// Standard output.
    Stdout,
    /// File, to whose end lines are added.
    File(PathBuf),
}
