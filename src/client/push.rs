//! Push: from a [`PushSource`] into a registry, sending only what is not there.

use std::collections::BTreeSet;
use std::future::Future;
use std::io::Read as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::stream;
use reqwest::header::{CONTENT_TYPE, HeaderValue, LOCATION};
use reqwest::{Method, Response, StatusCode, Url};

use crate::oci::{Descriptor, Digest, ImageReference, RepositoryName, media_type};

use super::endpoint::Endpoint;
use super::pull::{Blobs as _, MAX_DEPTH};
use super::request::{self, Call, Payload};
use super::source::{Content, Failure, Pieces, PushSource};
use super::{Client, ClientError, Document, MAX_MANIFEST, Manifest, Outcome, Progress, retry};

/// What a push did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushReport {
    /// The digest of the image.
    pub digest: Digest,
    /// How many blobs were sent.
    pub uploaded: usize,
    /// How many the registry took from another of its repositories.
    pub mounted: usize,
    /// How many were there already.
    pub existing: usize,
}

struct Push<'a> {
    client: &'a Client,
    source: &'a dyn PushSource,
    target: &'a ImageReference,
    from: Option<&'a RepositoryName>,
    progress: Arc<dyn Progress>,
    done: BTreeSet<Digest>,
    report: PushReport,
}

impl Client {
    /// Copies an image into a registry, children before parents. With `from`, blobs that are not there are first
    /// asked of that repository of the same registry.
    pub async fn push(
        &self,
        source: &dyn PushSource,
        target: &ImageReference,
        from: Option<&RepositoryName>,
        progress: Arc<dyn Progress>,
    ) -> Result<PushReport, ClientError> {
        let digest = source.root().digest.clone();
        if let Some(expected) = target.digest().filter(|expected| **expected != digest) {
            return Err(ClientError::OtherDigest { expected: expected.clone(), actual: digest });
        }
        let report = PushReport { digest, uploaded: 0, mounted: 0, existing: 0 };
        let mut push = Push { client: self, source, target, from, progress, done: BTreeSet::new(), report };
        // Without a digest: `reference` prefers it, and the tag is what is meant to be moved.
        let by_tag = match target.tag() {
            Some(tag) => ImageReference::new(
                target.host(),
                target.repository().clone(),
                crate::oci::Reference::Tag(tag.clone()),
            )
            .expect("the host comes from a reference"),
            None => target.clone(),
        };
        push.manifest(source.root(), by_tag, 0).await?;
        Ok(push.report)
    }
}

// === impl Push ===

