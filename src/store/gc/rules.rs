//! Rules that say which manifests stay though no tag, index or subject holds them.

use std::collections::HashSet;
use std::time::SystemTime;

use quinistry_oci::{Digest, RepositoryName};

/// Rules that decide which manifests without a tag are live.
pub trait RevisionRules: Send + Sync {
    /// Returns those of a repository's manifests that stay, of those that no tag, index or subject holds, or that hold
    /// only each other.
    fn kept(&self, repository: &RepositoryName, loose: &[LooseRevision]) -> HashSet<Digest>;

    /// Returns true if referrers stay when their subject goes.
    fn keeps_referrers(&self, repository: &RepositoryName) -> bool;

    /// Returns true if a manifest stays with all that it holds, whatever holds it.
    fn holds(&self, repository: &RepositoryName, revision: &LooseRevision) -> bool {
        let _ = (repository, revision);
        false
    }

    /// Returns true if all manifests of a repository stay. The collector then reads none of its tags.
    fn keeps_all(&self, repository: &RepositoryName) -> bool {
        let _ = repository;
        false
    }
}

/// Manifest that rules judge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LooseRevision {
    /// SHA-256 of the manifest.
    pub digest: Digest,
    /// Time at which the manifest was last pushed, by the clock of the storage.
    pub pushed: SystemTime,
}

/// Rules by which no manifest stays that no tag, index or subject holds.
#[derive(Clone, Copy, Debug, Default)]
pub struct RemoveUntagged;

impl RevisionRules for RemoveUntagged {
    fn kept(&self, _: &RepositoryName, _: &[LooseRevision]) -> HashSet<Digest> {
        HashSet::new()
    }

    fn keeps_referrers(&self, _: &RepositoryName) -> bool {
        false
    }
}

/// Rules by which every manifest stays, as distribution's collection does by default.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeepAll;

impl RevisionRules for KeepAll {
    fn kept(&self, _: &RepositoryName, loose: &[LooseRevision]) -> HashSet<Digest> {
        loose.iter().map(|revision| revision.digest.clone()).collect()
    }

    fn keeps_referrers(&self, _: &RepositoryName) -> bool {
        true
    }

    fn keeps_all(&self, _: &RepositoryName) -> bool {
        true
    }
}
