//! What refers to a manifest: one descriptor each, beside the repository's manifests.
//!
//! distribution knows nothing of these, and may write to the same volume. So they carry a stamp of the folders that all
//! manifests are listed in: when that is another one, somebody else has been there, and they are made anew.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use quinistry_oci::{Algorithm, Descriptor, Digest, Manifest, RepositoryName, to_json};

use super::artifact_types::Typed;
use super::layout::{Place, blob};
use super::{Page, Store, StoreError};

/// The longest descriptor is one with all annotations of a manifest.
const LONGEST: u64 = 16 * 1024 * 1024;

/// What a remembered page, or a text in it, takes beside its bytes.
const OVERHEAD: usize = 512;

/// Most manifests whose descriptors are made with the repository's lock held.
const MAX_LATE: usize = 64;

/// A subject, and what refers to it.
pub(super) type Row = (Digest, Descriptor);

/// A page of descriptors, and whether there are more.
pub type Referrers = (Arc<[Descriptor]>, bool);

/// What is asked of a repository's referrers: the subject, artifact types, the page, and its length in bytes.
pub(super) type Asked = (Digest, Vec<String>, Page, usize);

/// Descriptors of repositories that another program has written to, with the stamp that they were made for:
/// answered from here until they are kept, or for good where they cannot be.
#[derive(Debug, Default)]
pub(super) struct Made(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    known: HashMap<RepositoryName, Stamped>,
    /// Number of changes of repositories.
    changes: u64,
}

/// A stamp, and what was made of what it stands for.
type Stamped = (String, Arc<Vec<Row>>);

impl Made {
    /// Capacity in repositories.
    const CAPACITY: usize = 64;

    fn get(&self, name: &RepositoryName, stamp: &str) -> Option<Arc<Vec<Row>>> {
        self.inner().known.get(name).filter(|(of, _)| of == stamp).map(|(_, rows)| rows.clone())
    }

    /// Returns the present number of changes. Call this before descriptors are made.
    fn begin(&self) -> u64 {
        self.inner().changes
    }

    /// Remembers descriptors, unless something was changed since they were begun.
    fn put(&self, begun: u64, name: &RepositoryName, stamp: &str, rows: &Arc<Vec<Row>>) {
        let mut inner = self.inner();
        if inner.changes != begun {
            return;
        }
        if inner.known.len() >= Self::CAPACITY {
            inner.known.clear();
        }
        inner.known.insert(name.clone(), (stamp.into(), rows.clone()));
    }

    /// Forgets descriptors that are read from the storage from now on: they may be long, and many.
    fn kept(&self, name: &RepositoryName) {
        self.inner().known.remove(name);
    }

    /// Runs what changes a repository: a storage need not tell so by its stamp.
    pub(super) fn changing<T>(&self, name: &RepositoryName, change: impl FnOnce() -> T) -> T {
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

/// Whether the descriptors were those of all manifests before a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Before {
    /// They were.
    Right,
    /// They were not, or nobody ever asked.
    Unknown,
}

impl Store {
    /// Manifests that name this one as their subject, by digest, and whether there are more. A page holds at most
    /// `bytes` of descriptors, and one at least. `wanted` are artifact types; none of them means any.
    pub fn referrers(
        &self,
        name: &RepositoryName,
        subject: &Digest,
        wanted: &[String],
        page: &Page,
        bytes: usize,
    ) -> Result<Referrers, StoreError> {
        // Remembered for a moment: whoever admits images asks for the same again and again, and each row is three files.
        let asked = (subject.clone(), wanted.to_vec(), page.clone(), bytes);
        // What was asked weighs, too: whoever reads may ask for anything, and nothing be found.
        let weight =
            OVERHEAD + page.last.len() + wanted.iter().map(|one| OVERHEAD + one.len()).sum::<usize>();
        if let Some(known) = self.0.referrers.get(name, &asked) {
            return Ok(known);
        }
        let begun = self.0.referrers.begin();
        let (found, used) = self.look_for_referrers(name, &asked)?;
        self.0.referrers.found(begun, name, asked, found.clone(), used + weight);
        Ok(found)
    }

    /// Referrers that were asked for a moment ago: never waits for a storage.
    #[must_use]
    pub fn referrers_at_hand(
        &self,
        name: &RepositoryName,
        subject: &Digest,
        wanted: &[String],
        page: &Page,
        bytes: usize,
    ) -> Option<Referrers> {
        self.0.referrers.get(name, &(subject.clone(), wanted.to_vec(), page.clone(), bytes))
    }