impl Push<'_> {
    /// Boxed, because indexes hold indexes.
    fn manifest<'b>(
        &'b mut self,
        descriptor: &'b Descriptor,
        name: ImageReference,
        depth: usize,
    ) -> Pin<Box<dyn Future<Output = Result<(), ClientError>> + Send + 'b>> {
        Box::pin(async move {
            let manifest = self.read_manifest(descriptor).await?;
            match manifest.document()? {
                Document::Index(index) => {
                    if depth >= MAX_DEPTH {
                        let what = format!("push index {}", descriptor.digest);
                        return Err(ClientError::Protocol {
                            what,
                            reason: "indexes in indexes in indexes".into(),
                        });
                    }
                    for child in &index.manifests {
                        let known = media_type::is_manifest(&child.media_type)
                            || media_type::is_index(&child.media_type);
                        if !known {
                            self.blob(child).await?;
                        } else if self.done.insert(child.digest.clone()) {
                            let name = self.target.with_digest(child.digest.clone());
                            self.manifest(child, name, depth + 1).await?;
                        }
                    }
                }
                Document::Image(image) => {
                    for blob in image.blobs() {
                        self.blob(blob).await?;
                    }
                }
            }
            // Only to spare a request; if it cannot be known, the PUT says what is wrong.
            let there = self.client.head_manifest(&name, "pull,push").await;
            if matches!(there, Ok(Some(Ok(there))) if there.digest == manifest.descriptor.digest) {
                return Ok(());
            }
            self.client.put_manifest(&name, &manifest).await
        })
    }

    async fn read_manifest(&self, descriptor: &Descriptor) -> Result<Manifest, ClientError> {
        let digest = &descriptor.digest;
        let what = || format!("read manifest {digest} of the image to push");
        let reader = match self.open(digest)? {
            Content::Remote(client, image) => {
                return client.manifest(&image.with_digest(digest.clone())).await;
            }
            Content::Local(reader) => reader,
        };
        let mut bytes = Vec::new();
        reader
            .take(MAX_MANIFEST + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| ClientError::Source { digest: digest.clone(), source: error.into() })?;
        if bytes.len() as u64 > MAX_MANIFEST {
            return Err(ClientError::TooLarge { what: what(), limit: MAX_MANIFEST });
        }
        let actual = Digest::of(digest.algorithm(), &bytes);
        if actual != *digest {
            return Err(ClientError::Digest { what: what(), expected: digest.clone(), actual });
        }
        Manifest::new(actual, &descriptor.media_type, bytes.into())
            .map_err(|reason| ClientError::Protocol { what: what(), reason })
    }

    fn open(&self, digest: &Digest) -> Result<Content, ClientError> {
        self.source.open(digest).map_err(|source| ClientError::Source { digest: digest.clone(), source })
    }

    async fn blob(&mut self, blob: &Descriptor) -> Result<(), ClientError> {
        if !self.done.insert(blob.digest.clone()) {
            return Ok(());
        }
        self.progress.begin(blob);
        let outcome = self.transfer(blob).await?;
        *match outcome {
            Outcome::Existing => &mut self.report.existing,
            Outcome::Mounted => &mut self.report.mounted,
            Outcome::Transferred => &mut self.report.uploaded,
        } += 1;
        self.client.remember(self.target, &blob.digest);
        self.progress.end(blob, outcome);
        Ok(())
    }

    async fn transfer(&self, blob: &Descriptor) -> Result<Outcome, ClientError> {
        let endpoint = self.client.endpoint(self.target.host())?;
        let repository = endpoint.repository(self.target);
        let what = format!("push blob {} to {}/{repository}", blob.digest, self.target.host());

        let url = endpoint.url(&format!("/v2/{repository}/blobs/{}", blob.digest));
        let call = Call::new(&what, &endpoint, Method::HEAD, url).scope(&repository, "pull,push");
        let answer = self.client.send_for(&call, &[StatusCode::OK, StatusCode::NOT_FOUND]).await?;
        if answer.status() == StatusCode::OK {
            return Ok(Outcome::Existing);
        }

        let failure = Failure::default();
        let open = |counter: Arc<AtomicU64>| Ok(self.body(self.open(&blob.digest)?, blob, counter, &failure));
        let mut attempt = 1;
        loop {
            // Each try has a session of its own: what a broken one holds is not known.
            let Some(url) = self.open_session(&endpoint, &repository, &what, blob).await? else {
                return Ok(Outcome::Mounted);
            };
            let mut call = Call::new(&what, &endpoint, Method::PUT, url).scope(&repository, "pull,push");
            call.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
            call.payload = Payload::Stream(&open, blob.size);
            call.repeat = false;
            let result = self.client.send(&call).await;
            let wait = match &result {
                Ok(answer) if answer.status() == StatusCode::CREATED => return Ok(Outcome::Transferred),
                Ok(answer) if retry::is_transient(answer.status()) => {
                    retry::wait(attempt, Some(answer.headers()))
                }
                Err(ClientError::Connect { .. } | ClientError::Timeout { .. }) => {
                    // A source that fails breaks the connection: then it is the reason.
                    if let Some(source) = failure.take() {
                        return Err(ClientError::Source { digest: blob.digest.clone(), source });
                    }
                    retry::wait(attempt, None)
                }
                _ => None,
            };
            match (wait, result) {
                (Some(wait), _) => tokio::time::sleep(wait).await,
                (None, Ok(answer)) => return Err(request::failure(&what, answer).await),
                (None, Err(error)) => return Err(error),
            }
            attempt += 1;
            self.progress.begin(blob);
        }
    }

    /// Where to send a blob; `None` if the registry took it from another of its repositories.
    async fn open_session(
        &self,
        endpoint: &Endpoint,
        repository: &str,
        what: &str,
        blob: &Descriptor,
    ) -> Result<Option<Url>, ClientError> {
        let from = self.from.cloned().or_else(|| self.client.seen(self.target, &blob.digest));
        let from = from.filter(|from| from != self.target.repository());
        let url = endpoint.url(&format!("/v2/{repository}/blobs/uploads/"));
        let mut call = Call::new(what, endpoint, Method::POST, url).scope(repository, "pull,push");
        if let Some(from) = &from {
            let query = [("mount", blob.digest.as_str()), ("from", from.as_str())];
            call.url.query_pairs_mut().extend_pairs(query);
            call = call.scope(from.as_str(), "pull");
        }
        let wanted = [StatusCode::CREATED, StatusCode::ACCEPTED];
        let mut answer = self.client.send_for(&call, &wanted).await;
        if from.is_some() && matches!(answer, Err(ClientError::Status { .. } | ClientError::Refused { .. })) {
            // One who may not look into the other repository may still send the bytes.
            call.url.set_query(None);
            call.scopes.truncate(1);
            answer = self.client.send_for(&call, &wanted).await;
        }
        let answer = answer?;
        if answer.status() == StatusCode::CREATED && from.is_some() {
            return Ok(None);
        }
        let mut url = location(&call, &answer)?;
        url.query_pairs_mut().append_pair("digest", blob.digest.as_str());
        Ok(Some(url))
    }

    /// Reads in the task itself: a piece of a local file is there at once, one of another registry is waited for.
    fn body(
        &self,
        content: Content,
        blob: &Descriptor,
        counter: Arc<AtomicU64>,
        failure: &Failure,
    ) -> reqwest::Body {
        let pieces = Pieces::new(content, blob, failure.clone());
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

/// Where a session is. `Authorization` goes along only if that is the registry itself.
fn location(call: &Call<'_>, answer: &Response) -> Result<Url, ClientError> {
    let protocol = |reason: &str| ClientError::Protocol { what: call.what.clone(), reason: reason.into() };
    let text = answer.headers().get(LOCATION).and_then(|field| field.to_str().ok());
    let text = text.ok_or_else(|| protocol("an upload without a Location"))?;
    let url = call.url.join(text).map_err(|_| protocol("an upload at what is no URL"))?;
    if !matches!(url.scheme(), "http" | "https") || (call.url.scheme() == "https" && url.scheme() != "https")
    {
        return Err(protocol("an upload at an unprotected address"));
    }
    Ok(url)
}
