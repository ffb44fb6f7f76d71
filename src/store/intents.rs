//! What takes several visible steps: written down, carried out, crossed out. After a crash the next start carries it out
//! from the beginning; each step may be repeated.

use std::sync::{Mutex, MutexGuard, PoisonError};

use quinistry_oci::{Digest, RepositoryName, Tag, to_json};
use serde::{Deserialize, Serialize};

use super::layout::{Key, Place, intent, intents};
use super::storage::StorageError;
use super::{Store, StoreError};

/// An intent names at most a repository's tags; what is longer is none of ours.
const LONGEST: u64 = 64 * 1024 * 1024;

/// What shall be so, wholly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "do")]
pub(super) enum Intent {
    /// These tags mean that manifest.
    Tag { repository: RepositoryName, digest: Digest, tags: Vec<Tag> },
    /// These tags, and the manifest by all of its names, are not there.
    Delete { repository: RepositoryName, digests: Vec<Digest>, tags: Vec<Tag> },
}

impl Intent {
    fn repository(&self) -> &RepositoryName {
        let (Self::Tag { repository, .. } | Self::Delete { repository, .. }) = self;
        repository
    }
}

/// Intents on the storage that must go before something else is changed.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// The start had no room to finish what a crash had cut off.
    unfinished: Mutex<bool>,
    /// Intents that were carried out or given up, and could not be removed yet. Locked by holders of a
    /// repository's lock, which finishing takes in its turn: hence a lock of its own.
    over: Mutex<Vec<(RepositoryName, Key)>>,
}

impl Left {
    fn unfinished(&self) -> MutexGuard<'_, bool> {
        self.unfinished.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn over(&self) -> MutexGuard<'_, Vec<(RepositoryName, Key)>> {
        self.over.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// Carries an intent out, so that a crash leaves all of it undone, or to be finished by the next start.
    pub(super) fn carry_out(&self, wanted: &Intent) -> Result<(), StoreError> {
        if !self.storage().is_persistent() {
            // There will be no next start, and a place that is full must have room for what frees some.
            return self.perform(wanted);
        }
        let key = intent(&uuid::Uuid::new_v4().to_string());
        let written = self.storage().write(&[(key.clone(), &to_json(wanted))]);
        let performed = written.map_err(Into::into).and_then(|()| self.perform(wanted));
        // Removed after a failure as well, even one to write the intent: the client is told of the failure,
        // and the next start must not carry the intent out over later pushes.
        if let Err(error) = self.storage().remove(&key) {
            tracing::warn!(%error, %key, "cannot remove intent, trying again before the next change");
            self.0.left.over().push((wanted.repository().clone(), key));
        }
        performed
    }

    /// Removes what is left of intents on a repository that are over. Call with the repository's lock held,
    /// before anything is changed that such an intent would undo at the next start.
    pub(super) fn remove_intents_over(&self, name: &RepositoryName) -> Result<(), StoreError> {
        let mut over = self.0.left.over();
        while let Some(index) = over.iter().position(|(of, _)| of == name) {
            self.storage().remove(&over[index].1)?;
            over.swap_remove(index);
        }
        Ok(())
    }

    /// The same for a manifest that no tag means, while nobody else is there: by steps that may be cut off anywhere, and
    /// that need no room.
    pub(super) fn collect_manifest(&self, name: &RepositoryName, digest: &Digest) -> Result<(), StoreError> {
        self.changing_manifests_at_once(name, || {
            // A collection that was killed may have removed any of the names.
            let digests = self.possible_names_of(digest);
            self.perform(&Intent::Delete { repository: name.clone(), digests, tags: Vec::new() })
        })
    }

    /// Carries out what is not so yet. A crash may have come after any step, and another program have been
    /// here since: what is gone is passed over, and what means something else by now stays.
    fn perform(&self, wanted: &Intent) -> Result<(), StoreError> {
        match wanted {
            Intent::Tag { repository, digest, tags } => {
                if self.revision(repository, digest)?.is_none() {
                    tracing::warn!(%repository, %digest, "ignoring intent to tag a manifest that is gone");
                    return Ok(());
                }
                self.index_tags(repository, tags, digest)?;
                self.put_tags(repository, tags, digest)?;
            }
            Intent::Delete { repository, digests, tags } => {
                for tag in tags {
                    let meant = self.link(&Place(repository).tag_link(tag))?;
                    if meant.is_none_or(|meant| digests.contains(&meant)) {
                        self.remove_tag(repository, tag)?;
                    }
                }
                let before = self.descriptor_state(repository)?;
                // The SHA-256, by which the bytes are found, goes last.
                for digest in digests.iter().rev() {
                    self.remove_referrer(repository, digest)?;
                    self.storage().remove(&Place(repository).revision(digest))?;
                }
                self.update_descriptor_version(repository, before)?;
            }
        }
        Ok(())
    }

    /// Finishes what was cut off. Where there is no room to, it is tried again before the next change.
    pub(super) fn finish_intents(&self) -> Result<(), StoreError> {
        let finished = self.finish_all();
        match &finished {
            // Whoever may write next finishes it; a reader reads what is there.
            Err(StoreError::Storage(StorageError::ReadOnly)) => Ok(()),
            Err(StoreError::Storage(StorageError::Full)) => {
                tracing::warn!(
                    "there is no room to finish what was cut off; until there is, nothing can be changed"
                );
                *self.0.left.unfinished() = true;
                Ok(())
            }
            _ => finished,
        }
    }

    /// The same for what the start had no room for.
    pub(super) fn finish_intents_left(&self) -> Result<(), StoreError> {
        let mut unfinished = self.0.left.unfinished();
        if *unfinished {
            self.finish_all()?;
            *unfinished = false;
        }
        Ok(())
    }

    fn finish_all(&self) -> Result<(), StoreError> {
        for id in self.storage().list(&intents())?.unwrap_or_default() {
            let key = intent(&id);
            let Some(bytes) = self.storage().read(&key, LONGEST)? else { continue };
            match serde_json::from_slice::<Intent>(&bytes) {
                Ok(wanted) => {
                    tracing::info!(?wanted, "finishing what was cut off");
                    self.changing_manifests_at_once(wanted.repository(), || self.perform(&wanted))?;
                }
                Err(error) => tracing::error!(%key, %error, "this is no intent, and is removed"),
            }
            self.storage().remove(&key)?;
        }
        Ok(())
    }
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
    fn what_there_was_no_room_to_finish_does_not_undo_what_came_later() {
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
        let wanted = Intent::Tag { repository: name.clone(), digest: old, tags: tags.to_vec() };
        memory.write(&[(intent("cut-off"), &to_json(&wanted))]).unwrap();
        let filler = scratch().child("filler");
        let longest =
            (0..16 * 1024).rev().find(|length| memory.write_lazily(&filler, &vec![0; *length]).is_ok());
        assert!(longest.is_some_and(|length| length > 0));

        let store = Store::open(memory.clone(), false).unwrap();
        assert!(matches!(put(&store, 2, &tags), Err(StoreError::Storage(StorageError::Full))));
        memory.remove(&filler).unwrap();
        let new = put(&store, 2, &tags).unwrap();
        for store in [store, Store::open(memory, false).unwrap()] {
            let meant = store.manifest(&name, &Reference::Tag(tags[0].clone())).unwrap();
            assert_eq!(meant.digest, new);
        }
    }
}
