//! Checks of the descriptors of referrers, which are built from manifests and can be built again.

use quinistry_oci::{Descriptor, Digest, Manifest, media_type, to_json};

use super::reading::{Read, quoted};
use super::repository::Repository;
use super::walk::Found;
use super::{Finding, FindingKind, Fsck};
use crate::StoreError;
use crate::layout::{RepositoryKeys, blob};
use crate::manifests::MAX_STORED_MANIFEST_BYTES;
use crate::referrers::MAX_DESCRIPTOR_BYTES;
use crate::shared::referrers::{MAX_STAMP_BYTES, short, stamped};

/// Descriptor that a manifest must have.
pub(super) struct ExpectedRow {
    /// Digest that the manifest was pushed with.
    pushed: Digest,
    /// SHA-256 of the descriptor under the SHA-256 of the manifest.
    hash: Digest,
    /// A descriptor was found.
    is_found: bool,
}

/// Hashes a descriptor, in which the SHA-256 of the manifest stands for its name.
fn hash(descriptor: Descriptor, canonical: &Digest) -> Digest {
    Digest::sha256(&to_json(&Descriptor { digest: canonical.clone(), ..descriptor }))
}

// === impl ExpectedRow ===

impl ExpectedRow {
    pub(super) fn new(manifest: &Manifest, canonical: &Digest, pushed: &Digest, length: u64) -> Self {
        let hash = hash(manifest.descriptor(canonical, length), canonical);
        Self { pushed: pushed.clone(), hash, is_found: false }
    }
}

// === impl Fsck ===

impl Fsck<'_> {
    pub(super) fn visit_row(
        &mut self,
        repository: &mut Repository,
        subject: &Digest,
        digest: &Digest,
        found: &Found,
    ) -> Result<(), StoreError> {
        if !self.is_first_pass {
            return Ok(());
        }
        let at = |kind| Finding::at(kind, &found.key).of(&repository.name).digest(digest);
        let canonical = repository.manifest(digest);
        if canonical.as_ref().is_some_and(|canonical| repository.unknown.contains(canonical)) {
            return Ok(());
        }
        let expected = canonical.and_then(|canonical| {
            repository.rows.get_mut(&(subject.clone(), canonical.clone())).zip(Some(canonical))
        });
        let Some((expected, canonical)) = expected else {
            let link = RepositoryKeys(&repository.name).revision_link(digest);
            // A registry may have written the manifest since the scan.
            if repository.manifest(digest).is_none() && self.is_there(&link)? {
                return Ok(());
            }
            let remove = || self.storage.remove(&found.key).map(drop);
            let is_repaired = self.repairs() && Self::try_repair(&found.key, remove)?;
            let finding = at(FindingKind::ReferrerExcess).detail(format_args!("subject {subject}"));
            self.report(&finding.repaired(is_repaired));
            return Ok(());
        };
        expected.is_found = true;
        let wanted = expected.hash.clone();
        let detail = match self.read(&found.key, MAX_DESCRIPTOR_BYTES)? {
            Read::Absent | Read::Unreadable => return Ok(()),
            Read::TooLong(length) => format!("is {length} bytes long"),
            Read::Found(bytes) => match serde_json::from_slice::<Descriptor>(&bytes) {
                Ok(row) if row.digest == *digest && hash(row.clone(), &canonical) == wanted => return Ok(()),
                Ok(_) => "is of another manifest, or of another form of it".into(),
                Err(_) if bytes.is_empty() => "is empty".into(),
                Err(_) => format!("holds {}", quoted(&bytes)),
            },
        };
        let is_repaired = self.repairs() && self.write_row(repository, subject, digest, &canonical)?;
        let at = |kind| Finding::at(kind, &found.key).of(&repository.name).digest(digest);
        self.report(&at(FindingKind::ReferrerDiffers).detail(detail).repaired(is_repaired));
        Ok(())
    }

    pub(super) fn visit_stamp(
        &mut self,
        repository: &mut Repository,
        found: &Found,
    ) -> Result<(), StoreError> {
        if self.is_first_pass {
            repository.stamp = self.read(&found.key, MAX_STAMP_BYTES)?.bytes().cloned();
        }
        Ok(())
    }

    /// Reports the descriptors that were not found.
    pub(super) fn check_rows(&mut self, repository: &Repository) -> Result<(), StoreError> {
        if !self.is_first_pass || repository.rows.values().all(|row| row.is_found) {
            return Ok(());
        }
        let place = RepositoryKeys(&repository.name);
        let stamp = repository.stamp.as_deref().and_then(|stamp| std::str::from_utf8(stamp).ok());
        let is_current = stamp == Some(&self.revisions_version(repository)?);
        let listed = stamped(stamp.unwrap_or_default());
        for ((subject, canonical), row) in &repository.rows {
            let key = place.referrer(subject, &row.pushed);
            let is_gone =
                row.is_found || self.is_there(&key)? || !self.is_there(&place.revision_link(&row.pushed))?;
            if is_gone {
                continue;
            }
            let is_believed = if self.is_shared { listed.contains(short(&row.pushed)) } else { is_current };
            let kind = if is_believed { FindingKind::ReferrerMissing } else { FindingKind::ReferrerUnbuilt };
            let is_repaired =
                self.repairs() && self.write_row(repository, subject, &row.pushed, canonical)?;
            let finding = Finding::at(kind, key).of(&repository.name).digest(&row.pushed);
            self.report(&finding.detail(format_args!("subject {subject}")).repaired(is_repaired));
        }
        Ok(())
    }

    /// Returns the version of a repository's manifests, as the store writes it beside complete descriptors.
    fn revisions_version(&self, repository: &Repository) -> Result<String, StoreError> {
        use quinistry_oci::Algorithm;
        let mut version = String::new();
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let folder = RepositoryKeys(&repository.name).revisions(algorithm);
            version.push_str(&self.storage.listing_version(&folder)?.text);
            version.push('\n');
        }
        Ok(version)
    }

    /// Writes a descriptor. Returns false if the manifest is gone or damaged by now.
    fn write_row(
        &mut self,
        repository: &Repository,
        subject: &Digest,
        digest: &Digest,
        canonical: &Digest,
    ) -> Result<bool, StoreError> {
        let read = self.read(&blob(canonical), MAX_STORED_MANIFEST_BYTES)?;
        let Some(bytes) = read.bytes().filter(|bytes| canonical.matches(bytes)) else { return Ok(false) };
        let noted = repository.types.get(digest).copied();
        let media_type = noted.or_else(|| Manifest::type_of(bytes)).unwrap_or(media_type::OCI_MANIFEST);
        let Ok(manifest) = Manifest::parse(bytes, Some(media_type)) else { return Ok(false) };
        let row = to_json(&manifest.descriptor(digest, bytes.len() as u64));
        let key = RepositoryKeys(&repository.name).referrer(subject, digest);
        self.put(&key, &row)
    }
}
