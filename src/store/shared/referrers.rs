//! Referrers on a storage without versions of folders.
//!
//! A push writes the descriptor of its manifest. Manifests of other programs are found by one list of the revisions:
//! `_referrers/stamp` names those whose descriptors exist. Of a repository with more revisions than one list has,
//! only pushed descriptors are known until the next mark of a collection makes the others.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use bytes::Bytes;
use quinistry_oci::{Algorithm, Descriptor, Digest, Manifest, RepositoryName, media_type, to_json};

use crate::layout::{Key, RepositoryKeys, blob};
use crate::manifests::MAX_STORED_MANIFEST_BYTES;
use crate::referrers::{MAX_DESCRIPTOR_BYTES, Referrers, ReferrersQuery};
use crate::storage::{Entry, SCAN_PAGE_SIZE, StorageError};
use crate::{MAX_LINK_BYTES, Store, StoreError};

/// First line of a stamp, which tells it from the version of a folder.
const STAMP_HEAD: &str = "digests 1";

/// Number of digits by which a stamp names a revision.
const STAMP_DIGITS: usize = 32;

/// Longest stamp that is read, in bytes.
pub(crate) const MAX_STAMP_BYTES: u64 = 128 * 1024;

/// Number of descriptors or manifests that are read at once.
const READ_AT_ONCE: usize = 64;

/// Bytes of descriptors or manifests that are read at once, unless a single one is longer.
const MAX_BYTES_AT_ONCE: u64 = 4 * 1024 * 1024;

/// Revisions of a repository, each with whether a media type stands beside its link.
type Revisions = BTreeMap<Digest, bool>;

/// Manifest of a repository whose bytes were found.
struct FoundManifest<'a> {
    /// Digest that the manifest was pushed with.
    digest: &'a Digest,
    /// SHA-256 of the bytes.
    canonical: Digest,
    /// Number of bytes.
    length: u64,
}

impl Store {
    /// Reads a page of referrers, and the length of its descriptors in bytes.
    pub(crate) fn read_shared_referrers(
        &self,
        name: &RepositoryName,
        (subject, wanted, page, max_bytes): &ReferrersQuery,
    ) -> Result<(Referrers, usize), StoreError> {
        let revisions = self.listed_revisions(name)?;
        let mut rows = self.listed_rows(name, subject)?;
        let mut made: BTreeMap<Digest, Bytes> = BTreeMap::new();
        if let Some(revisions) = &revisions {
            for (about, row) in self.describe_revisions(name, revisions)? {
                if about == *subject {
                    let bytes = to_json(&row);
                    rows.insert(row.digest.clone(), bytes.len() as u64);
                    made.insert(row.digest, bytes.into());
                }
            }
            rows.retain(|digest, _| revisions.contains_key(digest));
        }
        let rows: Vec<(Digest, u64)> = rows
            .into_iter()
            .filter(|(digest, _)| page.last.is_empty() || digest.as_str() > page.last.as_str())
            .collect();
        let is_wanted = |own: Option<&str>| {
            wanted.is_empty() || own.is_some_and(|own| wanted.iter().any(|one| one == own))
        };
        let (mut found, mut used) = (Vec::new(), 0);
        let mut rest = &rows[..];
        while !rest.is_empty() && page.size > 0 {
            let batch;
            (batch, rest) = rest.split_at(batch_length(rest.iter().map(|(_, length)| *length)));
            let read = self.read_rows(name, subject, batch, &made, revisions.is_some())?;
            for row in read {
                if found.len() >= page.size {
                    return Ok(((found.into(), true), used));
                }
                let Some(row) = row else { continue };
                let Ok(descriptor) = serde_json::from_slice::<Descriptor>(&row) else { continue };
                if !is_wanted(descriptor.artifact_type.as_deref()) {
                    continue;
                }
                if used > 0 && used + row.len() > *max_bytes {
                    return Ok(((found.into(), true), used));
                }
                used += row.len();
                found.push(descriptor);
            }
        }
        Ok(((found.into(), false), used))
    }

