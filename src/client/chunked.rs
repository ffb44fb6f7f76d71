//! Upload of a blob in chunks, which goes on where a connection broke. distribution-spec, section Pushing a Blob in
//! Chunks.
//!
//! After a break the registry is asked how many bytes the session has, so that each break repeats one chunk at most.

mod attempts;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::stream;
use quinistry_oci::{Content, Descriptor, Hasher, RepositoryName};
use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue, RANGE};
use reqwest::{Method, Response, StatusCode, Url};

use self::attempts::Attempts;
use super::manifest::text;
use super::request::{self, Payload};
use super::upload::BlobTarget;
use super::{BoxError, Client, ClientError, Outcome, Progress, headers, retry};

/// Length of a chunk, in bytes; a shorter blob is sent whole. A break costs one chunk at most, and each chunk costs a
/// round trip and a flush of the registry.
pub(super) const CHUNK_BYTES: u64 = 8 * 1024 * 1024;
/// Greatest length of a chunk that a registry can ask for. Chunks are in memory.
const MAX_CHUNK_BYTES: u64 = 64 * 1024 * 1024;
/// Length of the pieces of a chunk after which progress is reported, in bytes.
const PIECE_BYTES: usize = 256 * 1024;

/// Upload of a blob whose content can be read at an offset.
pub(super) struct ChunkedUpload<'a> {
    client: &'a Client,
    target: &'a BlobTarget<'a>,
    blob: &'a Descriptor,
    /// Repository of the same registry that has the blob.
    from: Option<&'a RepositoryName>,
    progress: Arc<dyn Progress>,
    source: Option<Source>,
    session: Option<Url>,
    chunk_bytes: u64,
    /// Number of bytes that the session has, as far as the registry has said.
    offset: u64,
    /// True if a request broke, so that the registry must be asked for the number of bytes.
    is_offset_unknown: bool,
    attempts: Attempts,
}

/// Content of a blob, which is hashed while it is read for the first time.
struct Source {
    content: Content,
    blob: Descriptor,
    /// Hasher of the first `hashed` bytes; `None` once the digest of all bytes was found to be right.
    hasher: Option<Hasher>,
    hashed: u64,
    /// Bytes that were read last, and their place.
    chunk: (Range<u64>, Bytes),
}

/// Reason why a step did not succeed.
enum Fault {
    /// Another attempt cannot help.
    Final(ClientError),
    /// The connection broke, or the registry is overloaded: the session goes on. The registry may say when.
    Broken(ClientError, Option<HeaderMap>),
    /// The registry does not know the session, or refuses to continue it.
    Lost(ClientError),
    /// The registry has another number of bytes than was expected, or an earlier request still writes.
    OutOfOrder(ClientError),
}

impl From<ClientError> for Fault {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Connect { .. } | ClientError::Timeout { .. } | ClientError::Broken { .. } => {
                Self::Broken(error, None)
            }
            error => Self::Final(error),
        }
    }
}

// === impl ChunkedUpload ===

