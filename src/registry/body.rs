//! What answers are made of: content in pieces, read when the socket takes them; JSON; nothing.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use http_body::{Frame, SizeHint};

use crate::quine::{Pieces, Segments};

/// The body that sends `segments`.
pub(super) fn from_segments(segments: &Segments) -> Body {
    if let Some(bytes) = segments.as_bytes() {
        return Body::from(bytes.clone());
    }
    Body::new(SegmentsBody { left: segments.len(), pieces: segments.pieces() })
}

/// A 200 with `document` as its body.
pub(super) fn json<T: serde::Serialize>(document: &T) -> Response {
    let mut response = Response::new(Body::from(crate::oci::to_json(document)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// No body, nor a length: axum writes a `Content-Length` wherever it knows one, but in an answer that has none to
/// give, as a 304 (RFC 9110, 8.6), "0" would be wrong.
pub(super) fn none() -> Body {
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
        let next = self.pieces.next();
        if let Some(Err(error)) = &next {
            // The connection is cut off: half a blob must not look like a whole one.
            tracing::error!(%error, "failed to read the running executable");
        }
        self.left -=
            next.as_ref().and_then(|piece| piece.as_ref().ok()).map_or(0, |piece| piece.len() as u64);
        Poll::Ready(next.map(|piece| piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
