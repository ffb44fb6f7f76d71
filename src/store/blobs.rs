//! Blobs: bytes that lie once, and the links that make them part of repositories.

use super::layout::{Key, Place, alias, blob};
use super::storage::Entry;
use super::{Inner, Store, StoreError};
use crate::oci::{Algorithm, Digest, RepositoryName};
use crate::segments::Segments;

/// Shorter blobs are read where they were found, and not in pieces.
const SHORT: u64 = 64 * 1024;

/// What it takes to remember a short one, about, beside its bytes.
const OVERHEAD: usize = 512;

/// What a longer one weighs, which is remembered as an open file: of these there shall be a hundred, and not a thousand.
const OPEN_FILE: usize = 32 * 1024;

impl Store {
    /// A blob's content. What is short is read at once; that, or the open file, is remembered for a moment.
    pub fn blob(&self, name: &RepositoryName, digest: &Digest) -> Result<Segments, StoreError> {
        let begun = self.0.found_blobs.begin();
        let canonical = self.linked(name, digest)?.ok_or(StoreError::BlobUnknown)?;
        // A link without bytes is what another program's collection leaves.
        let content = self.storage().open(&blob(&canonical))?.ok_or(StoreError::BlobUnknown)?;
        let (content, weight) = if content.len() > SHORT {
            (content, OPEN_FILE)
        } else {
            // If it cannot be read now, it is told when it is sent. What is torn is told as it is, and not for longer than
            // it is so.
            let bytes = content.to_bytes().ok().filter(|bytes| canonical.matches(bytes));
            let Some(bytes) = bytes else { return Ok(content) };
            let weight = OVERHEAD + bytes.len();
            ([bytes].into(), weight)
        };
        self.0.found_blobs.found(begun, name, digest.clone(), content.clone(), weight);
        Ok(content)
    }

    /// What was found of a blob, if that was a moment ago: never waits for a storage, though reading the content may.
    #[must_use]
    pub fn blob_at_hand(&self, name: &RepositoryName, digest: &Digest) -> Option<Segments> {
        self.0.found_blobs.get(name, digest)
    }

    /// Takes a blob out of a repository. Others may have its bytes.
    pub fn delete_blob(&self, name: &RepositoryName, digest: &Digest) -> Result<(), StoreError> {
        let Inner { locks, found_blobs, .. } = &*self.0;
        locks.with(name, || {
            found_blobs.changing(name, || {
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

    /// Makes a blob of one repository part of another one too, or of any, if no repository is named; whether it was there.
    pub fn mount(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        from: Option<&RepositoryName>,
    ) -> Result<bool, StoreError> {
        let canonical = match from {
            Some(from) => self.linked(from, digest)?,
            None if digest.algorithm() == Algorithm::Sha256 => Some(digest.clone()),
            None => self.canonical(&alias(digest))?,
        };
        let Some(canonical) = canonical else { return Ok(false) };
        self.linking(&canonical, || {
            let bytes = blob(&canonical);
            let is_there = self.storage().length(&bytes)?.is_some();
            if is_there {
                let link = from.map(|from| Place(from).layer_link(digest));
                let seen: Vec<Key> = link.into_iter().chain([bytes]).collect();
                self.storage().settle(&seen)?;
                self.storage().write(&blob_links(name, digest, &canonical))?;
            }
            Ok(is_there)
        })
    }

    /// The digest under which a repository's blob lies.
    pub(super) fn linked(
        &self,
        name: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<Digest>, StoreError> {
        self.canonical(&Place(name).layer_link(digest))
    }
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