impl<'a> ChunkedUpload<'a> {
    pub(super) fn new(
        client: &'a Client,
        (target, blob): (&'a BlobTarget<'a>, &'a Descriptor),
        content: Content,
        from: Option<&'a RepositoryName>,
        progress: Arc<dyn Progress>,
    ) -> Self {
        Self {
            client,
            target,
            blob,
            from,
            progress,
            source: Some(Source::new(content, blob.clone())),
            session: None,
            chunk_bytes: CHUNK_BYTES,
            offset: 0,
            is_offset_unknown: false,
            attempts: Attempts::default(),
        }
    }

    /// Uploads the blob, or lets the registry mount it.
    pub(super) async fn run(mut self) -> Result<Outcome, ClientError> {
        loop {
            let fault = match self.step().await {
                Ok(Some(outcome)) => return Ok(outcome),
                Ok(None) => continue,
                Err(fault) => fault,
            };
            let is_lost = matches!(fault, Fault::Lost(_)) || self.is_sent_whole();
            let (wait, error) = match fault {
                Fault::Final(error) => return Err(error),
                Fault::Broken(error, headers) => (self.attempts.broken(headers.as_ref()), error),
                Fault::OutOfOrder(error) => (self.attempts.out_of_order(), error),
                Fault::Lost(error) => (self.attempts.broken(None), error),
            };
            if is_lost {
                // The registry may have completed the blob, although its answer was lost.
                let is_complete = self.is_sent_whole() || self.offset == self.blob.size;
                if is_complete && self.session.is_some() && self.target.is_there().await {
                    return Ok(Outcome::Transferred);
                }
                self.session = None;
            }
            self.is_offset_unknown = self.session.is_some();
            tokio::time::sleep(wait.ok_or(error)?).await;
        }
    }

    /// Makes the next request. Returns the outcome after the last one.
    async fn step(&mut self) -> Result<Option<Outcome>, Fault> {
        let Some(session) = self.session.clone() else {
            return Ok(self.begin().await?.then_some(Outcome::Mounted));
        };
        if self.is_offset_unknown {
            self.ask(session).await?;
        } else if self.is_sent_whole() {
            return self.finish(session, 0..self.blob.size).await.map(Some);
        } else if self.offset < self.blob.size {
            self.append(session).await?;
        } else {
            return self.finish(session, self.offset..self.offset).await.map(Some);
        }
        Ok(None)
    }

    /// Opens a session. Returns true if the registry mounted the blob instead.
    async fn begin(&mut self) -> Result<bool, ClientError> {
        let Some(opened) = self.target.open_session(self.from).await? else { return Ok(true) };
        self.chunk_bytes = CHUNK_BYTES.max(opened.min_chunk_bytes.min(MAX_CHUNK_BYTES));
        self.session = Some(opened.url);
        self.set_offset(0);
        Ok(false)
    }

    /// Returns true if one request has the whole blob.
    fn is_sent_whole(&self) -> bool {
        self.blob.size <= self.chunk_bytes
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
        let answer = self.client.send(&self.target.call(Method::GET, session.clone())).await?;
        match answer.status() {
            StatusCode::NO_CONTENT | StatusCode::OK | StatusCode::ACCEPTED => {
                let received = received_bytes(answer.headers());
                self.session = Some(self.target.location(&answer)?.unwrap_or_else(|| session.clone()));
                match received {
                    Some(offset) if offset > self.blob.size => {
                        let error = self.target.protocol("the session has more bytes than were sent");
                        self.discard(session).await;
                        Err(Fault::Lost(error))
                    }
                    Some(offset) => {
                        self.attempts.received(offset);
                        self.set_offset(offset);
                        Ok(())
                    }
                    None => {
                        let error = self.target.protocol("the session has no bytes");
                        self.discard(session).await;
                        Err(Fault::Lost(error))
                    }
                }
            }
            status if retry::is_transient(status) => Err(self.refusal(answer).await),
            _ => Err(Fault::Lost(request::failure(&self.target.what, answer).await)),
        }
    }

    /// Sends the next chunk.
    async fn append(&mut self, session: Url) -> Result<(), Fault> {
        let range = self.offset..self.blob.size.min(self.offset + self.chunk_bytes);
        let answer = self.send(Method::PATCH, session.clone(), range.clone()).await?;
        if !matches!(answer.status(), StatusCode::ACCEPTED | StatusCode::NO_CONTENT | StatusCode::CREATED) {
            return Err(self.refusal(answer).await);
        }
        let received = received_bytes(answer.headers()).unwrap_or(range.end);
        if received <= range.start || received > range.end {
            let reason =
                format!("sent bytes {} to {}, and the session has {received}", range.start, range.end);
            return Err(Fault::OutOfOrder(self.target.protocol(reason)));
        }
        self.session = Some(self.target.location(&answer)?.unwrap_or(session));
        self.offset = received;
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

    /// Sends bytes of the blob.
    async fn send(&mut self, method: Method, url: Url, range: Range<u64>) -> Result<Response, Fault> {
        let mut call = self.target.call(method, url);
        call.is_repeatable = false;
        if range.is_empty() {
            return Ok(self.client.send(&call).await?);
        }
        let chunk = self.read(range.clone()).await.map_err(|source| {
            Fault::Final(ClientError::Source { digest: self.blob.digest.clone(), source })
        })?;
        call.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        if call.method == Method::PATCH {
            let bytes = format!("{}-{}", range.start, range.end - 1);
            call.headers.insert(CONTENT_RANGE, HeaderValue::try_from(bytes).expect("digits are ASCII"));
        }
        let open = |counter| Ok(self.body(chunk.clone(), counter));
        call.payload = Payload::Stream(&open, chunk.len() as u64);
        Ok(self.client.send(&call).await?)
    }

    /// Streams a chunk, and reports its progress.
    fn body(&self, chunk: Bytes, counter: Arc<AtomicU64>) -> reqwest::Body {
        let (progress, blob) = (self.progress.clone(), self.blob.clone());
        reqwest::Body::wrap_stream(stream::iter(std::iter::from_fn({
            let mut rest = chunk;
            move || {
                let piece = rest.split_to(rest.len().min(PIECE_BYTES));
                if piece.is_empty() {
                    return None;
                }
                counter.fetch_add(piece.len() as u64, Ordering::Relaxed);
                progress.advance(&blob, piece.len() as u64);
                Some(Ok::<_, std::io::Error>(piece))
            }
        })))
    }

    /// Reads a chunk on a thread that may block: the archive may be on a slow stick.
    async fn read(&mut self, range: Range<u64>) -> Result<Bytes, BoxError> {
        let mut source = self.source.take().expect("each read gives the source back");
        let (source, result) = tokio::task::spawn_blocking(move || {
            let result = source.read(range);
            (source, result)
        })
        .await?;
        self.source = Some(source);
        result
    }

    /// Discards the session, which would else take place at the registry until it ends. A failure does not matter.
    async fn discard(&self, session: Url) {
        let mut call = self.target.call(Method::DELETE, session);
        call.is_repeatable = false;
        let _ = self.client.send(&call).await;
    }

    /// Judges an answer that is not the wanted one.
    async fn refusal(&self, answer: Response) -> Fault {
        let (status, headers) = (answer.status(), answer.headers().clone());
        let error = request::failure(&self.target.what, answer).await;
        match status {
            status if retry::is_transient(status) => Fault::Broken(error, Some(headers)),
            StatusCode::NOT_FOUND | StatusCode::GONE => Fault::Lost(error),
            StatusCode::RANGE_NOT_SATISFIABLE => Fault::OutOfOrder(error),
            _ => Fault::Final(error),
        }
    }
}

/// Returns the number of bytes that a session has. Registries send `0-0` for an empty session, so that this and one byte
/// give `None`.
fn received_bytes(headers: &HeaderMap) -> Option<u64> {
    headers::received_range(text(headers, RANGE.as_str())?).filter(|bytes| *bytes > 1)
}

// === impl Source ===

impl Source {
    fn new(content: Content, blob: Descriptor) -> Self {
        let hasher = Some(Hasher::new(blob.digest.algorithm()));
        Self { content, blob, hasher, hashed: 0, chunk: (0..0, Bytes::new()) }
    }

    /// Reads bytes. Fails instead of giving out the last ones if the content does not match the digest.
    fn read(&mut self, range: Range<u64>) -> Result<Bytes, BoxError> {
        let (place, chunk) = &self.chunk;
        if place.start <= range.start && range.end <= place.end {
            let at = |offset: u64| usize::try_from(offset - place.start).expect("a chunk is in memory");
            return Ok(chunk.slice(at(range.start)..at(range.end)));
        }
        self.hash_up_to(range.start)?;
        let bytes = self.content.slice(range.clone()).to_bytes()?;
        let unhashed = usize::try_from(self.hashed.saturating_sub(range.start))?.min(bytes.len());
        self.take(&bytes[unhashed..])?;
        self.chunk = (range, bytes.clone());
        Ok(bytes)
    }

    /// Hashes bytes that the registry has and this program has not read, such as those of an earlier attempt.
    fn hash_up_to(&mut self, end: u64) -> Result<(), BoxError> {
        while self.hasher.is_some() && self.hashed < end {
            let piece = self.hashed..end.min(self.hashed + CHUNK_BYTES);
            let bytes = self.content.slice(piece).to_bytes()?;
            self.take(&bytes)?;
        }
        Ok(())
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), BoxError> {
        let Some(hasher) = &mut self.hasher else { return Ok(()) };
        hasher.update(bytes);
        self.hashed += bytes.len() as u64;
        if self.hashed == self.blob.size {
            let actual = self.hasher.take().map(Hasher::finish);
            if let Some(actual) = actual.filter(|actual| *actual != self.blob.digest) {
                return Err(format!(
                    "content does not match its digest: got {actual}; copy the archive again"
                )
                .into());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(bytes: &'static [u8]) -> Source {
        let blob = Descriptor::of("x", b"0123456789");
        Source::new([Bytes::from_static(bytes)].into(), blob)
    }

    #[test]
    fn content_is_hashed_once_in_whatever_order_it_is_read() {
        let mut good = source(b"0123456789");
        for (range, bytes) in [(0..4, "0123"), (2..4, "23"), (4..8, "4567"), (1..9, "12345678"), (9..10, "9")]
        {
            assert_eq!(good.read(range).unwrap(), bytes);
        }
        assert!(good.hasher.is_none(), "the digest was found to be right");
        assert_eq!(good.read(0..10).unwrap(), "0123456789");
    }

    #[test]
    fn the_last_bytes_of_wrong_content_are_not_given_out() {
        let mut bad = source(b"0123456788");
        assert!(bad.read(0..9).is_ok());
        let error = bad.read(9..10).unwrap_err().to_string();
        assert!(error.ends_with("copy the archive again"), "{error}");
        let mut skipped = source(b"0123x56789");
        assert!(skipped.read(8..10).is_err(), "bytes of an earlier attempt count");
    }
}
