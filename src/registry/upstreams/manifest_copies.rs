//! Copies of an upstream's manifests in the store.

use std::sync::Arc;

use bytes::Bytes;
use quinistry_oci::{Digest, Manifest, Reference, RepositoryName, Tag, WithCauses};
use quinistry_store::{DeletedSubject, Deletion, DeletionActor, Store, StoreError, Tagged};

use super::manifests::{ManifestAnswer, ManifestQuestion, ManifestResult};
use super::verification::VerifiedManifest;
use crate::api::response::error::Error;

/// Way to commit a manifest: as a copy, which may be evicted, or as what it was before.
type Commit = fn(&Store, &RepositoryName, &Bytes, &Manifest, Tagged<'_>) -> Result<(), StoreError>;

/// Returns true if the store does not have a manifest, or has it damaged.
pub(crate) fn is_absence(error: &StoreError) -> bool {
    matches!(error, StoreError::ManifestUnknown | StoreError::RepositoryUnknown | StoreError::Damaged(_))
}

impl ManifestQuestion {
    /// Stores a fetched manifest, with the tag that was asked for and those that wait for it. A client is served also
    /// if the store takes nothing.
    pub(super) async fn store(&self, verified: VerifiedManifest) -> ManifestResult {
        let upstream = &self.upstream;
        let name = &self.repository.name;
        let due = upstream.clock.now() + upstream.settings.ttl;
        upstream.known().proven_blobs.note_manifest(name, &verified.manifest);
        if !self.may_store {
            return Ok(ManifestAnswer::Unstored(Arc::new(verified)));
        }
        let awaiting = upstream.known().tags.take_awaiting(name, &verified.digest);
        let own = match &self.reference {
            Reference::Tag(tag) => Some(tag.clone()),
            Reference::Digest(_) => None,
        };
        let others = awaiting.iter().filter(|tag| Some(*tag) != own.as_ref());
        let tags: Vec<Tag> = own.iter().chain(others).cloned().collect();
        let stored = self.put(&verified, tags, Store::put_copy).await;
        let mut known = upstream.known();
        match stored {
            Ok(()) => {
                known.tags.note_taken(name, &awaiting);
                if let Some(key) = self.tag_key() {
                    known.tags.note_stored(key, due, false);
                }
                Ok(ManifestAnswer::Stored { is_stale: false, is_fetched: true })
            }
            // The rules of this registry keep the tag where it is.
            Err(Error::Store(StoreError::TagImmutable { .. })) => {
                if let Some(key) = self.tag_key() {
                    known.tags.note_stored(key, due, false);
                }
                Ok(ManifestAnswer::Stored { is_stale: false, is_fetched: true })
            }
            Err(error) => {
                drop(known);
                let (upstream, repository) = (&upstream.name, name);
                let error = WithCauses(&error);
                tracing::warn!(%upstream, %repository, %error, "cannot store fetched manifest, client is served");
                Ok(ManifestAnswer::Unstored(Arc::new(verified)))
            }
        }
    }

    async fn put(&self, verified: &VerifiedManifest, tags: Vec<Tag>, commit: Commit) -> Result<(), Error> {
        let (digest, bytes, whole) = (verified.digest.clone(), verified.bytes.clone(), &verified.manifest);
        // The store demands what a manifest names; here everything is fetched when a client asks for it.
        let manifest = Manifest {
            media_type: whole.media_type,
            typed: whole.typed,
            declares_type: whole.declares_type,
            blobs: Vec::new(),
            foreign: Vec::new(),
            manifests: Vec::new(),
            subject: whole.subject.clone(),
            artifact_type: whole.artifact_type.clone(),
            annotations: whole.annotations.clone(),
        };
        let name = self.repository.name.clone();
        let put = move |store: &Store| {
            commit(store, &name, &bytes, &manifest, Tagged { digest: &digest, tags: &tags })
        };
        self.stored.write_locked(&self.repository.name, put).await
    }

    /// Gives the tag that was asked for to a manifest that the repository has by another reference. Returns false if
    /// the repository does not have the manifest, or the tag cannot be written.
    pub(super) async fn tag_stored(&self, digest: &Digest) -> bool {
        let Some((name, tag)) = self.tag_key().filter(|_| self.may_store) else { return false };
        let reference = Reference::Digest(digest.clone());
        if !self.stored_digest(&reference).await.is_ok_and(|found| found.is_some()) {
            return false;
        }
        let read = move |store: &Store| {
            let stored = store.manifest(&name, &reference)?;
            let bytes = stored.content.to_bytes();
            Ok(bytes.ok().and_then(|bytes| {
                let manifest = Manifest::parse(&bytes, Some(stored.media_type)).ok()?;
                Some(VerifiedManifest { digest: stored.digest, bytes, manifest })
            }))
        };
        let Ok(Some(verified)) = self.stored.run(read).await else { return false };
        self.upstream.known().proven_blobs.note_manifest(&self.repository.name, &verified.manifest);
        self.put(&verified, vec![tag], Store::put_manifest).await.is_ok()
    }

    /// Removes the tag that was asked for, since the upstream does not have it any more.
    pub(super) async fn drop_tag(&self, digest: &Digest) {
        let Some(key) = self.tag_key() else { return };
        self.upstream.known().tags.forget_tag(&key);
        if !self.may_store {
            return;
        }
        let (repository, tag) = key;
        let subject =
            DeletedSubject::Tag { repository: repository.clone(), tag: tag.clone(), digest: digest.clone() };
        let reason = format!("upstream {} does not have the tag any more", self.upstream.name);
        let (name, removed) = (repository.clone(), tag.clone());
        let remove = move |store: &Store| {
            store.delete_tag(&name, &removed)?;
            let actor = DeletionActor::Upstream;
            store.record_deletion(Deletion { actor, subject, policy: None, reason });
            Ok(())
        };
        if let Err(error) = self.stored.write_locked(&repository, remove).await {
            let (upstream, error) = (&self.upstream.name, WithCauses(&error));
            tracing::warn!(%upstream, %repository, %tag, %error, "cannot remove tag that the upstream has removed");
        }
    }
}
