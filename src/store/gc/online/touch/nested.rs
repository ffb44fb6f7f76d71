//! Touches of manifests that refer to others.

use quinistry_oci::{Algorithm, Digest, RepositoryName};

use super::{Cause, Touched};
use crate::gc::needs::{Needs, needs_of};
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
                    Touched::Removed => !self.is_whole_again(view, name, &digest, cause)?,
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

    /// Returns true if a manifest whose removal is over was written again with all of its blobs, and holds these. The
    /// manifests that it refers to were touched before.
    ///
    /// Blobs are removed after the manifests that need them. A push that brought only the manifest, as its client saw the
    /// blobs a moment before, is refused and leaves the manifest behind: it is there, and its blobs are not.
    fn is_whole_again(
        &self,
        view: &View,
        name: &RepositoryName,
        canonical: &Digest,
        cause: Cause,
    ) -> Result<bool, StoreError> {
        if self.storage().head(&Subject::revision(name, canonical).key())?.is_none() {
            return Ok(false);
        }
        // The parts of a manifest that is not understood are not known. It is pushed again.
        let Some(Needs::Known(manifest)) = self.stored_needs(name, canonical)? else { return Ok(false) };
        let absent = self.0.absent_parts;
        let parts = self.parts_to_touch(name, &manifest, absent)?;
        let needed = Self::needed_by(name, canonical, &parts, absent);
        for (part, _) in &needed.parts {
            if part.kind != SubjectKind::Revision && self.touch(view, part, cause)? == Touched::Gone {
                return Ok(false);
            }
        }
        self.are_there(&needed)
    }

    /// Returns the manifests that a manifest refers to; none if the manifest is absent, or unreadable.
    fn children_of(&self, name: &RepositoryName, canonical: &Digest) -> Result<Vec<Digest>, StoreError> {
        let needs = self.stored_needs(name, canonical)?;
        Ok(needs.iter().flat_map(Needs::children).cloned().collect())
    }

    /// Returns what a stored manifest needs; `None` if it is absent, or unreadable.
    pub(crate) fn stored_needs(
        &self,
        name: &RepositoryName,
        canonical: &Digest,
    ) -> Result<Option<Needs>, StoreError> {
        let known = match self.content(canonical) {
            Err(StoreError::ManifestUnknown | StoreError::Damaged(_)) => return Ok(None),
            known => known?,
        };
        let pushed = if known.declares_type { None } else { self.pushed_as(name, canonical)? };
        Ok(Some(needs_of(&known.bytes, pushed)))
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
