//! State of the repository whose keys are visited, and the order of its checks.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;

use bytes::Bytes;
use quinistry_oci::{Algorithm, Digest, RepositoryName};

use super::contents::short_form;
use super::rows::ExpectedRow;
use super::sessions::OpenSession;
use super::tags::OpenTag;
use super::walk::Found;
use super::{Finding, FindingKind, Fsck};
use crate::StoreError;
use crate::layout::kinds::RepositoryPart;

/// Greatest number of tags that a finding names.
const MAX_NAMED_TAGS: usize = 20;

/// Repository whose keys are visited. Its folders come in the order blobs, manifests, tags, referrers,
/// uploads.
pub(super) struct Repository {
    pub(super) name: RepositoryName,
    /// Blobs with a link, by the short form of their SHA-256, in order.
    pub(super) blobs: Vec<u128>,
    /// Blobs with a link by another hash, and their SHA-256.
    pub(super) long_blobs: BTreeMap<Digest, Digest>,
    /// Manifests with a link by their SHA-256, in order.
    pub(super) manifests: Vec<Sha256>,
    /// Manifests with a link by another hash, and their SHA-256.
    pub(super) long_manifests: BTreeMap<Digest, Digest>,
    /// Media types that manifests were pushed with.
    pub(super) types: BTreeMap<Digest, &'static str>,
    /// The manifests were read.
    pub(super) is_read: bool,
    /// Manifests whose content is not known.
    pub(super) unknown: HashSet<Digest>,
    /// Findings about manifests, until their tags are known, by SHA-256.
    pub(super) broken: BTreeMap<Digest, Vec<Finding>>,
    /// Descriptors of referrers, by subject and SHA-256.
    pub(super) rows: BTreeMap<(Digest, Digest), ExpectedRow>,
    /// Version of the manifests from which the descriptors were built.
    pub(super) stamp: Option<Bytes>,
    pub(super) tag: Option<OpenTag>,
    pub(super) session: Option<OpenSession>,
    /// The repository has blobs, manifests or tags.
    pub(super) has_content: bool,
}

/// SHA-256 as it is, in less memory than as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Sha256([u8; 32]);

// === impl Sha256 ===

impl Sha256 {
    /// Packs a digest; `None` for one by another hash.
    pub(super) fn new(digest: &Digest) -> Option<Self> {
        if digest.algorithm() != Algorithm::Sha256 {
            return None;
        }
        let mut packed = [0; 32];
        for (byte, digits) in packed.iter_mut().zip(digest.hex().as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).expect("a digest is hexadecimal");
            *byte = u8::from_str_radix(digits, 16).expect("a digest is hexadecimal");
        }
        Some(Self(packed))
    }

    pub(super) fn digest(self) -> Digest {
        let mut text = String::from("sha256:");
        for byte in self.0 {
            write!(text, "{byte:02x}").expect("writing to a string does not fail");
        }
        text.parse().expect("64 digits are a SHA-256")
    }
}

// === impl Repository ===

impl Repository {
    fn new(name: RepositoryName) -> Self {
        Self {
            name,
            blobs: Vec::new(),
            long_blobs: BTreeMap::new(),
            manifests: Vec::new(),
            long_manifests: BTreeMap::new(),
            types: BTreeMap::new(),
            is_read: false,
            unknown: HashSet::new(),
            broken: BTreeMap::new(),
            rows: BTreeMap::new(),
            stamp: None,
            tag: None,
            session: None,
            has_content: false,
        }
    }

    /// Returns the SHA-256 of a manifest that the repository has.
    pub(super) fn manifest(&self, digest: &Digest) -> Option<Digest> {
        match Sha256::new(digest) {
            Some(packed) => self.manifests.binary_search(&packed).is_ok().then(|| digest.clone()),
            None => self.long_manifests.get(digest).cloned(),
        }
    }

    /// Returns the SHA-256 of a blob that the repository has.
    pub(super) fn blob(&self, digest: &Digest) -> Option<Digest> {
        if digest.algorithm() == Algorithm::Sha256 {
            self.blobs.binary_search(&short_form(digest)).is_ok().then(|| digest.clone())
        } else {
            self.long_blobs.get(digest).cloned()
        }
    }

