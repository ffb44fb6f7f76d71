//! Progress of the current response, which a connection's socket needs to know and only the service sees.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::Instant;
use tower_service::Service;

use super::file_piece::{FilePiece, FileSender};
use super::memory_budget::UNBUDGETED_BYTES;

/// State of the current response, shared by a connection's socket and the service behind it. Only the
/// connection's own task uses it, and a task that receives the rest of a body whose request is answered.
#[derive(Clone, Debug)]
pub(super) struct ResponseState(Arc<SharedResponseState>);

#[derive(Debug)]
struct SharedResponseState {
    is_responding: AtomicBool,
    /// Time at which the connection was accepted, from which `ended` is measured.
    accepted: Instant,
    /// Milliseconds from `accepted` to the end of the last response.
    ended: AtomicU64,
    /// Bytes of a response's body that were passed to hyper and not yet written.
    unsent: AtomicUsize,
    /// True if a body waits for `unsent` to be written.
    is_body_waiting: AtomicBool,
    /// Bytes of the request's body that its handler has not received; 0 if their number is unknown.
    unread: AtomicU64,
    /// Number of the current request.
    request: AtomicU64,
    /// Bodies that are received: that of the current request, and one of which the rest is discarded.
    bodies: AtomicUsize,
    /// Piece of a file that was passed to hyper and not yet sent.
    piece: Mutex<Option<FilePiece>>,
    /// Bytes that are left of the piece.
    unsent_of_piece: AtomicU64,
}

impl ResponseState {
    pub(super) fn new() -> Self {
        Self(Arc::new(SharedResponseState {
            is_responding: AtomicBool::default(),
            accepted: Instant::now(),
            ended: AtomicU64::default(),
            unsent: AtomicUsize::default(),
            is_body_waiting: AtomicBool::default(),
            unread: AtomicU64::default(),
            request: AtomicU64::default(),
            bodies: AtomicUsize::default(),
            piece: Mutex::default(),
            unsent_of_piece: AtomicU64::default(),
        }))
    }

    /// Returns true while bytes that arrive are not those of a head: a response is in progress, or a body is received.
    pub(super) fn is_responding(&self) -> bool {
        self.0.is_responding.load(Ordering::Relaxed) || self.0.bodies.load(Ordering::Relaxed) > 0
    }

    fn begin(&self) {
        self.0.unsent.store(0, Ordering::Relaxed);
        self.0.request.fetch_add(1, Ordering::Relaxed);
        self.0.is_responding.store(true, Ordering::Relaxed);
    }

    /// Returns the bytes of the current request's body that its handler has not received, if their number is
    /// known.
    pub(super) fn unread(&self) -> u64 {
        self.0.unread.load(Ordering::Relaxed)
    }

    fn end(&self) {
        self.note_end();
        self.0.unread.store(0, Ordering::Relaxed);
        self.0.is_responding.store(false, Ordering::Relaxed);
    }

