//! Referrers of manifests: a descriptor for each, beside the repository's manifests.
//!
//! distribution does not maintain these descriptors, and may write to the same volume. They therefore carry
//! the version of the folders that list all manifests: if that version has changed, another program has
//! written to the repository, and the descriptors are rebuilt.

mod rebuild;
mod unsaved;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use quinistry_oci::{Algorithm, Descriptor, Digest, Manifest, RepositoryName, to_json};

use super::artifact_types::Typed;
use super::layout::{RepositoryKeys, blob};
use super::{Page, Store, StoreError};

pub(super) use self::unsaved::UnsavedReferrers;

/// Longest descriptor that is read, in bytes: a descriptor repeats all annotations of its manifest.
pub(super) const MAX_DESCRIPTOR_BYTES: u64 = 16 * 1024 * 1024;

/// Weight of a cached page, or of a text in its query, beside its bytes.
const ENTRY_OVERHEAD_BYTES: usize = 512;

/// A subject, and the descriptor of a referrer.
pub(super) type Row = (Digest, Descriptor);

/// A page of descriptors, and whether there are more.
pub type Referrers = (Arc<[Descriptor]>, bool);

/// Query of a repository's referrers: the subject, artifact types, the page, and its length in bytes.
pub(super) type ReferrersQuery = (Digest, Vec<String>, Page, usize);

/// State of a repository's descriptors before a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DescriptorState {
    /// There was a descriptor for every manifest with a subject.
    Complete,
    /// Another program has written to the repository, or the descriptors were never built.
    Unknown,
}

impl Store {
    /// Returns the manifests that name `subject`, by digest, and whether there are more. A page holds at most
    /// `bytes` of descriptors, and one descriptor at least. `wanted` are artifact types; an empty list means
    /// any.
    pub fn referrers(
        &self,
        name: &RepositoryName,
        subject: &Digest,
        wanted: &[String],
        page: &Page,
        bytes: usize,
    ) -> Result<Referrers, StoreError> {
        // Cached: admission controllers repeat one query again and again, and each descriptor takes three
        // files.
        let query = (subject.clone(), wanted.to_vec(), page.clone(), bytes);
        // The query has a weight, too: a client may send any number of queries that find nothing.
        let weight = ENTRY_OVERHEAD_BYTES
            + page.last.len()
            + wanted.iter().map(|one| ENTRY_OVERHEAD_BYTES + one.len()).sum::<usize>();
        if let Some(known) = self.0.referrers_cache.get(name, &query) {
            return Ok(known);
        }
        let begun = self.0.referrers_cache.begin();
        let (found, used) = self.read_referrers(name, &query)?;
        self.0.referrers_cache.insert(begun, name, query, found.clone(), used + weight);
        Ok(found)
    }

    /// Returns a page of referrers if the cache holds it. Never waits for the storage.
    #[must_use]
    pub fn cached_referrers(
        &self,
        name: &RepositoryName,
        subject: &Digest,
        wanted: &[String],
        page: &Page,
        bytes: usize,
    ) -> Option<Referrers> {
        self.0.referrers_cache.get(name, &(subject.clone(), wanted.to_vec(), page.clone(), bytes))
    }

