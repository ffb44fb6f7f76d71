//! Checks of manifests: their bytes, and the parts that they need.

use std::collections::BTreeMap;

use bytes::Bytes;
use quinistry_oci::{Algorithm, Descriptor, Digest, Manifest, media_type};

use super::contents::Stored;
use super::reading::{Read, digest_in, of_one_file};
use super::repository::{Repository, Sha256};
use super::rows::ExpectedRow;
use super::{Finding, FindingKind, Fsck};
use crate::layout::{RepositoryKeys, blob};
use crate::manifests::MAX_STORED_MANIFEST_BYTES;
use crate::{MAX_LINK_BYTES, StoreError};

/// Bytes of manifests that are read at once, unless a single one is longer.
const MAX_BYTES_AT_ONCE: u64 = 8 * 1024 * 1024;

/// Number of manifests that are read at once.
const READ_AT_ONCE: usize = 64;

/// Greatest number of parts that a finding names.
const MAX_NAMED_PARTS: usize = 8;

/// Manifest to read: its SHA-256, and the longest of its names, by which it was pushed.
type Named = (Digest, Digest);

/// Bytes of a manifest, or the reason why they are not there.
enum Content {
    Whole(Bytes),
    Gone,
    Damaged(String),
    Unreadable,
}

impl Fsck<'_> {
    /// Reads the manifests of a repository, once all links of blobs and manifests are known.
    pub(super) fn read_manifests(&mut self, repository: &mut Repository) -> Result<(), StoreError> {
        if repository.is_read {
            return Ok(());
        }
        repository.is_read = true;
        // A manifest with two names was pushed by the longer one.
        let long: BTreeMap<Digest, Digest> = repository
            .long_manifests
            .iter()
            .map(|(long, canonical)| (canonical.clone(), long.clone()))
            .collect();
        let only_long = long.keys().filter(|canonical| repository.manifest(canonical).is_none());
        let only_long: Vec<Sha256> = only_long.filter_map(Sha256::new).collect();
        let all = repository.manifests.clone().into_iter().chain(only_long);
        let (mut batch, mut weight): (Vec<Named>, _) = (Vec::new(), 0);
        for packed in all {
            let canonical = packed.digest();
            let length = match self.contents.look_up(&canonical) {
                Stored::Found { length, .. } => length.min(MAX_STORED_MANIFEST_BYTES),
                Stored::Absent => 0,
                Stored::OtherWindow => MAX_BYTES_AT_ONCE,
            };
            if !batch.is_empty() && (weight + length > MAX_BYTES_AT_ONCE || batch.len() == READ_AT_ONCE) {
                self.check_batch(repository, &std::mem::take(&mut batch))?;
                weight = 0;
            }
            weight += length;
            let pushed = long.get(&canonical).unwrap_or(&canonical).clone();
            batch.push((canonical, pushed));
        }
        self.check_batch(repository, &batch)
    }

    fn check_batch(&mut self, repository: &mut Repository, batch: &[Named]) -> Result<(), StoreError> {
        let keys: Vec<_> = batch.iter().map(|(canonical, _)| blob(canonical)).collect();
        let read = match self.storage.read_all(&keys, MAX_STORED_MANIFEST_BYTES) {
            Ok(read) => read,
            Err(error) if of_one_file(&error).is_some() => vec![None; keys.len()],
            Err(error) => return Err(error.into()),
        };
        for ((canonical, pushed), bytes) in batch.iter().zip(read) {
            let content = match bytes {
                Some(bytes) if canonical.matches(&bytes) => Content::Whole(bytes),
                _ => self.read_manifest(canonical)?,
            };
            self.check_manifest(repository, canonical, pushed, content)?;
        }
        Ok(())
    }

    /// Reads a manifest that was absent, too long or damaged.
    fn read_manifest(&mut self, canonical: &Digest) -> Result<Content, StoreError> {
        Ok(match self.read(&blob(canonical), MAX_STORED_MANIFEST_BYTES)? {
            Read::Found(bytes) if canonical.matches(&bytes) => Content::Whole(bytes),
            Read::Found(bytes) => Content::Damaged(format!("has {}", Digest::sha256(&bytes))),
            Read::TooLong(length) => Content::Damaged(format!("is {length} bytes long")),
            Read::Absent => Content::Gone,
            Read::Unreadable => Content::Unreadable,
        })
    }

    fn check_manifest(
        &mut self,
        repository: &mut Repository,
        canonical: &Digest,
        pushed: &Digest,
        content: Content,
    ) -> Result<(), StoreError> {
        let link = RepositoryKeys(&repository.name).revision_link(pushed);
        let bytes = match content {
            Content::Whole(bytes) => bytes,
            Content::Gone => {
                repository.unknown.insert(canonical.clone());
                if self.is_first_pass && self.is_there(&link)? {
                    let finding = Finding::at(FindingKind::RevisionWithoutContent, link);
                    repository.hold(canonical, finding.digest(pushed));
                }
                return Ok(());
            }
            Content::Damaged(detail) => {
                repository.unknown.insert(canonical.clone());
                if self.is_first_pass {
                    let finding = Finding::at(FindingKind::ManifestDamaged, blob(canonical));
                    repository.hold(canonical, finding.digest(pushed).detail(detail));
                }
                return Ok(());
            }
            Content::Unreadable => {
                repository.unknown.insert(canonical.clone());
                return Ok(());
            }
        };
        if pushed.algorithm() != Algorithm::Sha256 && !pushed.matches(&bytes) {
            if self.is_first_pass {
                let finding = Finding::at(FindingKind::LinkMisdirected, link).digest(pushed);
                let detail = format!("holds {canonical}, whose bytes have another digest");
                repository.hold(canonical, finding.detail(detail));
            }
            return Ok(());
        }
        let noted = repository.types.get(pushed).copied();
        let media_type = noted.or_else(|| Manifest::type_of(&bytes)).unwrap_or(media_type::OCI_MANIFEST);
        let manifest = if media_type == media_type::DOCKER_SCHEMA_1 {
            Manifest::of_schema_1(&bytes)
        } else {
            Manifest::parse(&bytes, Some(media_type))
        };
        let manifest = match manifest {
            Ok(manifest) if !Manifest::has_other_spelling(&bytes) => manifest,
            other => {
                repository.unknown.insert(canonical.clone());
                if self.is_first_pass {
                    let reason = other
                        .err()
                        .map_or("has members in another spelling".into(), |error| error.to_string());
                    let finding = Finding::at(FindingKind::ManifestNotUnderstood, blob(canonical));
                    repository.hold(canonical, finding.digest(pushed).detail(reason));
                }
                return Ok(());
            }
        };
        self.check_parts(repository, canonical, pushed, &manifest)?;
        if self.is_first_pass
            && let Some(subject) = &manifest.subject
        {
            let row = ExpectedRow::new(&manifest, canonical, pushed, bytes.len() as u64);
            repository.rows.insert((subject.clone(), canonical.clone()), row);
        }
        Ok(())
    }

    /// Checks that a manifest's parts are in the repository, and have the lengths that the manifest says.
    fn check_parts(
        &mut self,
        repository: &mut Repository,
        canonical: &Digest,
        pushed: &Digest,
        manifest: &Manifest,
    ) -> Result<(), StoreError> {
        let mut unlinked: Vec<&Digest> = Vec::new();
        let (mut gone, mut damaged): (Vec<&Digest>, Vec<&Digest>) = (Vec::new(), Vec::new());
        let mut lengths: Vec<(&Descriptor, Digest, u64)> = Vec::new();
        // Layers that are by design elsewhere may be here all the same.
        let blobs = manifest.blobs.iter().map(|part| (part, false, false));
        let foreign = manifest.foreign.iter().map(|part| (part, true, false));
        let manifests = manifest.manifests.iter().map(|part| (part, false, true));
        for (part, is_optional, may_be_manifest) in blobs.chain(foreign).chain(manifests) {
            let as_manifest = if may_be_manifest { repository.manifest(&part.digest) } else { None };
            let Some(bytes) = as_manifest.or_else(|| repository.blob(&part.digest)) else {
                if self.is_first_pass && !is_optional && !self.is_linked(repository, &part.digest)? {
                    unlinked.push(&part.digest);
                }
                continue;
            };
            match self.contents.look_up(&bytes) {
                Stored::Absent if self.is_there(&blob(&bytes))? => {}
                Stored::Absent => gone.push(&part.digest),
                Stored::Found { is_damaged: true, .. } => damaged.push(&part.digest),
                Stored::Found { length, .. } if length != part.size => lengths.push((part, bytes, length)),
                Stored::Found { .. } | Stored::OtherWindow => {}
            }
        }
        let has_sizes = manifest.media_type != media_type::DOCKER_SCHEMA_1;
        for (part, bytes, length) in lengths.into_iter().filter(|_| has_sizes) {
            let finding = Finding::at(FindingKind::ContentWrongLength, blob(&bytes)).digest(&part.digest);
            let detail = format!("has {length} bytes, and {} by {pushed}", part.size);
            repository.hold(canonical, finding.detail(detail));
        }
        let missing: Vec<&Digest> = unlinked.into_iter().chain(gone).collect();
        for (kind, parts) in
            [(FindingKind::ManifestPartMissing, missing), (FindingKind::ManifestPartDamaged, damaged)]
        {
            if !parts.is_empty() {
                let finding = Finding::at(kind, blob(canonical)).digest(pushed);
                repository.hold(canonical, finding.detail(named(&parts)));
            }
        }
        Ok(())
    }

    /// Returns true if a repository has a link of a part at this moment that is whole: a registry may have
    /// written it since the scan.
    fn is_linked(&mut self, repository: &Repository, part: &Digest) -> Result<bool, StoreError> {
        let place = RepositoryKeys(&repository.name);
        for key in [place.layer_link(part), place.revision_link(part)] {
            let read = self.read(&key, MAX_LINK_BYTES)?;
            let is_whole = match (part.algorithm(), digest_in(&read)) {
                (Algorithm::Sha256, Ok(held)) => held == *part,
                (Algorithm::Sha512, Ok(held)) => held.algorithm() == Algorithm::Sha256,
                (_, Err(_)) => false,
            };
            if is_whole {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Returns the digests of parts for display.
fn named(parts: &[&Digest]) -> String {
    let mut parts = parts.to_vec();
    parts.dedup();
    let shown: Vec<_> = parts.iter().take(MAX_NAMED_PARTS).map(|part| part.as_str()).collect();
    let more = parts.len() - shown.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", shown.join(", "))
}
