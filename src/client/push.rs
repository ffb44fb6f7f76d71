//! Push: from a [`PushSource`] into a registry, sending only content that the registry lacks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::stream;
use quinistry_oci::{Descriptor, Digest, ImageReference, Reference, RepositoryName};
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Method, StatusCode};

use super::bounds::Budget;
use super::parallel::ordered;
use super::request::{self, Payload};
use super::source::{BlobLocation, CheckedPieces, PushSource, SourceFailure, read_manifest};
use super::tree::{Gatherer, Tree};
use super::upload::BlobTarget;
use super::{BLOBS_AT_ONCE, Client, ClientError, Manifest, Outcome, Progress, retry};

/// Result of a push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushReport {
    /// Digest of the image.
    pub digest: Digest,
    /// Number of blobs that were sent.
    pub uploaded: usize,
    /// Number of blobs that the registry took from another of its repositories.
    pub mounted: usize,
    /// Number of blobs that were there already.
    pub existing: usize,
    /// Digests of the manifests that were put because they refer to the image or to a part of it.
    pub referrers: Vec<Digest>,
}

/// Push under way, which takes one [`Tree`] after the other.
pub(super) struct Push<'a> {
    client: &'a Client,
    source: &'a dyn PushSource,
    target: &'a ImageReference,
    from: Option<&'a RepositoryName>,
    progress: Arc<dyn Progress>,
    pub(super) report: PushReport,
}

impl Client {
    /// Copies an image into a registry, children before parents, with its referrers in the same source.
    /// With `from`, the registry is first asked to mount missing blobs from that repository of its own.
    pub async fn push(
        &self,
        source: &dyn PushSource,
        target: &ImageReference,
        from: Option<&RepositoryName>,
        progress: Arc<dyn Progress>,
    ) -> Result<PushReport, ClientError> {
        let mut push = Push::new(self, source, target, from, progress)?;
        let candidates = source.referrers();
        let what = format!("push {target}");
        let budget = if candidates.is_empty() {
            Budget::for_image(what)
        } else {
            Budget::for_image_with_referrers(what)
        };
        let mut gatherer = Gatherer::new(source, budget);
        let image = gatherer.gather(source.root()).await?;
        let referrers = gather_referrers(&mut gatherer, source, candidates).await?;
        push.image(&image).await?;
        push.referrers(&referrers).await?;
        Ok(push.report)
    }
}

impl Client {
    /// Puts a manifest unless the registry has it under this name, and makes sure that it is listed as a referrer of its
    /// subject. Returns true if the manifest was put.
    pub(super) async fn ensure_manifest(
        &self,
        name: &ImageReference,
        manifest: &Manifest,
    ) -> Result<bool, ClientError> {
        // A HEAD only spares a request; where it fails, the PUT reports the error.
        let there = self.head_manifest(name, "pull,push").await;
        let there = matches!(there, Ok(Some(Ok(there))) if there.digest == manifest.descriptor.digest);
        let put = if there { None } else { Some(self.put_manifest(name, manifest).await?) };
        let was_put = put.is_some();
        let Some(subject) = manifest.subject() else { return Ok(was_put) };
        let listed = match put {
            Some(put) => put.lists_referrers,
            // Another client may have put the manifest without listing it as a referrer.
            None => self.api_referrers(name, &subject).await?.is_some(),
        };
        if !listed {
            self.add_referrer(name, &subject, manifest).await?;
        }
        Ok(was_put)
    }
}

/// Gathers the candidates that refer to gathered manifests, and the candidates that refer to those.
async fn gather_referrers(
    gatherer: &mut Gatherer<'_>,
    source: &dyn PushSource,
    candidates: Vec<Descriptor>,
) -> Result<Vec<Tree>, ClientError> {
    let mut open = Vec::new();
    for candidate in candidates {
        // A damaged or missing entry may belong to another image, so it does not fail this push.
        let Ok(manifest) = read_manifest(source, &candidate).await else { continue };
        if let Some(subject) = manifest.subject() {
            open.push((candidate, subject));
        }
    }
    let mut trees = Vec::new();
    for level in 1.. {
        let (fitting, rest): (Vec<_>, Vec<_>) =
            open.into_iter().partition(|(_, subject)| gatherer.has(subject));
        if fitting.is_empty() {
            break;
        }
        for (referrer, _) in fitting {
            gatherer.budget.take_referrer(level)?;
            trees.push(gatherer.gather(&referrer).await?);
        }
        open = rest;
    }
    Ok(trees)
}

// === impl Push ===

impl<'a> Push<'a> {
    /// Begins a push. Fails if the target names another digest than the image's.
    pub(super) fn new(
        client: &'a Client,
        source: &'a dyn PushSource,
        target: &'a ImageReference,
        from: Option<&'a RepositoryName>,
        progress: Arc<dyn Progress>,
    ) -> Result<Self, ClientError> {
        let digest = source.root().digest.clone();
        if let Some(expected) = target.digest().filter(|expected| **expected != digest) {
            return Err(ClientError::OtherDigest { expected: expected.clone(), actual: digest });
        }
        let report = PushReport { digest, uploaded: 0, mounted: 0, existing: 0, referrers: Vec::new() };
        Ok(Self { client, source, target, from, progress, report })
    }

