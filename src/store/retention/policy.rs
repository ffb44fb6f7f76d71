//! Policies of retention, ready to be applied: patterns are compiled, and each criterion has its unit.

use std::fmt;
use std::sync::Arc;

use quinistry_oci::{Digest, RepositoryName};

use super::criteria::Criteria;
use crate::RepositoryMatcher;

/// Patterns of tags, compiled by the part of the program that reads them.
pub trait TagMatcher: fmt::Debug + Send + Sync {
    /// Returns true if a pattern matches the whole name of a tag.
    fn matches(&self, tag: &str) -> bool;
}

/// Policies of a registry, the first of which whose repositories match decides on a repository.
#[derive(Clone, Debug)]
pub struct Policies {
    /// True if runs report, and delete nothing.
    pub dry_run: bool,
    /// Greatest share of a repository's tags that one run may delete.
    pub max_delete: Percentage,
    /// Policies, in order.
    pub list: Vec<Policy>,
    /// SHA-256 of the policies as they were written, without switches such as `dry_run`.
    pub hash: Digest,
}

/// Policy for the repositories that its patterns match.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Patterns of repositories.
    pub repositories: Arc<dyn RepositoryMatcher>,
    /// Entries, the first of which whose patterns match a tag decides on it. Without entries, all tags stay.
    pub keep_tags: Vec<TagRule>,
    /// Criteria of manifests that no tag, index or subject holds; `None` if all of them stay.
    pub untagged: Option<Criteria>,
    /// True if referrers stay when their subject goes.
    pub keeps_referrers: bool,
}

/// Entry of a policy: tags that its patterns match stay by its criteria.
#[derive(Clone, Debug)]
pub struct TagRule {
    /// Patterns of tags.
    pub tags: Arc<dyn TagMatcher>,
    /// Criteria, any of which keeps a tag. Without one, the name alone keeps it.
    pub criteria: Criteria,
}

/// Share of a whole, from 0 to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percentage(u8);

// === impl Policies ===

impl Policies {
    /// Returns the policy that decides on a repository, with its index.
    #[must_use]
    pub fn of(&self, repository: &RepositoryName) -> Option<(usize, &Policy)> {
        self.list.iter().enumerate().find(|(_, policy)| policy.repositories.matches(repository))
    }

    /// Returns true if referrers of a repository stay when their subject goes.
    #[must_use]
    pub fn keeps_referrers(&self, repository: &RepositoryName) -> bool {
        self.of(repository).is_some_and(|(_, policy)| policy.keeps_referrers)
    }

    /// Returns true if a criterion of any policy needs records of pulls.
    #[must_use]
    pub fn need_pulls(&self) -> bool {
        let need_pulls = |policy: &Policy| {
            let entries = policy.keep_tags.iter().map(|entry| &entry.criteria);
            entries.chain(&policy.untagged).any(Criteria::needs_pulls)
        };
        self.list.iter().any(need_pulls)
    }
}

// === impl Percentage ===

impl Percentage {
    /// All of a whole.
    pub const ALL: Self = Self(100);

    /// Creates a share; `None` above 100.
    #[must_use]
    pub const fn new(percent: u8) -> Option<Self> {
        if percent <= 100 { Some(Self(percent)) } else { None }
    }

    /// Returns true if a part of a whole is at most this share.
    #[must_use]
    pub const fn allows(self, part: usize, whole: usize) -> bool {
        part as u128 * 100 <= whole as u128 * self.0 as u128
    }
}

impl fmt::Display for Percentage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}