    /// Reads descriptors of a subject, each unless it is absent. If the revisions are not known to exist, looks for
    /// them as well.
    fn read_rows(
        &self,
        name: &RepositoryName,
        subject: &Digest,
        batch: &[(Digest, u64)],
        made: &BTreeMap<Digest, Bytes>,
        are_listed: bool,
    ) -> Result<Vec<Option<Bytes>>, StoreError> {
        let place = RepositoryKeys(name);
        let keys: Vec<Key> = batch.iter().map(|(digest, _)| place.referrer(subject, digest)).collect();
        let mut rows = self.storage().read_all(&keys, MAX_DESCRIPTOR_BYTES)?;
        for (row, (digest, _)) in rows.iter_mut().zip(batch) {
            if row.is_none() {
                *row = made.get(digest).cloned();
            }
        }
        if !are_listed {
            let links: Vec<Key> = batch.iter().map(|(digest, _)| place.revision_link(digest)).collect();
            let links = self.storage().read_all(&links, MAX_LINK_BYTES)?;
            for (row, link) in rows.iter_mut().zip(links) {
                *row = row.take().filter(|_| link.is_some());
            }
        }
        Ok(rows)
    }

    /// Returns the revisions of a repository; `None` if one list does not have all of them.
    fn listed_revisions(&self, name: &RepositoryName) -> Result<Option<Revisions>, StoreError> {
        let folder = RepositoryKeys(name).all_revisions();
        let page = self.storage().scan(&folder, None, SCAN_PAGE_SIZE)?;
        if page.next.is_some() {
            return Ok(None);
        }
        let mut revisions = Revisions::new();
        for (key, _) in &page.entries {
            let Some((algorithm, rest)) = key.beneath(&folder) else { continue };
            let Some((hex, file)) = rest.split_once('/') else { continue };
            let Ok(digest) = format!("{algorithm}:{hex}").parse::<Digest>() else { continue };
            match file {
                "link" => revisions.extend([(digest, false)]),
                // Behind the link, in the order of keys.
                "mediatype" => revisions.extend([(digest, true)]),
                _ => {}
            }
        }
        Ok(Some(revisions))
    }

    /// Returns the referrers of a subject that have descriptors, with the length of each.
    fn listed_rows(
        &self,
        name: &RepositoryName,
        subject: &Digest,
    ) -> Result<BTreeMap<Digest, u64>, StoreError> {
        let folder = RepositoryKeys(name).referrers(subject);
        let mut rows = BTreeMap::new();
        self.scan(&folder, |key, meta| {
            if let Some((algorithm, hex)) = key.beneath(&folder) {
                rows.extend(
                    format!("{algorithm}:{hex}").parse::<Digest>().map(|digest| (digest, meta.length)),
                );
            }
            Ok(())
        })?;
        Ok(rows)
    }

