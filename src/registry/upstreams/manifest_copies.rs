//! Copies of an upstream's manifests in the store.

use std::sync::Arc;
use std::time::Duration;

use quinistry_oci::{Digest, Manifest, Reference, Tag, WithCauses};
use quinistry_store::{DeletedSubject, Deletion, DeletionActor, Store, StoreError, StoredManifest, Tagged};

use super::manifests::{ManifestAnswer, ManifestQuestion, ManifestResult};
use super::verification::{HeldManifest, VerifiedManifest};
use crate::api::response::error::Error;
use crate::run_blocking;

/// Permission to take a tag from another manifest.
#[derive(Clone, Copy, Debug)]
enum TagMove {
    Permitted,
    Refused,
}

/// Returns true if the store does not have a manifest, or has it damaged.
pub(crate) fn is_absence(error: &StoreError) -> bool {
    matches!(error, StoreError::ManifestUnknown | StoreError::RepositoryUnknown | StoreError::Damaged(_))
}

impl ManifestQuestion {
    /// Stores a manifest, with the tag that was asked for and those that wait for it. A client is served also if the
    /// store takes nothing.
    pub(super) async fn store(&self, held: HeldManifest, is_fetched: bool) -> ManifestResult {
        let upstream = &self.upstream;
        let name = &self.repository.name;
        let verified = &held.verified;
        upstream.known().proven_blobs.note_manifest(name, &verified.digest, &verified.manifest);
        if !self.may_store {
            return Ok(ManifestAnswer::Unstored(Arc::new(held)));
        }
        let now = upstream.clock.now();
        let own = self.tag_key();
        let mut awaiting = upstream.known().tags.take_awaiting(name, &verified.digest, now);
        awaiting.retain(|tag| own.as_ref().is_none_or(|(_, own)| own != tag));
        let given = match own {
            None => self.put_with_absent_tags(verified, awaiting.clone()).await,
            Some(key) => match self.put(verified, vec![key.1.clone()], TagMove::Permitted).await {
                // The rules of this registry keep the tag where it is.
                Ok(()) | Err(Error::Store(StoreError::TagImmutable { .. })) => {
                    upstream.known().tags.note_stored(key, now + upstream.settings.ttl, false);
                    self.put_absent_tags(verified, awaiting.clone()).await
                }
                Err(error) => Err(error),
            },
        };
        match given {
            Ok(given) => {
                upstream.known().tags.note_taken(name, &awaiting, &given);
                Ok(ManifestAnswer::Stored { is_stale: false, is_fetched })
            }
            Err(error) => {
                let (upstream, repository, error) = (&upstream.name, name, WithCauses(&error));
                tracing::warn!(%upstream, %repository, %error, "cannot store manifest, client is served");
                Ok(ManifestAnswer::Unstored(Arc::new(held)))
            }
        }
    }

    async fn put(&self, verified: &VerifiedManifest, tags: Vec<Tag>, tag_move: TagMove) -> Result<(), Error> {
        let (digest, bytes, manifest) =
            (verified.digest.clone(), verified.bytes.clone(), verified.manifest.clone());
        let name = self.repository.name.clone();
        let put = move |store: &Store| {
            let tagged = Tagged { digest: &digest, tags: &tags };
            // What the manifest names is fetched when a client asks for it.
            match tag_move {
                TagMove::Permitted => store.put_copy(&name, &bytes, &manifest, tagged),
                TagMove::Refused => store.put_copy_without_overwrite(&name, &bytes, &manifest, tagged),
            }
        };
        self.stored.write_locked(&self.repository.name, put).await
    }

    /// Stores a manifest, and gives it those of the tags that no other manifest has. Returns these.
    async fn put_with_absent_tags(
        &self,
        verified: &VerifiedManifest,
        tags: Vec<Tag>,
    ) -> Result<Vec<Tag>, Error> {
        let given = self.put_absent_tags(verified, tags).await?;
        if given.is_empty() {
            self.put(verified, Vec::new(), TagMove::Permitted).await?;
        }
        Ok(given)
    }

    /// Gives a manifest those of the tags that no other manifest has. Returns these. What the upstream has said about the
    /// others may be older than what another replica has stored since.
    async fn put_absent_tags(
        &self,
        verified: &VerifiedManifest,
        mut tags: Vec<Tag>,
    ) -> Result<Vec<Tag>, Error> {
        while !tags.is_empty() {
            match self.put(verified, tags.clone(), TagMove::Refused).await {
                Err(Error::Store(StoreError::TagExists(tag) | StoreError::TagImmutable { tag, .. }))
                    if tags.contains(&tag) =>
                {
                    tags.retain(|other| *other != tag);
                }
                // These bytes have another type here, which only the tag that was asked for changes.
                Err(Error::Store(StoreError::TypeExists(_))) => tags.clear(),
                done => return done.map(|()| tags),
            }
        }
        Ok(tags)
    }

    /// Returns a manifest that the repository has by another reference than the tag that was asked for.
    pub(super) async fn stored_copy(&self, digest: &Digest, patience: Duration) -> Option<HeldManifest> {
        let (name, reference) = (self.repository.name.clone(), Reference::Digest(digest.clone()));
        self.stored_digest(&reference).await.ok().flatten()?;
        let permit = self.manifest_permit(patience).await.ok()?;
        let read = move |store: &Store| {
            let stored = store.manifest(&name, &reference)?;
            let bytes = stored.content.to_bytes();
            Ok(bytes.ok().and_then(|bytes| {
                let manifest = Manifest::parse(&bytes, Some(stored.media_type)).ok()?;
                Some(VerifiedManifest { digest: stored.digest, bytes, manifest })
            }))
        };
        let verified = self.stored.run(read).await.ok().flatten()?;
        Some(HeldManifest { verified, _permit: permit })
    }

    /// Notes which blobs a stored manifest names, if that is forgotten, as it is after a restart: the blobs that no client
    /// has asked for yet are then fetched without another question.
    pub(super) async fn note_blobs(&self) {
        let name = &self.repository.name;
        // A manifest that was looked up a moment before is in the caches.
        let Some(stored) = self.stored.store.cached_manifest(name, &self.reference) else { return };
        if self.upstream.known().proven_blobs.has_manifest(name, &stored.digest) {
            return;
        }
        let StoredManifest { digest, media_type, content } = stored;
        let parse = move || Manifest::parse(&content.to_bytes().ok()?, Some(media_type)).ok();
        if let Some(manifest) = run_blocking(parse).await {
            self.upstream.known().proven_blobs.note_manifest(name, &digest, &manifest);
        }
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
