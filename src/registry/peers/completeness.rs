//! Manifests that are complete: everything that they need can be served now, by this registry or by a peer.
//!
//! A client that finds a manifest whose blobs it cannot get asks for it again and again, and asks no other registry. So
//! an incomplete manifest is as one that is not there.

use std::collections::BTreeMap;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use quinistry_fetch::{ManifestHeaders, UpstreamManifest};
use quinistry_oci::{Descriptor, Digest, Manifest, Reference, RepositoryName, media_type};
use tokio::time::timeout;

use super::Peers;
use super::rounds::{Busy, Miss, Rounds};
use super::verdicts::Verdict;
use crate::upstreams::verification::{VerifiedManifest, verify};
use crate::{LimitedStore, run_blocking};

/// Longest manifest that is hashed and parsed on the event loop, in bytes.
const MAX_INLINE_BYTES: usize = 16 * 1024;

/// Most manifests and blobs that one check asks for. An index of 500 images with 15 layers each has fewer.
pub(crate) const MAX_PARTS: usize = 10_000;

/// Deepest nesting of indexes: one over the images of an application, and theirs over platforms.
pub(crate) const MAX_DEPTH: usize = 4;

/// Most blobs that one check asks for at once.
const BLOBS_AT_ONCE: usize = 8;

/// Longest manifest below an index that stays in memory, in bytes: a client asks for it next.
const MAX_HELD_CHILD_BYTES: usize = 64 * 1024;

/// Longest wait for the turn of a check.
const CHECK_WAIT: Duration = Duration::from_secs(11);

/// Time limit of one check.
const CHECK_TIMEOUT: Duration = Duration::from_secs(30);

/// Manifest whose bytes have their digest.
#[derive(Clone, Debug)]
pub(crate) struct HeldManifest {
    pub(crate) bytes: Bytes,
    pub(crate) media_type: &'static str,
}

/// Check of one manifest.
#[derive(Clone, Copy)]
struct Check<'a> {
    peers: &'a Peers,
    /// Store of this registry, if it has one.
    own: Option<&'a LimitedStore>,
    repository: &'a RepositoryName,
    parts_left: &'a AtomicUsize,
}

impl Peers {
    /// Returns a manifest that this registry or a peer has, if it is complete. Requests for one manifest share a check,
    /// and its result for some seconds.
    pub(crate) async fn complete_manifest(
        self: &Arc<Self>,
        own: Option<&LimitedStore>,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<HeldManifest>, Busy> {
        let key = (repository.clone(), digest.clone());
        let known = self.verdicts().get(&key, self.clock.now());
        let verdict = if let Some(verdict) = known {
            verdict
        } else {
            let (peers, own, key_of_check) = (self.clone(), own.cloned(), key.clone());
            let check = || async move { peers.check(own.as_ref(), &key_of_check.0, &key_of_check.1).await };
            let Some(verdict) = self.checks.join(key, check).await.0 else { return Ok(None) };
            verdict
        };
        match verdict {
            Verdict::Complete(manifest) => Ok(Some(manifest)),
            Verdict::Absent | Verdict::Incomplete => Ok(None),
            Verdict::Busy => Err(Busy),
        }
    }

    async fn check(
        &self,
        own: Option<&LimitedStore>,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Verdict {
        // Checks whose clients have left end, too.
        let Ok(permit) = timeout(CHECK_WAIT, self.check_permits.acquire()).await else {
            return Verdict::Busy;
        };
        let _permit = permit.expect("the semaphore is never closed");
        let parts_left = AtomicUsize::new(MAX_PARTS);
        let check = Check { peers: self, own, repository, parts_left: &parts_left };
        let verdict = timeout(CHECK_TIMEOUT, check.manifest(digest.clone(), 0)).await;
        verdict.unwrap_or(Verdict::Incomplete)
    }
}

// === impl Check ===

impl<'a> Check<'a> {
    /// Checks a manifest, and notes the result.
    fn manifest(self, digest: Digest, depth: usize) -> Pin<Box<dyn Future<Output = Verdict> + Send + 'a>> {
        Box::pin(async move {
            let key = (self.repository.clone(), digest);
            let known = self.peers.verdicts().get(&key, self.peers.clock.now());
            if let Some(verdict) = known {
                return verdict;
            }
            let verdict = match self.find(&key.1).await {
                Err(Busy) => Verdict::Busy,
                Ok(None) => Verdict::Absent,
                Ok(Some(VerifiedManifest { bytes, manifest, .. })) => {
                    let held = HeldManifest { bytes, media_type: manifest.media_type };
                    match self.has_parts(&manifest, depth).await {
                        Ok(true) => Verdict::Complete(held),
                        Ok(false) => Verdict::Incomplete,
                        Err(Busy) => Verdict::Busy,
                    }
                }
            };
            let is_short = match &verdict {
                Verdict::Complete(manifest) => depth == 0 || manifest.bytes.len() <= MAX_HELD_CHILD_BYTES,
                Verdict::Absent | Verdict::Incomplete => true,
                Verdict::Busy => false,
            };
            if is_short {
                self.peers.verdicts().note(key, verdict.clone(), self.peers.clock.now());
            }
            verdict
        })
    }

    /// Returns true if everything that a manifest needs can be served. An index needs the children that are there, and
    /// one of them at least.
    async fn has_parts(self, manifest: &Manifest, depth: usize) -> Result<bool, Busy> {
        let blobs: BTreeMap<&Digest, &Descriptor> =
            manifest.blobs.iter().map(|blob| (&blob.digest, blob)).collect();
        if !self.takes(blobs.len() + manifest.manifests.len()) {
            return Ok(false);
        }
        let blobs: Vec<Descriptor> = blobs.into_values().cloned().collect();
        let missing = stream::iter(blobs)
            .map(|blob| async move { Ok((!self.has_blob(&blob).await?).then_some(blob.digest)) })
            .buffer_unordered(BLOBS_AT_ONCE)
            .filter_map(|missing: Result<Option<Digest>, Busy>| std::future::ready(missing.transpose()));
        if let Some(missing) = pin!(missing).next().await.transpose()? {
            tracing::info!(repository = %self.repository, %missing, "manifest not served, no peer has a blob that it needs");
            return Ok(false);
        }
        let mut has_child = manifest.manifests.is_empty();
        for child in &manifest.manifests {
            if media_type::known(&child.media_type).is_none() {
                has_child |= self.has_blob(child).await?;
                continue;
            }
            if depth == MAX_DEPTH {
                return Ok(false);
            }
            match self.manifest(child.digest.clone(), depth + 1).await {
                Verdict::Absent => {}
                Verdict::Complete(_) => has_child = true,
                Verdict::Incomplete => return Ok(false),
                Verdict::Busy => return Err(Busy),
            }
        }
        Ok(has_child)
    }

    /// Takes parts from the number that one check may ask for.
    fn takes(self, parts: usize) -> bool {
        let left = |left: usize| left.checked_sub(parts);
        let is_enough = self.parts_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left).is_ok();
        if !is_enough {
            let repository = self.repository;
            tracing::warn!(%repository, max_parts = MAX_PARTS, "manifest has too many parts, not served");
        }
        is_enough
    }

