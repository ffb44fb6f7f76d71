//! Manifests and tags: what is committed, in which order, and what goes with them.

use std::collections::HashSet;

use bytes::Bytes;
use quinistry_oci::{
    Algorithm, Content, Descriptor, Digest, Manifest, Reference, RepositoryName, Tag, media_type, to_json,
};

use super::blobs::link_to;
use super::cache::manifests::{Known, LONGEST as LONGEST_KEPT, Long};
use super::intents::Intent;
use super::layout::{Key, Place, blob};
use super::storage::{Entry, StorageError};
use super::verified::is_damage;
use super::{Inner, Store, StoreError};

/// Manifests of another program may be longer than ours; whatever it is, it must fit into memory.
const LONGEST: u64 = 16 * 1024 * 1024;

/// So many digests are named when a manifest's parts are missing; then the rest is not even looked for.
const MOST_MISSING: usize = 64;

/// A manifest, as it was pushed.
#[derive(Clone, Debug)]
pub struct StoredManifest {
    /// By which it was asked for, or that its tag was pushed with.
    pub digest: Digest,
    /// Its type.
    pub media_type: &'static str,
    /// Bytes of the manifest. Long ones are read by pieces, so that any number of clients can hold it.
    pub content: Content,
}

/// A manifest under a digest, and under tags.
#[derive(Clone, Copy, Debug)]
pub struct Tagged<'a> {
    /// Of the bytes.
    pub digest: &'a Digest,
    /// Which shall mean it.
    pub tags: &'a [Tag],
}

/// What a reference means.
#[derive(Clone, Debug)]
pub(super) struct Meaning {
    /// By which it was asked for, or that its tag was pushed with.
    digest: Digest,
    /// Where its bytes lie.
    canonical: Digest,
    /// The type that it was pushed with, if its bytes do not tell it.
    pushed_as: Option<&'static str>,
}

impl StoredManifest {
    fn of(meaning: &Meaning, Long { content, media_type, .. }: Long) -> Self {
        let media_type = meaning.pushed_as.unwrap_or(media_type);
        Self { digest: meaning.digest.clone(), media_type, content }
    }
}

