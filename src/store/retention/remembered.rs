//! Memory of the policies that the last run applied: changed ones run dry once, so that their plan can be
//! read first.

use quinistry_oci::{Digest, to_json};
use serde::{Deserialize, Serialize};

use super::policy::Policies;
use crate::layout::retention_policies;
use crate::{Store, StoreError};

/// Longest note that is read, in bytes.
const MAX_NOTE_BYTES: u64 = 4096;

/// Note about the policies of a run.
#[derive(Debug, Serialize, Deserialize)]
struct AppliedPolicies {
    /// SHA-256 of the policies.
    hash: String,
}

impl Store {
    /// Returns true if a run of policies would delete nothing: they say so, or have changed since the last run.
    pub fn would_run_dry(&self, policies: &Policies) -> Result<bool, StoreError> {
        Ok(policies.dry_run || !self.knows_policies(&policies.hash)?)
    }

    /// Returns true if the last run applied policies with this hash.
    pub(super) fn knows_policies(&self, hash: &Digest) -> Result<bool, StoreError> {
        let note = self.read_note(&retention_policies(), MAX_NOTE_BYTES)?;
        let note = note.and_then(|bytes| serde_json::from_slice::<AppliedPolicies>(&bytes).ok());
        Ok(note.is_some_and(|note| note.hash == hash.as_str()))
    }

    /// Notes the hash of the policies that a run applied.
    pub(super) fn remember_policies(&self, hash: &Digest) -> Result<(), StoreError> {
        let note = to_json(&AppliedPolicies { hash: hash.to_string() });
        Ok(self.storage().write(&[&[(retention_policies(), &note)]])?)
    }
}
