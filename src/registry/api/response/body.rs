//! Bodies of responses: content that is read piece by piece as the client reads, JSON documents, and no body.

use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};
use http_body::{Frame, SizeHint};
use quinistry_http::memory_budget::{PERMIT_TIMEOUT, Permit, RESPONSES, UNBUDGETED_BYTES, with_permit};
use quinistry_http::{FileSender, SentFile};
use quinistry_oci::{Chunks, Content, ReadAt, WithCauses};
use tokio::task::JoinHandle;

use super::error::Error;

/// Cost of reading content, which decides on which thread it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadCost {
    /// Content in memory, or in the file of the running executable: reading it never waits for a disk.
    Immediate,
    /// Content on a disk: reading it may wait, so that a thread that may block reads it.
    MayBlock,
}

/// Makes the body that sends `content`: parts of files by `files`, if the connection of the response can send
/// them.
pub(crate) fn content(content: &Content, read_cost: ReadCost, files: Option<&FileSender>) -> Body {
    if let Some(bytes) = content.as_bytes() {
        return Body::from(bytes.clone());
    }
    let (pieces, left, files) = (content.chunks(), content.len(), files.cloned());
    match read_cost {
        ReadCost::Immediate => Body::new(ImmediateBody { pieces, left, files }),
        ReadCost::MayBlock => Body::new(BlockingBody { reading: Reading::Idle(pieces), left, files }),
    }
}

/// File of a content.
#[derive(Debug)]
struct ContentFile(Arc<dyn ReadAt>);

impl SentFile for ContentFile {
    fn file(&self) -> &File {
        self.0.as_file().expect("only a source that has a file becomes one")
    }

    fn check(&self) -> io::Result<()> {
        self.0.check_unchanged()
    }
}

/// Has the connection send the next part of a file. Returns the bytes that stand for the part; `None` if what
/// follows must be read.
fn send_file(pieces: &mut Chunks, files: Option<&FileSender>) -> Option<Bytes> {
    let files = files?;
    pieces.take_file(FileSender::MAX_PIECE_BYTES, |source, range| {
        files.send(Arc::new(ContentFile(source.clone())), range)
    })
}

/// Responds 200 with `document` as the body.
pub(crate) fn json<T: serde::Serialize>(document: &T) -> Response {
    json_response(quinistry_oci::to_json(document).into())
}

fn json_response(bytes: Bytes) -> Response {
    let length = bytes.len();
    let mut response = Response::new(Body::from(bytes));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CONTENT_LENGTH, length.into());
    response
}

/// Responds 200 with `document` as the body, once the memory budget permits it.
pub(crate) async fn json_within_budget<T: serde::Serialize>(document: &T) -> Result<Response, Error> {
    let mut bytes = Bytes::from(quinistry_oci::to_json(document));
    if bytes.len() > UNBUDGETED_BYTES {
        let permit = RESPONSES.acquire(bytes.len(), PERMIT_TIMEOUT).await.ok_or(Error::TooManyResponses)?;
        bytes = with_permit(bytes, permit);
    }
    Ok(json_response(bytes))
}

/// Returns an empty response with `Content-Length: 0`, or without one where a 204 must have none (RFC 9110,
/// 8.6).
pub(crate) fn empty(status: StatusCode) -> Response {
    let has_length = status != StatusCode::NO_CONTENT;
    let mut response = Response::new(if has_length { Body::empty() } else { no_body() });
    *response.status_mut() = status;
    if has_length {
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    response
}

/// Makes a body without content and without a length. axum sends a `Content-Length` wherever it knows one,
/// but "0" would be wrong in a response such as 304, whose length is that of another response (RFC 9110,
/// 8.6).
pub(crate) fn no_body() -> Body {
    Body::new(NoBody)
}

struct NoBody;

impl http_body::Body for NoBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        true
    }
}