    /// Reads a page of referrers, and the length of its descriptors in bytes.
    pub(super) fn read_referrers(
        &self,
        name: &RepositoryName,
        (subject, wanted, page, bytes): &ReferrersQuery,
    ) -> Result<(Referrers, usize), StoreError> {
        if self.is_shared() {
            return self
                .read_shared_referrers(name, &(subject.clone(), wanted.clone(), page.clone(), *bytes));
        }
        let (begun, version) = (self.0.artifact_types.begin(), self.revisions_version(name)?);
        let is_wanted = |own: Option<&str>| {
            wanted.is_empty() || own.is_some_and(|own| wanted.iter().any(|one| one == own))
        };
        let known = self.0.artifact_types.get(name, subject, &version).filter(|_| !wanted.is_empty());
        let (rows, digests): (_, Vec<String>) = if let Some(known) = &known {
            let fit = known.iter().filter(|(_, own)| is_wanted(own.as_deref()));
            (BTreeMap::new(), fit.map(|(digest, _)| digest.to_string()).collect())
        } else {
            let rows = self.rows(name, subject)?;
            let digests = rows.keys().map(ToString::to_string).collect();
            (rows, digests)
        };
        // Types of all descriptors, if these are read from the storage, and to the end.
        let mut types: Vec<Typed> = Vec::new();
        let may_remember = known.is_none()
            && !wanted.is_empty()
            && page.last.is_empty()
            && rows.values().all(Option::is_none);
        let mut used = 0;
        let mut full = false;
        let (all, more) = page.of(digests.into_iter(), |digest| {
            if full {
                return Ok(None);
            }
            let Ok(digest) = digest.parse::<Digest>() else { return Ok(None) };
            let Some(row) = self.row(name, subject, &digest, &rows)? else { return Ok(None) };
            let Ok(descriptor) = serde_json::from_slice::<Descriptor>(&row) else { return Ok(None) };
            let own = descriptor.artifact_type.as_deref();
            if may_remember {
                // Few types are in use, so that neighbours mostly share one.
                let shared =
                    types.last().and_then(|(_, last)| last.clone()).filter(|last| own == Some(&**last));
                types.push((digest.clone(), shared.or_else(|| own.map(Into::into))));
            }
            if !is_wanted(own) {
                return Ok(None);
            }
            let Some(canonical) = self.revision(name, &digest)? else { return Ok(None) };
            // A power failure may leave only the link of a manifest that was never acknowledged.
            if !self.storage().exists(&blob(&canonical))? {
                return Ok(None);
            }
            if used > 0 && used + row.len() > *bytes {
                full = true;
                return Ok(None);
            }
            used += row.len();
            Ok::<_, StoreError>(Some(descriptor))
        })?;
        if may_remember && !more && !full {
            self.0.artifact_types.put(begun, name, subject, version, types);
        }
        Ok(((all.into(), more || full), used))
    }

    /// Returns the state of a repository's descriptors. Call before its manifests change.
    pub(super) fn descriptor_state(&self, name: &RepositoryName) -> Result<DescriptorState, StoreError> {
        if self.is_shared() {
            return Ok(DescriptorState::Unknown);
        }
        let known = self.read_note(&RepositoryKeys(name).referrers_version(), super::MAX_LINK_BYTES)?;
        let version = self.revisions_version(name)?;
        Ok(if known.is_some_and(|known| known == version.as_bytes()) {
            DescriptorState::Complete
        } else {
            DescriptorState::Unknown
        })
    }

    /// Records that descriptors which were complete are complete again. Call after a repository's manifests
    /// and descriptors have changed.
    pub(super) fn update_descriptor_version(
        &self,
        name: &RepositoryName,
        before: DescriptorState,
    ) -> Result<(), StoreError> {
        if before == DescriptorState::Complete {
            let written = self.storage().write_lazily(
                &RepositoryKeys(name).referrers_version(),
                self.revisions_version(name)?.as_bytes(),
            );
            if let Err(error) = written {
                // The next query rebuilds the descriptors.
                tracing::debug!(%error, repository = %name, "cannot record that referrers are complete, rebuilding them at the next query");
            }
        }
        Ok(())
    }

    /// Removes the descriptor of a manifest that is about to go.
    pub(super) fn remove_referrer(&self, name: &RepositoryName, digest: &Digest) -> Result<(), StoreError> {
        let Some(canonical) = self.revision(name, digest)? else { return Ok(()) };
        // The subject of a damaged manifest cannot be read.
        let Ok(known) = self.content(&canonical) else { return Ok(()) };
        if let Some(subject) =
            Manifest::parse(&known.bytes, Some(known.media_type)).ok().and_then(|it| it.subject)
        {
            self.storage().remove(&RepositoryKeys(name).referrer(&subject, digest))?;
        }
        Ok(())
    }

