//! Manifests and tags: reading, by tag or digest, and checking against the digest.

mod absent_parts;
mod changes;

use std::collections::HashSet;

use bytes::Bytes;
use quinistry_oci::{Algorithm, Content, Digest, Manifest, Reference, RepositoryName, media_type};

use super::cache::manifests::{CachedManifest, CheckedManifest, MAX_CACHED_MANIFEST_BYTES};
use super::gc::online::subject::{Subject, SubjectKind};
use super::layout::{RepositoryKeys, blob};
use super::storage::StorageError;
use super::verified::is_damage;
use super::{Store, StoreError};

pub use self::absent_parts::AbsentParts;
pub(crate) use self::absent_parts::MissingParts;
pub(crate) use self::changes::CommitRules;
pub use self::changes::Tagged;
pub(super) use self::changes::{MAX_MISSING_PARTS, tag_indexes};

/// Longest manifest that is read, in bytes. Manifests of another program may be longer than ours, and must
/// fit into memory.
pub(super) const MAX_STORED_MANIFEST_BYTES: u64 = 16 * 1024 * 1024;

/// Manifest as it was pushed.
#[derive(Clone, Debug)]
pub struct StoredManifest {
    /// Digest of the request, or the digest that the tag was pushed with.
    pub digest: Digest,
    /// Media type.
    pub media_type: &'static str,
    /// Bytes of the manifest. Long ones are read in chunks, so that any number of clients can hold one.
    pub content: Content,
}

/// Manifest that a reference resolves to.
#[derive(Clone, Debug)]
pub(super) struct ResolvedReference {
    /// Digest of the request, or the digest that the tag was pushed with.
    digest: Digest,
    /// SHA-256, under which the bytes are stored.
    canonical: Digest,
    /// Media type that the manifest was pushed with, if its bytes do not tell the type.
    pushed_as: Option<&'static str>,
}

impl StoredManifest {
    fn of(
        resolved: &ResolvedReference,
        CheckedManifest { content, media_type, .. }: CheckedManifest,
    ) -> Self {
        let media_type = resolved.pushed_as.unwrap_or(media_type);
        Self { digest: resolved.digest.clone(), media_type, content }
    }
}

impl Store {
    /// Returns a manifest by tag or digest.
    pub fn manifest(
        &self,
        name: &RepositoryName,
        reference: &Reference,
    ) -> Result<StoredManifest, StoreError> {
        let unknown = || {
            Err(if self.is_repository(name)? {
                StoreError::ManifestUnknown
            } else {
                StoreError::RepositoryUnknown
            })
        };
        let begun = self.0.resolved_references.begin();
        let tag = match reference {
            Reference::Digest(_) => None,
            Reference::Tag(tag) => Some(RepositoryKeys(name).tag_link(tag)),
        };
        let mut target = match (reference, &tag) {
            (Reference::Digest(digest), _) => Some(digest.clone()),
            (_, tag) => tag.as_ref().map(|tag| self.link(tag)).transpose()?.flatten(),
        };
        let (digest, canonical) = loop {
            let Some(digest) = target else { return unknown() };
            let revision = if self.is_shared() {
                self.revision_with_bytes(name, &digest)?
            } else {
                self.revision(name, &digest)?
            };
            if let Some(canonical) = revision {
                break (digest, canonical);
            }
            // The tag was moved since, and its former manifest deleted.
            target = match &tag {
                Some(tag) => self.link(tag)?.filter(|now| *now != digest),
                None => None,
            };
        };
        if matches!(reference, Reference::Digest(_)) {
            self.touch_for_pull(&[Subject::revision(name, &canonical)]);
        }
        let content = match self.content_to_send(&canonical) {
            Err(StoreError::ManifestUnknown) if self.restore_from_trash(&canonical)? => {
                self.content_to_send(&canonical)?
            }
            content => content?,
        };
        if digest != canonical
            && !content.content.digest(digest.algorithm()).is_ok_and(|found| found == digest)
        {
            return Err(StoreError::Damaged(digest));
        }
        let pushed_as = if content.declares_type { None } else { self.pushed_as(name, &digest)? };
        let resolved = ResolvedReference { digest, canonical, pushed_as };
        let manifest = StoredManifest::of(&resolved, content);
        self.0.resolved_references.insert(begun, name, reference.clone(), resolved, 1);
        Ok(manifest)
    }

