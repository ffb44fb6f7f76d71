//! Rules for manifests that no tag, index or subject holds. Pure.

use std::collections::HashSet;
use std::time::SystemTime;

use quinistry_oci::{Digest, RepositoryName};

use super::criteria::{Candidate, Clock};
use super::policy::Policies;

/// Facts about a manifest that no tag, index or subject holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LooseFacts {
    /// Digest of the manifest.
    pub digest: Digest,
    /// Push of the manifest: the time at which its link was written.
    pub pushed: SystemTime,
    /// Last pull of the manifest, if one is recorded.
    pub pulled: Option<SystemTime>,
}

impl Policies {
    /// Returns those of a repository's loose manifests that stay. The order of `loose` does not matter.
    ///
    /// All of them stay without a policy for the repository, and with one that says nothing of them.
    #[must_use]
    pub fn kept_untagged(
        &self,
        repository: &RepositoryName,
        loose: &[LooseFacts],
        recording_since: Option<SystemTime>,
        now: SystemTime,
    ) -> HashSet<Digest> {
        let criteria = self.of(repository).and_then(|(_, policy)| policy.untagged);
        let Some(criteria) = criteria else {
            return loose.iter().map(|facts| facts.digest.clone()).collect();
        };
        let candidates: Vec<_> = loose
            .iter()
            .map(|LooseFacts { digest, pushed, pulled }| Candidate {
                name: digest.as_str(),
                digest,
                pushed: *pushed,
                pulled: *pulled,
            })
            .collect();
        let judged = criteria.judge(&candidates, Clock { now, recording_since });
        let kept = loose.iter().zip(judged).filter(|(_, kept)| kept.is_some());
        kept.map(|(facts, _)| facts.digest.clone()).collect()
    }
}
