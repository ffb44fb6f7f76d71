//! Blobs: bytes that are stored once, and the links that make them part of repositories.

use std::ops::ControlFlow;

use bytes::Bytes;
use quinistry_oci::{Algorithm, Content, Digest, RepositoryName};

use super::gc::online::subject::{Subject, SubjectKind};
use super::gc::online::touch::{Cause, Needed};
use super::layout::{Key, RepositoryKeys, alias, blob};
use super::shared::LinkKind;
use super::storage::{Entry, StorageError};
use super::verified::is_damage;
use super::{Inner, RemoteAnswer, RemoteBlob, Store, StoreError, Usage};

/// Longest blob, in bytes, that is read and hashed as a whole when it is looked up; a longer one is sent in
/// chunks, and hashed once for each tag of its bytes.
pub(super) const MAX_SHORT_BLOB_BYTES: u64 = 64 * 1024;

/// Approximate weight of a cached short blob beside its bytes.
const ENTRY_OVERHEAD_BYTES: usize = 512;

/// Weight of a longer blob, which is cached as an open file: the cache shall hold a hundred of these, not a
/// thousand.
const OPEN_FILE_WEIGHT: usize = 32 * 1024;

/// Greatest number of repositories that are searched for a blob to mount from any of them: a client that gets
/// no mount uploads.
pub(super) const MAX_SEARCHED_REPOSITORIES: usize = 4096;

impl Store {
    /// Returns a blob's content, which has its digest. Short content is read as a whole; the bytes, or the
    /// open file, are cached.
    pub fn blob(&self, name: &RepositoryName, digest: &Digest) -> Result<Content, StoreError> {
        if self.is_shared() {
            return match self.remote_blob(name, digest, RemoteAnswer::default())? {
                RemoteBlob::Content(content) => Ok(content),
                RemoteBlob::Redirect { .. } => Err(StoreError::BlobUnknown),
            };
        }
        let begun = self.0.blob_cache.begin();
        let canonical = self.linked(name, digest)?.ok_or(StoreError::BlobUnknown)?;
        self.touch_for_pull(&[Subject::link(name, &canonical), Subject::bytes(&canonical)]);
        // Another program's collection leaves links without bytes.
        let mut opened = self.storage().open(&blob(&canonical))?;
        if opened.is_none() && self.restore_from_trash(&canonical)? {
            opened = self.storage().open(&blob(&canonical))?;
        }
        let (content, tag) = opened.ok_or(StoreError::BlobUnknown)?;
        let (content, weight) = if content.len() > MAX_SHORT_BLOB_BYTES {
            if !self.is_sound(digest, &content, tag)? {
                return Err(StoreError::BlobUnknown);
            }
            (content, OPEN_FILE_WEIGHT)
        } else {
            let Some(bytes) = read_short(digest, &content)? else {
                self.suspect(digest);
                return Err(StoreError::BlobUnknown);
            };
            let weight = ENTRY_OVERHEAD_BYTES + bytes.len();
            ([bytes].into(), weight)
        };
        self.0.blob_cache.insert(begun, name, digest.clone(), content.clone(), weight);
        Ok(content)
    }

    /// Returns true if a repository has a blob. Its bytes are not read.
    pub fn has_blob(&self, name: &RepositoryName, digest: &Digest) -> Result<bool, StoreError> {
        match self.linked(name, digest)? {
            Some(canonical) => Ok(self.storage().head(&blob(&canonical))?.is_some()),
            None => Ok(false),
        }
    }

    /// Returns a blob's content if the cache holds it, and a collector does not remove it for long. Never waits for
    /// the storage, though reading the content may.
    #[must_use]
    pub fn cached_blob(&self, name: &RepositoryName, digest: &Digest) -> Option<Content> {
        let content = self.0.blob_cache.get(name, digest)?;
        let kinds = [SubjectKind::Link, SubjectKind::Bytes];
        kinds.iter().all(|kind| self.may_answer_from_cache(*kind, name, digest)).then_some(content)
    }

    /// Removes a blob from a repository. Other repositories may have its bytes.
    pub fn delete_blob(&self, name: &RepositoryName, digest: &Digest) -> Result<(), StoreError> {
        let Inner { locks, blob_cache, .. } = &*self.0;
        locks.with(name, || {
            blob_cache.invalidate_during(name, || {
                self.freeing_quota(name, || {
                    let canonical = self.linked(name, digest)?.ok_or(StoreError::BlobUnknown)?;
                    let bytes = self.quota_bytes(name, &canonical)?;
                    self.forget_linked_during(name, || {
                        self.remove_links(&canonical, || self.unlink_blob(name, &canonical))
                    })?;
                    Ok(((), Usage { bytes, tags: 0 }))
                })
            })
        })
    }

    pub(super) fn unlink_blob(&self, name: &RepositoryName, canonical: &Digest) -> Result<(), StoreError> {
        let place = RepositoryKeys(name);
        // All names of the blob are removed; it rarely has two.
        let others = place.layers(Algorithm::Sha512);
        for hex in self.storage().list(&others)?.unwrap_or_default() {
            let folder = others.child(&hex);
            let link = folder.child("link");
            if self.link(&link)?.as_ref() == Some(canonical) {
                self.clear(&link, &folder)?;
            }
        }
        self.clear(&place.layer_link(canonical), &place.layer(canonical))?;
        Ok(())
    }

