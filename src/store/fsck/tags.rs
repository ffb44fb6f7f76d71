//! Checks of tags: their links, and their indexes.

use quinistry_oci::{Digest, Tag};

use super::reading::{Read, digest_in};
use super::repository::Repository;
use super::walk::Found;
use super::{Finding, FindingKind, Fsck};
use crate::StoreError;
use crate::layout::RepositoryKeys;

/// Tag whose keys are visited: its link comes before its index.
pub(super) struct OpenTag {
    tag: Tag,
    has_link: bool,
    /// Digest that the tag refers to, if the repository has the manifest.
    target: Option<Digest>,
    /// The index names the target.
    is_indexed: bool,
    /// Digest of the last entry of the index.
    last: Option<Digest>,
}

impl Fsck<'_> {
    pub(super) fn visit_tag_link(
        &mut self,
        repository: &mut Repository,
        tag: &Tag,
        found: &Found,
    ) -> Result<(), StoreError> {
        self.enter_tag(repository, tag)?;
        if self.is_first_pass {
            self.summary.tags += 1;
        }
        let at = |kind| Finding::at(kind, &found.key).of(&repository.name).tag(tag);
        let mut target = None;
        match digest_in(&found.read) {
            Ok(digest) if repository.manifest(&digest).is_none() => {
                let finding = at(FindingKind::TagWithoutRevision).digest(&digest);
                let link = RepositoryKeys(&repository.name).revision_link(&digest);
                // Another finding names a link that is there, unless a registry has written it since the
                // scan.
                if self.is_first_pass && !self.is_there(&link)? && self.is_still(found)? {
                    self.report(&finding);
                }
            }
            Ok(digest) => {
                if let Some(canonical) = repository.manifest(&digest) {
                    repository.name_tag(&canonical, tag.as_str());
                }
                target = Some(digest);
            }
            Err(detail) if detail.is_empty() => {}
            Err(detail) => self.report(&at(FindingKind::TagTorn).detail(detail)),
        }
        if let Some(open) = &mut repository.tag {
            open.has_link = true;
            open.target = target;
        }
        Ok(())
    }

    pub(super) fn visit_tag_index(
        &mut self,
        repository: &mut Repository,
        tag: &Tag,
        digest: &Digest,
        found: &Found,
    ) -> Result<(), StoreError> {
        self.enter_tag(repository, tag)?;
        if let Some(open) = &mut repository.tag {
            open.is_indexed |= open.target.as_ref() == Some(digest);
            open.last = Some(digest.clone());
        }
        let at = |kind| Finding::at(kind, &found.key).of(&repository.name).tag(tag).digest(digest);
        let damage = match digest_in(&found.read) {
            Ok(held) if held == *digest => {
                if self.is_first_pass && repository.manifest(digest).is_none() {
                    let link = RepositoryKeys(&repository.name).revision_link(digest);
                    if !self.is_there(&link)? {
                        self.report(&at(FindingKind::TagIndexDangling));
                    }
                }
                return Ok(());
            }
            Ok(held) => at(FindingKind::LinkMisdirected).detail(format_args!("holds {held}")),
            Err(detail) if detail.is_empty() => return Ok(()),
            Err(detail) => at(FindingKind::LinkTorn).detail(detail),
        };
        let is_repaired = self.repairs() && self.put(&found.key, digest.as_str().as_bytes())?;
        self.report(&damage.repaired(is_repaired));
        Ok(())
    }

    fn enter_tag(&mut self, repository: &mut Repository, tag: &Tag) -> Result<(), StoreError> {
        if repository.tag.as_ref().is_some_and(|open| open.tag == *tag) {
            return Ok(());
        }
        self.leave_tag(repository)?;
        let tag = tag.clone();
        repository.tag = Some(OpenTag { tag, has_link: false, target: None, is_indexed: false, last: None });
        Ok(())
    }

    pub(super) fn leave_tag(&mut self, repository: &mut Repository) -> Result<(), StoreError> {
        let Some(open) = repository.tag.take().filter(|_| self.is_first_pass) else { return Ok(()) };
        let place = RepositoryKeys(&repository.name);
        let at = |kind, key| Finding::at(kind, key).of(&repository.name).tag(&open.tag);
        match open.target {
            _ if !open.has_link => {
                let link = place.tag_link(&open.tag);
                if !self.is_there(&link)? {
                    let finding = at(FindingKind::TagIndexWithoutTag, link);
                    self.report(&match &open.last {
                        Some(digest) => finding.digest(digest),
                        None => finding,
                    });
                }
            }
            Some(target) if !open.is_indexed => {
                let entry = place.tag_index(&open.tag, &target);
                if !self.is_there(&entry)? {
                    let is_repaired = self.repairs() && self.put(&entry, target.as_str().as_bytes())?;
                    let finding = at(FindingKind::TagIndexMissing, entry).digest(&target);
                    self.report(&finding.repaired(is_repaired));
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Returns true if a link holds the same bytes as when it was scanned.
    fn is_still(&mut self, found: &Found) -> Result<bool, StoreError> {
        let now = self.read(&found.key, crate::MAX_LINK_BYTES)?;
        Ok(match (&found.read, &now) {
            (Read::Found(before), Read::Found(now)) => before == now,
            _ => false,
        })
    }
}
