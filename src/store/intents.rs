//! Intents: records of changes of several visible steps. An intent is written, carried out and removed. After
//! a crash the next start carries it out from the beginning; each step may be repeated.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use quinistry_oci::{Digest, RepositoryName, Tag, WithCauses, to_json};
use serde::{Deserialize, Serialize};

use super::gc::online::subject::Subject;
use super::gc::online::touch::{Cause, Needed};
use super::layout::{Key, RepositoryKeys, intent, intents};
use super::storage::{Meta, StorageError};
use super::{Store, StoreError};

/// Longest intent, in bytes: an intent names at most a repository's tags, so that a longer file is not an
/// intent.
const MAX_INTENT_BYTES: u64 = 64 * 1024 * 1024;

/// A change to make completely or not at all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "do")]
pub(super) enum Intent {
    /// Moves tags to a manifest, and gives it those that are immutable unless they refer to another one.
    Tag {
        repository: RepositoryName,
        digest: Digest,
        tags: Vec<Tag>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        immutable: Vec<Tag>,
    },
    /// Gives a manifest tags that are absent. Written on shared storages alone.
    Create { repository: RepositoryName, digest: Digest, tags: Vec<Tag> },
    /// Removes tags, and a manifest by all of its digests.
    Delete { repository: RepositoryName, digests: Vec<Digest>, tags: Vec<Tag> },
}

impl Intent {
    pub(super) fn repository(&self) -> &RepositoryName {
        let (Self::Tag { repository, .. }
        | Self::Create { repository, .. }
        | Self::Delete { repository, .. }) = self;
        repository
    }
}

/// Intents on the storage that must be finished or removed before another change.
#[derive(Debug, Default)]
pub(super) struct PendingIntents {
    /// The storage was too full at the start to finish the intents that a crash left.
    has_unfinished: Mutex<bool>,
    /// Intents that were carried out or given up, and could not be removed yet. Locked by holders of a
    /// repository's lock, which finishing intents takes itself: hence a lock of its own.
    obsolete: Mutex<Vec<(RepositoryName, Key)>>,
}

impl PendingIntents {
    fn has_unfinished(&self) -> MutexGuard<'_, bool> {
        self.has_unfinished.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn obsolete(&self) -> MutexGuard<'_, Vec<(RepositoryName, Key)>> {
        self.obsolete.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// Carries an intent out, with the step `last` that a replay of it makes as well. After a crash either nothing was
    /// changed, or the next start finishes the change.
    pub(super) fn carry_out(
        &self,
        wanted: &Intent,
        last: impl FnOnce() -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let perform = || self.perform(wanted, None).and_then(|()| last());
        if !self.is_persistent() {
            // No next start will find an intent, and deletions must succeed on a full storage.
            return perform();
        }
        let id = uuid::Uuid::new_v4().to_string();
        let (key, heard) = match &self.0.shared {
            None => (intent(&id), None),
            Some(shared) => (shared.replica().intent(&id), Some(shared.replica().heard())),
        };
        let written = self.storage().write(&[&[(key.clone(), &to_json(wanted))]]);
        let performed = written.map_err(Into::into).and_then(|()| perform());
        // Removed after a failure as well, even one to write the intent: the client is told of the failure,
        // and the next start must not carry the intent out over later pushes.
        if let Err(error) = self.storage().remove(&key) {
            tracing::warn!(error = %WithCauses(&error), %key, "cannot remove intent, trying again before the next change");
            self.0.pending_intents.obsolete().push((wanted.repository().clone(), key));
            return performed;
        }
        performed.and_then(|()| heard.map_or(Ok(()), |heard| self.await_takeover(&key, heard)))
    }

    /// Removes the obsolete intents of a repository. Call with the repository's lock held, before a change
    /// that such an intent would undo at the next start.
    pub(super) fn remove_obsolete_intents(&self, name: &RepositoryName) -> Result<(), StoreError> {
        let mut obsolete = self.0.pending_intents.obsolete();
        while let Some(index) = obsolete.iter().position(|(of, _)| of == name) {
            let key = &obsolete[index].1;
            self.storage().remove(key)?;
            if self.is_shared() {
                self.await_takeover(key, Duration::ZERO)?;
            }
            obsolete.swap_remove(index);
        }
        Ok(())
    }

