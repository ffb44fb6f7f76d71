//! Manifests of upstreams: served from the store, or fetched and stored.

use std::sync::Arc;
use std::time::Duration;

use quinistry_fetch::ManifestHead;
use quinistry_oci::{Digest, Reference, RepositoryName, Tag};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::absences::AskedContent;
use super::question::Failure;
use super::tag_records::{KnownHead, TagStep};
use super::verification::{HeldManifest, complete_head, verify};
use super::{CachedUpstream, LocatedRepository, MissingPolicy};
use crate::api::response::error::Error;
use crate::{LimitedStore, run_blocking};

/// Longest manifest that is hashed and parsed on the event loop, in bytes.
const MAX_INLINE_CHECK_BYTES: usize = 16 * 1024;

/// Answer to a request for a manifest.
#[derive(Clone, Debug)]
pub(crate) enum ManifestAnswer {
    /// The store has the manifest.
    Stored {
        /// The upstream has not confirmed the manifest.
        is_stale: bool,
        /// The upstream has sent the manifest for this request.
        is_fetched: bool,
    },
    /// The upstream has the manifest, which was not fetched.
    Head(KnownHead),
    /// The store does not take the manifest, or its tag.
    Unstored(Arc<HeldManifest>),
}

/// Result of a question that requests share.
pub(super) type ManifestResult = Result<ManifestAnswer, Failure>;

/// Question about a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ManifestFlight {
    pub(super) name: RepositoryName,
    pub(super) reference: Reference,
    pub(super) kind: FlightKind,
}

/// Kinds of questions about a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum FlightKind {
    /// Comparison of a stored tag with the upstream's.
    Refresh,
    /// Headers of a manifest that is not stored.
    Head,
    /// Manifest that is not stored.
    Get,
}

/// Request for a manifest, which a task carries out.
#[derive(Clone, Debug)]
pub(super) struct ManifestQuestion {
    pub(super) upstream: Arc<CachedUpstream>,
    pub(super) stored: LimitedStore,
    pub(super) repository: LocatedRepository,
    pub(super) reference: Reference,
    /// The store may be written to.
    pub(super) may_store: bool,
}

impl CachedUpstream {
    /// Finds a manifest: in the store, if that is fresh, else at the upstream.
    pub(crate) async fn manifest(
        self: &Arc<Self>,
        stored: &LimitedStore,
        repository: &LocatedRepository,
        reference: &Reference,
        (is_head, may_store): (bool, bool),
    ) -> Result<ManifestAnswer, Error> {
        let question = ManifestQuestion {
            upstream: self.clone(),
            stored: stored.clone(),
            repository: repository.clone(),
            reference: reference.clone(),
            may_store,
        };
        let answer = self.answer(&question, is_head).await?;
        if !is_head && matches!(answer, ManifestAnswer::Stored { is_fetched: false, .. }) {
            question.note_blobs().await;
        }
        Ok(answer)
    }

    async fn answer(&self, question: &ManifestQuestion, is_head: bool) -> Result<ManifestAnswer, Error> {
        let ManifestQuestion { stored, repository, reference, .. } = question;
        let found = question.stored_digest(reference).await?;
        let kind = match question.step(found.as_ref(), is_head) {
            TagStep::Serve { is_stale } => {
                return Ok(ManifestAnswer::Stored { is_stale, is_fetched: false });
            }
            TagStep::Head(head) => return Ok(ManifestAnswer::Head(head)),
            TagStep::Refresh | TagStep::Moved(_) => FlightKind::Refresh,
            TagStep::Cold if is_head => FlightKind::Head,
            TagStep::Cold => FlightKind::Get,
        };
        if (found.is_none() || self.settings.missing == MissingPolicy::Drop) && question.is_known_absent() {
            return Err(Error::ManifestUnknown);
        }
        let flight = ManifestFlight { name: repository.name.clone(), reference: reference.clone(), kind };
        let task = question.clone();
        let patience = if found.is_some() { self.warm_patience } else { self.cold_patience };
        let share = self.client_shares.take(patience);
        let begin = |share| async move {
            let _share = share;
            task.carry_out(kind).await
        };
        let (result, is_joined) = match self.manifest_flights.join_admitted(flight, share, begin).await {
            Ok(joined) => joined,
            Err(_) if found.is_some() => {
                return Ok(ManifestAnswer::Stored { is_stale: true, is_fetched: false });
            }
            Err(failure) => return Err(failure.into_error(Error::ManifestUnknown)),
        };
        if is_joined {
            self.counts(stored).coalesced.increment();
        }
        let result = result.unwrap_or(Err(Failure::Interrupted));
        result.map_err(|failure| failure.into_error(Error::ManifestUnknown))
    }
}

// === impl ManifestQuestion ===

impl ManifestQuestion {
    async fn carry_out(self, kind: FlightKind) -> ManifestResult {
        let result = match kind {
            FlightKind::Refresh => self.refresh().await,
            FlightKind::Head => self.head().await,
            FlightKind::Get => self.get_unless_stored().await,
        };
        let name = &self.repository.name;
        let asked = AskedContent::Manifest(self.reference.clone());
        let mut known = self.upstream.known();
        match &result {
            Err(failure) if failure.is_absence() => {
                let until = self.upstream.clock.now() + self.upstream.settings.negative_ttl;
                known.absences.note(name, asked, until);
            }
            Err(_) => {}
            Ok(_) => known.absences.forget(name, asked),
        }
        drop(known);
        result
    }

