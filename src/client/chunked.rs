//! Upload of a blob in chunks, which goes on where a connection broke. distribution-spec, section Pushing a Blob in
//! Chunks.
//!
//! After a break the registry is asked how many bytes the session has, so that each break repeats one chunk at most.
//! Some registries take no chunks, or none of this length; blobs go to them whole, each in one request.

mod attempts;
mod fault;
mod registry;
mod source;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use quinistry_oci::{Content, Descriptor, RepositoryName};
use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue, RANGE};
use reqwest::{Method, Response, StatusCode, Url};

use self::attempts::Attempts;
use self::fault::{Fault, FaultKind, SessionState};
pub(super) use self::registry::RegistryBehaviour;
use self::registry::{AbandonedSession, DISCARD_TIMEOUT};
use self::source::Source;
use super::manifest::text;
use super::request::{self, Payload};
use super::source::SourceFailure;
use super::upload::BlobTarget;
use super::{BoxError, Client, ClientError, Outcome, Progress, headers, retry};

/// Length of a chunk, in bytes; a shorter blob is sent whole. A break costs one chunk at most, and each chunk costs a
/// round trip and a flush of the registry.
pub(super) const CHUNK_BYTES: u64 = 8 * 1024 * 1024;
/// Greatest length of a chunk that a registry can ask for. Chunks are in memory.
const MAX_CHUNK_BYTES: u64 = 64 * 1024 * 1024;
/// Length of a chunk after a break, in bytes: the registry may refuse it because an earlier request still writes.
const PROBE_BYTES: u64 = 64 * 1024;
/// Waits between questions after a break about a session that is said to be empty: the registry counts the bytes of the
/// session's first chunk only when it has noticed that the chunk's connection broke.
const EMPTY_SESSION_WAITS: [Duration; 3] =
    [Duration::from_millis(100), Duration::from_millis(300), Duration::from_millis(900)];
/// Number of times that a registry is asked for a mount that it fails to answer.
const MAX_MOUNT_FAILURES: u32 = 2;

/// Upload of a blob whose content can be read at an offset.
pub(super) struct ChunkedUpload<'a> {
    client: &'a Client,
    registry: &'a RegistryBehaviour,
    target: &'a BlobTarget<'a>,
    blob: &'a Descriptor,
    content: Content,
    /// Repository of the same registry that has the blob.
    from: Option<&'a RepositoryName>,
    progress: Arc<dyn Progress>,
    source: Option<Source>,
    session: Option<Url>,
    chunk_bytes: u64,
    probe_bytes: u64,
    /// True if the session gets the blob in one request.
    is_whole: bool,
    /// Length of the next chunk: `probe_bytes` after a break, until the registry takes a chunk.
    next_bytes: u64,
    /// True if a request of the session broke.
    has_broken: bool,
    /// Number of answers that contradict what the session is to have, since the registry took a chunk.
    contradictions: u32,
    /// Number of sessions that were lost without a break.
    lost_sessions: u32,
    mount_failures: u32,
    /// Number of bytes that the session has, as far as the registry has said.
    offset: u64,
    /// True if a request broke, so that the registry must be asked for the number of bytes.
    is_offset_unknown: bool,
    attempts: Attempts,
}

// === impl ChunkedUpload ===

