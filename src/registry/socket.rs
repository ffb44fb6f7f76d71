//! Deadlines around a connection: for an idle client, a slow request head, and a client that does not read.
//!
//! They wrap the socket because hyper has no deadline for writes, and because only here is it seen how many bytes
//! really moved. Request bodies are not timed here: nobody reads one without a bound of its own.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http_body::{Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};
use tower_service::Service;

/// What [`Guarded`] enforces.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadlines {
    /// For a request's head, from its first byte.
    pub(super) head: Duration,
    /// For the first byte of a request.
    pub(super) idle: Duration,
    /// The window in which `write_bytes` must be taken by a client that holds us up.
    pub(super) write: Duration,
    /// See `write`.
    pub(super) write_bytes: u64,
}

/// Whether a request is being answered; shared by the socket and the service behind it.
#[derive(Clone, Debug, Default)]
pub(super) struct Phase(Arc<AtomicBool>);

impl Phase {
    fn is_answering(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn set(&self, answering: bool) {
        // Only the connection's own task reads and writes it.
        self.0.store(answering, Ordering::Relaxed);
    }
}

/// A socket with deadlines.
#[derive(Debug)]
pub(super) struct Guarded<S> {
    socket: S,
    deadlines: Deadlines,
    phase: Phase,
    /// Wakes the task at the earliest deadline; may also wake it too early, never too late.
    alarm: Pin<Box<Sleep>>,
    /// Since when the client owes us the first byte of a request, or, with `head_begun`, the rest of its head.
    waiting: Option<Instant>,
    head_begun: bool,
    /// Since when the client holds us up, and what it took since.
    stalled: Option<(Instant, u64)>,
}

impl<S> Guarded<S> {
    pub(super) fn new(socket: S, deadlines: Deadlines) -> Self {
        let alarm = Box::pin(tokio::time::sleep(deadlines.idle));
        Self {
            socket,
            deadlines,
            phase: Phase::default(),
            alarm,
            waiting: None,
            head_begun: false,
            stalled: None,
        }
    }

    /// To be told when an answer begins and ends.
    pub(super) fn phase(&self) -> Phase {
        self.phase.clone()
    }

    /// Ready when `deadline` has passed; else the task is woken then or before.
    fn poll_deadline(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        // Re-arming costs more than waking early now and then, so an earlier alarm is left to ring.
        if deadline < self.alarm.deadline() {
            self.alarm.as_mut().reset(deadline);
        }
        while self.alarm.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            self.alarm.as_mut().reset(deadline);
        }
        Poll::Pending
    }

    /// Called when there is nothing to read.
    fn poll_read_deadline(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.phase.is_answering() {
            self.waiting = None;
            self.head_begun = false;
            return Poll::Pending;
        }
        let (allowed, what) = if self.head_begun {
            (self.deadlines.head, "the request's head took too long")
        } else {
            (self.deadlines.idle, "no request came")
        };
        let since = *self.waiting.get_or_insert_with(Instant::now);
        ready!(self.poll_deadline(cx, since + allowed));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, what)))
    }

    /// Called with what came of a write of `wanted` bytes.
    fn after_write(
        &mut self,
        cx: &mut Context<'_>,
        wanted: usize,
        wrote: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let taken = match &wrote {
            Poll::Ready(Ok(taken)) => *taken,
            Poll::Ready(Err(_)) => return wrote,
            Poll::Pending => 0,
        };
        if taken > 0 {
            // Bytes of an answer move: its request's head is long read, and the client is not idle.
            self.waiting = None;
            self.head_begun = false;
            if taken == wanted {
                self.stalled = None;
                return wrote;
            }
        }
        let (since, before) = self.stalled.unwrap_or_else(|| (Instant::now(), 0));
        let total = before + taken as u64;
        self.stalled = Some((since, total));
        if self.poll_deadline(cx, since + self.deadlines.write).is_ready() {
            if total < self.deadlines.write_bytes {
                let error = io::Error::new(io::ErrorKind::TimedOut, "the client reads too slowly");
                return Poll::Ready(Err(error));
            }
            self.stalled = Some((Instant::now(), 0));
            // The alarm has rung; with nothing armed, a client that stops now would never be noticed.
            let next = Instant::now() + self.deadlines.write;
            let _ = self.poll_deadline(cx, next);
        }
        wrote
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        match Pin::new(&mut self.socket).poll_read(cx, buffer) {
            Poll::Pending => self.poll_read_deadline(cx),
            ready @ Poll::Ready(_) => {
                if buffer.filled().len() > before && !self.head_begun && !self.phase.is_answering() {
                    self.head_begun = true;
                    self.waiting = None;
                }
                ready
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.after_write(cx, bytes.len(), wrote)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wanted = slices.iter().map(|slice| slice.len()).sum();
        let wrote = Pin::new(&mut self.socket).poll_write_vectored(cx, slices);
        self.after_write(cx, wanted, wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

/// A service that tells the socket when an answer begins and when its body has been handed over.
#[derive(Clone, Debug)]
pub(super) struct Watched<S> {
    service: S,
    phase: Phase,
}

impl<S> Watched<S> {
    pub(super) fn new(service: S, phase: Phase) -> Self {
        Self { service, phase }
    }
}

impl<S, B> Service<http::Request<B>> for Watched<S>
where
    S: Service<Request, Response = Response>,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    type Response = http::Response<WatchedBody>;
    type Error = S::Error;
    type Future = WatchedFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        self.phase.set(true);
        WatchedFuture { future: self.service.call(request.map(Body::new)), phase: Some(self.phase.clone()) }
    }
}

pin_project_lite::pin_project! {
    /// The future of [`Watched`].
    pub(super) struct WatchedFuture<F> {
        #[pin]
        future: F,
        phase: Option<Phase>,
    }
}

impl<F, E> Future for WatchedFuture<F>
where
    F: Future<Output = Result<Response, E>>,
{
    type Output = Result<http::Response<WatchedBody>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.future.poll(cx))?;
        let phase = this.phase.take().unwrap_or_default();
        Poll::Ready(Ok(response.map(|body| WatchedBody { body, phase })))
    }
}

/// A body that ends the answer when it is dropped.
pub(super) struct WatchedBody {
    body: Body,
    phase: Phase,
}

impl Drop for WatchedBody {
    fn drop(&mut self) {
        self.phase.set(false);
    }
}

impl http_body::Body for WatchedBody {
    type Data = bytes::Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
