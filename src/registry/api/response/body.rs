//! What answers are made of: content in pieces, read when the socket takes them; JSON; nothing.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};
use http_body::{Frame, SizeHint};
use quinistry_http::memory_budget::{PERMIT_TIMEOUT, Permit, RESPONSES, UNBUDGETED_BYTES, with_permit};
use quinistry_oci::segments::{Pieces, Segments};
use tokio::task::JoinHandle;

use super::error::Error;

/// Where content is read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    /// Memory, or the file that is being executed: reading it never waits for a disk.
    Memory,
    /// Somebody's disk: whoever reads it may have to wait, and does so elsewhere.
    Disk,
}

/// The body that sends `segments`.
pub(crate) fn from_segments(segments: &Segments, from: From) -> Body {
    if let Some(bytes) = segments.as_bytes() {
        return Body::from(bytes.clone());
    }
    let (pieces, left) = (segments.pieces(), segments.len());
    match from {
        From::Memory => Body::new(SegmentsBody { pieces, left }),
        From::Disk => Body::new(DiskBody { reading: Reading::Idle(pieces), left }),
    }
}

/// A 200 with `document` as its body.
pub(crate) fn json<T: serde::Serialize>(document: &T) -> Response {
    json_of(quinistry_oci::to_json(document).into())
}

fn json_of(bytes: Bytes) -> Response {
    let mut response = Response::new(Body::from(bytes));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Responds 200 with `document` as the body, when there is room for it in memory.
pub(crate) async fn json_with_room<T: serde::Serialize>(document: &T) -> Result<Response, Error> {
    let mut bytes = Bytes::from(quinistry_oci::to_json(document));
    if bytes.len() > UNBUDGETED_BYTES {
        let share = RESPONSES.acquire(bytes.len(), PERMIT_TIMEOUT).await.ok_or(Error::Crowded)?;
        bytes = with_permit(bytes, share);
    }
    Ok(json_of(bytes))
}

/// Returns an empty response with `Content-Length: 0`, or without one where a 204 must have none (RFC 9110,
/// 8.6).
pub(crate) fn empty(status: StatusCode) -> Response {
    let has_length = status != StatusCode::NO_CONTENT;
    let mut response = Response::new(if has_length { Body::empty() } else { none() });
    *response.status_mut() = status;
    if has_length {
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    response
}

/// No body, nor a length: axum writes a `Content-Length` wherever it knows one, but in an answer that has none to
/// give, as a 304 (RFC 9110, 8.6), "0" would be wrong.
pub(crate) fn none() -> Body {
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

/// Bounds the next piece by the room that there is for it, and takes that room.
fn limit(pieces: &mut Pieces, left: u64) -> Option<Permit> {
    let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(Pieces::LONGEST);
    let part = if wanted > UNBUDGETED_BYTES { RESPONSES.try_acquire_part(wanted) } else { None };
    pieces.limit(part.as_ref().map_or(UNBUDGETED_BYTES, |(part, _)| *part));
    part.map(|(_, share)| share)
}

/// Returns a piece that holds its share until it is sent.
fn charged(piece: Bytes, share: Option<Permit>) -> Bytes {
    match share {
        Some(share) if piece.len() > UNBUDGETED_BYTES => with_permit(piece, share),
        _ => piece,
    }
}

struct SegmentsBody {
    pieces: Pieces,
    left: u64,
}

impl http_body::Body for SegmentsBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let left = self.left;
        let share = limit(&mut self.pieces, left);
        let next = self.pieces.next();
        if let Some(Err(error)) = &next {
            // The connection is cut off: half a blob must not look like a whole one.
            tracing::error!(%error, "failed to read the running executable");
        }
        self.left -=
            next.as_ref().and_then(|piece| piece.as_ref().ok()).map_or(0, |piece| piece.len() as u64);
        Poll::Ready(next.map(|piece| piece.map(|piece| Frame::data(charged(piece, share)))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// Content that is read piece by piece where waiting does no harm.
struct DiskBody {
    reading: Reading,
    left: u64,
}

impl DiskBody {
    fn hand_over(
        &mut self,
        pieces: Pieces,
        piece: Option<io::Result<Bytes>>,
        share: Option<Permit>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match piece {
            Some(Ok(piece)) => {
                self.reading = Reading::Idle(pieces);
                self.left -= piece.len() as u64;
                Poll::Ready(Some(Ok(Frame::data(charged(piece, share)))))
            }
            Some(Err(error)) => failed(error),
            None => failed(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// The connection is cut off: half a blob must not look like a whole one.
fn failed<T>(error: io::Error) -> Poll<Option<Result<T, io::Error>>> {
    tracing::error!(%error, "failed to read a blob");
    Poll::Ready(Some(Err(error)))
}

enum Reading {
    Idle(Pieces),
    Busy(JoinHandle<(Pieces, Option<io::Result<Bytes>>, Option<Permit>)>),
    Over,
}

impl http_body::Body for DiskBody {
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
            // What was read lately is in memory, and a thread of its own would cost more than to copy it.
            Reading::Idle(mut pieces) => {
                let share = limit(&mut pieces, self.left);
                match pieces.poll_at_hand() {
                    Poll::Ready(piece) => return self.hand_over(pieces, piece, share),
                    Poll::Pending => tokio::task::spawn_blocking(move || {
                        let piece = pieces.next();
                        (pieces, piece, share)
                    }),
                }
            }
        };
        let Poll::Ready(read) = Pin::new(&mut handle).poll(cx) else {
            self.reading = Reading::Busy(handle);
            return Poll::Pending;
        };
        match read {
            Ok((pieces, piece, share)) => self.hand_over(pieces, piece, share),
            Err(error) => failed(io::Error::other(error)),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