    /// Removes a manifest without tags, while no registry runs: by steps that may be interrupted anywhere,
    /// and that succeed on a full storage.
    pub(super) fn collect_manifest(&self, name: &RepositoryName, digest: &Digest) -> Result<(), StoreError> {
        self.changing_manifests_at_once(name, || {
            // A collection that was killed may have removed any of the digests.
            let digests = self.possible_names_of(digest);
            self.perform(&Intent::Delete { repository: name.clone(), digests, tags: Vec::new() }, None)
        })
    }

    /// Carries out the missing steps. A crash may have come after any step, and another program may have
    /// changed the repository since: missing files are skipped, and tags that refer to another manifest by
    /// now stay. On a shared storage, an intent that another replica wrote at `begun` leaves what was written since.
    pub(super) fn perform(&self, wanted: &Intent, begun: Option<SystemTime>) -> Result<(), StoreError> {
        match wanted {
            Intent::Tag { repository, digest, tags, immutable } => {
                if let Some(begun) = begun {
                    let is_left = |tag: &Tag, link: &Meta| link.modified >= begun || immutable.contains(tag);
                    return self.finish_shared_tags(repository, digest, tags, &is_left);
                }
                if self.revision(repository, digest)?.is_none() {
                    ignore_intent_to_tag(repository, digest);
                    return Ok(());
                }
                self.index_tags(repository, tags, digest)?;
                let mut movable = Vec::new();
                for tag in tags {
                    let is_free = !immutable.contains(tag)
                        || !self.is_shared()
                            && self.link(&RepositoryKeys(repository).tag_link(tag))?.is_none();
                    movable.extend(is_free.then(|| tag.clone()));
                }
                if self.is_shared() {
                    // Before the others, so that a refusal moves none.
                    self.create_shared_tags(repository, digest, immutable)?;
                }
                self.put_tags(repository, &movable, digest)?;
            }
            Intent::Create { repository, digest, tags } if begun.is_none() => {
                self.index_tags(repository, tags, digest)?;
                self.create_shared_tags(repository, digest, tags)?;
            }
            Intent::Create { repository, digest, tags } => {
                self.finish_shared_tags(repository, digest, tags, &|_, _| true)?;
            }
            Intent::Delete { repository, digests, tags } if self.is_shared() => {
                self.perform_shared_delete(repository, digests, tags, begun)?;
            }
            Intent::Delete { repository, digests, tags } => {
                for tag in tags {
                    let target = self.link(&RepositoryKeys(repository).tag_link(tag))?;
                    if target.is_none_or(|target| digests.contains(&target)) {
                        self.remove_tag(repository, tag)?;
                    }
                }
                let before = self.descriptor_state(repository)?;
                // The SHA-256, by which the bytes are found, goes last.
                for digest in digests.iter().rev() {
                    self.remove_referrer(repository, digest)?;
                    let place = RepositoryKeys(repository);
                    self.clear(&place.revision_link(digest), &place.revision(digest))?;
                }
                self.update_descriptor_version(repository, before)?;
            }
        }
        Ok(())
    }

    /// Finishes interrupted changes. On a full storage this is tried again before the next change.
    pub(super) fn finish_intents(&self) -> Result<(), StoreError> {
        if self.is_shared() {
            // Another replica may be about to carry an intent out.
            return self.join();
        }
        let finished = self.finish_all();
        match &finished {
            // The next process that may write finishes them; a reader serves the present state.
            Err(StoreError::Storage(StorageError::ReadOnly)) => Ok(()),
            Err(StoreError::Storage(StorageError::Full)) => {
                tracing::warn!(
                    "storage full, interrupted changes not finished, writes refused until they are"
                );
                *self.0.pending_intents.has_unfinished() = true;
                Ok(())
            }
            _ => finished,
        }
    }

    /// Finishes interrupted changes for which the storage was too full at the start.
    pub(super) fn finish_pending_intents(&self) -> Result<(), StoreError> {
        let mut has_unfinished = self.0.pending_intents.has_unfinished();
        if *has_unfinished {
            self.finish_all()?;
            *has_unfinished = false;
        }
        Ok(())
    }

