//! Retention: which tags and manifests stay.

use quinistry_store::retention::{Criteria, Percentage};
use serde::Serialize;

/// Retention of tags and manifests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetentionConfig {
    /// True if runs report, and delete nothing.
    pub dry_run: bool,
    /// Greatest share of a repository's tags that one run may delete.
    pub max_delete: Percentage,
    /// Names of users and user agents whose pulls keep nothing.
    pub ignored_pullers: Vec<String>,
    /// Policies, the first of which whose repositories match decides.
    pub policies: Vec<RetentionPolicyConfig>,
}

/// Policy of retention.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RetentionPolicyConfig {
    /// Valid patterns of repositories, with `!` in front of those that are taken away.
    pub repositories: Vec<String>,
    /// Entries, the first of which whose patterns match a tag decides.
    pub keep_tags: Vec<KeepTagsConfig>,
    /// Criteria of manifests without a tag; `None` if all of them stay.
    pub untagged: Option<Criteria>,
    /// True if referrers stay when their subject goes.
    pub keeps_referrers: bool,
}

/// Entry of a policy of retention.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeepTagsConfig {
    /// Regular expressions for whole names of tags, each of which compiles. Without one every tag matches.
    pub patterns: Vec<String>,
    /// Criteria, any of which keeps a tag.
    pub criteria: Criteria,
}
