//! Blobs: bytes that lie once, and the links that make them part of repositories.

use std::ops::ControlFlow;

use bytes::Bytes;
use quinistry_oci::{Algorithm, Content, Digest, RepositoryName};

use super::layout::{Key, Place, alias, blob};
use super::storage::{Entry, StorageError};
use super::verified::is_damage;
use super::{Inner, Store, StoreError};

/// Longest blob, in bytes, that is read and hashed at once when it is looked up; a longer one is sent in
/// pieces, and hashed once for each identity of its file.
pub(super) const SHORT: u64 = 64 * 1024;

/// What it takes to remember a short one, about, beside its bytes.
const OVERHEAD: usize = 512;

/// What a longer one weighs, which is remembered as an open file: of these there shall be a hundred, and not a thousand.
const OPEN_FILE: usize = 32 * 1024;

/// Repositories that are looked through for a blob that is to be mounted from any: a client that gets no
/// mount uploads.
pub(super) const MAX_SEARCHED: usize = 4096;

impl Store {
    /// Returns a blob's content, which has its digest. Short content is read at once; that, or the open file,
    /// is remembered for a moment.
    pub fn blob(&self, name: &RepositoryName, digest: &Digest) -> Result<Content, StoreError> {
        let begun = self.0.blob_cache.begin();
        let canonical = self.linked(name, digest)?.ok_or(StoreError::BlobUnknown)?;
        // A link without bytes is what another program's collection leaves.
        let opened = self.storage().open(&blob(&canonical))?;
        let (content, identity) = opened.ok_or(StoreError::BlobUnknown)?;
        let (content, weight) = if content.len() > SHORT {
            if !self.is_sound(digest, &content, identity)? {
                return Err(StoreError::BlobUnknown);
            }
            (content, OPEN_FILE)
        } else {
            let bytes = read_short(digest, &content)?.ok_or(StoreError::BlobUnknown)?;
            let weight = OVERHEAD + bytes.len();
            ([bytes].into(), weight)
        };
        self.0.blob_cache.insert(begun, name, digest.clone(), content.clone(), weight);
        Ok(content)
    }

    /// What was found of a blob, if that was a moment ago: never waits for a storage, though reading the content may.
    #[must_use]
    pub fn cached_blob(&self, name: &RepositoryName, digest: &Digest) -> Option<Content> {
        self.0.blob_cache.get(name, digest)
    }

    /// Takes a blob out of a repository. Others may have its bytes.
    pub fn delete_blob(&self, name: &RepositoryName, digest: &Digest) -> Result<(), StoreError> {
        let Inner { locks, blob_cache, .. } = &*self.0;
        locks.with(name, || {
            blob_cache.invalidate_during(name, || {
                let canonical = self.linked(name, digest)?.ok_or(StoreError::BlobUnknown)?;
                self.unlinking(&canonical, || self.unlink_blob(name, &canonical))
            })
        })
    }

    fn unlink_blob(&self, name: &RepositoryName, canonical: &Digest) -> Result<(), StoreError> {
        let place = Place(name);
        // By all of its names; there are hardly ever two.
        let others = place.layers(Algorithm::Sha512);
        for hex in self.storage().list(&others)?.unwrap_or_default() {
            let folder = others.child(&hex);
            if self.link(&folder.child("link"))?.as_ref() == Some(canonical) {
                self.storage().remove(&folder)?;
            }
        }
        self.storage().remove(&place.layer(canonical))?;
        Ok(())
    }

    /// Makes a blob of one repository part of another one too; returns whether it was there. If no repository
    /// is named, one that has it is looked for, among the first 4,096 in the order of names.
    pub fn mount(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        from: Option<&RepositoryName>,
    ) -> Result<bool, StoreError> {
        let canonical = match from {
            Some(from) => self.linked(from, digest)?,
            None if digest.algorithm() == Algorithm::Sha256 => Some(digest.clone()),
            None => self.canonical(&alias(digest), digest)?,
        };
        let Some(canonical) = canonical else { return Ok(false) };
        self.linking(&canonical, || {
            // Bytes that lie there may be of no repository any more, and damaged ones are to be pushed again.
            if self.sound(&canonical, digest)?.is_none() {
                return Ok(false);
            }
            let link = match from {
                Some(from) => Some(Place(from).layer_link(digest)),
                None => self.any_link(name, &canonical)?,
            };
            let Some(link) = link else { return Ok(false) };
            self.storage().sync_parents(&[link, blob(&canonical)])?;
            self.storage().write(&blob_links(name, digest, &canonical))?;
            Ok(true)
        })
    }

    /// Finds a link that makes bytes a blob of some repository, of `name` rather than another.
    fn any_link(&self, name: &RepositoryName, canonical: &Digest) -> Result<Option<Key>, StoreError> {
        // A blob with other names is also linked by its SHA-256.
        let link_of = |name: &RepositoryName| {
            let link = Place(name).layer_link(canonical);
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
            let is_over = found.is_some() || searched >= MAX_SEARCHED;
            Ok(if is_over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        Ok(found)
    }

    /// The digest under which a repository's blob lies.
    pub(super) fn linked(
        &self,
        name: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<Digest>, StoreError> {
        self.canonical(&Place(name).layer_link(digest), digest)
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

/// What makes bytes that are there a blob of a repository: links under the digest by which they were announced, and under
/// their own, by which other programs know them.
pub(super) fn blob_links<'a>(
    name: &RepositoryName,
    digest: &Digest,
    canonical: &'a Digest,
) -> Vec<Entry<'a>> {
    let place = Place(name);
    let mut keys = vec![place.layer_link(canonical)];
    if digest != canonical {
        keys.extend([alias(digest), place.layer_link(digest)]);
    }
    keys.into_iter().map(|key| link_to(key, canonical)).collect()
}

/// A link.
pub(super) fn link_to(key: Key, digest: &Digest) -> Entry<'_> {
    (key, digest.as_str().as_bytes())
}
