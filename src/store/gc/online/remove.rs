//! Removal of doomed subjects, each with all that belongs to it.

use std::collections::BTreeSet;

use quinistry_oci::{Algorithm, RepositoryName};

use super::mark::Context;
use super::prior::{Condemned, Prior};
use super::subject::SubjectKind;
use super::sweep::{Progress, Sweep};
use crate::gc::offline::blob_folder;
use crate::intents::Intent;
use crate::layout::{Key, RepositoryKeys, aliases, blob};
use crate::quotas::Usage;
use crate::storage::Meta;
use crate::{Store, StoreError};

/// Number of aliases that are read at once.
const ALIASES_AT_ONCE: usize = 32;

impl Store {
    /// Removes doomed subjects of one kind. Returns those that are gone, without those that another program has
    /// written again; `None` if the lead was lost.
    pub(super) fn remove_subjects<'a>(
        &self,
        context: &Context<'_>,
        prior: &Prior,
        kind: SubjectKind,
        subjects: &[&'a Condemned],
        sweep: &mut Sweep,
    ) -> Result<Option<Vec<&'a Condemned>>, StoreError> {
        let subjects = self.unchanged(context, prior, kind, subjects)?;
        let progress = self.remove_unchanged(context, prior, kind, &subjects, sweep)?;
        Ok((progress == Progress::Complete).then_some(subjects))
    }

    fn remove_unchanged(
        &self,
        context: &Context<'_>,
        prior: &Prior,
        kind: SubjectKind,
        subjects: &[&Condemned],
        sweep: &mut Sweep,
    ) -> Result<Progress, StoreError> {
        if kind == SubjectKind::Bytes && self.trash(context, prior, subjects)? == Progress::LostLead {
            return Ok(Progress::LostLead);
        }
        if !self.is_shared() {
            return self.remove_alone(context, prior, kind, subjects);
        }
        // What belongs to a subject goes before it: of a subject that is gone, no later mark finds that.
        let extras: Vec<Key> = subjects
            .iter()
            .flat_map(|subject| prior.take_extras(subject.hash))
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        if self.remove_keys(context, &extras, sweep)? == Progress::LostLead {
            return Ok(Progress::LostLead);
        }
        let keys: Vec<Key> = subjects.iter().map(|subject| subject.subject_key(kind)).collect();
        let names: BTreeSet<&RepositoryName> =
            subjects.iter().filter_map(|subject| subject.repository.as_deref()).collect();
        let forget = || {
            for name in &names {
                self.forget_linked_during(name, || self.changing_manifests_at_once(name, || ()));
            }
        };
        forget();
        let removed = self.remove_keys(context, &keys, sweep);
        forget();
        removed
    }

    /// Leaves out subjects that another program has written again since the mark: it does not wait for a
    /// removal.
    fn unchanged<'a>(
        &self,
        context: &Context<'_>,
        prior: &Prior,
        kind: SubjectKind,
        subjects: &[&'a Condemned],
    ) -> Result<Vec<&'a Condemned>, StoreError> {
        if context.is_alone() {
            return Ok(subjects.to_vec());
        }
        if !self.is_shared() {
            context.take(subjects.len());
        }
        let keys: Vec<Key> = subjects.iter().map(|subject| subject.subject_key(kind)).collect();
        let found = self.storage().head_all(&keys)?;
        let is_changed = |meta: &Meta| prior.is_written_since(meta.modified);
        let unchanged =
            subjects.iter().zip(&found).filter(|(_, meta)| !meta.as_ref().is_some_and(is_changed));
        Ok(unchanged.map(|(subject, _)| *subject).collect())
    }

    /// Removes subjects of a storage that this process has to itself, one by one: each under the lock of its
    /// repository, so that no push waits for more than one.
    fn remove_alone(
        &self,
        context: &Context<'_>,
        prior: &Prior,
        kind: SubjectKind,
        subjects: &[&Condemned],
    ) -> Result<Progress, StoreError> {
        for subject in subjects {
            if !context.lead.still() {
                return Ok(Progress::LostLead);
            }
            context.take(1);
            super::epoch::failpoint("gc.deletes")?;
            let canonical = subject.content.digest();
            let extras = prior.take_extras(subject.hash);
            match (kind, subject.repository.as_deref()) {
                (SubjectKind::Revision, Some(name)) => {
                    let remove = || {
                        let bytes = self.quota_bytes(name, &canonical)?;
                        let digests = self.possible_names_of(&canonical);
                        self.perform(
                            &Intent::Delete { repository: name.clone(), digests, tags: Vec::new() },
                            None,
                        )?;
                        self.remove_index_entries(name, &extras)?;
                        Ok(((), Usage { bytes, tags: 0 }))
                    };
                    self.changing_manifests_at_once(name, || self.freeing_quota(name, remove))?;
                }
                (SubjectKind::Link, Some(name)) => {
                    let remove = || {
                        let bytes = self.quota_bytes(name, &canonical)?;
                        self.unlink_blob(name, &canonical)?;
                        Ok(((), Usage { bytes, tags: 0 }))
                    };
                    self.0.locks.with(name, || {
                        self.0.blob_cache.invalidate_during(name, || self.freeing_quota(name, remove))
                    })?;
                }
                _ => {
                    self.clear(&blob(&canonical), &blob_folder(&canonical))?;
                    extras.iter().try_for_each(|key| self.storage().remove(key).map(drop))?;
                }
            }
        }
        Ok(Progress::Complete)
    }

    /// Removes the entries by which the indexes of tags name a removed manifest.
    fn remove_index_entries(&self, name: &RepositoryName, keys: &[Key]) -> Result<(), StoreError> {
        let tags = RepositoryKeys(name).tags();
        for key in keys.iter().filter(|key| key.beneath(&tags).is_some()) {
            self.storage().remove(key)?;
        }
        Ok(())
    }

    /// Notes the aliases of condemned bytes, which go with them.
    pub(super) fn note_aliases(&self, context: &Context<'_>, prior: &Prior) -> Result<(), StoreError> {
        if prior.len(SubjectKind::Bytes) == 0 {
            return Ok(());
        }
        let mut keys = Vec::new();
        self.scan_slowly(context, &aliases(Algorithm::Sha512), |key, _| {
            keys.push(key);
            Ok(())
        })?;
        for batch in keys.chunks(ALIASES_AT_ONCE) {
            context.take(batch.len());
            let read = self.storage().read_all(batch, crate::MAX_LINK_BYTES)?;
            for (key, link) in batch.iter().zip(read) {
                let digest = link.and_then(|link| std::str::from_utf8(&link).ok()?.trim().parse().ok());
                let Some(digest) = digest else { continue };
                let hash = super::subject::Subject::bytes(&digest).hash();
                if prior.position(SubjectKind::Bytes, hash).is_some() {
                    prior.add_extras(hash, [key.clone()]);
                }
            }
        }
        Ok(())
    }
}