/// Bounds the next piece by the free memory budget, and acquires that much of it.
fn limit_next_piece(pieces: &mut Chunks, left: u64) -> Option<Permit> {
    let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(Chunks::MAX_CHUNK_BYTES);
    let part = if wanted > UNBUDGETED_BYTES { RESPONSES.try_acquire_part(wanted) } else { None };
    pieces.limit(part.as_ref().map_or(UNBUDGETED_BYTES, |(part, _)| *part));
    part.map(|(_, permit)| permit)
}

/// Returns a piece that holds its permit until it is sent.
fn holding(piece: Bytes, permit: Option<Permit>) -> Bytes {
    match permit {
        Some(permit) if piece.len() > UNBUDGETED_BYTES => with_permit(piece, permit),
        _ => piece,
    }
}

struct ImmediateBody {
    pieces: Chunks,
    left: u64,
    files: Option<FileSender>,
}

impl http_body::Body for ImmediateBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = &mut *self;
        if let Some(piece) = send_file(&mut this.pieces, this.files.as_ref()) {
            this.left -= piece.len() as u64;
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        let permit = limit_next_piece(&mut this.pieces, this.left);
        let next = this.pieces.next();
        if let Some(Err(error)) = &next {
            // The connection is cut off, so that half a blob does not look like a whole one.
            tracing::error!(%error, "failed to read running executable, response cut off");
        }
        this.left -=
            next.as_ref().and_then(|piece| piece.as_ref().ok()).map_or(0, |piece| piece.len() as u64);
        Poll::Ready(next.map(|piece| piece.map(|piece| Frame::data(holding(piece, permit)))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// Body whose pieces are read on a thread that may block.
struct BlockingBody {
    reading: Reading,
    left: u64,
    files: Option<FileSender>,
}

impl BlockingBody {
    fn yield_piece(
        &mut self,
        pieces: Chunks,
        piece: Option<io::Result<Bytes>>,
        permit: Option<Permit>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match piece {
            Some(Ok(piece)) => {
                self.reading = Reading::Idle(pieces);
                self.left -= piece.len() as u64;
                Poll::Ready(Some(Ok(Frame::data(holding(piece, permit)))))
            }
            Some(Err(error)) => cut_off(error),
            None => cut_off(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// Fails the body, so that the connection is cut off and half a blob does not look like a whole one.
fn cut_off<T>(error: io::Error) -> Poll<Option<Result<T, io::Error>>> {
    tracing::error!(error = %WithCauses(&error), "failed to read blob, response cut off");
    Poll::Ready(Some(Err(error)))
}

enum Reading {
    Idle(Chunks),
    Busy(JoinHandle<(Chunks, Option<io::Result<Bytes>>, Option<Permit>)>),
    Over,
}

impl http_body::Body for BlockingBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let mut handle = match std::mem::replace(&mut self.reading, Reading::Over) {
            Reading::Over => return Poll::Ready(None),
            Reading::Busy(handle) => handle,
            // Content that was read recently is in the page cache, and a copy costs less than another thread.
            Reading::Idle(mut pieces) => {
                if let Some(piece) = send_file(&mut pieces, self.files.as_ref()) {
                    return self.yield_piece(pieces, Some(Ok(piece)), None);
                }
                let permit = limit_next_piece(&mut pieces, self.left);
                match pieces.try_next() {
                    Poll::Ready(piece) => return self.yield_piece(pieces, piece, permit),
                    Poll::Pending => tokio::task::spawn_blocking(move || {
                        let piece = pieces.next();
                        (pieces, piece, permit)
                    }),
                }
            }
        };
        let Poll::Ready(read) = Pin::new(&mut handle).poll(cx) else {
            self.reading = Reading::Busy(handle);
            return Poll::Pending;
        };
        match read {
            Ok((pieces, piece, permit)) => self.yield_piece(pieces, piece, permit),
            Err(error) => cut_off(io::Error::other(error)),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