impl Store {
    /// A manifest by tag or digest.
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
        let begun = self.0.meanings.begin();
        let tag = match reference {
            Reference::Digest(_) => None,
            Reference::Tag(tag) => Some(Place(name).tag_link(tag)),
        };
        let mut meant = match (reference, &tag) {
            (Reference::Digest(digest), _) => Some(digest.clone()),
            (_, tag) => tag.as_ref().map(|tag| self.link(tag)).transpose()?.flatten(),
        };
        let (digest, canonical) = loop {
            let Some(digest) = meant else { return unknown() };
            if let Some(canonical) = self.revision(name, &digest)? {
                break (digest, canonical);
            }
            // A tag that was moved since, and what it had meant deleted.
            meant = match &tag {
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
        let meaning = Meaning { digest, canonical, pushed_as };
        let manifest = StoredManifest::of(&meaning, content);
        self.0.meanings.found(begun, name, reference.clone(), meaning, 1);
        Ok(manifest)
    }

    /// The same if it was asked for a moment ago and is still known: never waits for a storage.
    #[must_use]
    pub fn manifest_at_hand(&self, name: &RepositoryName, reference: &Reference) -> Option<StoredManifest> {
        let meaning = self.0.meanings.get(name, reference)?;
        let content = self.checked(&meaning.canonical)?;
        Some(StoredManifest::of(&meaning, content))
    }

    /// The type that a manifest was pushed with, if its bytes do not tell it.
    pub(super) fn pushed_as(
        &self,
        name: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<&'static str>, StoreError> {
        let pushed = self.note(&Place(name).revision_type(digest), super::LINK)?;
        Ok(pushed.and_then(|bytes| media_type::known(std::str::from_utf8(&bytes).ok()?)))
    }

    /// Commits a manifest: all that it refers to must be there, unless this store takes less.
    pub fn put_manifest(
        &self,
        name: &RepositoryName,
        bytes: &Bytes,
        manifest: &Manifest,
        tagged: Tagged<'_>,
    ) -> Result<(), StoreError> {
        let canonical = Digest::sha256(bytes);
        self.changing_manifests(name, || {
            if !self.0.sparse {
                self.check_parts(name, manifest)?;
            }
            let place = Place(name);
            let before = self.referrers_before(name)?;
            // In place of what is there: that may be torn, or not be flushed yet.
            let mut entries: Vec<Entry<'_>> = vec![(blob(&canonical), bytes)];
            let other = (*tagged.digest != canonical).then_some(tagged.digest);
            for digest in [&canonical].into_iter().chain(other) {
                let key = place.revision_type(digest);
                if !manifest.typed {
                    entries.push((key, manifest.media_type.as_bytes()));
                } else if self.storage().exists(&key)? {
                    // The same bytes came as something else before.
                    self.storage().remove(&key)?;
                }
                entries.push(link_to(place.revision_link(digest), &canonical));
            }
            let descriptor = || to_json(&manifest.descriptor(tagged.digest, bytes.len() as u64));
            let referrer = manifest.subject.as_ref().map(|subject| (subject, descriptor()));
            if let Some((subject, descriptor)) = &referrer {
                entries.push((place.referrer(subject, tagged.digest), descriptor));
            }
            // What several tags mean is said at once, or not at all.
            let alone = tagged.tags.len() == 1;
            if alone {
                entries.extend(tag_indexes(name, tagged.tags, tagged.digest));
            }
            self.linking(&canonical, || Ok(self.storage().write(&entries)?))?;
            self.referrers_after(name, before)?;
            match tagged.tags {
                [] => Ok(()),
                _ if alone => self.put_tags(name, tagged.tags, tagged.digest),
                tags => self.carry_out(&Intent::Tag {
                    repository: name.clone(),
                    digest: tagged.digest.clone(),
                    tags: tags.to_vec(),
                }),
            }
        })
    }

    /// Takes a tag out of a repository; what it meant stays.
    pub fn delete_tag(&self, name: &RepositoryName, tag: &Tag) -> Result<(), StoreError> {
        self.changing_manifests(name, || {
            if self.link(&Place(name).tag_link(tag))?.is_none() {
                return Err(StoreError::ManifestUnknown);
            }
            self.remove_tag(name, tag)
        })
    }

    /// Takes a manifest out of a repository, with all of its tags.
    pub fn delete_manifest(&self, name: &RepositoryName, digest: &Digest) -> Result<(), StoreError> {
        self.changing_manifests(name, || {
            let digests = self.names_of(name, digest)?;
            let mut tags = Vec::new();
            for tag in self.storage().list(&Place(name).tags())?.unwrap_or_default() {
                let Ok(tag) = tag.parse::<Tag>() else { continue };
                if self.link(&Place(name).tag_link(&tag))?.is_some_and(|meant| digests.contains(&meant)) {
                    tags.push(tag);
                }
            }
            let canonical = digests[0].clone();
            let all = Intent::Delete { repository: name.clone(), digests, tags };
            self.unlinking(&canonical, || self.carry_out(&all))
        })
    }

    /// Runs what changes the manifests or tags of a repository, while nobody else changes it.
    pub(super) fn changing_manifests(
        &self,
        name: &RepositoryName,
        change: impl FnOnce() -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        // What was cut off would undo it when it is finished later.
        self.finish_intents_left()?;
        self.changing_at_once(name, || {
            self.remove_intents_over(name)?;
            change()
        })
    }

    /// The same whatever was cut off: for what must need no room.
    pub(super) fn changing_at_once<T>(&self, name: &RepositoryName, change: impl FnOnce() -> T) -> T {
        let Inner { locks, meanings, tag_lists, referrers, made, artifact_types, .. } = &*self.0;
        locks.with(name, || {
            artifact_types.forget(name);
            let change = || referrers.changing(name, change);
            let result = made.changing(name, || meanings.changing(name, || tag_lists.changing(name, change)));
            artifact_types.forget(name);
            result
        })
    }

    /// All digests by which a repository has a manifest, its SHA-256 first.
    pub(super) fn names_of(&self, name: &RepositoryName, digest: &Digest) -> Result<Vec<Digest>, StoreError> {
        let canonical = self.revision(name, digest)?.ok_or(StoreError::ManifestUnknown)?;
        let mut digests = vec![canonical.clone()];
        // What was pushed by another hash has that name, too.
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
        // A damaged or deleted manifest has no other name that could be told.
        let other = self.content(canonical).ok().map(|known| Digest::of(Algorithm::Sha512, &known.bytes));
        [canonical.clone()].into_iter().chain(other).collect()
    }

    /// The SHA-256 of a manifest that a repository has.
    pub(super) fn revision(
        &self,
        name: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<Digest>, StoreError> {
        self.canonical(&Place(name).revision_link(digest), digest)
    }

    /// Returns the content of a manifest that was checked before.
    fn checked(&self, canonical: &Digest) -> Option<Long> {
        self.0.recent.get(canonical).map(in_memory).or_else(|| self.0.recent.long(canonical))
    }

    /// Returns a manifest's content, which has its digest: its bytes, or the place from which a long manifest
    /// is read.
    fn content_to_send(&self, canonical: &Digest) -> Result<Long, StoreError> {
        if let Some(known) = self.0.recent.get(canonical) {
            return Ok(in_memory(known));
        }
        let key = blob(canonical);
        if let Some(long) = self.0.recent.long(canonical)
            && long.identity == self.storage().identity(&key)?
        {
            return Ok(long);
        }
        let known = self.content(canonical)?;
        if known.bytes.len() <= LONGEST_KEPT {
            return Ok(in_memory(known));
        }
        let (content, identity) = self.storage().open(&key)?.ok_or(StoreError::ManifestUnknown)?;
        // It may have changed since it was read.
        if !content.digest(Algorithm::Sha256).is_ok_and(|found| found == *canonical) {
            return Err(StoreError::Damaged(canonical.clone()));
        }
        let long = Long { content, media_type: known.media_type, identity: Some(identity) };
        self.0.recent.put_long(canonical, long.clone());
        Ok(long)
    }

    /// A manifest's bytes, which are what they should be.
    pub(super) fn content(&self, canonical: &Digest) -> Result<Known, StoreError> {
        if let Some(known) = self.0.recent.get(canonical) {
            return Ok(known);
        }
        let bytes = match self.storage().read(&blob(canonical), LONGEST) {
            // No manifest is so long: it is something else by now.
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
        let known = Known { bytes, media_type };
        self.0.recent.put(canonical, &known);
        Ok(known)
    }

    /// Has the indexes of tags, by which distribution finds what to delete, name a manifest.
    pub(super) fn index_tags(
        &self,
        name: &RepositoryName,
        tags: &[Tag],
        digest: &Digest,
    ) -> Result<(), StoreError> {
        let entries: Vec<_> = tag_indexes(name, tags, digest).collect();
        Ok(self.storage().write(&entries)?)
    }

    /// Has tags, whose indexes name it already, mean a manifest that is there.
    pub(super) fn put_tags(
        &self,
        name: &RepositoryName,
        tags: &[Tag],
        digest: &Digest,
    ) -> Result<(), StoreError> {
        let links = tags.iter().map(|tag| link_to(Place(name).tag_link(tag), digest));
        Ok(self.storage().write(&links.collect::<Vec<_>>())?)
    }

    /// Removes a tag with its index, at once.
    pub(super) fn remove_tag(&self, name: &RepositoryName, tag: &Tag) -> Result<(), StoreError> {
        self.storage().remove(&Place(name).tag(tag))?;
        Ok(())
    }

    /// Everything that a manifest refers to must be in the repository, in the size that it says, and there to stay.
    fn check_parts(&self, name: &RepositoryName, manifest: &Manifest) -> Result<(), StoreError> {
        let mut missing: Vec<Digest> = Vec::new();
        let mut seen = Vec::new();
        let place = Place(name);
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
            if missing.len() >= MOST_MISSING {
                break;
            }
        }
        if !missing.is_empty() {
            return Err(StoreError::Missing(missing));
        }
        // Somebody may be about to flush what is only seen yet.
        Ok(self.storage().settle(&seen)?)
    }

    /// Where the bytes of what an index lists lie: a manifest, or else a blob.
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

    /// All manifests of a repository: each by the digest that it was pushed with, and its SHA-256.
    /// Links that were torn are passed over, or with `strict` an error.
    pub(super) fn all_revisions(
        &self,
        name: &RepositoryName,
        strict: bool,
    ) -> Result<Vec<(Digest, Digest)>, StoreError> {
        let mut all: Vec<(Digest, Digest)> = Vec::new();
        let mut seen = HashSet::new();
        // What has two names was pushed by the longer one.
        for algorithm in [Algorithm::Sha512, Algorithm::Sha256] {
            for digest in self.digests_in(&Place(name).revisions(algorithm), algorithm)? {
                let Some(canonical) = self.revision(name, &digest)? else {
                    let link = Place(name).revision_link(&digest);
                    if strict && self.storage().length(&link)?.is_some() {
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

fn in_memory(Known { bytes, media_type }: Known) -> Long {
    Long { content: [bytes].into(), media_type, identity: None }
}

fn tag_indexes<'a>(
    name: &RepositoryName,
    tags: &[Tag],
    digest: &'a Digest,
) -> impl Iterator<Item = Entry<'a>> {
    tags.iter().map(move |tag| link_to(Place(name).tag_index(tag, digest), digest))
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
        let pad = "x".repeat(LONGEST_KEPT);
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
        let at_hand = store.manifest_at_hand(&name, &reference).expect("it was read a moment ago");
        assert_eq!(at_hand.media_type, media_type::OCI_INDEX);
        assert!(at_hand.content.as_bytes().is_none(), "it is in memory");
        assert_eq!(at_hand.content.to_bytes().unwrap(), bytes);

        let path = folder.path().join(blob(&canonical).to_string());
        std::fs::write(&path, vec![b' '; bytes.len()]).unwrap();
        store.0.meanings.changing(&name, || ());
        let damaged = store.manifest(&name, &reference).unwrap_err();
        assert!(matches!(damaged, StoreError::Damaged(_)), "{damaged:?}");
    }
}
