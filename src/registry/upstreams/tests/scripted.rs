//! Upstream that answers as a test says, and notes each question.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use quinistry_fetch::{
    Answer, Answered, Body, ManifestHead, ManifestHeaders, Source, SourceError, Told, Upstream,
    UpstreamManifest, Wanted,
};
use quinistry_oci::{Descriptor, Digest, Reference, RepositoryName, Tag};

/// Upstream that has what a test gives it.
#[derive(Debug, Default)]
pub(super) struct Scripted(Mutex<Script>);

#[derive(Debug, Default)]
struct Script {
    /// Manifests with their types, by repository and reference.
    manifests: HashMap<(String, String), (Bytes, String)>,
    blobs: HashMap<(String, Digest), Bytes>,
    tags: HashMap<String, Vec<Tag>>,
    referrers: HashMap<Digest, Vec<Descriptor>>,
    digest_header: DigestHeader,
    /// Failure of every question.
    failure: Option<Outage>,
    /// Number of questions that are answered before the upstream limits them; `None` without a limit.
    left: Option<usize>,
    /// Pause before each answer.
    delay: Duration,
    asked: Vec<String>,
}

/// Digest in the headers of each manifest.
#[derive(Clone, Debug, Default)]
pub(super) enum DigestHeader {
    #[default]
    Right,
    Absent,
    Other(Digest),
}

/// Failure of an upstream.
#[derive(Clone, Copy, Debug)]
pub(super) enum Outage {
    /// The connection is refused.
    Away,
    /// Nothing is ever answered.
    Silent,
    /// Requests are limited, with `Retry-After` in seconds.
    Limited(Option<u64>),
    /// 401 or 403.
    Refused,
    /// 404.
    NotFound,
    /// A page of a captive portal.
    Invalid,
}

/// Blobs of one repository.
#[derive(Debug)]
struct Blobs {
    upstream: Arc<Scripted>,
    repository: String,
}

impl Scripted {
    pub(super) fn new() -> Arc<Self> {
        Arc::default()
    }

    fn script(&self) -> std::sync::MutexGuard<'_, Script> {
        self.0.lock().unwrap()
    }

    /// Gives a manifest a tag, and its digest.
    pub(super) fn tag(&self, repository: &str, tag: &str, bytes: &Bytes, media_type: &str) -> Digest {
        let digest = Digest::sha256(bytes);
        for reference in [tag.to_owned(), digest.to_string()] {
            let key = (repository.to_owned(), reference);
            self.script().manifests.insert(key, (bytes.clone(), media_type.to_owned()));
        }
        digest
    }

    pub(super) fn untag(&self, repository: &str, tag: &str) {
        self.script().manifests.remove(&(repository.to_owned(), tag.to_owned()));
    }

    pub(super) fn add_blob(&self, repository: &str, bytes: &Bytes) -> Digest {
        self.add_blob_as(repository, &Digest::sha256(bytes), bytes);
        Digest::sha256(bytes)
    }

    pub(super) fn add_blob_as(&self, repository: &str, digest: &Digest, bytes: &Bytes) {
        self.script().blobs.insert((repository.to_owned(), digest.clone()), bytes.clone());
    }

    pub(super) fn remove_blob(&self, repository: &str, digest: &Digest) {
        self.script().blobs.remove(&(repository.to_owned(), digest.clone()));
    }

    pub(super) fn list(&self, repository: &str, tags: &[&str]) {
        let tags = tags.iter().map(|tag| tag.parse().unwrap()).collect();
        self.script().tags.insert(repository.to_owned(), tags);
    }

    pub(super) fn refer(&self, subject: &Digest, referrers: Vec<Descriptor>) {
        self.script().referrers.insert(subject.clone(), referrers);
    }

    pub(super) fn say_digest(&self, digest: DigestHeader) {
        self.script().digest_header = digest;
    }

    pub(super) fn fail(&self, failure: impl Into<Option<Outage>>) {
        self.script().failure = failure.into();
    }

    /// Answers this number of questions, and limits requests from then on.
    pub(super) fn limit_after(&self, questions: impl Into<Option<usize>>) {
        self.script().left = questions.into();
    }

    pub(super) fn delay(&self, delay: Duration) {
        self.script().delay = delay;
    }

    /// Returns the questions, and forgets them.
    pub(super) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.script().asked)
    }

    /// Notes a question, and waits as long as the answer takes.
    async fn note(&self, question: String) -> Result<(), SourceError> {
        let (failure, delay) = {
            let mut script = self.script();
            script.asked.push(question);
            let is_over = script.left == Some(0);
            script.left = script.left.map(|left| left.saturating_sub(1));
            (if is_over { Some(Outage::Limited(None)) } else { script.failure }, script.delay)
        };
        if delay > Duration::ZERO {
            tokio::time::sleep(delay).await;
        }
        match failure {
            None => Ok(()),
            Some(Outage::Silent) => std::future::pending().await,
            Some(Outage::Away) => {
                Err(SourceError::Unavailable(Box::new(io::Error::from(io::ErrorKind::ConnectionRefused))))
            }
            Some(Outage::Limited(seconds)) => {
                Err(SourceError::Limited { retry_after: seconds.map(Duration::from_secs) })
            }
            Some(Outage::Refused) => Err(SourceError::Refused),
            Some(Outage::NotFound) => Err(SourceError::NotFound),
            Some(Outage::Invalid) => Err(SourceError::Invalid("text/html".into())),
        }
    }

    fn found(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> Result<UpstreamManifest, SourceError> {
        let script = self.script();
        let key = (repository.to_string(), reference.to_string());
        let (bytes, media_type) = script.manifests.get(&key).ok_or(SourceError::NotFound)?;
        let digest = match &script.digest_header {
            DigestHeader::Right => Some(Digest::sha256(bytes)),
            DigestHeader::Absent => None,
            DigestHeader::Other(digest) => Some(digest.clone()),
        };
        let headers = ManifestHeaders {
            digest,
            media_type: Some(media_type.clone()),
            length: Some(bytes.len() as u64),
        };
        Ok(UpstreamManifest { headers, bytes: bytes.clone() })
    }
}

