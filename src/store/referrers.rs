//! Referrers of manifests: a descriptor for each, beside the repository's manifests.
//!
//! distribution does not maintain these descriptors, and may write to the same volume. They therefore carry
//! the version of the folders that list all manifests: if that version has changed, another program has
//! written to the repository, and the descriptors are rebuilt.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use quinistry_oci::{Algorithm, Descriptor, Digest, Manifest, RepositoryName, to_json};

use super::artifact_types::Typed;
use super::layout::{RepositoryKeys, blob};
use super::{Page, Store, StoreError};

/// Longest descriptor that is read, in bytes: a descriptor repeats all annotations of its manifest.
const MAX_DESCRIPTOR_BYTES: u64 = 16 * 1024 * 1024;

/// Weight of a cached page, or of a text in its query, beside its bytes.
const ENTRY_OVERHEAD_BYTES: usize = 512;

/// Greatest number of manifests whose descriptors are built with the repository's lock held.
const MAX_LATE_REFERRERS: usize = 64;

/// A subject, and the descriptor of a referrer.
pub(super) type Row = (Digest, Descriptor);

/// A page of descriptors, and whether there are more.
pub type Referrers = (Arc<[Descriptor]>, bool);

/// Query of a repository's referrers: the subject, artifact types, the page, and its length in bytes.
pub(super) type ReferrersQuery = (Digest, Vec<String>, Page, usize);

/// Descriptors of repositories that another program has written to, with the version that they were built
/// for. They are served from memory until they are saved, or for good on a storage that cannot be written.
#[derive(Debug, Default)]
pub(super) struct UnsavedReferrers(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    known: HashMap<RepositoryName, VersionedRows>,
    /// Number of changes of repositories.
    changes: u64,
}

/// A version of the revisions, and the descriptors built from it.
type VersionedRows = (String, Arc<Vec<Row>>);

impl UnsavedReferrers {
    /// Capacity in repositories.
    const CAPACITY: usize = 64;

    fn get(&self, name: &RepositoryName, version: &str) -> Option<Arc<Vec<Row>>> {
        self.inner().known.get(name).filter(|(of, _)| of == version).map(|(_, rows)| rows.clone())
    }

    /// Returns the present number of changes. Call before descriptors are built.
    fn begin(&self) -> u64 {
        self.inner().changes
    }

    /// Stores descriptors, unless a repository was changed since their building began.
    fn put(&self, begun: u64, name: &RepositoryName, version: &str, rows: &Arc<Vec<Row>>) {
        let mut inner = self.inner();
        if inner.changes != begun {
            return;
        }
        if inner.known.len() >= Self::CAPACITY {
            inner.known.clear();
        }
        inner.known.insert(name.clone(), (version.into(), rows.clone()));
    }

    /// Drops descriptors that are read from the storage from now on: they may be long, and many.
    fn remove_saved(&self, name: &RepositoryName) {
        self.inner().known.remove(name);
    }

    /// Runs a change of a repository, and drops its descriptors before and after: not every storage changes
    /// its listing version.
    pub(super) fn invalidate_during<T>(&self, name: &RepositoryName, change: impl FnOnce() -> T) -> T {
        self.forget(name);
        let result = change();
        self.forget(name);
        result
    }

