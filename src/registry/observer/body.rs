//! Bodies that tell how many bytes went through them.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};

use super::Observation;

type PolledFrame = Poll<Option<Result<Frame<Bytes>, axum::Error>>>;

fn data_bytes(frame: &Frame<Bytes>) -> usize {
    frame.data_ref().map_or(0, Bytes::len)
}

/// Body of a request.
#[derive(Debug)]
pub(super) struct ReceivedBody {
    body: Body,
    received: Arc<AtomicU64>,
}

impl ReceivedBody {
    pub(super) fn new(body: Body, received: Arc<AtomicU64>) -> Self {
        Self { body, received }
    }
}

impl http_body::Body for ReceivedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> PolledFrame {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame {
            self.received.fetch_add(data_bytes(frame) as u64, Ordering::Relaxed);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Body of an answer. Dropping it ends the observation.
#[derive(Debug)]
pub(super) struct SentBody {
    body: Body,
    observation: Observation,
}

impl SentBody {
    pub(super) fn new(body: Body, mut observation: Observation) -> Self {
        if body.is_end_stream() {
            observation.complete();
        }
        Self { body, observation }
    }
}

impl http_body::Body for SentBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> PolledFrame {
        let this = &mut *self;
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame {
            this.observation.sent(data_bytes(frame));
        }
        if frame.is_none() || this.body.is_end_stream() {
            this.observation.complete();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
