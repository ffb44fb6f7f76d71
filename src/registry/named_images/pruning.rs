//! Removal of images that no name needs any more, by the collection of the store.
//!
//! Before each cycle, the tags of such images are removed; the cycle then condemns their manifests, links and
//! bytes, and frees them after its own grace, if they are still not named. A file of names that is missing or
//! damaged stops that.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use quinistry_oci::WithCauses;
use quinistry_store::{Lead, RevisionRules, Store, StoreError, TaggedManifest};

use super::NamedImages;
use super::history::History;
use super::roots::{NamedRoots, NamedRules};
use crate::LimitedStore;
use crate::peers::ReadNames;

/// History of the file of names, with the state of its record.
#[derive(Debug, Default)]
pub(super) struct Pruning(Mutex<Pruned>);

#[derive(Debug, Default)]
struct Pruned {
    /// History; `None` until the record of the storage was read.
    history: Option<History>,
    /// True if the file of names was valid when it was read last.
    is_valid: bool,
    is_recorded: bool,
    /// Last failure of reading or writing the record, if the last attempt failed.
    failure: Option<String>,
}

impl Pruning {
    fn lock(&self) -> MutexGuard<'_, Pruned> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of the file of names, and keeps the record in the storage.
    pub(super) async fn update(&self, stored: &LimitedStore, read: &ReadNames) {
        if self.lock().history.is_none() {
            match stored.run(Store::named_images_record).await {
                Ok(record) => {
                    let history = record.map_or_else(History::default, |record| History::parse(&record));
                    self.lock().history = Some(history);
                }
                Err(error) => {
                    self.note_failure(&error);
                    return;
                }
            }
        }
        let record = {
            let mut pruned = self.lock();
            pruned.is_valid = read.is_valid;
            let Pruned { history: Some(history), is_recorded, .. } = &mut *pruned else { return };
            if let Some(names) = read.digest.as_ref().filter(|_| read.is_valid)
                && history.note_names(names, &read.names, SystemTime::now())
            {
                *is_recorded = false;
            }
            if *is_recorded {
                return;
            }
            history.record()
        };
        match stored.run(move |store| store.keep_named_images_record(&record)).await {
            Ok(()) => {
                let mut pruned = self.lock();
                (pruned.is_recorded, pruned.failure) = (true, None);
            }
            Err(error) => self.note_failure(&error),
        }
    }

    /// Logs a failure of reading or writing the record, once for each reason.
    fn note_failure(&self, error: &(dyn std::error::Error + 'static)) {
        let text = WithCauses(error).to_string();
        let mut pruned = self.lock();
        if pruned.failure.as_ref() != Some(&text) {
            tracing::warn!(
                error = %text,
                "cannot read or write the record of named images, removing no image until that works"
            );
            pruned.failure = Some(text);
        }
    }

    /// Returns what stays; `None` if nothing may go now.
    fn roots(&self) -> Option<NamedRoots> {
        let pruned = self.lock();
        let history = pruned.history.as_ref().filter(|_| pruned.is_valid && pruned.is_recorded);
        history.and_then(|history| history.roots(SystemTime::now()))
    }
}

impl NamedImages {
    /// Returns the rules by which collection removes what no name needs.
    pub(crate) fn rules(&self) -> Arc<dyn RevisionRules> {
        Arc::new(NamedRules(self.pruning.roots()))
    }

    /// Removes the tags of images that no name needs: tags come from the file of names alone, and those of
    /// the storage, which a load writes, would keep their images for ever. Blocks.
    pub(crate) fn remove_tags(&self, store: &Store, lead: &Lead) -> Result<(), StoreError> {
        let Some(roots) = self.pruning.roots() else {
            tracing::debug!(
                "no image is removed for want of a name: the names have not changed for long enough"
            );
            return Ok(());
        };
        remove_tags(store, lead, &roots)
    }
}

/// Removes the tags of manifests that `roots` do not hold.
pub(super) fn remove_tags(store: &Store, lead: &Lead, roots: &NamedRoots) -> Result<(), StoreError> {
    let stays = |TaggedManifest { repository, digest, pushed }: TaggedManifest<'_>| {
        roots.hold_all(repository) || roots.hold(repository, digest, pushed)
    };
    let tags = store.remove_tags_unless(lead, &stays)?;
    if tags > 0 {
        tracing::info!(tags, "tags removed, no name needs their images");
    }
    Ok(())
}