    /// Puts the image itself, under the target's tag if it has one.
    pub(super) async fn image(&mut self, tree: &Tree) -> Result<(), ClientError> {
        // Without a digest, because `reference` prefers it, and the push must move the tag.
        let name = match self.target.tag() {
            Some(tag) => {
                let repository = self.target.repository().clone();
                ImageReference::new(self.target.host(), repository, Reference::Tag(tag.clone()))
                    .expect("the host comes from a reference")
            }
            None => self.target.clone(),
        };
        self.tree(tree, Some(name)).await
    }

    /// Puts manifests that refer to the image or to each other, by their digests.
    pub(super) async fn referrers(&mut self, trees: &[Tree]) -> Result<(), ClientError> {
        for tree in trees {
            // Children come before parents; a tree without manifests was part of an earlier one.
            let Some(root) = tree.manifests.last() else { continue };
            self.tree(tree, None).await?;
            self.report.referrers.push(root.descriptor.digest.clone());
        }
        Ok(())
    }

    /// Pushes blobs, several at once, and then manifests, children before parents.
    async fn tree(&mut self, tree: &Tree, name: Option<ImageReference>) -> Result<(), ClientError> {
        self.progress.expect(tree.blobs.len(), tree.blob_bytes());
        let outcomes = ordered(&tree.blobs, BLOBS_AT_ONCE, |blob| self.blob(blob)).await?;
        for outcome in outcomes {
            *match outcome {
                Outcome::Existing => &mut self.report.existing,
                Outcome::Mounted => &mut self.report.mounted,
                Outcome::Transferred => &mut self.report.uploaded,
            } += 1;
        }
        let mut name = name;
        let last = tree.manifests.len().saturating_sub(1);
        for (number, manifest) in tree.manifests.iter().enumerate() {
            let named = if number == last { name.take() } else { None };
            let by_digest = || self.target.with_digest(manifest.descriptor.digest.clone());
            self.client.ensure_manifest(&named.unwrap_or_else(by_digest), manifest).await?;
        }
        Ok(())
    }

    fn open(&self, digest: &Digest) -> Result<BlobLocation, ClientError> {
        self.source.open(digest).map_err(|source| ClientError::Source { digest: digest.clone(), source })
    }

    async fn blob(&self, blob: &Descriptor) -> Result<Outcome, ClientError> {
        self.progress.begin(blob);
        let outcome = self.transfer(blob).await?;
        self.client.remember(self.target, &blob.digest);
        self.progress.end(blob, outcome);
        Ok(outcome)
    }

    async fn transfer(&self, blob: &Descriptor) -> Result<Outcome, ClientError> {
        let target = BlobTarget::new(self.client, self.target, blob)?;
        if target.is_there().await {
            return Ok(Outcome::Existing);
        }
        let from = self.from.cloned().or_else(|| self.client.seen(self.target, &blob.digest));
        let from = from.filter(|from| from != self.target.repository());

        let failure = SourceFailure::default();
        let open = |counter: Arc<AtomicU64>| Ok(self.body(self.open(&blob.digest)?, blob, counter, &failure));
        let mut attempt = 1;
        loop {
            // Each attempt has an upload session of its own: the content of a broken one is not known.
            let Some(session) = target.open_session(from.as_ref()).await? else {
                return Ok(Outcome::Mounted);
            };
            let mut call = target.call(Method::PUT, target.completing(&session.url));
            call.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
            call.payload = Payload::Stream(&open, blob.size);
            call.is_repeatable = false;
            let result = self.client.send(&call).await;
            let wait = match &result {
                Ok(answer) if answer.status() == StatusCode::CREATED => return Ok(Outcome::Transferred),
                Ok(answer) if retry::is_transient(answer.status()) => {
                    retry::wait(attempt, Some(answer.headers()))
                }
                Err(ClientError::Connect { .. } | ClientError::Timeout { .. }) => {
                    // A source that fails breaks the connection, so its error is the reason.
                    if let Some(source) = failure.take() {
                        return Err(ClientError::Source { digest: blob.digest.clone(), source });
                    }
                    retry::wait(attempt, None)
                }
                _ => None,
            };
            match (wait, result) {
                (Some(wait), _) => tokio::time::sleep(wait).await,
                (None, Ok(answer)) => return Err(request::failure(&target.what, answer).await),
                (None, Err(error)) => return Err(error),
            }
            attempt += 1;
            self.progress.begin(blob);
        }
    }

    /// Streams a blob as a request body. Local files are read in the task itself, because a piece is there at
    /// once.
    fn body(
        &self,
        location: BlobLocation,
        blob: &Descriptor,
        counter: Arc<AtomicU64>,
        failure: &SourceFailure,
    ) -> reqwest::Body {
        let pieces = CheckedPieces::new(location, blob, failure.clone());
        let (progress, blob) = (self.progress.clone(), blob.clone());
        reqwest::Body::wrap_stream(stream::unfold(Some(pieces), move |pieces| {
            let (counter, progress, blob) = (counter.clone(), progress.clone(), blob.clone());
            async move {
                let (piece, rest) = pieces?.next().await?;
                if let Ok(piece) = &piece {
                    counter.fetch_add(piece.len() as u64, Ordering::Relaxed);
                    progress.advance(&blob, piece.len() as u64);
                }
                Some((piece, rest))
            }
        }))
    }
}