    /// Returns a manifest by tag or digest if the caches hold it, and, by digest, a collector does not remove it for
    /// long. Never waits for the storage.
    #[must_use]
    pub fn cached_manifest(&self, name: &RepositoryName, reference: &Reference) -> Option<StoredManifest> {
        let resolved = self.0.resolved_references.get(name, reference)?;
        if let Reference::Digest(digest) = reference
            && !self.may_answer_from_cache(SubjectKind::Revision, name, digest)
        {
            return None;
        }
        let content = self.checked(&resolved.canonical)?;
        Some(StoredManifest::of(&resolved, content))
    }

    /// Returns the media type that a manifest was pushed with, if its bytes do not tell the type.
    pub(super) fn pushed_as(
        &self,
        name: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<&'static str>, StoreError> {
        let pushed = self.read_note(&RepositoryKeys(name).revision_type(digest), super::MAX_LINK_BYTES)?;
        Ok(pushed.and_then(|bytes| media_type::known(std::str::from_utf8(&bytes).ok()?)))
    }

    /// Returns all digests by which a repository has a manifest, its SHA-256 first.
    pub(super) fn names_of(&self, name: &RepositoryName, digest: &Digest) -> Result<Vec<Digest>, StoreError> {
        let canonical = self.revision(name, digest)?.ok_or(StoreError::ManifestUnknown)?;
        let mut digests = vec![canonical.clone()];
        // A manifest that was pushed by another hash has that name, too.
        if let Ok(known) = self.content(&canonical) {
            let other = Digest::of(Algorithm::Sha512, &known.bytes);
            if self.revision(name, &other)?.is_some() {
                digests.push(other);
            }
        }
        if !digests.contains(digest) {
            digests.push(digest.clone());
        }
        Ok(digests)
    }

    /// Returns all digests by which a manifest may be known, its SHA-256 first, with or without a link in the
    /// repository.
    pub(super) fn possible_names_of(&self, canonical: &Digest) -> Vec<Digest> {
        // Another name of a damaged or deleted manifest cannot be computed.
        let other = self.content(canonical).ok().map(|known| Digest::of(Algorithm::Sha512, &known.bytes));
        [canonical.clone()].into_iter().chain(other).collect()
    }