    fn finish_all(&self) -> Result<(), StoreError> {
        let mut keys = Vec::new();
        self.scan(&intents(), |key, _| {
            keys.push(key);
            Ok(())
        })?;
        keys.iter().try_for_each(|key| self.finish_intent(key, None))
    }

    /// Finishes an interrupted change, and removes its intent. On a shared storage, the change leaves what was
    /// written since `begun`.
    pub(super) fn finish_intent(&self, key: &Key, begun: Option<SystemTime>) -> Result<(), StoreError> {
        let Some(bytes) = self.storage().read(key, MAX_INTENT_BYTES)? else { return Ok(()) };
        match serde_json::from_slice::<Intent>(&bytes) {
            Ok(wanted) => {
                tracing::info!(%key, ?wanted, "finishing interrupted change");
                let finish =
                    || self.changing_manifests_at_once(wanted.repository(), || self.perform(&wanted, begun));
                match &wanted {
                    Intent::Tag { repository, digest, .. } | Intent::Create { repository, digest, .. } => {
                        self.tagging_held(repository, digest, finish)?;
                    }
                    Intent::Delete { .. } => finish()?,
                }
            }
            Err(error) => tracing::error!(%key, %error, "removing invalid intent"),
        }
        self.storage().remove(key)?;
        Ok(())
    }
}

impl Store {
    /// Tags a manifest that a collector does not remove at the same time; one that is being removed is not tagged.
    fn tagging_held(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        tag: impl FnOnce() -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let Some(canonical) = self.revision(name, digest)? else {
            ignore_intent_to_tag(name, digest);
            return Ok(());
        };
        let parts = vec![(Subject::revision(name, &canonical), digest)];
        match self.touching(&Needed { parts, ..Needed::default() }, Cause::Tag, tag) {
            Err(StoreError::Missing(_)) => {
                ignore_intent_to_tag(name, digest);
                Ok(())
            }
            tagged => tagged,
        }
    }
}

/// Logs that a manifest was removed before an interrupted push could tag it.
pub(super) fn ignore_intent_to_tag(repository: &RepositoryName, digest: &Digest) {
    tracing::warn!(%repository, %digest, "ignoring intent to tag a missing manifest");
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::layout::scratch;
    use crate::{Memory, Storage as _, Tagged};
    use quinistry_oci::{Manifest, Reference};

    fn manifest(number: u32) -> Bytes {
        let media_type = quinistry_oci::media_type::OCI_INDEX;
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": media_type, "manifests": [], "annotations": {"number": number.to_string()},
        });
        to_json(&manifest).into()
    }

    #[test]
    fn an_intent_that_waits_for_space_does_not_undo_later_changes() {
        let memory = Memory::new(16 * 1024);
        let name: RepositoryName = "a/b".parse().unwrap();
        let tags: [Tag; 1] = ["v1".parse().unwrap()];
        let put = |store: &Store, number, tags: &[Tag]| {
            let bytes = manifest(number);
            let digest = Digest::sha256(&bytes);
            let parsed = Manifest::parse(&bytes, None).unwrap();
            store.put_manifest(&name, &bytes, &parsed, Tagged { digest: &digest, tags }).map(|()| digest)
        };
        let store = Store::open(memory.clone(), false).unwrap();
        let old = put(&store, 1, &[]).unwrap();
        let wanted =
            Intent::Tag { repository: name.clone(), digest: old, tags: tags.to_vec(), immutable: Vec::new() };
        memory.write(&[&[(intent("cut-off"), &to_json(&wanted))]]).unwrap();
        let filler = scratch().child("filler");
        let longest =
            (0..16 * 1024).rev().find(|length| memory.write_lazily(&filler, &vec![0; *length]).is_ok());
        assert!(longest.is_some_and(|length| length > 0));

        let store = Store::open(memory.clone(), false).unwrap();
        assert!(matches!(put(&store, 2, &tags), Err(StoreError::Storage(StorageError::Full))));
        memory.remove(&filler).unwrap();
        let new = put(&store, 2, &tags).unwrap();
        for store in [store, Store::open(memory, false).unwrap()] {
            let target = store.manifest(&name, &Reference::Tag(tags[0].clone())).unwrap();
            assert_eq!(target.digest, new);
        }
    }
}