/// Upstream whose blobs need it as a whole.
#[derive(Debug)]
pub(super) struct Shared(pub(super) Arc<Scripted>);

impl Upstream for Shared {
    fn name(&self) -> &'static str {
        "scripted"
    }

    fn head_manifest<'a>(
        &'a self,
        repository: &'a RepositoryName,
        reference: &'a Reference,
        known: Option<&'a Digest>,
    ) -> Told<'a, ManifestHead> {
        Box::pin(async move {
            self.0.note(format!("HEAD {repository}:{reference}")).await?;
            let headers = self.0.found(repository, reference)?.headers;
            Ok(if known.is_some() && headers.digest.as_ref() == known {
                ManifestHead::Unchanged
            } else {
                ManifestHead::Found(headers)
            })
        })
    }

    fn get_manifest<'a>(
        &'a self,
        repository: &'a RepositoryName,
        reference: &'a Reference,
    ) -> Told<'a, UpstreamManifest> {
        Box::pin(async move {
            self.0.note(format!("GET {repository}:{reference}")).await?;
            self.0.found(repository, reference)
        })
    }

    fn head_blob<'a>(&'a self, repository: &'a RepositoryName, digest: &'a Digest) -> Told<'a, Option<u64>> {
        Box::pin(async move {
            self.0.note(format!("HEAD {repository} {digest}")).await?;
            let key = (repository.to_string(), digest.clone());
            self.0.script().blobs.get(&key).map(|bytes| Some(bytes.len() as u64)).ok_or(SourceError::NotFound)
        })
    }

    fn tags<'a>(&'a self, repository: &'a RepositoryName, limit: usize) -> Told<'a, Vec<Tag>> {
        Box::pin(async move {
            self.0.note(format!("tags {repository} {limit}")).await?;
            self.0.script().tags.get(repository.as_str()).cloned().ok_or(SourceError::NotFound)
        })
    }

    fn referrers<'a>(
        &'a self,
        repository: &'a RepositoryName,
        subject: &'a Digest,
    ) -> Told<'a, Vec<Descriptor>> {
        Box::pin(async move {
            self.0.note(format!("referrers {repository} {subject}")).await?;
            Ok(self.0.script().referrers.get(subject).cloned().unwrap_or_default())
        })
    }

    fn blobs(&self, repository: &RepositoryName) -> Arc<dyn Source> {
        Arc::new(Blobs { upstream: self.0.clone(), repository: repository.to_string() })
    }
}

impl Source for Blobs {
    fn name(&self) -> &'static str {
        "scripted"
    }

    fn open(&self, wanted: Wanted) -> Answered<'_> {
        Box::pin(async move {
            self.upstream.note(format!("GET {} {}", self.repository, wanted.digest)).await?;
            let key = (self.repository.clone(), wanted.digest);
            let bytes = self.upstream.script().blobs.get(&key).cloned().ok_or(SourceError::NotFound)?;
            let answer = Answer { length: Some(bytes.len() as u64), ..Answer::default() };
            let starts = (0..bytes.len()).step_by(60_000);
            let pieces: Vec<_> = starts.map(|at| Ok(bytes.slice(at..bytes.len().min(at + 60_000)))).collect();
            let body: Body = Box::pin(stream::iter(pieces).then(|piece| async {
                tokio::task::yield_now().await;
                piece
            }));
            Ok((answer, body))
        })
    }
}
