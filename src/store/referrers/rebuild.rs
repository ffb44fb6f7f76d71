//! Rebuilding of the descriptors of a repository that another program has written to.

use std::collections::HashSet;
use std::sync::Arc;

use quinistry_oci::{Algorithm, Digest, Manifest, RepositoryName, to_json};

use super::{DescriptorState, Row};
use crate::layout::RepositoryKeys;
use crate::{Store, StoreError};

/// Greatest number of manifests whose descriptors are built with the repository's lock held.
const MAX_LATE_REFERRERS: usize = 64;

impl Store {
    /// Rebuilds the descriptors if another program has written to the repository, and returns them. Does not
    /// hold the repository's lock: there may be as many descriptors as manifests, and pushes must not wait
    /// for a query.
    pub(super) fn rebuild_if_outdated(
        &self,
        name: &RepositoryName,
    ) -> Result<Option<Arc<Vec<Row>>>, StoreError> {
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
    pub(crate) fn build_rows(
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
    pub(crate) fn save_rows(
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
}