    /// Records that a response ends now.
    fn note_end(&self) {
        let since = self.0.accepted.elapsed().as_millis();
        self.0.ended.store(u64::try_from(since).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Returns the time at which the last response ended; before the first one, the time at which the
    /// connection was accepted.
    pub(super) fn last_response(&self) -> Instant {
        self.0.accepted + Duration::from_millis(self.0.ended.load(Ordering::Relaxed))
    }

    /// Returns the piece of a file that was passed to hyper and not yet sent.
    pub(super) fn piece(&self) -> MutexGuard<'_, Option<FilePiece>> {
        self.0.piece.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the bytes that are left of the piece of a file.
    pub(super) fn unsent_of_piece(&self) -> u64 {
        self.0.unsent_of_piece.load(Ordering::Relaxed)
    }

    /// Records the bytes that are left of the piece of a file. The response may be over but for them.
    pub(super) fn set_unsent_of_piece(&self, bytes: u64) {
        self.0.unsent_of_piece.store(bytes, Ordering::Relaxed);
        if bytes == 0 {
            self.note_end();
        }
    }

    /// Records that everything passed to hyper has been written. Returns true if the body waits for that.
    pub(super) fn sent(&self) -> bool {
        self.0.unsent.store(0, Ordering::Relaxed);
        self.0.is_body_waiting.swap(false, Ordering::Relaxed)
    }
}

/// Service that records when a response begins, and when its body has been passed to hyper.
#[derive(Clone, Debug)]
pub(super) struct TrackedService<S> {
    service: S,
    state: ResponseState,
    /// Sender of pieces of files, if the connection's socket can send them.
    files: Option<FileSender>,
}

impl<S> TrackedService<S> {
    /// Makes the service of a connection, whose socket can send files or not.
    pub(super) fn new(service: S, state: ResponseState, sends_files: bool) -> Self {
        let files = sends_files.then(|| FileSender::new(state.clone()));
        Self { service, state, files }
    }
}

impl<S, B> Service<http::Request<B>> for TrackedService<S>
where
    S: Service<Request, Response = Response>,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    type Response = http::Response<TrackedBody>;
    type Error = S::Error;
    type Future = TrackedFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        self.state.begin();
        let mut request = request.map(|body| {
            if body.is_end_stream() {
                // Takes no memory.
                return Body::empty();
            }
            let shared = &self.state.0;
            shared.unread.store(body.size_hint().exact().unwrap_or(0), Ordering::Relaxed);
            shared.bodies.fetch_add(1, Ordering::Relaxed);
            let receipt =
                Receipt { request: shared.request.load(Ordering::Relaxed), state: self.state.clone() };
            Body::new(TrackedRequestBody { body, receipt })
        });
        if let Some(files) = &self.files {
            request.extensions_mut().insert(files.clone());
        }
        TrackedFuture { future: self.service.call(request), state: Some(self.state.clone()) }
    }
}

pin_project_lite::pin_project! {
    /// Body of a request that counts what its handler has not received.
    struct TrackedRequestBody<B> {
        #[pin]
        body: B,
        receipt: Receipt,
    }
}

/// Receipt of a request's body, which ends when this value is dropped.
struct Receipt {
    /// Number of the request.
    request: u64,
    state: ResponseState,
}

impl Receipt {
    /// Counts bytes that were received. Those of a request that is answered do not count.
    fn received(&self, length: u64) {
        let shared = &self.state.0;
        if shared.request.load(Ordering::Relaxed) == self.request {
            let unread = shared.unread.load(Ordering::Relaxed).saturating_sub(length);
            shared.unread.store(unread, Ordering::Relaxed);
        }
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        self.state.0.bodies.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<B: http_body::Body<Data = Bytes>> http_body::Body for TrackedRequestBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = self.project();
        let frame = ready!(this.body.poll_frame(cx));
        let length = match &frame {
            Some(Ok(frame)) => frame.data_ref().map_or(0, |data| data.len() as u64),
            // Nothing follows.
            None | Some(Err(_)) => u64::MAX,
        };
        this.receipt.received(length);
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

pin_project_lite::pin_project! {
    /// Future of a [`TrackedService`].
    pub(super) struct TrackedFuture<F> {
        #[pin]
        future: F,
        state: Option<ResponseState>,
    }
}

impl<F, E> Future for TrackedFuture<F>
where
    F: Future<Output = Result<Response, E>>,
{
    type Output = Result<http::Response<TrackedBody>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.future.poll(cx))?;
        let state = this.state.take();
        Poll::Ready(Ok(response.map(|body| TrackedBody { body, state })))
    }
}

/// Body that ends the response when it is dropped, and gives its next piece when the last one has been
/// written. While a piece of a file waits, that piece keeps the body within.
pub(super) struct TrackedBody {
    body: Body,
    state: Option<ResponseState>,
}

impl Drop for TrackedBody {
    fn drop(&mut self) {
        let Some(state) = &self.state else { return };
        state.end();
        if let Some(piece) = &mut *state.piece() {
            piece.keep(std::mem::take(&mut self.body));
        }
    }
}

impl http_body::Body for TrackedBody {
    type Data = bytes::Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = &mut *self;
        let Some(ResponseState(shared)) = &this.state else { return Pin::new(&mut this.body).poll_frame(cx) };
        // hyper gathers up to 16 pieces before it writes; a client that does not read would hold all of them.
        if shared.unsent.load(Ordering::Relaxed) >= UNBUDGETED_BYTES {
            shared.is_body_waiting.store(true, Ordering::Relaxed);
            return Poll::Pending;
        }
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        let length = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()).map_or(0, Bytes::len);
        shared.unsent.fetch_add(length, Ordering::Relaxed);
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
