//! Touches of manifests that refer to others.

use quinistry_oci::{Algorithm, Digest, RepositoryName};

use super::{Cause, Touched};
use crate::gc::needs::needs_of;
use crate::gc::online::subject::{Subject, SubjectKind};
use crate::gc::online::view::View;
use crate::{Store, StoreError};

/// Greatest number of manifests that one touch of an index reads. One with more is pushed again.
const MAX_NESTED_MANIFESTS: usize = 10_000;

impl Store {
    /// Touches a condemned manifest after the condemned manifests that it refers to, at any depth: one that
    /// stays must not lose what it needs.
    pub(super) fn touch_nested(
        &self,
        view: &View,
        name: &RepositoryName,
        canonical: &Digest,
        cause: Cause,
    ) -> Result<Touched, StoreError> {
        let is_open = |digest: &Digest| {
            let hash = Subject::revision(name, digest).hash();
            view.shard(SubjectKind::Revision, hash).is_some() && !view.is_known_alive(hash)
        };
        // Each manifest, and whether those that it refers to stand before it already.
        let mut open = vec![(canonical.clone(), false)];
        let mut read = 0;
        while let Some((digest, is_expanded)) = open.pop() {
            if is_expanded {
                let subject = Subject::revision(name, &digest);
                let is_gone = match self.touch(view, &subject, cause)? {
                    Touched::Held => false,
                    // What refers to it would stay without it, as far as it is not itself what is asked about.
                    Touched::Removed => {
                        digest != *canonical && self.storage().head(&subject.key())?.is_none()
                    }
                    Touched::Gone => true,
                };
                if is_gone {
                    return Ok(Touched::Gone);
                }
                continue;
            }
            if !is_open(&digest) {
                continue;
            }
            read += 1;
            if read > MAX_NESTED_MANIFESTS {
                return Ok(Touched::Gone);
            }
            open.push((digest.clone(), true));
            for child in self.children_of(name, &digest)? {
                open.extend(self.canonical_child(name, &child)?.map(|child| (child, false)));
            }
        }
        Ok(Touched::Held)
    }

    /// Returns the manifests that a manifest refers to; none if the manifest is absent, or unreadable.
    fn children_of(&self, name: &RepositoryName, canonical: &Digest) -> Result<Vec<Digest>, StoreError> {
        let known = match self.content(canonical) {
            Err(StoreError::ManifestUnknown | StoreError::Damaged(_)) => return Ok(Vec::new()),
            known => known?,
        };
        let pushed = if known.declares_type { None } else { self.pushed_as(name, canonical)? };
        Ok(needs_of(&known.bytes, pushed).children().cloned().collect())
    }

    pub(super) fn canonical_child(
        &self,
        name: &RepositoryName,
        child: &Digest,
    ) -> Result<Option<Digest>, StoreError> {
        match child.algorithm() {
            Algorithm::Sha256 => Ok(Some(child.clone())),
            Algorithm::Sha512 => self.revision(name, child),
        }
    }
}