    fn is_known_absent(&self) -> bool {
        let (asked, now) = (AskedContent::Manifest(self.reference.clone()), self.upstream.clock.now());
        self.upstream.known().absences.contains(&self.repository.name, asked, now)
    }

    /// Returns the next step. Manifests by digest never change, so that a stored one is always right.
    pub(super) fn step(&self, stored: Option<&Digest>, is_head: bool) -> TagStep {
        match self.tag_key() {
            None if stored.is_some() => TagStep::Serve { is_stale: false },
            None => TagStep::Cold,
            Some(key) => {
                let now = self.upstream.clock.now();
                self.upstream.known().tags.step(&key, stored, is_head, now)
            }
        }
    }

    /// Returns the tag that is asked for, with its repository; `None` for a digest.
    pub(super) fn tag_key(&self) -> Option<(RepositoryName, Tag)> {
        match &self.reference {
            Reference::Tag(tag) => Some((self.repository.name.clone(), tag.clone())),
            Reference::Digest(_) => None,
        }
    }

    /// Answers HEAD for a manifest that is not stored.
    async fn head(&self) -> ManifestResult {
        let Self { upstream, stored, repository, reference, .. } = self;
        let question = upstream.upstream.head_manifest(&repository.remote, reference, None);
        let head = match upstream.ask(stored, upstream.cold_patience, question).await? {
            ManifestHead::Found(headers) => complete_head(&headers, reference)?,
            // No digest was given as known.
            ManifestHead::Unchanged => None,
        };
        // The manifest itself tells what the headers do not.
        let Some(head) = head else { return self.get_unless_stored().await };
        let Some((name, tag)) = self.tag_key() else { return Ok(ManifestAnswer::Head(head)) };
        // The repository may have the manifest by another reference.
        if let Some(copy) = self.stored_copy(&head.digest, upstream.cold_patience).await
            && let answer @ ManifestAnswer::Stored { .. } = self.store(copy, false).await?
        {
            return Ok(answer);
        }
        let lifetime = (upstream.clock.now(), upstream.settings.ttl);
        upstream.known().tags.note_head((name, tag), head.clone(), lifetime);
        Ok(ManifestAnswer::Head(head))
    }

    /// Fetches a manifest, unless another request has done so since the store was asked.
    pub(super) async fn get_unless_stored(&self) -> ManifestResult {
        let found = self.stored_digest(&self.reference).await.unwrap_or_default();
        if found.is_some()
            && let TagStep::Serve { is_stale } = self.step(found.as_ref(), false)
        {
            return Ok(ManifestAnswer::Stored { is_stale, is_fetched: false });
        }
        let fetched = self.fetch(&self.reference, self.upstream.cold_patience).await?;
        self.store(fetched, true).await
    }

    /// Waits until one more manifest may be in memory.
    pub(super) async fn manifest_permit(&self, patience: Duration) -> Result<OwnedSemaphorePermit, Failure> {
        let permit = timeout(patience, self.upstream.manifest_permits.clone().acquire_owned()).await;
        Ok(permit.map_err(|_| Failure::Away)?.expect("the semaphore is never closed"))
    }

    /// Asks for a manifest, and verifies it.
    pub(super) async fn fetch(
        &self,
        reference: &Reference,
        patience: Duration,
    ) -> Result<HeldManifest, Failure> {
        let Self { upstream, stored, repository, .. } = self;
        let permit = self.manifest_permit(patience).await?;
        let question = upstream.upstream.get_manifest(&repository.remote, reference);
        let sent = upstream.ask(stored, patience, question).await?;
        upstream.counts(stored).manifests.pulled_bytes.add(sent.bytes.len() as u64);
        let verified = if sent.bytes.len() <= MAX_INLINE_CHECK_BYTES {
            verify(sent, reference)
        } else {
            let permits = &stored.manifest_check_permits;
            let _permit = permits.acquire().await.expect("the semaphore is never closed");
            let reference = reference.clone();
            run_blocking(move || verify(sent, &reference)).await
        };
        let verified = verified.map_err(|defect| {
            let (upstream, repository) = (&upstream.name, &repository.name);
            tracing::warn!(%upstream, %repository, ?reference, %defect, "upstream sent no valid manifest");
            Failure::from(&defect)
        })?;
        Ok(HeldManifest { verified, _permit: permit })
    }

    /// Returns the digest of a stored manifest, if the repository has one by this reference. A damaged one counts as
    /// absent, and is replaced.
    pub(super) async fn stored_digest(&self, reference: &Reference) -> Result<Option<Digest>, Error> {
        let (stored, name) = (&self.stored, &self.repository.name);
        if let Some(manifest) = stored.store.cached_manifest(name, reference) {
            return Ok(Some(manifest.digest));
        }
        let _permit = stored.manifest_read_permits.acquire().await.expect("the semaphore is never closed");
        let (name, reference) = (name.clone(), reference.clone());
        match stored.run(move |store| store.manifest(&name, &reference)).await {
            Ok(manifest) => Ok(Some(manifest.digest)),
            Err(Error::Store(error)) if super::is_absence(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