    /// The same, with how many bytes of descriptors there are.
    pub(super) fn look_for_referrers(
        &self,
        name: &RepositoryName,
        (subject, wanted, page, bytes): &Asked,
    ) -> Result<(Referrers, usize), StoreError> {
        let (begun, stamp) = (self.0.artifact_types.begin(), self.stamp(name)?);
        let is_wanted = |own: Option<&str>| {
            wanted.is_empty() || own.is_some_and(|own| wanted.iter().any(|one| one == own))
        };
        let known = self.0.artifact_types.get(name, subject, &stamp).filter(|_| !wanted.is_empty());
        let (rows, digests): (_, Vec<String>) = if let Some(known) = &known {
            let fit = known.iter().filter(|(_, own)| is_wanted(own.as_deref()));
            (BTreeMap::new(), fit.map(|(digest, _)| digest.to_string()).collect())
        } else {
            let rows = self.rows(name, subject)?;
            let digests = rows.keys().map(ToString::to_string).collect();
            (rows, digests)
        };
        // The types of all rows, if these are read from the storage, and to the end.
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
                // Most are of the same few types.
                let shared =
                    types.last().and_then(|(_, last)| last.clone()).filter(|last| own == Some(&**last));
                types.push((digest.clone(), shared.or_else(|| own.map(Into::into))));
            }
            if !is_wanted(own) {
                return Ok(None);
            }
            let Some(canonical) = self.revision(name, &digest)? else { return Ok(None) };
            // A power failure may leave the link alone of what was never acknowledged.
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
            self.0.artifact_types.put(begun, name, subject, stamp, types);
        }
        Ok(((all.into(), more || full), used))
    }

    /// To be asked before the manifests of a repository change.
    pub(super) fn referrers_before(&self, name: &RepositoryName) -> Result<Before, StoreError> {
        let known = self.note(&Place(name).referrers_stamp(), super::LINK)?;
        let is = self.stamp(name)?;
        Ok(if known.is_some_and(|known| known == is.as_bytes()) { Before::Right } else { Before::Unknown })
    }

    /// To be told after the manifests of a repository have changed, and the descriptors with them.
    pub(super) fn referrers_after(&self, name: &RepositoryName, before: Before) -> Result<(), StoreError> {
        if before == Before::Right {
            let written =
                self.storage().write_lazily(&Place(name).referrers_stamp(), self.stamp(name)?.as_bytes());
            if let Err(error) = written {
                // Then they are made anew when somebody asks.
                tracing::debug!(%error, "what refers to manifests is not known to be up to date");
            }
        }
        Ok(())
    }

    /// Removes the descriptor of a manifest that is about to go.
    pub(super) fn remove_referrer(&self, name: &RepositoryName, digest: &Digest) -> Result<(), StoreError> {
        let Some(canonical) = self.revision(name, digest)? else { return Ok(()) };
        // What is damaged refers to nothing that could be told.
        let Ok(known) = self.content(&canonical) else { return Ok(()) };
        if let Some(subject) =
            Manifest::parse(&known.bytes, Some(known.media_type)).ok().and_then(|it| it.subject)
        {
            self.storage().remove(&Place(name).referrer(&subject, digest))?;
        }
        Ok(())
    }

    /// The digests of what refers to a subject, in order; with the descriptors where they could only be made, and not
    /// kept.
    fn rows(
        &self,
        name: &RepositoryName,
        subject: &Digest,
    ) -> Result<BTreeMap<Digest, Option<Bytes>>, StoreError> {
        if let Some(made) = self.bring_up_to_date(name)? {
            let of_subject = made.iter().filter(|(about, _)| about == subject);
            return Ok(of_subject.map(|(_, row)| (row.digest.clone(), Some(to_json(row).into()))).collect());
        }
        let folder = Place(name).referrers(subject);
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
        self.note(&Place(name).referrer(subject, digest), LONGEST)
    }

    /// Makes the descriptors again if another program has been there, and returns them. Without the
    /// repository's lock: there may be as many as there are manifests, and pushes do not wait for a question.
    fn bring_up_to_date(&self, name: &RepositoryName) -> Result<Option<Arc<Vec<Row>>>, StoreError> {
        if self.referrers_before(name)? == Before::Right {
            return Ok(None);
        }
        let begun = self.0.made.begin();
        let stamp = self.stamp(name)?;
        if let Some(made) = self.0.made.get(name, &stamp) {
            return Ok(Some(made));
        }
        let (rows, seen) = self.make_rows(name)?;
        if rows.is_empty() && !self.is_repository(name)? {
            return Ok(None);
        }
        let rows = Arc::new(rows);
        self.0.made.put(begun, name, &stamp, &rows);
        match self.keep_rows(name, &rows, &seen, &stamp) {
            Ok(()) => self.0.made.kept(name),
            Err(error) => {
                tracing::debug!(%error, repository = %name, "cannot keep descriptors of referrers, making them again later");
            }
        }
        Ok(Some(rows))
    }

    /// Makes the descriptors of all manifests that have a subject, and collects the digests of all that were
    /// looked at.
    pub(super) fn make_rows(&self, name: &RepositoryName) -> Result<(Vec<Row>, HashSet<Digest>), StoreError> {
        let mut rows = Vec::new();
        let mut seen = HashSet::new();
        for (digest, canonical) in self.all_revisions(name, false)? {
            rows.extend(self.make_row(name, &digest, &canonical)?);
            seen.extend([digest, canonical]);
        }
        Ok((rows, seen))
    }

    /// Makes the descriptor of a manifest that has a subject.
    fn make_row(
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

    /// Has descriptors be found by the next question, and after a restart.
    ///
    /// They can be made again, so that each is written lazily, and one flush makes all of them durable: the
    /// stamp, which says that they are complete, must not survive a power failure that they do not.
    pub(super) fn keep_rows(
        &self,
        name: &RepositoryName,
        rows: &[Row],
        seen: &HashSet<Digest>,
        stamp: &str,
    ) -> Result<(), StoreError> {
        for (subject, descriptor) in rows {
            let key = Place(name).referrer(subject, &descriptor.digest);
            self.storage().write_lazily(&key, &to_json(descriptor))?;
        }
        self.storage().flush_all()?;
        self.0.locks.with(name, || {
            // This program has kept the descriptors of later manifests; another program has not.
            let is = self.stamp(name)?;
            if is != stamp && !self.make_late_rows(name, seen)? {
                return Ok(());
            }
            Ok(self.storage().write_lazily(&Place(name).referrers_stamp(), is.as_bytes())?)
        })
    }

    /// Makes the descriptors of manifests that are not among those `seen`, if they are few; returns whether
    /// they are.
    fn make_late_rows(&self, name: &RepositoryName, seen: &HashSet<Digest>) -> Result<bool, StoreError> {
        let mut late = Vec::new();
        // A manifest with two names was pushed by the longer one.
        for algorithm in [Algorithm::Sha512, Algorithm::Sha256] {
            let digests = self.digests_in(&Place(name).revisions(algorithm), algorithm)?;
            late.extend(digests.into_iter().filter(|digest| !seen.contains(digest)));
        }
        if late.len() > MAX_LATE {
            return Ok(false);
        }
        let mut done = HashSet::new();
        for digest in late {
            let Some(canonical) = self.revision(name, &digest)? else { continue };
            if !done.insert(canonical.clone()) {
                continue;
            }
            if let Some((subject, descriptor)) = self.make_row(name, &digest, &canonical)? {
                let key = Place(name).referrer(&subject, &digest);
                self.storage().write(&[(key, &to_json(&descriptor))])?;
            }
        }
        Ok(true)
    }

    pub(super) fn stamp(&self, name: &RepositoryName) -> Result<String, StoreError> {
        let mut stamp = String::new();
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            stamp.push_str(&self.storage().stamp(&Place(name).revisions(algorithm))?);
            stamp.push('\n');
        }
        Ok(stamp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Memory;

    #[test]
    fn descriptors_that_are_kept_are_not_held_in_memory_as_well() {
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
        // Of what was pushed before the first question the descriptors are made.
        for last in ["", "x"] {
            let page = Page { size: 10, last: last.into() };
            let (found, _) = store.referrers(&name, &subject, &[], &page, 1 << 20).unwrap();
            assert_eq!(found.len(), usize::from(last.is_empty()));
        }
        assert!(store.0.made.inner().known.is_empty());
    }

    #[test]
    fn what_is_asked_in_vain_again_and_again_does_not_fill_memory() {
        let store = Store::open(Memory::new(1 << 20), false).unwrap();
        let (name, subject) = ("a/b".parse().unwrap(), Digest::sha256(b"nothing"));
        for i in 0..5_000 {
            let page = Page { size: 1, last: format!("{i:0>2000}") };
            store.referrers(&name, &subject, &[], &page, 1).unwrap();
        }
        assert!(store.0.referrers.count() < 2_000, "{}", store.0.referrers.count());
    }
}