    /// Returns the SHA-256 of a manifest that a repository has.
    pub(super) fn revision(
        &self,
        name: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<Digest>, StoreError> {
        self.canonical(&RepositoryKeys(name).revision_link(digest), digest)
    }

    /// Returns the content of a manifest that was checked before.
    fn checked(&self, canonical: &Digest) -> Option<CheckedManifest> {
        self.0.manifest_cache.get(canonical).map(in_memory).or_else(|| self.0.manifest_cache.long(canonical))
    }

    /// Returns a manifest's content, which has its digest: its bytes, or the place from which a long manifest
    /// is read.
    fn content_to_send(&self, canonical: &Digest) -> Result<CheckedManifest, StoreError> {
        if let Some(known) = self.0.manifest_cache.get(canonical) {
            return Ok(in_memory(known));
        }
        let key = blob(canonical);
        if let Some(long) = self.0.manifest_cache.long(canonical)
            && long.tag == self.storage().head(&key)?.map(|found| found.tag)
        {
            return Ok(long);
        }
        let known = self.content(canonical)?;
        if known.bytes.len() <= MAX_CACHED_MANIFEST_BYTES {
            return Ok(in_memory(known));
        }
        let (content, tag) = self.storage().open(&key)?.ok_or(StoreError::ManifestUnknown)?;
        // The file may have changed since it was read.
        if !content.digest(Algorithm::Sha256).is_ok_and(|found| found == *canonical) {
            return Err(StoreError::Damaged(canonical.clone()));
        }
        let long = CheckedManifest {
            content,
            media_type: known.media_type,
            declares_type: known.declares_type,
            tag: Some(tag),
        };
        self.0.manifest_cache.put_long(canonical, long.clone());
        Ok(long)
    }

    /// Returns a manifest's bytes, which have its digest.
    pub(super) fn content(&self, canonical: &Digest) -> Result<CachedManifest, StoreError> {
        if let Some(known) = self.0.manifest_cache.get(canonical) {
            return Ok(known);
        }
        let bytes = match self.storage().read(&blob(canonical), MAX_STORED_MANIFEST_BYTES) {
            // No manifest is so long: the file is something else by now.
            Err(StorageError::TooLong { .. }) => return Err(StoreError::Damaged(canonical.clone())),
            Err(StorageError::Io { source, .. }) if is_damage(&source) => {
                return Err(StoreError::Damaged(canonical.clone()));
            }
            read => read?.ok_or(StoreError::ManifestUnknown)?,
        };
        if !canonical.matches(&bytes) {
            self.suspect(canonical);
            return Err(StoreError::Damaged(canonical.clone()));
        }
        Ok(self.remember_manifest(canonical, bytes))
    }

    /// Caches a manifest's bytes, which have its digest.
    pub(super) fn remember_manifest(&self, canonical: &Digest, bytes: Bytes) -> CachedManifest {
        // Content that was accepted as a manifest is served as one, also if its form is not understood here.
        let media_type = Manifest::type_of(&bytes).unwrap_or(media_type::OCI_MANIFEST);
        let declares_type = Manifest::declares_type(&bytes);
        let known = CachedManifest { bytes, media_type, declares_type };
        self.0.manifest_cache.put(canonical, &known);
        known
    }

    /// Returns the SHA-256 of an entry of an index: a manifest, or else a blob.
    pub(super) fn part(&self, name: &RepositoryName, digest: &Digest) -> Result<Option<Digest>, StoreError> {
        match self.revision(name, digest)? {
            None => self.linked(name, digest),
            found => Ok(found),
        }
    }

    /// Returns all manifests of a repository: each by the digest that it was pushed with, and its SHA-256.
    /// Torn links are skipped, or with `strict` an error.
    pub(super) fn all_revisions(
        &self,
        name: &RepositoryName,
        strict: bool,
    ) -> Result<Vec<(Digest, Digest)>, StoreError> {
        let mut all: Vec<(Digest, Digest)> = Vec::new();
        let mut seen = HashSet::new();
        // A manifest with two names was pushed by the longer one.
        for algorithm in [Algorithm::Sha512, Algorithm::Sha256] {
            for digest in self.digests_in(&RepositoryKeys(name).revisions(algorithm), algorithm)? {
                let Some(canonical) = self.revision(name, &digest)? else {
                    let link = RepositoryKeys(name).revision_link(&digest);
                    if strict && self.storage().head(&link)?.is_some() {
                        return Err(StoreError::Torn(link));
                    }
                    continue;
                };
                if seen.insert(canonical.clone()) {
                    all.push((digest, canonical));
                }
            }
        }
        Ok(all)
    }
}

fn in_memory(CachedManifest { bytes, media_type, declares_type }: CachedManifest) -> CheckedManifest {
    CheckedManifest { content: [bytes].into(), media_type, declares_type, tag: None }
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::Access;
    use crate::Filesystem;

    #[test]
    fn a_long_manifest_is_checked_once_and_held_by_none_of_its_readers() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(Filesystem::open(folder.path(), Access::Write).unwrap(), false).unwrap();
        let name: RepositoryName = "a/b".parse().unwrap();
        let pad = "x".repeat(MAX_CACHED_MANIFEST_BYTES);
        let text = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[],"annotations":{{"a":"{pad}"}}}}"#,
            media_type::OCI_INDEX
        );
        let bytes = Bytes::from(text);
        let digest = Digest::sha256(&bytes);
        let manifest = Manifest::parse(&bytes, None).unwrap();
        store.put_manifest(&name, &bytes, &manifest, Tagged { digest: &digest, tags: &[] }).unwrap();
        let (canonical, reference) = (digest.clone(), Reference::Digest(digest));
        store.manifest(&name, &reference).unwrap();
        let cached = store.cached_manifest(&name, &reference).expect("the manifest was read a moment ago");
        assert_eq!(cached.media_type, media_type::OCI_INDEX);
        assert!(cached.content.as_bytes().is_none(), "it is in memory");
        assert_eq!(cached.content.to_bytes().unwrap(), bytes);

        let path = folder.path().join(blob(&canonical).to_string());
        std::fs::write(&path, vec![b' '; bytes.len()]).unwrap();
        store.0.resolved_references.invalidate_during(&name, || ());
        let damaged = store.manifest(&name, &reference).unwrap_err();
        assert!(matches!(damaged, StoreError::Damaged(_)), "{damaged:?}");
    }
}
