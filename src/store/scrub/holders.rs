//! Repositories that have a content, and the tags by which clients reach it.

use std::collections::HashMap;

use quinistry_oci::{Digest, Manifest, RepositoryName, Tag};

use super::heal::{ContentKind, Holder};
use crate::layout::{Key, RepositoryKeys};
use crate::{MAX_LINK_BYTES, Store, StoreError};

/// Number of links that are read at once.
const LINKS_AT_ONCE: usize = 64;

/// Greatest number of tags that are looked at for one content: the log line is for a reader, and damage must
/// not cost the registry hours of reading.
const MAX_TAGS: usize = 10_000;

/// Greatest number of tags that are named.
const MAX_NAMED_TAGS: usize = 20;

impl Store {
    /// Returns the repositories that have a content, as a blob or as a manifest.
    pub(super) fn holders(&self, canonical: &Digest) -> Result<Vec<Holder>, StoreError> {
        let names = self.folders_with(&["_manifests", "_layers"])?;
        let names: Vec<RepositoryName> = names.iter().filter_map(|name| name.parse().ok()).collect();
        let mut holders = Vec::new();
        for names in names.chunks(LINKS_AT_ONCE / 2) {
            let wanted = names.iter().flat_map(|name| {
                let place = RepositoryKeys(name);
                [
                    (name, ContentKind::Manifest, place.revision_link(canonical)),
                    (name, ContentKind::Blob, place.layer_link(canonical)),
                ]
            });
            let (places, keys): (Vec<_>, Vec<Key>) =
                wanted.map(|(name, kind, key)| ((name, kind), key)).unzip();
            for ((name, kind), link) in
                places.into_iter().zip(self.storage().read_all(&keys, MAX_LINK_BYTES)?)
            {
                if link.is_some_and(|link| link.trim_ascii() == canonical.as_str().as_bytes()) {
                    holders.push(Holder { repository: name.clone(), kind });
                }
            }
        }
        Ok(holders)
    }

    /// Returns the tags by which clients reach a content, as `repository:tag`: some of many.
    pub(super) fn tags_that_reach(
        &self,
        holders: &[Holder],
        canonical: &Digest,
    ) -> Result<Vec<String>, StoreError> {
        let mut found = Vec::new();
        let mut looked_at = 0;
        let mut repositories: Vec<&RepositoryName> =
            holders.iter().map(|holder| &holder.repository).collect();
        repositories.dedup();
        for name in repositories {
            let mut known = HashMap::new();
            for tag in self.storage().list(&RepositoryKeys(name).tags())?.unwrap_or_default() {
                looked_at += 1;
                if looked_at > MAX_TAGS || found.len() >= MAX_NAMED_TAGS {
                    return Ok(found);
                }
                let Ok(tag) = tag.parse::<Tag>() else { continue };
                let Some(digest) = self.link(&RepositoryKeys(name).tag_link(&tag))? else { continue };
                if self.reaches(name, &digest, canonical, &mut known, true)? {
                    found.push(format!("{name}:{tag}"));
                }
            }
        }
        Ok(found)
    }

    /// Returns true if a manifest is the content or has it as a part, itself or by an entry.
    fn reaches(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        wanted: &Digest,
        known: &mut HashMap<Digest, bool>,
        may_be_index: bool,
    ) -> Result<bool, StoreError> {
        if digest == wanted {
            return Ok(true);
        }
        if let Some(reaches) = known.get(digest) {
            return Ok(*reaches);
        }
        let Some(manifest) = self.readable_manifest(name, digest)? else { return Ok(false) };
        let mut parts = manifest.blobs.iter().chain(&manifest.manifests);
        let mut reaches = parts.any(|part| part.digest == *wanted);
        for entry in manifest.manifests.iter().filter(|_| may_be_index) {
            reaches = reaches || self.reaches(name, &entry.digest, wanted, known, false)?;
        }
        known.insert(digest.clone(), reaches);
        Ok(reaches)
    }

    /// Reads a manifest of a repository; `None` if it is absent, damaged or not understood.
    fn readable_manifest(
        &self,
        name: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<Manifest>, StoreError> {
        let Some(canonical) = self.revision(name, digest)? else { return Ok(None) };
        match self.content(&canonical) {
            Ok(known) => Ok(Manifest::parse(&known.bytes, Some(known.media_type)).ok()),
            Err(StoreError::ManifestUnknown | StoreError::Damaged(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