impl<'a> ChunkedUpload<'a> {
    /// Creates an upload to a target that makes each request [`once`](BlobTarget::once).
    pub(super) fn new(
        (client, registry): (&'a Client, &'a RegistryBehaviour),
        (target, blob): (&'a BlobTarget<'a>, &'a Descriptor),
        content: Content,
        from: Option<&'a RepositoryName>,
        progress: Arc<dyn Progress>,
    ) -> Self {
        Self {
            client,
            registry,
            target,
            blob,
            from,
            progress,
            source: Some(Source::new(content.clone(), blob.clone())),
            content,
            session: None,
            chunk_bytes: CHUNK_BYTES,
            probe_bytes: PROBE_BYTES,
            is_whole: false,
            next_bytes: CHUNK_BYTES,
            has_broken: false,
            contradictions: 0,
            lost_sessions: 0,
            mount_failures: 0,
            offset: 0,
            is_offset_unknown: false,
            attempts: Attempts::default(),
        }
    }

    /// Uploads the blob, or lets the registry mount it.
    pub(super) async fn run(mut self) -> Result<Outcome, ClientError> {
        loop {
            let fault = match self.step().await {
                Ok(Some(outcome)) => {
                    self.session = None;
                    return Ok(outcome);
                }
                Ok(None) => continue,
                Err(fault) => fault,
            };
            let kind = self.kind(&fault);
            let wait = match kind {
                FaultKind::Final => None,
                FaultKind::Broken => self.attempts.broken(fault.headers.as_ref()),
                FaultKind::OutOfOrder => self.attempts.out_of_order(),
                FaultKind::Lost => self.attempts.lost(),
                FaultKind::Unsupported => {
                    self.registry.refuses_chunks.store(true, Ordering::Relaxed);
                    self.attempts = Attempts::default();
                    Some(Duration::ZERO)
                }
            };
            let Some(wait) = wait else {
                // A registry that is not reached cannot discard the session either.
                if kind != FaultKind::Broken || fault.headers.is_some() {
                    self.discard().await;
                }
                self.session = None;
                return Err(fault.error);
            };
            tokio::time::sleep(wait).await;
            if kind == FaultKind::Unsupported {
                self.discard().await;
            } else if kind == FaultKind::Lost || self.is_whole {
                // The registry may have completed the blob, although its answer was lost.
                let may_be_complete = self.is_whole || self.offset == self.blob.size;
                if self.session.take().is_some() && may_be_complete && self.target.is_there().await {
                    return Ok(Outcome::Transferred);
                }
            }
            self.is_offset_unknown = self.session.is_some();
            self.has_broken |= kind == FaultKind::Broken;
            self.next_bytes = self.probe_bytes;
        }
    }

    /// Judges a fault by what is known of the registry.
    fn kind(&mut self, fault: &Fault) -> FaultKind {
        let is_tls = matches!(fault.error, ClientError::Tls { .. });
        let kind = fault.kind;
        match kind {
            FaultKind::Broken if is_tls && !self.registry.is_reached.load(Ordering::Relaxed) => {
                FaultKind::Final
            }
            // The registry takes a chunk, and knows nothing of the session afterwards.
            FaultKind::Lost if !self.is_whole && !self.has_broken => {
                self.lost_sessions += 1;
                if self.lost_sessions > 1 { FaultKind::Unsupported } else { FaultKind::Lost }
            }
            FaultKind::OutOfOrder => {
                // After a break, an earlier request may still write, and the registry refuses others.
                let is_writing = self.has_broken && fault.headers.is_some();
                self.contradictions += u32::from(!is_writing);
                if self.contradictions > 1 { FaultKind::Unsupported } else { kind }
            }
            _ => kind,
        }
    }

    /// Makes the next request. Returns the outcome after the last one.
    async fn step(&mut self) -> Result<Option<Outcome>, Fault> {
        let Some(session) = self.session.clone() else {
            return Ok(self.begin().await?.then_some(Outcome::Mounted));
        };
        if self.is_offset_unknown {
            self.ask(session).await?;
        } else if self.is_whole {
            return self.finish(session, 0..self.blob.size).await.map(Some);
        } else if self.offset < self.blob.size {
            self.append(session).await?;
        } else {
            return self.finish(session, self.offset..self.offset).await.map(Some);
        }
        Ok(None)
    }

    /// Opens a session. Returns true if the registry mounted the blob instead.
    async fn begin(&mut self) -> Result<bool, Fault> {
        let from = self.from.filter(|_| self.mount_failures < MAX_MOUNT_FAILURES);
        let answer = self.target.request_session(from).await?;
        if retry::is_transient(answer.status()) {
            self.mount_failures += 1;
            return Err(self.refusal(answer).await);
        }
        let Some(opened) = self.target.opened(answer, from.is_some()).await? else { return Ok(true) };
        self.registry.is_reached.store(true, Ordering::Relaxed);
        self.chunk_bytes = self.registry.chunk_bytes.max(opened.min_chunk_bytes.min(MAX_CHUNK_BYTES));
        self.probe_bytes = opened.min_chunk_bytes.clamp(PROBE_BYTES, self.chunk_bytes);
        self.is_whole =
            self.blob.size <= self.chunk_bytes || self.registry.refuses_chunks.load(Ordering::Relaxed);
        (self.has_broken, self.contradictions, self.next_bytes) = (false, 0, self.chunk_bytes);
        self.session = Some(opened.url);
        self.set_offset(0);
        Ok(false)
    }

    /// Takes the number of bytes that the session has, and shows it.
    fn set_offset(&mut self, offset: u64) {
        self.offset = offset;
        self.is_offset_unknown = false;
        self.progress.begin(self.blob);
        self.progress.advance(self.blob, offset);
    }

    /// Asks for the number of bytes that the session has.
    async fn ask(&mut self, session: Url) -> Result<(), Fault> {
        let call = self.target.call(Method::GET, session.clone());
        let mut answer = self.client.send(&call).await?;
        for wait in EMPTY_SESSION_WAITS {
            let is_empty = answer.status().is_success() && received_bytes(answer.headers()).is_none();
            if !is_empty || !self.has_broken {
                break;
            }
            tokio::time::sleep(wait).await;
            answer = self.client.send(&call).await?;
        }
        match answer.status() {
            StatusCode::NO_CONTENT | StatusCode::OK | StatusCode::ACCEPTED => {
                let received = received_bytes(answer.headers());
                self.session = Some(self.target.location(&answer)?.unwrap_or_else(|| session.clone()));
                let reason = match received {
                    Some(offset) if offset <= self.blob.size => {
                        self.attempts.received(offset);
                        self.set_offset(offset);
                        return Ok(());
                    }
                    Some(_) => "the session has more bytes than were sent",
                    None => "the session has no bytes",
                };
                self.discard().await;
                Err(Fault::new(FaultKind::Lost, self.target.protocol(reason)))
            }
            status if retry::is_transient(status) => Err(self.refusal(answer).await),
            _ => Err(Fault::new(FaultKind::Lost, request::failure(&self.target.what, answer).await)),
        }
    }

    /// Sends the next chunk.
    async fn append(&mut self, session: Url) -> Result<(), Fault> {
        let range = self.offset..self.blob.size.min(self.offset + self.next_bytes);
        let answer = self.send(Method::PATCH, session.clone(), range.clone()).await?;
        if !matches!(answer.status(), StatusCode::ACCEPTED | StatusCode::NO_CONTENT | StatusCode::CREATED) {
            return Err(self.refusal(answer).await);
        }
        let received = received_bytes(answer.headers()).unwrap_or(range.end);
        if received <= range.start || received > range.end {
            let reason =
                format!("sent bytes {} to {}, and the session has {received}", range.start, range.end);
            let is_refusal = received <= range.start && !self.has_broken;
            let kind = if is_refusal { FaultKind::Unsupported } else { FaultKind::OutOfOrder };
            return Err(Fault::new(kind, self.target.protocol(reason)));
        }
        self.session = Some(self.target.location(&answer)?.unwrap_or(session));
        self.offset = received;
        (self.contradictions, self.next_bytes) = (0, self.chunk_bytes);
        self.attempts.received(received);
        Ok(())
    }

    /// Completes the blob with these bytes, which may be none.
    async fn finish(&mut self, session: Url, range: Range<u64>) -> Result<Outcome, Fault> {
        let answer = self.send(Method::PUT, self.target.completing(&session), range).await?;
        match answer.status() {
            StatusCode::CREATED => Ok(Outcome::Transferred),
            _ => Err(self.refusal(answer).await),
        }
    }

    /// Sends bytes of the blob: at most as many as a chunk has, or all.
    async fn send(&mut self, method: Method, url: Url, range: Range<u64>) -> Result<Response, Fault> {
        let mut call = self.target.call(method, url);
        if range.is_empty() {
            return Ok(self.client.send(&call).await?);
        }
        call.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        if range == (0..self.blob.size) && self.blob.size > self.chunk_bytes {
            let failure = SourceFailure::default();
            let open = |counter| {
                let source = Source::new(self.content.clone(), self.blob.clone());
                Ok(self.body(source.pieces(failure.clone()), counter))
            };
            call.payload = Payload::Stream(&open, self.blob.size);
            let result = self.client.send(&call).await;
            // A source that fails breaks the connection, so its error is the reason.
            return match (result, failure.take()) {
                (Err(_), Some(source)) => Err(self.source_fault(source)),
                (result, _) => Ok(result?),
            };
        }
        let chunk = self.read(range.clone()).await.map_err(|source| self.source_fault(source))?;
        if call.method == Method::PATCH {
            let bytes = format!("{}-{}", range.start, range.end - 1);
            call.headers.insert(CONTENT_RANGE, HeaderValue::try_from(bytes).expect("digits are ASCII"));
        }
        let open = |counter| Ok(self.body(stream::iter(source::pieces_of(chunk.clone())), counter));
        call.payload = Payload::Stream(&open, chunk.len() as u64);
        Ok(self.client.send(&call).await?)
    }

    /// Streams pieces, and reports their progress.
    fn body(
        &self,
        pieces: impl Stream<Item = Result<Bytes, String>> + Send + 'static,
        counter: Arc<AtomicU64>,
    ) -> reqwest::Body {
        let (progress, blob) = (self.progress.clone(), self.blob.clone());
        reqwest::Body::wrap_stream(pieces.inspect(move |piece| {
            let bytes = piece.as_ref().map_or(0, |piece| piece.len() as u64);
            counter.fetch_add(bytes, Ordering::Relaxed);
            progress.advance(&blob, bytes);
        }))
    }

    async fn read(&mut self, range: Range<u64>) -> Result<Bytes, BoxError> {
        let source = self.source.take().expect("each read gives the source back");
        let (source, result) = source.read_on_thread(range).await?;
        self.source = Some(source);
        result
    }

    fn source_fault(&self, source: BoxError) -> Fault {
        let digest = self.blob.digest.clone();
        Fault::new(FaultKind::Final, ClientError::Source { digest, source })
    }

    /// Discards the session, which would else take place at the registry until it ends. A failure does not matter.
    async fn discard(&mut self) {
        let Some(session) = self.session.take() else { return };
        let call = self.target.call(Method::DELETE, session);
        let _ = tokio::time::timeout(DISCARD_TIMEOUT, self.client.send(&call)).await;
    }

    /// Judges an answer that is not the wanted one.
    async fn refusal(&self, answer: Response) -> Fault {
        let (status, headers) = (answer.status(), answer.headers().clone());
        let session =
            SessionState { is_whole: self.is_whole, is_empty: self.offset == 0, has_broken: self.has_broken };
        let error = request::failure(&self.target.what, answer).await;
        Fault { kind: FaultKind::of_refusal(status, session), error, headers: Some(headers) }
    }
}

impl Drop for ChunkedUpload<'_> {
    fn drop(&mut self) {
        if let Some(url) = self.session.take() {
            let (endpoint, repository) = (self.target.endpoint.clone(), self.target.repository.clone());
            self.registry.abandon(AbandonedSession { endpoint, repository, url });
        }
    }
}

/// Returns the number of bytes that a session has. Registries send `0-0` for an empty session, so that this and one byte
/// give `None`.
fn received_bytes(headers: &HeaderMap) -> Option<u64> {
    headers::received_range(text(headers, RANGE.as_str())?).filter(|bytes| *bytes > 1)
}

#[cfg(test)]
mod tests;
