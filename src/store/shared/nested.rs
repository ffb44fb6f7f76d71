//! Blobs of the manifests that an index refers to.
//!
//! A process that is stopped in the middle of a push can write the link of a manifest after a collector has removed the
//! blobs that it needs. The push is then refused, and leaves the manifest behind: its link alone does not prove that it
//! is whole. So an index is accepted only if the manifests that it refers to have their blobs, unless this process has
//! just accepted them itself.

use std::collections::HashSet;

use quinistry_oci::{Algorithm, Digest, Manifest, RepositoryName};

use super::parts::LinkKind;
use crate::gc::needs::Needs;
use crate::gc::online::subject::Subject;
use crate::gc::online::touch::Needed;
use crate::manifests::AbsentParts;
use crate::{Store, StoreError};

/// Greatest number of manifests that the push of an index reads. What is behind them is trusted: it is there unless a
/// push was stopped for minutes, and an index of so many manifests shall not cost millions of requests.
const MAX_READ_MANIFESTS: usize = 10_000;

/// Greatest number of blobs that the push of an index looks for. What is behind them is trusted, too.
const MAX_NESTED_BLOBS: usize = 100_000;

/// Number of blobs that are looked for at once.
const BLOBS_AT_ONCE: usize = 64;

/// Blob that a manifest needs which an index refers to.
#[derive(Clone, Debug)]
pub(crate) struct NestedBlob {
    /// Manifest that the index names, which a client pushes again if the blob is missing.
    child: Digest,
    /// Blob, as its manifest names it.
    named: Digest,
    /// SHA-256 of the blob.
    canonical: Digest,
}

impl Store {
    /// Returns the blobs of the manifests that an index refers to, at any depth. Fails if one of these manifests is
    /// absent, or names a blob that is. An index whose parts may all be absent needs none of them.
    pub(crate) fn nested_blobs(
        &self,
        name: &RepositoryName,
        index: &Manifest,
        absent: AbsentParts,
    ) -> Result<Vec<NestedBlob>, StoreError> {
        let mut blobs = Vec::new();
        if !self.is_shared() || absent == AbsentParts::Any {
            return Ok(blobs);
        }
        let (mut seen, mut seen_blobs) = (HashSet::new(), HashSet::new());
        let own = index.manifests.iter().map(|child| (child.digest.clone(), child.digest.clone()));
        // Each manifest with the one through which the index refers to it.
        let mut open: Vec<(Digest, Digest)> = own.collect();
        while let Some((digest, child)) = open.pop() {
            if self.is_recent(name, LinkKind::Manifest, &digest) || !seen.insert(digest.clone()) {
                continue;
            }
            let missing = || StoreError::Missing(vec![child.clone()]);
            if seen.len() > MAX_READ_MANIFESTS {
                break;
            }
            // A part that is no manifest of the repository may be a blob of it.
            let Some(canonical) = self.revision(name, &digest)? else { continue };
            let needs = self.stored_needs(name, &canonical)?.ok_or_else(missing)?;
            // The parts of a manifest that is not understood are not known.
            let Needs::Known(manifest) = needs else { continue };
            open.extend(manifest.manifests.iter().map(|part| (part.digest.clone(), child.clone())));
            for blob in &manifest.blobs {
                if blobs.len() >= MAX_NESTED_BLOBS {
                    return Ok(blobs);
                }
                if !seen_blobs.insert(blob.digest.clone()) {
                    continue;
                }
                let canonical = match blob.digest.algorithm() {
                    Algorithm::Sha256 => blob.digest.clone(),
                    Algorithm::Sha512 => self.part(name, &blob.digest)?.ok_or_else(missing)?,
                };
                blobs.push(NestedBlob { child: child.clone(), named: blob.digest.clone(), canonical });
            }
        }
        Ok(blobs)
    }

    /// Fails if a blob is not in the repository.
    pub(crate) fn check_nested_blobs(
        &self,
        name: &RepositoryName,
        blobs: &[NestedBlob],
    ) -> Result<(), StoreError> {
        for chunk in blobs.chunks(BLOBS_AT_ONCE) {
            let digests: Vec<&Digest> = chunk.iter().map(|blob| &blob.named).collect();
            let lengths = self.find_parts(name, &digests, false)?;
            if let Some((blob, _)) = chunk.iter().zip(lengths).find(|(_, length)| length.is_none()) {
                return Err(StoreError::Missing(vec![blob.child.clone()]));
            }
        }
        Ok(())
    }
}

/// Adds blobs to what a push needs.
pub(crate) fn need<'a>(needed: &mut Needed<'a>, name: &'a RepositoryName, blobs: &'a [NestedBlob]) {
    for blob in blobs {
        for subject in [Subject::link(name, &blob.canonical), Subject::bytes(&blob.canonical)] {
            needed.parts.push((subject, &blob.child));
        }
    }
}
