//! Trash: removed bytes that can be put back for some time.
//!
//! Another program that writes to the storage touches nothing, so that it may have found bytes just before
//! they were removed. A link whose bytes are in the trash gets them back: at the next mark, or when they are
//! asked for.

use std::time::Duration;

use quinistry_oci::Digest;

use super::mark::{Context, Mark};
use super::prior::{Condemned, Prior};
use super::subject::ContentId;
use super::sweep::Progress;
use super::{GcOptions, Writers};
use crate::layout::blob;
use crate::layout::collection::{trash, trash_of, trash_time, trashed};
use crate::{Key, Store, StoreError};

/// Least time for which bytes stay in the trash where other programs write.
const FOREIGN_TRASH_LIFETIME: Duration = Duration::from_hours(48);

impl GcOptions {
    /// Returns the time for which removed bytes stay in the trash; `None` if they are removed at once.
    pub(super) fn trash_lifetime(&self) -> Option<Duration> {
        match self.writers {
            Writers::Ours => self.trash,
            Writers::Foreign => Some(self.trash.unwrap_or_default().max(FOREIGN_TRASH_LIFETIME)),
        }
    }
}

impl Store {
    /// Copies bytes that are about to be removed to the trash.
    pub(super) fn trash(
        &self,
        context: &Context<'_>,
        prior: &Prior,
        subjects: &[&Condemned],
    ) -> Result<Progress, StoreError> {
        if context.options.trash_lifetime().is_none() || subjects.is_empty() {
            return Ok(Progress::Complete);
        }
        let epoch = prior.epoch.number;
        for subject in subjects {
            if !context.lead.still() {
                return Ok(Progress::LostLead);
            }
            if !self.is_shared() {
                context.take(1);
            }
            let canonical = subject.content.digest();
            self.storage().copy(&blob(&canonical), &trashed(epoch, &canonical))?;
        }
        // The copies may have the times of the bytes.
        self.storage().write(&[&[(trash_time(epoch), b"{}")]])?;
        Ok(Progress::Complete)
    }

    /// Puts back all bytes that something needs, and removes what has been in the trash for its time.
    pub(super) fn tidy_trash(&self, context: &Context<'_>, mark: &Mark) -> Result<u64, StoreError> {
        let mut restored = 0;
        let mut found: Vec<(Key, Digest)> = Vec::new();
        let mut times = Vec::new();
        self.scan_slowly(context, &trash(), |key, meta| {
            match key.beneath(&trash()) {
                Some((epoch, "moved")) => {
                    times.extend(epoch.parse::<u64>().ok().map(|epoch| (epoch, meta.modified)));
                }
                Some((_, hex)) => {
                    found.extend(ContentId::of_hex(hex).map(|content| (key.clone(), content.digest())));
                }
                None => {}
            }
            Ok(())
        })?;
        for (key, digest) in &found {
            let is_needed = ContentId::of(digest).is_some_and(|content| mark.filter.contains(content));
            if is_needed && self.storage().head(&blob(digest))?.is_none() {
                context.take(2);
                restored += u64::from(self.put_back(key, digest)?);
            }
        }
        let lifetime = context.options.trash_lifetime().unwrap_or_default();
        for (epoch, modified) in times {
            if context.age(modified) > lifetime && context.lead.still() {
                self.storage().clear(&trash_of(epoch))?;
            }
        }
        Ok(restored)
    }

    /// Puts bytes back from the trash, if they are there. Call when a link leads to absent bytes.
    pub(crate) fn restore_from_trash(&self, canonical: &Digest) -> Result<bool, StoreError> {
        if self.is_reader() {
            return Ok(false);
        }
        for epoch in self.storage().list(&trash())?.unwrap_or_default() {
            let Ok(epoch) = epoch.parse() else { continue };
            let key = trashed(epoch, canonical);
            if self.storage().head(&key)?.is_some() {
                return self.put_back(&key, canonical);
            }
        }
        Ok(false)
    }

    fn put_back(&self, key: &Key, canonical: &Digest) -> Result<bool, StoreError> {
        let is_back = self.storage().copy(key, &blob(canonical))?;
        if is_back {
            tracing::warn!(%canonical, "collected bytes were needed, put back from the trash");
        }
        Ok(is_back)
    }
}
