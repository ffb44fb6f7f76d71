//! Commits and removals of manifests on a shared storage, in an order that holds against each other.
//!
//! A push writes a tag, and then looks whether the revision is still there; a removal removes the revision, and then
//! looks for tags that refer to it. Keys and lists show each change at once, so that of both at the same time one sees
//! the other and puts the revision back: no tag stays without its revision.

use std::time::SystemTime;

use quinistry_oci::{Algorithm, Digest, Manifest, RepositoryName, Tag, to_json};

use crate::blobs::link_to;
use crate::intents::Intent;
use crate::layout::{Key, RepositoryKeys, blob};
use crate::manifests::MAX_STORED_MANIFEST_BYTES;
use crate::storage::{Entry, ObjectTag};
use crate::{Store, StoreError};

/// Attempts to put a revision back that removals take away again and again.
const MAX_REPAIRS: usize = 8;

/// Manifest that is about to be removed, as far as it must be known to be put back.
#[derive(Debug, Default)]
struct Remains {
    /// Media type and descriptor, which belong before the links.
    rows: Vec<(Key, Vec<u8>)>,
    /// True if the manifest is a referrer.
    has_subject: bool,
}

impl Store {
    /// Removes a manifest with all of its tags.
    pub(crate) fn delete_shared_manifest(
        &self,
        name: &RepositoryName,
        digest: &Digest,
    ) -> Result<(), StoreError> {
        let digests = self.names_of(name, digest)?;
        let tags = self.tags_referring_to(name, &digests, &self.link_tags(name, &digests)?)?;
        self.carry_out(&Intent::Delete { repository: name.clone(), digests, tags })
    }

    /// Carries out a removal. Steps of an intent that was written at `begun` leave what is newer.
    pub(crate) fn perform_shared_delete(
        &self,
        name: &RepositoryName,
        digests: &[Digest],
        tags: &[Tag],
        begun: Option<SystemTime>,
    ) -> Result<(), StoreError> {
        let place = RepositoryKeys(name);
        for tag in tags {
            self.remove_shared_tag_of(name, tag, digests, begun)?;
        }
        let like = self.link_tags(name, digests)?;
        let remains: Vec<Remains> =
            digests.iter().map(|digest| self.remains(name, digest)).collect::<Result<_, _>>()?;
        // The SHA-256, by which the bytes are found, goes last.
        for digest in digests.iter().rev() {
            let link = place.revision_link(digest);
            if let Some(begun) = begun
                && self.storage().head(&link)?.is_some_and(|found| found.modified > begun)
            {
                continue;
            }
            self.remove_referrer(name, digest)?;
            self.clear(&link, &place.revision(digest))?;
        }
        if remains.iter().any(|remains| remains.has_subject) {
            // Another program may push the manifest again, and then it has no descriptor.
            self.storage().remove(&place.referrers_version())?;
        }
        // A push may have come in between.
        if self.tags_referring_to(name, digests, &like)?.is_empty() {
            return Ok(());
        }
        let rows = remains.iter().flat_map(|remains| &remains.rows);
        let rows: Vec<Entry<'_>> = rows.map(|(key, row)| (key.clone(), &row[..])).collect();
        let Some(canonical) = digests.first() else { return Ok(()) };
        let links: Vec<Entry<'_>> =
            digests.iter().map(|digest| link_to(place.revision_link(digest), canonical)).collect();
        Ok(self.storage().write(&[&rows, &links])?)
    }

    /// Returns the tags of a manifest's links, whose bytes are those of the tags that refer to it.
    fn link_tags(&self, name: &RepositoryName, digests: &[Digest]) -> Result<Vec<ObjectTag>, StoreError> {
        let heads =
            digests.iter().map(|digest| self.storage().head(&RepositoryKeys(name).revision_link(digest)));
        let heads = heads.collect::<Result<Vec<_>, _>>()?;
        Ok(heads.into_iter().flatten().map(|meta| meta.tag).collect())
    }

    fn remains(&self, name: &RepositoryName, digest: &Digest) -> Result<Remains, StoreError> {
        let mut remains = Remains::default();
        let Some(canonical) = self.revision(name, digest)? else { return Ok(remains) };
        // A damaged manifest cannot be described, and a push brings all of it.
        let Ok(known) = self.content(&canonical) else { return Ok(remains) };
        let pushed_as = self.pushed_as(name, digest)?;
        let place = RepositoryKeys(name);
        if let Some(pushed_as) = pushed_as {
            remains.rows.push((place.revision_type(digest), pushed_as.as_bytes().to_vec()));
        }
        let parsed = Manifest::parse(&known.bytes, Some(pushed_as.unwrap_or(known.media_type)));
        if let Ok(manifest) = parsed
            && let Some(subject) = &manifest.subject
        {
            let row = to_json(&manifest.descriptor(digest, known.bytes.len() as u64));
            remains.rows.push((place.referrer(subject, digest), row));
            remains.has_subject = true;
        }
        Ok(remains)
    }

    /// Returns the SHA-256 of a manifest that a repository has. Reads the bytes at the same time, unless they are
    /// cached.
    pub(crate) fn revision_with_bytes(
        &self,
        name: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<Digest>, StoreError> {
        if digest.algorithm() != Algorithm::Sha256 || self.0.manifest_cache.get(digest).is_some() {
            return self.revision(name, digest);
        }
        let keys = [RepositoryKeys(name).revision_link(digest), blob(digest)];
        let mut read = self.storage().read_all(&keys, MAX_STORED_MANIFEST_BYTES)?.into_iter();
        let (Some(Some(link)), bytes) = (read.next(), read.next().flatten()) else { return Ok(None) };
        if link.trim_ascii() != digest.as_str().as_bytes() {
            tracing::warn!(key = %keys[0], "ignoring link without a valid digest");
            return Ok(None);
        }
        if let Some(bytes) = bytes.filter(|bytes| digest.matches(bytes)) {
            self.remember_manifest(digest, bytes);
        }
        Ok(Some(digest.clone()))
    }

    /// Puts the links of a pushed manifest back, with the entries that belong before them, until they are seen after
    /// the tags were written. Does nothing on a storage of this process alone.
    pub(crate) fn keep_revision(&self, before: &[Entry<'_>], links: &[Entry<'_>]) -> Result<(), StoreError> {
        if !self.is_shared() {
            return Ok(());
        }
        for _ in 0..MAX_REPAIRS {
            let heads = links.iter().map(|(link, _)| self.storage().head(link));
            if heads.collect::<Result<Vec<_>, _>>()?.iter().all(Option::is_some) {
                return Ok(());
            }
            self.storage().write(&[before, links])?;
        }
        // Each attempt lost against another removal: the last of them came after this push.
        Ok(())
    }
}
