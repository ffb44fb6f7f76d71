//! What takes several visible steps: written down, carried out, crossed out. After a crash the next start carries it out
//! from the beginning; each step may be repeated.

use std::sync::PoisonError;

use serde::{Deserialize, Serialize};

use super::layout::{Place, intent, intents};
use super::storage::StorageError;
use super::{Store, StoreError};
use crate::oci::{Digest, RepositoryName, Tag, to_json};

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

impl Store {
    /// Carries an intent out, so that a crash leaves all of it undone, or to be finished by the next start.
    pub(super) fn carry_out(&self, wanted: &Intent) -> Result<(), StoreError> {
        if !self.storage().is_lasting() {
            // There will be no next start, and a place that is full must have room for what frees some.
            return self.perform(wanted);
        }
        let key = intent(&uuid::Uuid::new_v4().to_string());
        self.storage().write(&[(key.clone(), &to_json(wanted))])?;
        let performed = self.perform(wanted);
        // Also if it failed: the client is told so, and what it pushes later would suffer if this came back.
        let removed = self.storage().remove(&key);
        if removed.is_err() {
            // It comes back at the next start; until then nothing may be pushed that it would undo.
            self.storage().stop();
        }
        performed?;
        removed?;
        Ok(())
    }

    /// The same for a manifest that no tag means, while nobody else is there: by steps that may be cut off anywhere, and
    /// that need no room.
    pub(super) fn collect_manifest(&self, name: &RepositoryName, digest: &Digest) -> Result<(), StoreError> {
        self.changing_at_once(name, || {
            let digests = self.names_of(name, digest)?;
            self.perform(&Intent::Delete { repository: name.clone(), digests, tags: Vec::new() })
        })
    }

    fn perform(&self, wanted: &Intent) -> Result<(), StoreError> {
        match wanted {
            Intent::Tag { repository, digest, tags } => {
                self.index_tags(repository, tags, digest)?;
                self.put_tags(repository, tags, digest)?;
            }
            Intent::Delete { repository, digests, tags } => {
                for tag in tags {
                    self.remove_tag(repository, tag)?;
                }
                let before = self.referrers_before(repository)?;
                for digest in digests {
                    self.remove_referrer(repository, digest)?;
                    self.storage().remove(&Place(repository).revision(digest))?;
                }
                self.referrers_after(repository, before)?;
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
                *self.0.left.lock().unwrap_or_else(PoisonError::into_inner) = true;
                Ok(())
            }
            _ => finished,
        }
    }

    /// The same for what the start had no room for.
    pub(super) fn finish_intents_left(&self) -> Result<(), StoreError> {
        let mut left = self.0.left.lock().unwrap_or_else(PoisonError::into_inner);
        if *left {
            self.finish_all()?;
            *left = false;
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
                    let (Intent::Tag { repository, .. } | Intent::Delete { repository, .. }) = &wanted;
                    self.changing_at_once(repository, || self.perform(&wanted))?;
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
    use crate::oci::{Manifest, Reference};
    use crate::store::layout::scratch;
    use crate::store::{Memory, Storage as _, Tagged};

    fn manifest(number: u32) -> Bytes {
        let media_type = crate::oci::media_type::OCI_INDEX;
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
