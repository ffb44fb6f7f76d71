//! Estimate of the bytes that collection frees once tags are gone.

use std::collections::{HashMap, HashSet};

use quinistry_oci::{Digest, Manifest, RepositoryName};

use super::plan::RepositoryPlan;
use super::policy::Policies;
use crate::{Store, StoreError};

/// Content of a repository by digest, with its length in bytes.
type Lengths = HashMap<Digest, u64>;

impl Store {
    /// Returns the bytes of a repository's content that deleted tags reach and no other tag does: what
    /// collection frees at most, since other repositories may share the content. `None` if a manifest cannot
    /// be read.
    ///
    /// 0 where manifests without a tag stay.
    pub fn bytes_freed_by(
        &self,
        policies: &Policies,
        name: &RepositoryName,
        plan: &RepositoryPlan,
    ) -> Result<Option<u64>, StoreError> {
        let is_collected = policies.of(name).is_some_and(|(_, policy)| policy.untagged.is_some());
        if !is_collected || plan.digests(true).next().is_none() {
            return Ok(Some(0));
        }
        let Some(kept) = self.reached_content(name, plan.digests(false))? else { return Ok(None) };
        let Some(deleted) = self.reached_content(name, plan.digests(true))? else { return Ok(None) };
        let freed = deleted.iter().filter(|(digest, _)| !kept.contains_key(digest));
        Ok(Some(freed.map(|(_, length)| length).sum()))
    }

    /// Returns manifests with their children, configurations and layers; `None` if a manifest cannot be read.
    fn reached_content<'a>(
        &self,
        name: &RepositoryName,
        roots: impl Iterator<Item = &'a Digest>,
    ) -> Result<Option<Lengths>, StoreError> {
        let mut open: Vec<Digest> = roots.cloned().collect();
        let mut seen = HashSet::new();
        let mut reached = Lengths::new();
        while let Some(digest) = open.pop() {
            let Some(canonical) = self.revision(name, &digest)? else { continue };
            if !seen.insert(canonical.clone()) {
                continue;
            }
            let known = match self.content(&canonical) {
                Err(StoreError::ManifestUnknown | StoreError::Damaged(_)) => return Ok(None),
                known => known?,
            };
            let pushed_as = self.pushed_as(name, &digest)?.unwrap_or(known.media_type);
            let Ok(manifest) = Manifest::parse(&known.bytes, Some(pushed_as)) else { return Ok(None) };
            reached.insert(canonical, known.bytes.len() as u64);
            reached.extend(manifest.blobs.iter().map(|blob| (blob.digest.clone(), blob.size)));
            open.extend(manifest.manifests.into_iter().map(|child| child.digest));
        }
        Ok(Some(reached))
    }
}