    async fn has_blob(self, blob: &Descriptor) -> Result<bool, Busy> {
        if let Some(own) = self.own {
            let (name, digest) = (self.repository.clone(), blob.digest.clone());
            if own.run(move |store| store.has_blob(&name, &digest)).await.unwrap_or(false) {
                return Ok(true);
            }
        }
        let length = self.peers.blob_length(self.repository, &blob.digest, Some(blob.size)).await?;
        Ok(length.is_some())
    }

    /// Returns a manifest that this registry or a peer has.
    async fn find(self, digest: &Digest) -> Result<Option<VerifiedManifest>, Busy> {
        let Self { peers, repository, .. } = self;
        let _permit = peers.manifest_permits.acquire().await.expect("the semaphore is never closed");
        if let Some(own) = self.own
            && let Some(found) = find_stored(own, repository, digest).await
        {
            return Ok(Some(found));
        }
        let mut rounds = Rounds::new(peers.members.len());
        while let Some(turn) = rounds.next_turn() {
            let member = &peers.members[turn.peer];
            let question = member.peer(turn.is_repeat).get_manifest(repository, digest);
            match peers.ask(turn, question).await {
                Ok(sent) => match verify_manifest(sent, digest).await {
                    Ok(found) => return Ok(Some(found)),
                    Err(error) => {
                        member.counts.note_wrong();
                        tracing::warn!(peer = member.name(), %digest, error, "peer sent a wrong manifest");
                        rounds.note(Miss::Absent);
                    }
                },
                Err(miss) => rounds.note(miss),
            }
        }
        rounds.end()
    }
}

/// Returns a manifest that the store has.
pub(crate) async fn find_stored(
    own: &LimitedStore,
    repository: &RepositoryName,
    digest: &Digest,
) -> Option<VerifiedManifest> {
    let (name, reference) = (repository.clone(), Reference::Digest(digest.clone()));
    let stored = own.run(move |store| store.manifest(&name, &reference)).await.ok()?;
    let bytes = run_blocking(move || stored.content.to_bytes()).await.ok()?;
    let media_type = Some(stored.media_type.to_owned());
    let headers = ManifestHeaders { media_type, ..ManifestHeaders::default() };
    verify_manifest(UpstreamManifest { headers, bytes }, digest).await.ok()
}

/// Verifies a manifest; a long one on a thread that may block.
pub(crate) async fn verify_manifest(
    sent: UpstreamManifest,
    digest: &Digest,
) -> Result<VerifiedManifest, String> {
    let reference = Reference::Digest(digest.clone());
    let is_short = sent.bytes.len() <= MAX_INLINE_BYTES;
    let verify = move || verify(sent, &reference).map_err(|error| error.to_string());
    if is_short { verify() } else { run_blocking(verify).await }
}
