//! Checks of links: what they hold, and whether they lead to bytes.

use quinistry_oci::{Algorithm, Digest, media_type};

use super::contents::{Stored, short_form};
use super::reading::{Read, digest_in, quoted};
use super::repository::{Repository, Sha256};
use super::walk::Found;
use super::{Finding, FindingKind, Fsck};
use crate::StoreError;
use crate::layout::{Key, RepositoryKeys, blob};

/// Kind of bytes that a link leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Blob,
    Manifest,
}

/// Judgement of a link's text.
enum LinkText {
    /// The link leads to the bytes with this SHA-256.
    Canonical(Digest),
    /// The link was removed since the scan, or its damage is reported elsewhere.
    Unknown,
    /// The link is damaged in this way.
    Damaged(FindingKind, String),
}

/// Judges the text of a link that is named after a digest.
fn judge(digest: &Digest, read: &Read) -> LinkText {
    let held = match digest_in(read) {
        Ok(held) => held,
        Err(detail) if detail.is_empty() => return LinkText::Unknown,
        Err(detail) => return LinkText::Damaged(FindingKind::LinkTorn, detail),
    };
    let is_right = match digest.algorithm() {
        Algorithm::Sha256 => held == *digest,
        Algorithm::Sha512 => held.algorithm() == Algorithm::Sha256,
    };
    if is_right {
        LinkText::Canonical(held)
    } else {
        LinkText::Damaged(FindingKind::LinkMisdirected, format!("holds {held}"))
    }
}

