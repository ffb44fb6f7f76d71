//! Rules of policies for the collection: which manifests without a tag are live.

use std::collections::HashSet;
use std::sync::Arc;

use quinistry_oci::{Digest, RepositoryName};

use super::policy::Policies;
use super::untagged::LooseFacts;
use crate::{LastPull, LooseRevision, RevisionRules, Store, StoreError};

/// Rules of policies, with the store whose records of pulls they need.
#[derive(Debug)]
pub struct RetentionRules {
    store: Store,
    policies: Arc<Policies>,
    is_dry: bool,
    removes_unpoliced: bool,
}

/// Decision on the manifests of a repository that no tag, index or subject holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Untagged {
    Kept,
    /// The policy of the repository decides.
    Policed,
    Removed,
}

// === impl RetentionRules ===

impl RetentionRules {
    /// Creates the rules of policies. All manifests stay if `is_dry`, as after a run that deleted no tags.
    #[must_use]
    pub const fn new(store: Store, policies: Arc<Policies>, is_dry: bool) -> Self {
        Self { store, policies, is_dry, removes_unpoliced: false }
    }

    /// Returns rules by which manifests without a tag go also where no policy says how long they stay, if
    /// `removes_unpoliced`. A policy that is only judged, as in a dry run, still keeps its own.
    #[must_use]
    pub fn removing_unpoliced(self, removes_unpoliced: bool) -> Self {
        Self { removes_unpoliced, ..self }
    }

    fn untagged(&self, repository: &RepositoryName) -> Untagged {
        match self.policies.of(repository).and_then(|(_, policy)| policy.untagged) {
            Some(_) if self.is_dry => Untagged::Kept,
            Some(_) => Untagged::Policed,
            None if self.removes_unpoliced => Untagged::Removed,
            None => Untagged::Kept,
        }
    }

    fn kept_of(
        &self,
        repository: &RepositoryName,
        loose: &[LooseRevision],
    ) -> Result<HashSet<Digest>, StoreError> {
        match self.untagged(repository) {
            Untagged::Kept => return Ok(loose.iter().map(|revision| revision.digest.clone()).collect()),
            Untagged::Removed => return Ok(HashSet::new()),
            Untagged::Policed => {}
        }
        let pulls = self.store.last_pulls(repository)?;
        let facts = |LooseRevision { digest, pushed }: &LooseRevision| LooseFacts {
            digest: digest.clone(),
            pushed: *pushed,
            pulled: match pulls.manifest(digest) {
                LastPull::At(time) => Some(time),
                LastPull::Unknown => None,
            },
        };
        let loose: Vec<_> = loose.iter().map(facts).collect();
        let now = self.store.storage().now();
        Ok(self.policies.kept_untagged(repository, &loose, pulls.recording_since(), now))
    }
}

impl RevisionRules for RetentionRules {
    fn kept(&self, repository: &RepositoryName, loose: &[LooseRevision]) -> HashSet<Digest> {
        self.kept_of(repository, loose).unwrap_or_else(|error| {
            tracing::warn!(%repository, %error, "cannot read pulls, all manifests of the repository stay");
            loose.iter().map(|revision| revision.digest.clone()).collect()
        })
    }

    fn keeps_referrers(&self, repository: &RepositoryName) -> bool {
        self.keeps_all(repository) || self.policies.keeps_referrers(repository)
    }

    fn keeps_all(&self, repository: &RepositoryName) -> bool {
        self.untagged(repository) == Untagged::Kept
    }
}
