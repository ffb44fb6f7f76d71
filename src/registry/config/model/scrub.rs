//! Scrub of the stored content.

use std::path::PathBuf;

use crate::Scrub;

/// Scrub of the stored content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScrubConfig {
    /// Interval and rate.
    pub scrub: Scrub,
    /// Sources of content that replaces damaged one, in the order in which they are asked.
    pub heal_from: Vec<HealFrom>,
}

/// Source of content that replaces damaged one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HealFrom {
    /// Registry.
    Registry {
        /// Host, with a port if it is not the usual one.
        host: String,
        /// Path in front of the names of repositories, without slashes at its ends; empty if there is none.
        path: String,
    },
    /// URL of a bucket in the layout of a registry.
    Bucket(String),
    /// Folder in the layout of a registry.
    Folder(PathBuf),
}
