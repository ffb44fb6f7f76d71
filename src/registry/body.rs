//! What answers are made of: shared segments, of which nothing is copied on the way to the socket; JSON; nothing.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use http_body::{Frame, SizeHint};

use crate::quine::Segments;

/// The body that sends `segments`.
pub(super) fn from_segments(segments: Segments) -> Body {
    let mut pieces = segments.into_iter();
    match (pieces.next(), pieces.next()) {
        (None, _) => Body::empty(),
        (Some(one), None) => Body::from(one),
        (Some(first), Some(second)) => {
            let rest: Vec<Bytes> = [first, second].into_iter().chain(pieces).collect();
            Body::new(SegmentsBody {
                left: rest.iter().map(|piece| piece.len() as u64).sum(),
                rest: rest.into_iter(),
            })
        }
    }
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
    rest: std::vec::IntoIter<Bytes>,
    left: u64,
}

impl http_body::Body for SegmentsBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = self.rest.next();
        self.left -= next.as_ref().map_or(0, |piece| piece.len() as u64);
        Poll::Ready(next.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
