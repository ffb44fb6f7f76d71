//! Subjects that a push needs.

use quinistry_oci::{Algorithm, Digest, Manifest, RepositoryName};

use crate::gc::online::subject::{Subject, SubjectKind};
use crate::manifests::{AbsentParts, MAX_MISSING_PARTS};
use crate::{Store, StoreError};

/// Subjects of a change that links content.
#[derive(Clone, Debug, Default)]
pub(crate) struct Needed<'a> {
    /// Subjects that the change writes. Their removal is waited for.
    pub(crate) own: Vec<Subject<'a>>,
    /// Subjects that must be there, each with the digest by which the client named it.
    pub(crate) parts: Vec<(Subject<'a>, &'a Digest)>,
    /// Subjects that may be absent.
    pub(crate) others: Vec<Subject<'a>>,
}

/// Parts of a manifest, each by the digest that names it, its SHA-256, and whether it may be a manifest; then
/// the manifest that it is about.
#[derive(Clone, Debug, Default)]
pub(crate) struct ManifestParts(Vec<(Digest, Digest, bool)>, Option<Digest>);

impl Store {
    /// Returns the subjects of a manifest that is pushed: itself, its parts, of which some may be absent, and
    /// the manifest that it is about.
    pub(crate) fn needed_by<'a>(
        name: &'a RepositoryName,
        canonical: &'a Digest,
        parts: &'a ManifestParts,
        absent: AbsentParts,
    ) -> Needed<'a> {
        let own = vec![Subject::revision(name, canonical), Subject::bytes(canonical)];
        let mut needed = Needed { own, ..Needed::default() };
        for (named, part, is_child) in &parts.0 {
            let kinds = [
                is_child.then(|| Subject::revision(name, part)),
                Some(Subject::link(name, part)),
                Some(Subject::bytes(part)),
            ];
            for subject in kinds.into_iter().flatten() {
                let may_be_absent = match absent {
                    AbsentParts::Refused => false,
                    AbsentParts::OtherChildren => *is_child,
                    AbsentParts::Any => true,
                };
                if may_be_absent {
                    needed.others.push(subject);
                } else {
                    needed.parts.push((subject, named));
                }
            }
        }
        needed.others.extend(parts.1.iter().map(|subject| Subject::revision(name, subject)));
        needed
    }

    /// Returns true if everything is there that a change has written or needs. A part that may be a manifest is a part of
    /// the repository by the link of a manifest or by that of a blob.
    pub(super) fn are_there(&self, needed: &Needed<'_>) -> Result<bool, StoreError> {
        let is_part = |kind: SubjectKind, of: &Subject<'_>| {
            needed.parts.iter().any(|(part, _)| {
                part.kind == kind && part.repository == of.repository && part.canonical == of.canonical
            })
        };
        for subject in needed.own.iter().chain(needed.parts.iter().map(|(part, _)| part)) {
            if self.storage().head(&subject.key())?.is_some() {
                continue;
            }
            let other = match (subject.kind, subject.repository) {
                (SubjectKind::Link, Some(name)) => Subject::revision(name, subject.canonical),
                (SubjectKind::Revision, Some(name)) => Subject::link(name, subject.canonical),
                _ => return Ok(false),
            };
            if !is_part(other.kind, subject) || self.storage().head(&other.key())?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Finds the SHA-256 of each part of a manifest, unless nothing is condemned.
    pub(crate) fn parts_to_touch(
        &self,
        name: &RepositoryName,
        manifest: &Manifest,
        absent: AbsentParts,
    ) -> Result<ManifestParts, StoreError> {
        let mut found = ManifestParts::default();
        let all = manifest.blobs.iter().map(|part| (part, false));
        let all = all.chain(manifest.manifests.iter().map(|part| (part, true)));
        let mut unknown = 0;
        for (part, is_child) in all {
            // The check of the parts then ends as early, unless parts may be absent.
            if unknown >= MAX_MISSING_PARTS && absent == AbsentParts::Refused {
                break;
            }
            let canonical = match part.digest.algorithm() {
                Algorithm::Sha256 => Some(part.digest.clone()),
                Algorithm::Sha512 => self.part(name, &part.digest)?,
            };
            unknown += usize::from(canonical.is_none());
            found.0.extend(canonical.map(|canonical| (part.digest.clone(), canonical, is_child)));
        }
        if let Some(subject) = &manifest.subject {
            found.1 = self.canonical_child(name, subject)?;
        }
        Ok(found)
    }
}