    /// Returns the digests of a subject's referrers, in order; with the descriptors if these were built and
    /// are not read from the storage.
    fn rows(
        &self,
        name: &RepositoryName,
        subject: &Digest,
    ) -> Result<BTreeMap<Digest, Option<Bytes>>, StoreError> {
        if let Some(made) = self.rebuild_if_outdated(name)? {
            let of_subject = made.iter().filter(|(about, _)| about == subject);
            return Ok(of_subject.map(|(_, row)| (row.digest.clone(), Some(to_json(row).into()))).collect());
        }
        let folder = RepositoryKeys(name).referrers(subject);
        let mut rows = BTreeMap::new();
        for algorithm in self.storage().list(&folder)?.unwrap_or_default() {
            for hex in self.names_in(&folder.child(&algorithm))?.iter() {
                rows.extend(format!("{algorithm}:{hex}").parse().map(|digest| (digest, None)));
            }
        }
        Ok(rows)
    }

    fn row(
        &self,
        name: &RepositoryName,
        subject: &Digest,
        digest: &Digest,
        rows: &BTreeMap<Digest, Option<Bytes>>,
    ) -> Result<Option<Bytes>, StoreError> {
        if let Some(Some(made)) = rows.get(digest) {
            return Ok(Some(made.clone()));
        }
        self.read_note(&RepositoryKeys(name).referrer(subject, digest), MAX_DESCRIPTOR_BYTES)
    }

    /// Returns a version of the revisions, which differs after any program has added or removed one.
    pub(super) fn revisions_version(&self, name: &RepositoryName) -> Result<String, StoreError> {
        let mut version = String::new();
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let folder = RepositoryKeys(name).revisions(algorithm);
            version.push_str(&self.storage().listing_version(&folder)?.text);
            version.push('\n');
        }
        Ok(version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Memory;

    #[test]
    fn saved_descriptors_are_not_held_in_memory_as_well() {
        let store = Store::open(Memory::new(1 << 20), false).unwrap();
        let (name, subject): (RepositoryName, _) = ("a/b".parse().unwrap(), Digest::sha256(b"nothing"));
        let media_type = quinistry_oci::media_type::OCI_INDEX;
        let bytes = Bytes::from(to_json(&serde_json::json!({
            "schemaVersion": 2, "mediaType": media_type, "manifests": [],
            "subject": {"mediaType": media_type, "digest": subject, "size": 7},
        })));
        let (digest, manifest) = (Digest::sha256(&bytes), Manifest::parse(&bytes, None).unwrap());
        let tagged = crate::Tagged { digest: &digest, tags: &[] };
        store.put_manifest(&name, &bytes, &manifest, tagged).unwrap();
        // The descriptors of manifests that were pushed before the first query are built.
        for last in ["", "x"] {
            let page = Page { size: 10, last: last.into() };
            let (found, _) = store.referrers(&name, &subject, &[], &page, 1 << 20).unwrap();
            assert_eq!(found.len(), usize::from(last.is_empty()));
        }
        assert!(store.0.unsaved_referrers.inner().known.is_empty());
    }

    #[test]
    fn queries_that_find_nothing_do_not_fill_memory() {
        let store = Store::open(Memory::new(1 << 20), false).unwrap();
        let (name, subject) = ("a/b".parse().unwrap(), Digest::sha256(b"nothing"));
        for i in 0..5_000 {
            let page = Page { size: 1, last: format!("{i:0>2000}") };
            store.referrers(&name, &subject, &[], &page, 1).unwrap();
        }
        assert!(store.0.referrers_cache.count() < 2_000, "{}", store.0.referrers_cache.count());
    }
}
