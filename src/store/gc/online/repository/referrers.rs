//! Descriptors of referrers that other programs pushed into a large repository.
//!
//! A query finds them by one list of the revisions. Where one list does not have all of these, the mark does, which
//! knows the subject of each manifest.

use std::collections::HashSet;

use quinistry_oci::Digest;

use super::{RepositoryMark, Revisions, lists::digest_of_path};
use crate::StoreError;
use crate::storage::SCAN_PAGE_SIZE;

/// Number of manifests whose descriptors are made at once.
const MANIFESTS_AT_ONCE: usize = 64;

/// Requests for each of them: its link, its length, its bytes, its media type, and its descriptor.
const REQUESTS_PER_MANIFEST: usize = 5;

impl RepositoryMark<'_> {
    /// Makes the descriptors that are missing, if queries do not make them.
    pub(super) fn complete_referrers(&self, revisions: &Revisions) -> Result<(), StoreError> {
        let keys: usize = revisions.found.values().map(|revision| 1 + revision.keys.len()).sum();
        if self.context.options.dry_run || !self.store.is_shared() || keys <= SCAN_PAGE_SIZE {
            return Ok(());
        }
        let mut missing: HashSet<_> = revisions
            .edges
            .iter()
            .filter(|(content, edge)| edge.subject.is_some() && revisions.found.contains_key(content))
            .map(|(content, _)| *content)
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let folder = self.keys.all_referrers();
        self.store.scan_slowly(self.context, &folder, |key, _| {
            // Beneath the digest of the subject.
            let row = key.beneath(&folder).and_then(|(_, rest)| digest_of_path(rest.split_once('/')?.1));
            if let Some(content) = row.and_then(|digest| revisions.content_of_name(&digest)) {
                missing.remove(&content);
            }
            Ok(())
        })?;
        let missing: Vec<(Digest, bool)> =
            missing.iter().map(|content| (content.digest(), revisions.found[content].is_noted)).collect();
        for batch in missing.chunks(MANIFESTS_AT_ONCE) {
            self.context.take(batch.len() * REQUESTS_PER_MANIFEST);
            let made = self.store.describe_manifests(self.name, batch)?;
            tracing::debug!(repository = %self.name, made, "described referrers of another program");
        }
        Ok(())
    }
}
