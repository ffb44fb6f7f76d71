//! Blobs of upstreams that the store does not have.
//!
//! A digest alone opens nothing: a repository has a blob if a manifest of the repository names it, or the upstream says
//! so for this repository. Both are claims of the upstream, which may be hostile: they open what this upstream itself has
//! sent, by a link or by a fetch that runs, and nothing that clients have pushed or other upstreams have sent.

use std::sync::Arc;

use quinistry_fetch::{FetchError, Fetched, Opened, Request};
use quinistry_oci::{Digest, RepositoryName, WithCauses};
use quinistry_store::StoreError;

use super::absences::AskedContent;
use super::observed_source::{self, ObservedSource};
use super::question::Failure;
use super::{CachedUpstream, LocatedRepository};
use crate::LimitedStore;
use crate::api::response::error::Error;

/// Seconds after which a client may ask again if too many blobs are being fetched.
const BUSY_RETRY_SECONDS: u64 = 5;

/// Answer to a request for a blob.
#[derive(Debug)]
pub(crate) enum BlobAnswer {
    /// The repository of the store has the blob.
    Stored,
    /// The blob is being fetched.
    Fetched(Fetched),
}

impl CachedUpstream {
    /// Returns the length of a blob that the store does not have, if the upstream says it.
    pub(crate) async fn blob_length(
        self: &Arc<Self>,
        stored: &LimitedStore,
        repository: &LocatedRepository,
        digest: &Digest,
    ) -> Result<Option<u64>, Error> {
        let LocatedRepository { name, remote, .. } = repository;
        self.check_not_absent(name, digest)?;
        let flight = (name.clone(), digest.clone());
        let ask = |share| {
            let (upstream, stored) = (self.clone(), stored.clone());
            let (remote, digest) = (remote.clone(), digest.clone());
            async move {
                let _share = share;
                let question = upstream.upstream.head_blob(&remote, &digest);
                upstream.ask(&stored, upstream.cold_patience, question).await
            }
        };
        let share = self.client_shares.take(self.cold_patience);
        let joined = self.blob_flights.join_admitted(flight, share, ask).await;
        let (result, is_joined) = joined.map_err(|failure| failure.into_error(Error::BlobUnknown))?;
        if is_joined {
            self.counts(stored).coalesced.increment();
        }
        match result.unwrap_or(Err(Failure::Interrupted)) {
            Ok(length) => {
                self.known().proven_blobs.note(name, digest, length);
                Ok(length)
            }
            Err(failure) => Err(self.absent_blob(repository, digest, failure)),
        }
    }

    /// Notes that the upstream has sent a blob: a repository of the upstream has it stored.
    pub(crate) fn note_sent(&self, digest: &Digest) {
        self.known().sent_blobs.note(digest);
    }

    /// Opens a blob that the repository of the store does not have.
    pub(crate) async fn open_blob(
        self: &Arc<Self>,
        stored: &LimitedStore,
        repository: &LocatedRepository,
        digest: &Digest,
        may_store: bool,
    ) -> Result<BlobAnswer, Error> {
        let name = &repository.name;
        let proven = self.known().proven_blobs.get(name, digest);
        let length = match proven {
            Some(blob) => {
                self.check_not_absent(name, digest)?;
                blob.length
            }
            None => self.blob_length(stored, repository, digest).await?,
        };
        let is_own = self.known().sent_blobs.contains(digest);
        if may_store && is_own && self.mount(stored, repository, digest).await? {
            return Ok(BlobAnswer::Stored);
        }
        let source = ObservedSource {
            source: self.upstream.blobs(&repository.remote),
            upstream: self.name.clone(),
            counts: self.counts(stored).clone(),
            clock: self.clock.clone(),
            patience: observed_source::ANSWER_TIMEOUT,
        };
        let request = Request {
            digest: digest.clone(),
            length,
            source: Arc::new(source),
            repository: name.clone(),
            is_proven: true,
            max_stored_bytes: if may_store { self.settings.max_blob_bytes } else { Some(0) },
        };
        match stored.fetches.open(request).await {
            Ok(Opened::Stored) => Ok(BlobAnswer::Stored),
            Ok(Opened::Fetched(fetched)) => Ok(BlobAnswer::Fetched(fetched)),
            // A proven request never gets this answer.
            Ok(Opened::Unproven) => Err(Error::BlobUnknown),
            Err(error) => Err(self.failed(repository, digest, &error)),
        }
    }

    /// Links the bytes of another repository, if the store has them. Returns true if the repository has the blob now.
    async fn mount(
        &self,
        stored: &LimitedStore,
        repository: &LocatedRepository,
        digest: &Digest,
    ) -> Result<bool, Error> {
        let (name, digest) = (repository.name.clone(), digest.clone());
        match stored.write(move |store| store.mount(&name, &digest, None)).await {
            Err(Error::Store(error)) if is_refusal(&error) => {
                tracing::warn!(repository = %repository.name, error = %WithCauses(&error), "cannot link stored blob");
                Ok(false)
            }
            mounted => Ok(mounted?.is_some()),
        }
    }

    fn failed(&self, repository: &LocatedRepository, digest: &Digest, error: &FetchError) -> Error {
        if matches!(error, FetchError::Lie { .. }) {
            self.known().proven_blobs.forget_blob(&repository.name, digest);
        }
        let failure = match error {
            FetchError::Source { reason, .. } => Failure::of(reason),
            FetchError::Busy => Failure::Limited { retry_after_seconds: BUSY_RETRY_SECONDS },
            FetchError::Lie { .. }
            | FetchError::Poisoned { .. }
            | FetchError::LengthUnknown { .. }
            | FetchError::Broken { .. } => Failure::Invalid,
            FetchError::Store(_)
            | FetchError::Staged(_)
            | FetchError::Unpublished(_)
            | FetchError::Unstored
            | FetchError::Interrupted => Failure::Interrupted,
        };
        if !failure.is_absence() {
            let (upstream, repository) = (&self.name, &repository.name);
            tracing::warn!(%upstream, %repository, %digest, error = %WithCauses(error), "failed to fetch blob");
        }
        self.absent_blob(repository, digest, failure)
    }

    /// Fails if the upstream has said a moment ago that the repository does not have a blob.
    fn check_not_absent(&self, name: &RepositoryName, digest: &Digest) -> Result<(), Error> {
        let asked = AskedContent::Blob(digest.clone());
        let is_absent = self.known().absences.contains(name, asked, self.clock.now());
        if is_absent { Err(Error::BlobUnknown) } else { Ok(()) }
    }

    fn absent_blob(&self, repository: &LocatedRepository, digest: &Digest, failure: Failure) -> Error {
        if failure.is_absence() {
            let until = self.clock.now() + self.settings.negative_ttl;
            let asked = AskedContent::Blob(digest.clone());
            self.known().absences.note(&repository.name, asked, until);
        }
        failure.into_error(Error::BlobUnknown)
    }
}

/// Returns true if a store takes no new content, so that a client is served without it.
fn is_refusal(error: &StoreError) -> bool {
    matches!(error, StoreError::Storage(_) | StoreError::QuotaExceeded(_) | StoreError::Unvouched)
}
