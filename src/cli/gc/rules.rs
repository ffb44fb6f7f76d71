//! Rules of `--delete-untagged`.

use std::collections::HashSet;

use crate::oci::{Digest, RepositoryName};
use crate::store::{LooseRevision, RevisionRules};

/// Rules by which no manifest stays that no tag, index or subject holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct RemoveUntagged;

impl RevisionRules for RemoveUntagged {
    fn kept(&self, _: &RepositoryName, _: &[LooseRevision]) -> HashSet<Digest> {
        HashSet::new()
    }

    fn keeps_referrers(&self, _: &RepositoryName) -> bool {
        false
    }
}
