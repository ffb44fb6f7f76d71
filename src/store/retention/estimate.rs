//! Estimate of the bytes that collection frees once tags are gone.

use std::collections::{HashMap, HashSet};

use quinistry_oci::{Digest, Manifest, RepositoryName};

use super::plan::RepositoryPlan;
use super::policy::Policies;
use crate::{Store, StoreError};

/// Content of a repository by digest, with its length in bytes.
type Lengths = HashMap<Digest, u64>;

impl Store {
    /// Returns the bytes of a repository's content that each deleted tag of a plan reaches, in the plan's order, and no
    /// tag that stays: what collection frees at most, since other repositories may share the content. What several
    /// deleted tags reach is counted for the first of them. `None` if a manifest cannot be read.
    ///
    /// 0 where manifests without a tag stay.
    pub fn bytes_freed_by(
        &self,
        policies: &Policies,
        name: &RepositoryName,
        plan: &RepositoryPlan,
    ) -> Result<Option<Vec<u64>>, StoreError> {
        let is_collected = policies.of(name).is_some_and(|(_, policy)| policy.untagged.is_some());
        let deleted: Vec<&Digest> = plan.digests(true).collect();
        if !is_collected || deleted.is_empty() {
            return Ok(Some(vec![0; deleted.len()]));
        }
        let kept = self.reached_content(name, plan.digests(false), &mut HashSet::new())?;
        let Some(kept) = kept else { return Ok(None) };
        let mut counted: HashSet<Digest> = kept.into_keys().collect();
        let mut seen = HashSet::new();
        let mut freed = Vec::with_capacity(deleted.len());
        for root in deleted {
            let reached = self.reached_content(name, std::iter::once(root), &mut seen)?;
            let Some(reached) = reached else { return Ok(None) };
            let new = reached.into_iter().filter(|(digest, _)| counted.insert(digest.clone()));
            freed.push(new.map(|(_, length)| length).sum());
        }
        Ok(Some(freed))
    }

    /// Returns manifests that were not seen before, with their children, configurations and layers; `None` if a manifest
    /// cannot be read.
    fn reached_content<'a>(
        &self,
        name: &RepositoryName,
        roots: impl Iterator<Item = &'a Digest>,
        seen: &mut HashSet<Digest>,
    ) -> Result<Option<Lengths>, StoreError> {
        let mut open: Vec<Digest> = roots.cloned().collect();
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
