//! Manifests and tags: reading, committing in order, and deleting with all that belongs to them.

use std::collections::HashSet;

use bytes::Bytes;
use quinistry_oci::{
    Algorithm, Content, Descriptor, Digest, Manifest, Reference, RepositoryName, Tag, media_type, to_json,
};

use super::blobs::link_to;
use super::cache::manifests::{CachedManifest, CheckedManifest, MAX_CACHED_MANIFEST_BYTES};
use super::intents::Intent;
use super::layout::{Key, RepositoryKeys, blob};
use super::storage::{Entry, StorageError};
use super::verified::is_damage;
use super::{Inner, Store, StoreError};

/// Longest manifest that is read, in bytes. Manifests of another program may be longer than ours, and must
/// fit into memory.
const MAX_STORED_MANIFEST_BYTES: u64 = 16 * 1024 * 1024;

/// Greatest number of missing parts that an error names; the search for others ends there.
const MAX_MISSING_PARTS: usize = 64;

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

/// Digest and tags under which a manifest is pushed.
#[derive(Clone, Copy, Debug)]
pub struct Tagged<'a> {
    /// Digest of the manifest's bytes.
    pub digest: &'a Digest,
    /// Tags that shall refer to the manifest.
    pub tags: &'a [Tag],
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
            if let Some(canonical) = self.revision(name, &digest)? {
                break (digest, canonical);
            }
            // The tag was moved since, and its former manifest deleted.
            target = match &tag {
                Some(tag) => self.link(tag)?.filter(|now| *now != digest),
                None => None,
            };
        };
        let content = self.content_to_send(&canonical)?;
        if digest != canonical
            && !content.content.digest(digest.algorithm()).is_ok_and(|found| found == digest)
        {
            return Err(StoreError::Damaged(digest));
        }
        let pushed_as = self.pushed_as(name, &digest)?;
        let resolved = ResolvedReference { digest, canonical, pushed_as };
        let manifest = StoredManifest::of(&resolved, content);
        self.0.resolved_references.insert(begun, name, reference.clone(), resolved, 1);
        Ok(manifest)
    }

    /// Returns a manifest by tag or digest if the caches hold it. Never waits for the storage.
    #[must_use]
    pub fn cached_manifest(&self, name: &RepositoryName, reference: &Reference) -> Option<StoredManifest> {
        let resolved = self.0.resolved_references.get(name, reference)?;
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

    /// Commits a manifest. Everything that it refers to must exist, unless the store allows sparse manifests.
    pub fn put_manifest(
        &self,
        name: &RepositoryName,
        bytes: &Bytes,
        manifest: &Manifest,
        tagged: Tagged<'_>,
    ) -> Result<(), StoreError> {
        let canonical = Digest::sha256(bytes);
        self.changing_manifests(name, || {
            if !self.0.allows_sparse {
                self.check_parts(name, manifest)?;
            }
            let place = RepositoryKeys(name);
            let before = self.descriptor_state(name)?;
            // Existing bytes are replaced: they may be torn, or not be flushed yet.
            let mut targets: Vec<Entry<'_>> = vec![(blob(&canonical), bytes)];
            let mut links: Vec<Entry<'_>> = Vec::new();
            let other = (*tagged.digest != canonical).then_some(tagged.digest);
            for digest in [&canonical].into_iter().chain(other) {
                let key = place.revision_type(digest);
                if !manifest.typed {
                    targets.push((key, manifest.media_type.as_bytes()));
                } else if self.storage().exists(&key)? {
                    // These bytes were pushed as another type before.
                    self.storage().remove(&key)?;
                }
                links.push(link_to(place.revision_link(digest), &canonical));
            }
            let descriptor = || to_json(&manifest.descriptor(tagged.digest, bytes.len() as u64));
            let referrer = manifest.subject.as_ref().map(|subject| (subject, descriptor()));
            if let Some((subject, descriptor)) = &referrer {
                links.push((place.referrer(subject, tagged.digest), descriptor));
            }
            // Several tags are moved by an intent: all of them, or none.
            let is_single_tag = tagged.tags.len() == 1;
            let indexed = if is_single_tag { tagged.tags } else { &[] };
            let indexes: Vec<_> = tag_indexes(name, indexed, tagged.digest).collect();
            self.add_links(&canonical, || Ok(self.storage().write(&[&targets, &links, &indexes])?))?;
            self.update_descriptor_version(name, before)?;
            match tagged.tags {
                [] => Ok(()),
                _ if is_single_tag => self.put_tags(name, tagged.tags, tagged.digest),
                tags => self.carry_out(&Intent::Tag {
                    repository: name.clone(),
                    digest: tagged.digest.clone(),
                    tags: tags.to_vec(),
                }),
            }
        })
    }

    /// Removes a tag from a repository; its manifest stays.
    pub fn delete_tag(&self, name: &RepositoryName, tag: &Tag) -> Result<(), StoreError> {
        self.changing_manifests(name, || {
            if self.link(&RepositoryKeys(name).tag_link(tag))?.is_none() {
                return Err(StoreError::ManifestUnknown);
            }
            self.remove_tag(name, tag)
        })
    }

    /// Removes a manifest from a repository, with all of its tags.
    pub fn delete_manifest(&self, name: &RepositoryName, digest: &Digest) -> Result<(), StoreError> {
        self.changing_manifests(name, || {
            let digests = self.names_of(name, digest)?;
            let mut tags = Vec::new();
            for tag in self.storage().list(&RepositoryKeys(name).tags())?.unwrap_or_default() {
                let Ok(tag) = tag.parse::<Tag>() else { continue };
                if self
                    .link(&RepositoryKeys(name).tag_link(&tag))?
                    .is_some_and(|target| digests.contains(&target))
                {
                    tags.push(tag);
                }
            }
            let canonical = digests[0].clone();
            let all = Intent::Delete { repository: name.clone(), digests, tags };
            self.remove_links(&canonical, || self.carry_out(&all))
        })
    }

    /// Runs a change of a repository's manifests or tags, under the repository's lock.
    pub(super) fn changing_manifests(
        &self,
        name: &RepositoryName,
        change: impl FnOnce() -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        // An interrupted change that is finished later would undo this one.
        self.finish_pending_intents()?;
        self.changing_manifests_at_once(name, || {
            self.remove_obsolete_intents(name)?;
            change()
        })
    }

    /// Runs a change as [`Self::changing_manifests`] does, but does not finish interrupted changes first: for
    /// changes that must succeed on a full storage.
    pub(super) fn changing_manifests_at_once<T>(
        &self,
        name: &RepositoryName,
        change: impl FnOnce() -> T,
    ) -> T {
        let Inner {
            locks,
            resolved_references,
            tag_list_cache,
            referrers_cache,
            unsaved_referrers,
            artifact_types,
            ..
        } = &*self.0;
        locks.with(name, || {
            artifact_types.invalidate(name);
            let change = || referrers_cache.invalidate_during(name, change);
            let result = unsaved_referrers.invalidate_during(name, || {
                resolved_references.invalidate_during(name, || tag_list_cache.invalidate_during(name, change))
            });
            artifact_types.invalidate(name);
            result
        })
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
        let long = CheckedManifest { content, media_type: known.media_type, tag: Some(tag) };
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
            return Err(StoreError::Damaged(canonical.clone()));
        }
        // Content that was accepted as a manifest is served as one, also if its form is not understood here.
        let media_type = Manifest::type_of(&bytes).unwrap_or(media_type::OCI_MANIFEST);
        let known = CachedManifest { bytes, media_type };
        self.0.manifest_cache.put(canonical, &known);
        Ok(known)
    }

    /// Adds a manifest to the indexes of tags, by which distribution finds the manifests of a tag that it
    /// deletes.
    pub(super) fn index_tags(
        &self,
        name: &RepositoryName,
        tags: &[Tag],
        digest: &Digest,
    ) -> Result<(), StoreError> {
        let entries: Vec<_> = tag_indexes(name, tags, digest).collect();
        Ok(self.storage().write(&[&entries])?)
    }

    /// Moves tags to a manifest that exists and that their indexes name already.
    pub(super) fn put_tags(
        &self,
        name: &RepositoryName,
        tags: &[Tag],
        digest: &Digest,
    ) -> Result<(), StoreError> {
        let links = tags.iter().map(|tag| link_to(RepositoryKeys(name).tag_link(tag), digest));
        Ok(self.storage().write(&[&links.collect::<Vec<_>>()])?)
    }

    /// Removes a tag with its index.
    pub(super) fn remove_tag(&self, name: &RepositoryName, tag: &Tag) -> Result<(), StoreError> {
        let place = RepositoryKeys(name);
        self.clear(&place.tag_link(tag), &place.tag(tag))?;
        Ok(())
    }

    /// Checks that everything a manifest refers to is in the repository, in the declared size, and durable.
    fn check_parts(&self, name: &RepositoryName, manifest: &Manifest) -> Result<(), StoreError> {
        let mut missing: Vec<Digest> = Vec::new();
        let mut seen = Vec::new();
        let place = RepositoryKeys(name);
        let blobs = manifest.blobs.iter().map(|part| (part, self.stored(name, &part.digest, Self::linked)));
        let manifests =
            manifest.manifests.iter().map(|part| (part, self.stored(name, &part.digest, Self::part)));
        for (Descriptor { digest, size, .. }, found) in blobs.chain(manifests) {
            match found? {
                Some((_, stored)) if stored != *size => {
                    return Err(StoreError::Size { digest: digest.clone(), declared: *size, stored });
                }
                Some((bytes, _)) => {
                    seen.extend([bytes, place.layer_link(digest), place.revision_link(digest)]);
                }
                None if missing.contains(digest) => {}
                None => missing.push(digest.clone()),
            }
            if missing.len() >= MAX_MISSING_PARTS {
                break;
            }
        }
        if !missing.is_empty() {
            return Err(StoreError::Missing(missing));
        }
        // Another request may have made a part visible and not flushed it yet.
        Ok(self.storage().sync_parents(&seen)?)
    }

    /// Returns the SHA-256 of an entry of an index: a manifest, or else a blob.
    pub(super) fn part(&self, name: &RepositoryName, digest: &Digest) -> Result<Option<Digest>, StoreError> {
        match self.revision(name, digest)? {
            None => self.linked(name, digest),
            found => Ok(found),
        }
    }

    /// Returns the key and the length of a part's bytes; `None` if they are absent or damaged.
    fn stored(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        find: impl FnOnce(&Self, &RepositoryName, &Digest) -> Result<Option<Digest>, StoreError>,
    ) -> Result<Option<(Key, u64)>, StoreError> {
        let Some(canonical) = find(self, name, digest)? else { return Ok(None) };
        Ok(self.sound(&canonical, digest)?.map(|length| (blob(&canonical), length)))
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

fn in_memory(CachedManifest { bytes, media_type }: CachedManifest) -> CheckedManifest {
    CheckedManifest { content: [bytes].into(), media_type, tag: None }
}

fn tag_indexes<'a>(
    name: &RepositoryName,
    tags: &[Tag],
    digest: &'a Digest,
) -> impl Iterator<Item = Entry<'a>> {
    tags.iter().map(move |tag| link_to(RepositoryKeys(name).tag_index(tag, digest), digest))
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