    /// Makes the descriptors of revisions that have none yet, and returns those made.
    fn describe_revisions(
        &self,
        name: &RepositoryName,
        revisions: &Revisions,
    ) -> Result<Vec<(Digest, Descriptor)>, StoreError> {
        let key = RepositoryKeys(name).referrers_version();
        let stamp = self.read_note(&key, MAX_STAMP_BYTES)?.unwrap_or_default();
        let stamp = std::str::from_utf8(&stamp).unwrap_or_default();
        let known = stamped(stamp);
        let new: Vec<&Digest> = revisions.keys().filter(|digest| !known.contains(short(digest))).collect();
        if new.is_empty() && known.len() == revisions.len() {
            return Ok(Vec::new());
        }
        let made = self.describe_some(name, &new, revisions)?;
        let rows = rows_of(name, &made);
        let rows: Vec<Entry<'_>> = rows.iter().map(|(key, row)| (key.clone(), &row[..])).collect();
        let digests: BTreeSet<&str> = revisions.keys().map(short).collect();
        let stamp = [STAMP_HEAD].into_iter().chain(digests).collect::<Vec<_>>().join("\n");
        match self.storage().write(&[&rows, &[(key, stamp.as_bytes())]]) {
            // The next query makes them again.
            Ok(()) | Err(StorageError::ReadOnly | StorageError::Full) => Ok(made),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes the descriptors of manifests that have a subject. `manifests` tells of each whether a media type stands beside
    /// its link. Returns the number of descriptors.
    pub(crate) fn describe_manifests(
        &self,
        name: &RepositoryName,
        manifests: &[(Digest, bool)],
    ) -> Result<usize, StoreError> {
        let revisions: Revisions = manifests.iter().cloned().collect();
        let made = self.describe_some(name, &revisions.keys().collect::<Vec<_>>(), &revisions)?;
        let rows = rows_of(name, &made);
        let rows: Vec<Entry<'_>> = rows.iter().map(|(key, row)| (key.clone(), &row[..])).collect();
        self.storage().write(&[&rows])?;
        Ok(made.len())
    }

    /// Makes the descriptors of some revisions.
    fn describe_some(
        &self,
        name: &RepositoryName,
        digests: &[&Digest],
        revisions: &Revisions,
    ) -> Result<Vec<(Digest, Descriptor)>, StoreError> {
        let mut made = Vec::new();
        for batch in digests.chunks(READ_AT_ONCE) {
            let targets = self.find_manifests(name, batch)?;
            let mut rest = &targets[..];
            while !rest.is_empty() {
                let batch;
                (batch, rest) = rest.split_at(batch_length(rest.iter().map(|target| target.length)));
                made.extend(self.describe_batch(name, batch, revisions)?);
            }
        }
        Ok(made)
    }

    /// Finds the bytes of revisions, but for those whose bytes are absent.
    fn find_manifests<'a>(
        &self,
        name: &RepositoryName,
        batch: &[&'a Digest],
    ) -> Result<Vec<FoundManifest<'a>>, StoreError> {
        let mut targets: Vec<(&Digest, Digest)> = Vec::new();
        for digest in batch {
            let canonical = match digest.algorithm() {
                Algorithm::Sha256 => Some((*digest).clone()),
                Algorithm::Sha512 => self.revision(name, digest)?,
            };
            targets.extend(canonical.map(|canonical| (*digest, canonical)));
        }
        let pairs: Vec<(Key, Key)> = targets
            .iter()
            .map(|(digest, canonical)| (RepositoryKeys(name).revision_link(digest), blob(canonical)))
            .collect();
        let found = self.storage().look_up(&pairs, MAX_LINK_BYTES)?;
        let found = targets.into_iter().zip(found).filter_map(|((digest, canonical), found)| {
            let length = found.target.filter(|_| found.link.is_some())?.length;
            Some(FoundManifest { digest, canonical, length })
        });
        Ok(found.collect())
    }

    /// Makes the descriptors of those manifests that have a subject.
    fn describe_batch(
        &self,
        name: &RepositoryName,
        batch: &[FoundManifest<'_>],
        revisions: &Revisions,
    ) -> Result<Vec<(Digest, Descriptor)>, StoreError> {
        let place = RepositoryKeys(name);
        let keys: Vec<Key> = batch.iter().map(|found| blob(&found.canonical)).collect();
        let read = self.storage().read_all(&keys, MAX_STORED_MANIFEST_BYTES)?;
        let mut made = Vec::new();
        for (FoundManifest { digest, canonical, .. }, bytes) in batch.iter().zip(read) {
            // A manifest that cannot be read is not listed; a client that pulls it gets the error.
            let Some(bytes) = bytes.filter(|bytes| canonical.matches(bytes)) else { continue };
            let is_noted = revisions.get(*digest).is_some_and(|is_noted| *is_noted);
            let noted = if is_noted {
                let note = self.read_note(&place.revision_type(digest), MAX_LINK_BYTES)?;
                note.and_then(|note| media_type::known(std::str::from_utf8(&note).ok()?))
            } else {
                None
            };
            let media_type = noted.or_else(|| Manifest::type_of(&bytes));
            let Ok(manifest) = Manifest::parse(&bytes, media_type) else { continue };
            let descriptor = manifest.descriptor(digest, bytes.len() as u64);
            made.extend(manifest.subject.map(|subject| (subject, descriptor)));
        }
        Ok(made)
    }
}

/// Returns descriptors as they are stored, each with its key.
fn rows_of(name: &RepositoryName, made: &[(Digest, Descriptor)]) -> Vec<(Key, Vec<u8>)> {
    made.iter()
        .map(|(subject, row)| (RepositoryKeys(name).referrer(subject, &row.digest), to_json(row)))
        .collect()
}

/// Returns the number of the first of these lengths in bytes that are read at once, which is at least one.
fn batch_length(lengths: impl Iterator<Item = u64>) -> usize {
    let mut bytes = 0;
    let fits = lengths.take(READ_AT_ONCE).take_while(|length| {
        bytes += length;
        bytes <= MAX_BYTES_AT_ONCE
    });
    fits.count().max(1)
}

/// Returns the digests that a stamp names as those whose descriptors exist, each by its first digits.
pub(crate) fn stamped(stamp: &str) -> HashSet<&str> {
    match stamp.split_once('\n') {
        Some((STAMP_HEAD, digests)) => digests.lines().collect(),
        _ => HashSet::new(),
    }
}

/// Returns the digits by which a stamp names a digest.
pub(crate) fn short(digest: &Digest) -> &str {
    &digest.hex()[..STAMP_DIGITS]
}