    /// Makes a blob of one repository part of another one too. Returns the blob's length in bytes; `None` if
    /// the blob was not found. Without `from`, the first 4,096 repositories in the order of names are
    /// searched; on a shared storage, bytes need not be part of any repository.
    pub fn mount(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        from: Option<&RepositoryName>,
    ) -> Result<Option<u64>, StoreError> {
        let canonical = match from {
            Some(from) => self.linked(from, digest)?,
            None if digest.algorithm() == Algorithm::Sha256 => Some(digest.clone()),
            None => self.canonical(&alias(digest), digest)?,
        };
        let Some(canonical) = canonical else { return Ok(None) };
        let subjects = [Subject::bytes(&canonical), Subject::link(name, &canonical)];
        // A blob that is being removed is uploaded instead.
        let parts = subjects.iter().map(|subject| (*subject, digest)).collect();
        let needed = Needed { parts, ..Needed::default() };
        match self.touching(&needed, Cause::Mount, || self.mount_held(name, digest, &canonical, from)) {
            Err(StoreError::Missing(_)) => Ok(None),
            mounted => mounted,
        }
    }

    fn mount_held(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        canonical: &Digest,
        from: Option<&RepositoryName>,
    ) -> Result<Option<u64>, StoreError> {
        let begun = self.begin_link();
        let link = || {
            // Stored bytes may belong to no repository any more, and damaged ones must be pushed again.
            let Some(length) = self.sound(canonical, digest)? else { return Ok(None) };
            let link = match from {
                Some(from) => Some(RepositoryKeys(from).layer_link(digest)),
                // Each repository would be a request to a shared storage, where bytes alone are enough.
                None if self.is_shared() => None,
                None => match self.any_link(name, canonical)? {
                    Some(link) => Some(link),
                    None => return Ok(None),
                },
            };
            let parents: Vec<Key> = link.into_iter().chain([blob(canonical)]).collect();
            self.storage().sync_parents(&parents)?;
            let register: Vec<Entry<'_>> = self.missing_register(name).into_iter().collect();
            let links = blob_links(name, digest, canonical);
            let stages: [&[Entry<'_>]; 2] = [&register, &links];
            self.storage().write(&stages[usize::from(register.is_empty())..])?;
            Ok(Some(length))
        };
        let cost = || self.blob_cost(name, canonical, None);
        let length = self.within_quota(name, Some(canonical), cost, || {
            let length = self.add_links(canonical, link)?;
            Ok((length, length.is_some()))
        })?;
        if let Some(length) = length {
            self.note_registered(name);
            self.note_linked(begun, LinkKind::Blob, name, (digest, length));
        }
        Ok(length)
    }

    /// Finds a link that makes bytes a blob of some repository, of `name` rather than another.
    fn any_link(&self, name: &RepositoryName, canonical: &Digest) -> Result<Option<Key>, StoreError> {
        // A blob with other names is also linked by its SHA-256.
        let link_of = |name: &RepositoryName| {
            let link = RepositoryKeys(name).layer_link(canonical);
            Ok::<_, StoreError>(self.canonical(&link, canonical)?.map(|_| link))
        };
        let mut found = link_of(name)?;
        if found.is_some() {
            return Ok(found);
        }
        let mut searched = 0;
        self.walk("", &["_layers"], &mut |name| {
            searched += 1;
            if let Ok(name) = name.parse() {
                found = link_of(&name)?;
            }
            let is_done = found.is_some() || searched >= MAX_SEARCHED_REPOSITORIES;
            Ok(if is_done { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        Ok(found)
    }

    /// Returns the SHA-256 under which the bytes of a repository's blob are stored.
    pub(super) fn linked(
        &self,
        name: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<Digest>, StoreError> {
        self.canonical(&RepositoryKeys(name).layer_link(digest), digest)
    }
}

/// Reads short content, if it has its digest.
fn read_short(digest: &Digest, content: &Content) -> Result<Option<Bytes>, StoreError> {
    match content.to_bytes() {
        Ok(bytes) if digest.matches(&bytes) => return Ok(Some(bytes)),
        Ok(_) => {}
        Err(error) if is_damage(&error) => {}
        Err(source) => {
            return Err(StorageError::Io { what: "read", key: digest.to_string(), source }.into());
        }
    }
    tracing::warn!(%digest, length = content.len(), "blob damaged, treating it as absent");
    Ok(None)
}

/// Returns the links that make stored bytes a blob of a repository: under the digest that the client
/// announced, and under the SHA-256, by which other programs find them.
pub(super) fn blob_links<'a>(
    name: &RepositoryName,
    digest: &Digest,
    canonical: &'a Digest,
) -> Vec<Entry<'a>> {
    let place = RepositoryKeys(name);
    let mut keys = vec![place.layer_link(canonical)];
    if digest != canonical {
        keys.extend([alias(digest), place.layer_link(digest)]);
    }
    keys.into_iter().map(|key| link_to(key, canonical)).collect()
}

/// Returns the entry of a link to a digest.
pub(super) fn link_to(key: Key, digest: &Digest) -> Entry<'_> {
    (key, digest.as_str().as_bytes())
}