impl Fsck<'_> {
    pub(super) fn visit_blob_link(
        &mut self,
        repository: &mut Repository,
        digest: &Digest,
        found: &Found,
    ) -> Result<(), StoreError> {
        let Some(canonical) = self.check_link(repository, digest, found, Target::Blob)? else {
            return Ok(());
        };
        match self.contents.look_up(&canonical) {
            Stored::OtherWindow => {}
            Stored::Found { is_damaged, .. } => {
                self.contents.mark_linked(&canonical);
                if is_damaged {
                    let finding = Finding::at(FindingKind::LinkToDamagedContent, &found.key);
                    self.report_of_bytes(&finding.of(&repository.name).digest(digest));
                }
            }
            Stored::Absent => {
                if !self.is_there(&blob(&canonical))? && self.is_there(&found.key)? {
                    let finding = Finding::at(FindingKind::LinkWithoutContent, &found.key);
                    self.report_of_bytes(&finding.of(&repository.name).digest(digest));
                }
            }
        }
        if digest.algorithm() == Algorithm::Sha256 {
            repository.blobs.push(short_form(digest));
            return Ok(());
        }
        self.check_alias(repository, digest, &canonical)?;
        repository.long_blobs.insert(digest.clone(), canonical.clone());
        if repository.blob(&canonical).is_none() {
            let key = RepositoryKeys(&repository.name).layer_link(&canonical);
            if self.check_link_of_sha256(repository, digest, &canonical, key)? {
                let at = repository.blobs.partition_point(|other| *other < short_form(&canonical));
                repository.blobs.insert(at, short_form(&canonical));
            }
        }
        Ok(())
    }

    pub(super) fn visit_revision_link(
        &mut self,
        repository: &mut Repository,
        digest: &Digest,
        found: &Found,
    ) -> Result<(), StoreError> {
        let Some(canonical) = self.check_link(repository, digest, found, Target::Manifest)? else {
            return Ok(());
        };
        self.contents.mark_linked(&canonical);
        if let Some(packed) = Sha256::new(digest) {
            repository.manifests.push(packed);
            return Ok(());
        }
        repository.long_manifests.insert(digest.clone(), canonical.clone());
        if repository.manifest(&canonical).is_none()
            && let Some(packed) = Sha256::new(&canonical)
        {
            let key = RepositoryKeys(&repository.name).revision_link(&canonical);
            if self.check_link_of_sha256(repository, digest, &canonical, key)? {
                let at = repository.manifests.partition_point(|other| *other < packed);
                repository.manifests.insert(at, packed);
            }
        }
        Ok(())
    }

    /// Returns the SHA-256 of the bytes that a link leads to; `None` if it is damaged, and could not be
    /// repaired.
    fn check_link(
        &mut self,
        repository: &Repository,
        digest: &Digest,
        found: &Found,
        target: Target,
    ) -> Result<Option<Digest>, StoreError> {
        let (kind, detail) = match judge(digest, &found.read) {
            LinkText::Unknown => {
                self.contents.mark_linked_by_name(digest);
                return Ok(None);
            }
            LinkText::Canonical(canonical) => {
                let is_by_name = digest.algorithm() == Algorithm::Sha256;
                // Manifests are read in any case.
                let is_unchecked = !is_by_name && target == Target::Blob && self.options.hash;
                if !is_unchecked || !self.is_first_pass || self.has_digest(&canonical, digest)? {
                    return Ok(Some(canonical));
                }
                (FindingKind::LinkMisdirected, format!("holds {canonical}, whose bytes have another digest"))
            }
            LinkText::Damaged(kind, detail) => (kind, detail),
        };
        self.contents.mark_linked_by_name(digest);
        let finding = Finding::at(kind, &found.key).of(&repository.name).digest(digest).detail(detail);
        let mut answer = None;
        if self.repairs() {
            let canonical = match digest.algorithm() {
                Algorithm::Sha256 => Some(digest.clone()),
                Algorithm::Sha512 => self.alias_of(digest)?,
            };
            if let Some(canonical) = canonical
                && self.is_there(&blob(&canonical))?
                && self.put(&found.key, canonical.as_str().as_bytes())?
            {
                answer = Some(canonical);
            }
        }
        self.report(&finding.repaired(answer.is_some()));
        Ok(answer)
    }

    /// Checks that content which was pushed by another hash has a link by its SHA-256. Returns true if the
    /// missing link was written.
    fn check_link_of_sha256(
        &mut self,
        repository: &Repository,
        digest: &Digest,
        canonical: &Digest,
        key: Key,
    ) -> Result<bool, StoreError> {
        if !self.is_first_pass || self.is_there(&key)? {
            return Ok(false);
        }
        let is_repaired = self.options.repair
            && self.is_there(&blob(canonical))?
            && self.has_digest(canonical, digest)?
            && self.put(&key, canonical.as_str().as_bytes())?;
        let finding = Finding::at(FindingKind::LinkOfSha256Missing, key).of(&repository.name);
        self.report(&finding.digest(digest).detail(canonical).repaired(is_repaired));
        Ok(is_repaired)
    }

    pub(super) fn visit_media_type(
        &mut self,
        repository: &mut Repository,
        digest: &Digest,
        found: &Found,
    ) -> Result<(), StoreError> {
        let note = match &found.read {
            Read::Found(bytes) => std::str::from_utf8(bytes).ok().and_then(media_type::known),
            Read::TooLong(_) => None,
            Read::Absent | Read::Unreadable => return Ok(()),
        };
        let detail = match &found.read {
            Read::Found(bytes) => format!("holds {}", quoted(bytes)),
            _ => format!("is {} bytes long", found.meta.length),
        };
        if repository.manifest(digest).is_some() {
            if let Some(note) = note {
                repository.types.insert(digest.clone(), note);
                return Ok(());
            }
            let finding = Finding::at(FindingKind::MediaTypeUnknown, &found.key);
            self.report(&finding.of(&repository.name).digest(digest).detail(detail));
        } else if !self.is_there(&RepositoryKeys(&repository.name).revision_link(digest))? {
            let finding = Finding::at(FindingKind::MediaTypeWithoutRevision, &found.key);
            self.report(&finding.of(&repository.name).digest(digest));
        }
        Ok(())
    }
}
