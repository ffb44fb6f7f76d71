//! Treatment of damaged content: quarantine, removal, replacement, and the report.

use quinistry_oci::{Digest, WithCauses};

use super::ScrubOptions;
use super::check::{Damage, Verdict};
use super::heal::{ContentKind, Holder};
use super::pace::Pace;
use crate::layout::blob;
use crate::storage::Removed;
use crate::{DeletedSubject, Deletion, DeletionActor, Store, StoreError};

impl Store {
    /// Checks content, and treats it if it is damaged. Returns false if the scrub shall stop.
    pub(super) fn scrub_content(
        &self,
        canonical: &Digest,
        believes_storage: bool,
        options: &ScrubOptions,
        pace: &mut Pace<'_>,
    ) -> Result<bool, StoreError> {
        match self.check_content(canonical, believes_storage, pace)? {
            Verdict::Stopped => return Ok(false),
            Verdict::Sound | Verdict::Absent | Verdict::Changing => {}
            Verdict::Damaged(damage) => self.treat_damage(canonical, damage, options)?,
            Verdict::Unreadable(error) => {
                let holders = self.holders(canonical)?;
                self.0.scrub_counts.damaged.add(1);
                let (repositories, tags) = self.describe(&holders, canonical);
                tracing::error!(digest = %canonical, error = %WithCauses(&error), repositories, tags, "content cannot be read, push it again and check the disk");
                if !self.heal(canonical, &holders, &options.sources)? {
                    self.0.suspects.rest(canonical);
                }
            }
        }
        Ok(true)
    }

    fn treat_damage(
        &self,
        canonical: &Digest,
        damage: Damage,
        options: &ScrubOptions,
    ) -> Result<(), StoreError> {
        let holders = self.holders(canonical)?;
        let (length, found) = (damage.length, damage.found.clone());
        let copy_key = damage.copy_key.clone();
        let is_manifest = holders.iter().any(|holder| holder.kind == ContentKind::Manifest);
        let (action, is_healed) = if is_manifest {
            let is_healed = self.replace_manifest(canonical, damage, &holders, options)?;
            (if is_healed { "replaced" } else { "kept in place" }, is_healed)
        } else {
            if !self.quarantine(canonical, damage)? {
                return Ok(());
            }
            ("quarantined", false)
        };
        self.0.scrub_counts.damaged.add(1);
        let (repositories, tags) = self.describe(&holders, canonical);
        tracing::error!(
            digest = %canonical, %found, length, repositories, tags, quarantine = %copy_key, action,
            "content damaged, push it again"
        );
        if !is_healed && !is_manifest {
            self.heal(canonical, &holders, &options.sources)?;
        }
        Ok(())
    }

    /// Copies damaged bytes into the quarantine and removes them. Returns false if they were replaced or
    /// removed by then, and stay as they are.
    fn quarantine(&self, canonical: &Digest, damage: Damage) -> Result<bool, StoreError> {
        let Damage { tag, modified, length, mut copy, copy_key, .. } = damage;
        let key = blob(canonical);
        copy.finish(&copy_key, &[])?;
        // No push of this process comes between the comparison of the times and the removal.
        let removed = self.0.link_guard.exclusively(|| {
            let fence = self.storage().fence();
            match self.storage().head(&key)? {
                Some(now) if now.modified == modified => {
                    Ok(self.remove_within(fence, &key, &tag)?.unwrap_or(Removed::Changed))
                }
                Some(_) => Ok(Removed::Changed),
                None => Ok::<_, StoreError>(Removed::Absent),
            }
        });
        if !matches!(removed, Ok(Removed::Removed)) {
            self.storage().remove(&copy_key)?;
            removed?;
            return Ok(false);
        }
        self.forget_content(canonical);
        self.note_scrubbed(canonical, length);
        Ok(true)
    }

    /// Replaces a damaged manifest, whose bytes go into the quarantine, if a source has it. Returns true if
    /// one has.
    fn replace_manifest(
        &self,
        canonical: &Digest,
        damage: Damage,
        holders: &[Holder],
        options: &ScrubOptions,
    ) -> Result<bool, StoreError> {
        let Damage { mut copy, copy_key, .. } = damage;
        self.forget_content(canonical);
        let Some(replacement) = self.fetch_replacement(canonical, holders, &options.sources)? else {
            copy.abort()?;
            self.0.suspects.rest(canonical);
            return Ok(false);
        };
        copy.finish(&copy_key, &[])?;
        self.place_replacement(canonical, replacement)?;
        Ok(true)
    }

    /// Returns the repositories that have a content and the tags that reach it, for the log.
    fn describe(&self, holders: &[Holder], canonical: &Digest) -> (String, String) {
        /// Greatest number of repositories that a line names.
        const MAX_NAMED_REPOSITORIES: usize = 20;
        let mut repositories: Vec<String> =
            holders.iter().map(|holder| holder.repository.to_string()).collect();
        repositories.dedup();
        let more = repositories.len().saturating_sub(MAX_NAMED_REPOSITORIES);
        repositories.truncate(MAX_NAMED_REPOSITORIES);
        if more > 0 {
            repositories.push(format!("and {more} more"));
        }
        let tags = self.tags_that_reach(holders, canonical).unwrap_or_else(|error| {
            tracing::warn!(error = %WithCauses(&error), digest = %canonical, "cannot find the tags that reach damaged content");
            Vec::new()
        });
        (repositories.join(", "), tags.join(", "))
    }

    /// Removes a content from all caches.
    pub(super) fn forget_content(&self, canonical: &Digest) {
        let inner = &*self.0;
        inner.blob_cache.clear();
        inner.resolved_references.clear();
        inner.manifest_cache.remove(canonical);
        inner.verified.remove(canonical);
        self.forget_recent_links();
    }

    /// Records the removal of damaged bytes.
    fn note_scrubbed(&self, canonical: &Digest, length: u64) {
        self.record_deletion(Deletion {
            actor: DeletionActor::Scrub,
            subject: DeletedSubject::Bytes { digest: canonical.clone(), length },
            policy: None,
            reason: "the bytes do not have their digest".into(),
        });
        if let Err(error) = self.flush_deletions() {
            tracing::warn!(error = %WithCauses(&error), "cannot keep the record of a deletion, trying again later");
        }
    }
}