    /// Keeps a finding about a manifest until the tags of the manifest are known.
    pub(super) fn hold(&mut self, canonical: &Digest, finding: Finding) {
        self.broken.entry(canonical.clone()).or_default().push(finding.of(&self.name));
    }

    /// Adds a tag to the findings about its manifest.
    pub(super) fn name_tag(&mut self, canonical: &Digest, tag: &str) {
        for finding in self.broken.get_mut(canonical).into_iter().flatten() {
            if finding.tags.len() < MAX_NAMED_TAGS {
                finding.tags.push(tag.to_owned());
            }
        }
    }
}

// === impl Fsck ===

impl Fsck<'_> {
    pub(super) fn visit_repository(
        &mut self,
        name: &RepositoryName,
        part: RepositoryPart,
        found: &Found,
    ) -> Result<(), StoreError> {
        if self.repository.as_ref().is_some_and(|repository| repository.name != *name) {
            self.leave_repository()?;
        }
        let mut repository = self.repository.take().unwrap_or_else(|| Repository::new(name.clone()));
        self.visit_part(&mut repository, part, found)?;
        self.repository = Some(repository);
        Ok(())
    }

    fn visit_part(
        &mut self,
        repository: &mut Repository,
        part: RepositoryPart,
        found: &Found,
    ) -> Result<(), StoreError> {
        use RepositoryPart as Part;
        let is_of_revisions =
            matches!(part, Part::BlobLink(_) | Part::RevisionLink(_) | Part::MediaType(_) | Part::Signature);
        if !is_of_revisions {
            self.read_manifests(repository)?;
        }
        repository.has_content |= is_of_revisions || matches!(part, Part::TagLink(_) | Part::TagIndex(..));
        match part {
            Part::BlobLink(digest) => self.visit_blob_link(repository, &digest, found),
            Part::RevisionLink(digest) => self.visit_revision_link(repository, &digest, found),
            Part::MediaType(digest) => self.visit_media_type(repository, &digest, found),
            Part::TagLink(tag) => self.visit_tag_link(repository, &tag, found),
            Part::TagIndex(tag, digest) => self.visit_tag_index(repository, &tag, &digest, found),
            Part::InvalidTag(tag) => {
                // Once for each tag: its link comes before its index.
                if found.key.as_str().ends_with(crate::layout::TAG_LINK) {
                    let finding = Finding::at(FindingKind::TagNameInvalid, &found.key);
                    self.report(&finding.of(&repository.name).tag(tag));
                }
                Ok(())
            }
            Part::Row { subject, digest } => self.visit_row(repository, &subject, &digest, found),
            Part::RowsVersion => self.visit_stamp(repository, found),
            Part::Session(id, file) => self.visit_session(repository, &id, file, found),
            Part::Signature | Part::Folder | Part::Foreign => Ok(()),
        }
    }

    /// Ends the checks of the repository whose keys were visited.
    pub(super) fn leave_repository(&mut self) -> Result<(), StoreError> {
        let Some(mut repository) = self.repository.take() else { return Ok(()) };
        self.read_manifests(&mut repository)?;
        self.leave_tag(&mut repository)?;
        self.leave_session(&mut repository)?;
        self.check_rows(&repository)?;
        for finding in std::mem::take(&mut repository.broken).into_values().flatten() {
            self.report_of_bytes(&finding);
        }
        if repository.has_content {
            if self.is_first_pass {
                self.summary.repositories += 1;
                let long = repository.long_manifests.values();
                let others = long.filter(|canonical| repository.manifest(canonical).is_none());
                self.summary.manifests += (repository.manifests.len() + others.count()) as u64;
            }
            self.check_register(&repository.name)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packed_digest_is_the_digest_and_sorts_as_it_does() {
        let mut digests: Vec<_> = (0..50_u8).map(|i| Digest::sha256(&[i])).collect();
        digests.sort();
        let packed: Vec<_> = digests.iter().filter_map(Sha256::new).collect();
        assert!(packed.is_sorted());
        assert_eq!(packed.into_iter().map(Sha256::digest).collect::<Vec<_>>(), digests);
        assert_eq!(Sha256::new(&Digest::of(Algorithm::Sha512, b"")), None);
    }
}