    fn forget(&self, name: &RepositoryName) {
        let mut inner = self.inner();
        inner.changes += 1;
        inner.known.remove(name);
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Nothing above panics between two changes that belong together.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

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

    /// Rebuilds the descriptors if another program has written to the repository, and returns them. Does not
    /// hold the repository's lock: there may be as many descriptors as manifests, and pushes must not wait
    /// for a query.
    fn rebuild_if_outdated(&self, name: &RepositoryName) -> Result<Option<Arc<Vec<Row>>>, StoreError> {
        if self.descriptor_state(name)? == DescriptorState::Complete {
            return Ok(None);
        }
        let begun = self.0.unsaved_referrers.begin();
        let version = self.revisions_version(name)?;
        if let Some(made) = self.0.unsaved_referrers.get(name, &version) {
            return Ok(Some(made));
        }
        let (rows, seen) = self.build_rows(name)?;
        if rows.is_empty() && !self.is_repository(name)? {
            return Ok(None);
        }
        let rows = Arc::new(rows);
        self.0.unsaved_referrers.put(begun, name, &version, &rows);
        match self.save_rows(name, &rows, &seen, &version) {
            Ok(()) => self.0.unsaved_referrers.remove_saved(name),
            Err(error) => {
                tracing::debug!(%error, repository = %name, "cannot save descriptors of referrers, rebuilding them at the next query");
            }
        }
        Ok(Some(rows))
    }

    /// Builds the descriptors of all manifests that have a subject, and collects the digests of all
    /// manifests.
    pub(super) fn build_rows(
        &self,
        name: &RepositoryName,
    ) -> Result<(Vec<Row>, HashSet<Digest>), StoreError> {
        let mut rows = Vec::new();
        let mut seen = HashSet::new();
        for (digest, canonical) in self.all_revisions(name, false)? {
            rows.extend(self.build_row(name, &digest, &canonical)?);
            seen.extend([digest, canonical]);
        }
        Ok((rows, seen))
    }

    /// Builds the descriptor of a manifest that has a subject.
    fn build_row(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        canonical: &Digest,
    ) -> Result<Option<Row>, StoreError> {
        // A manifest that cannot be read is not listed; a client that pulls it gets the error.
        let Ok(known) = self.content(canonical) else { return Ok(None) };
        let media_type = self.pushed_as(name, digest)?.unwrap_or(known.media_type);
        let Ok(manifest) = Manifest::parse(&known.bytes, Some(media_type)) else { return Ok(None) };
        let descriptor = manifest.descriptor(digest, known.bytes.len() as u64);
        Ok(manifest.subject.map(|subject| (subject, descriptor)))
    }

    /// Saves descriptors for the next query, and for the time after a restart.
    ///
    /// Descriptors can be rebuilt, so that each is written lazily, and one flush makes all of them durable.
    /// The version, which says that they are complete, must not survive a power failure that they do not
    /// survive.
    pub(super) fn save_rows(
        &self,
        name: &RepositoryName,
        rows: &[Row],
        seen: &HashSet<Digest>,
        version: &str,
    ) -> Result<(), StoreError> {
        for (subject, descriptor) in rows {
            let key = RepositoryKeys(name).referrer(subject, &descriptor.digest);
            self.storage().write_lazily(&key, &to_json(descriptor))?;
        }
        self.storage().flush_all()?;
        self.0.locks.with(name, || {
            // This program has saved the descriptors of later manifests; another program has not.
            let now = self.revisions_version(name)?;
            if now != version && !self.build_late_rows(name, seen)? {
                return Ok(());
            }
            Ok(self.storage().write_lazily(&RepositoryKeys(name).referrers_version(), now.as_bytes())?)
        })
    }

    /// Builds the descriptors of manifests that are not among those `seen`, if they are few; returns whether
    /// they are.
    fn build_late_rows(&self, name: &RepositoryName, seen: &HashSet<Digest>) -> Result<bool, StoreError> {
        let mut late = Vec::new();
        // A manifest with two names was pushed by the longer one.
        for algorithm in [Algorithm::Sha512, Algorithm::Sha256] {
            let digests = self.digests_in(&RepositoryKeys(name).revisions(algorithm), algorithm)?;
            late.extend(digests.into_iter().filter(|digest| !seen.contains(digest)));
        }
        if late.len() > MAX_LATE_REFERRERS {
            return Ok(false);
        }
        let mut done = HashSet::new();
        for digest in late {
            let Some(canonical) = self.revision(name, &digest)? else { continue };
            if !done.insert(canonical.clone()) {
                continue;
            }
            if let Some((subject, descriptor)) = self.build_row(name, &digest, &canonical)? {
                let key = RepositoryKeys(name).referrer(&subject, &digest);
                self.storage().write(&[&[(key, &to_json(&descriptor))]])?;
            }
        }
        Ok(true)
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
