//! Deadlines and bounds around a connection: for an idle client, a slow request head, a client that does not
//! read, and the memory of each.
//!
//! The guards wrap the socket because hyper has no deadline for writes, and because only the socket shows how
//! many bytes really moved. Request bodies are not timed here: each reader of a body has a bound of its own.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf, Take};
use tokio::time::{Instant, Sleep};
use tower_service::Service;

use super::memory_budget::{ANSWERS, READS, SMALL, Share};
use super::server::BUFFER;

/// Deadlines that [`Guarded`] enforces.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadlines {
    /// For a request's head, from its first byte.
    pub(super) head: Duration,
    /// For the first byte of a request.
    pub(super) idle: Duration,
    /// Window in which `write_bytes` must be taken by a client that holds us up.
    pub(super) write: Duration,
    /// Bytes that a client must take within `write`.
    pub(super) write_bytes: u64,
}

/// Window in which a client that holds a share of an answers' budget that is nearly used up must take
/// [`TIGHT_BYTES`].
const TIGHT: Duration = Duration::from_secs(2);

/// Bytes to be taken within [`TIGHT`]: 32 KiB/s.
const TIGHT_BYTES: u64 = 64 * 1024;

/// Most bytes of a body that are read at once without a share of the budget: hyper takes a buffer of two
/// pages for each read, of which this touches but one.
const SMALL_BODY: usize = 2 * 1024;

/// State of a connection that its socket and the service behind it share. Only the connection's own task uses
/// it.
#[derive(Clone, Debug)]
pub(super) struct Phase(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    answering: AtomicBool,
    /// Time at which the connection was accepted, from which `ended` counts.
    accepted: Instant,
    /// Milliseconds from `accepted` to the end of the last answer.
    ended: AtomicU64,
    /// Bytes of an answer's body that were handed over and not yet written.
    unsent: AtomicUsize,
    /// A body waits for `unsent` to be written.
    held_back: AtomicBool,
}

impl Phase {
    fn new() -> Self {
        Self(Arc::new(Shared {
            answering: AtomicBool::default(),
            accepted: Instant::now(),
            ended: AtomicU64::default(),
            unsent: AtomicUsize::default(),
            held_back: AtomicBool::default(),
        }))
    }

    fn is_answering(&self) -> bool {
        self.0.answering.load(Ordering::Relaxed)
    }

    fn begin(&self) {
        self.0.unsent.store(0, Ordering::Relaxed);
        self.0.answering.store(true, Ordering::Relaxed);
    }

    fn end(&self) {
        let since = self.0.accepted.elapsed().as_millis();
        self.0.ended.store(u64::try_from(since).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.0.answering.store(false, Ordering::Relaxed);
    }

    /// Returns the time at which the last answer ended; before the first one, the time at which the
    /// connection was accepted.
    fn last_answer(&self) -> Instant {
        self.0.accepted + Duration::from_millis(self.0.ended.load(Ordering::Relaxed))
    }
}

/// A socket with deadlines.
#[derive(Debug)]
pub(super) struct Guarded<S> {
    /// Socket, whose limit is set before each read.
    socket: Take<S>,
    deadlines: Deadlines,
    phase: Phase,
    /// Wakes the task at the earliest deadline; may also wake it too early, never too late.
    alarm: Pin<Box<Sleep>>,
    /// The alarm was armed at least once.
    armed: bool,
    /// Part of a request's head that came, while no answer is being made.
    head: Option<Head>,
    /// The client sends much, and may fill large buffers.
    reads: Option<Share>,
    stalled: Option<Stalled>,
}

/// The first bytes of a request's head.
#[derive(Clone, Copy, Debug)]
struct Head {
    bytes: usize,
    /// Time at which the rest was first waited for. Most heads come whole, and need no clock.
    since: Option<Instant>,
}

/// A client that holds us up.
#[derive(Clone, Copy, Debug)]
struct Stalled {
    /// Start of the longer window, and bytes taken since.
    long: (Instant, u64),
    /// Start of the shorter window of [`TIGHT`], and bytes taken since.
    short: (Instant, u64),
}

impl<S: AsyncRead> Guarded<S> {
    pub(super) fn new(socket: S, deadlines: Deadlines) -> Self {
        Self {
            socket: socket.take(0),
            deadlines,
            phase: Phase::new(),
            alarm: Box::pin(tokio::time::sleep(deadlines.idle)),
            armed: false,
            head: None,
            reads: None,
            stalled: None,
        }
    }

    /// To be told when an answer begins and ends.
    pub(super) fn phase(&self) -> Phase {
        self.phase.clone()
    }

    /// Ready when `deadline` has passed; else the task is woken then or before.
    fn poll_deadline(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        // Re-arming costs more than waking early now and then, so an earlier alarm is left to ring. One that was
        // armed wakes this connection's task, which never changes.
        if deadline < self.alarm.deadline() {
            self.alarm.as_mut().reset(deadline);
        } else if self.armed && !self.alarm.is_elapsed() {
            return Poll::Pending;
        }
        while self.alarm.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            self.alarm.as_mut().reset(deadline);
        }
        self.armed = true;
        Poll::Pending
    }

    /// Arms an alarm that has rung, or was never armed. hyper does not ask to read again after an answer if it has asked
    /// before the answer, so only the alarm has it do so: without one, a client that falls silent would keep its place for
    /// ever. Nothing that is waited for from now on ends before an idle client does, but for what arms the alarm itself.
    fn keep_armed(&mut self, cx: &mut Context<'_>) {
        if !self.armed || self.alarm.is_elapsed() {
            let next = Instant::now() + self.deadlines.idle;
            let _ = self.poll_deadline(cx, next);
        }
    }

    /// Called when there is nothing to read.
    fn poll_read_deadline(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.phase.is_answering() {
            self.head = None;
            self.keep_armed(cx);
            return Poll::Pending;
        }
        let (deadline, what) = match &mut self.head {
            Some(head) => {
                let since = *head.since.get_or_insert_with(Instant::now);
                (since + self.deadlines.head, "the request's head took too long")
            }
            None => (self.phase.last_answer() + self.deadlines.idle, "no request came"),
        };
        ready!(self.poll_deadline(cx, deadline));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, what)))
    }

    /// Returns the most bytes to read at once. A full buffer has hyper double it, so only a connection with a
    /// share of the budget may fill one.
    fn read_limit(&mut self) -> io::Result<usize> {
        if self.reads.is_some() {
            return Ok(usize::MAX);
        }
        let came = self.head.map_or(0, |head| head.bytes);
        if came < SMALL {
            return Ok(SMALL - came);
        }
        // A long head lies in the buffer until it is whole.
        self.reads = READS.try_take(BUFFER);
        match self.reads {
            Some(_) => Ok(usize::MAX),
            None => Err(io::Error::other("too many long heads come in at once")),
        }
    }

    /// Counts the bytes that were read, of at most `limit`.
    fn after_read(&mut self, came: usize, limit: usize) {
        if !self.phase.is_answering() {
            let before = self.head.unwrap_or(Head { bytes: 0, since: None });
            self.head = (came > 0).then_some(Head { bytes: before.bytes + came, ..before });
        } else if came == limit && self.reads.is_none() {
            // A body is likely to go on. Without a share it comes by small reads.
            self.reads = READS.try_take(BUFFER);
        }
    }

    /// Judges the result of a write of `wanted` bytes.
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
            self.head = None;
            self.sent(cx, taken == wanted);
            if taken == wanted {
                self.stalled = None;
                return wrote;
            }
        }
        match self.poll_stalled(cx, wanted, taken as u64) {
            Poll::Ready(error) => Poll::Ready(Err(error)),
            Poll::Pending => wrote,
        }
    }

    /// Lets the body go on that waited for its last piece to be written.
    fn sent(&self, cx: &Context<'_>, all: bool) {
        if all {
            self.phase.0.unsent.store(0, Ordering::Relaxed);
            if self.phase.0.held_back.swap(false, Ordering::Relaxed) {
                cx.waker().wake_by_ref();
            }
        }
    }

    /// Is ready when a client that was sent `wanted` bytes and took `taken` of them takes too little.
    fn poll_stalled(&mut self, cx: &mut Context<'_>, wanted: usize, taken: u64) -> Poll<io::Error> {
        let fresh = || (Instant::now(), 0);
        let mut stalled = self.stalled.unwrap_or_else(|| Stalled { long: fresh(), short: fresh() });
        stalled.long.1 += taken;
        stalled.short.1 += taken;
        let too_slow = || io::Error::new(io::ErrorKind::TimedOut, "the client reads too slowly");
        let holds_a_share = wanted > 2 * SMALL;
        while self.poll_deadline(cx, stalled.next(self.deadlines.write)).is_ready() {
            let now = Instant::now();
            if now >= stalled.long.0 + self.deadlines.write {
                if stalled.long.1 < self.deadlines.write_bytes {
                    return Poll::Ready(too_slow());
                }
                stalled.long = (now, 0);
            }
            if now >= stalled.short.0 + TIGHT {
                if holds_a_share && stalled.short.1 < TIGHT_BYTES && ANSWERS.is_tight() {
                    return Poll::Ready(too_slow());
                }
                stalled.short = (now, 0);
            }
        }
        self.stalled = Some(stalled);
        Poll::Pending
    }
}

impl Stalled {
    /// Returns the time at which the earlier of the two windows ends.
    fn next(&self, long: Duration) -> Instant {
        (self.long.0 + long).min(self.short.0 + TIGHT)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let limit = if self.phase.is_answering() {
            // The buffer holds no part of the head any more.
            self.head = None;
            self.reads.as_ref().map_or(SMALL_BODY, |_| usize::MAX)
        } else {
            self.read_limit()?
        };
        self.socket.set_limit(limit as u64);
        let before = buffer.filled().len();
        match Pin::new(&mut self.socket).poll_read(cx, buffer) {
            Poll::Pending => self.poll_read_deadline(cx),
            Poll::Ready(read) => {
                self.after_read(buffer.filled().len() - before, limit);
                Poll::Ready(read)
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(self.socket.get_mut()).poll_write(cx, bytes);
        self.after_write(cx, bytes.len(), wrote)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wanted = slices.iter().map(|slice| slice.len()).sum();
        let wrote = Pin::new(self.socket.get_mut()).poll_write_vectored(cx, slices);
        self.after_write(cx, wanted, wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.get_ref().is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper calls this whenever the task is woken, for any reason.
        self.keep_armed(cx);
        Pin::new(self.socket.get_mut()).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.socket.get_mut()).poll_shutdown(cx)
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
        self.phase.begin();
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
        let phase = this.phase.take();
        Poll::Ready(Ok(response.map(|body| WatchedBody { body, phase })))
    }
}

/// A body that ends the answer when it is dropped, and goes on when what it has handed over is written.
pub(super) struct WatchedBody {
    body: Body,
    phase: Option<Phase>,
}

impl Drop for WatchedBody {
    fn drop(&mut self) {
        if let Some(phase) = &self.phase {
            phase.end();
        }
    }
}

impl http_body::Body for WatchedBody {
    type Data = bytes::Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = &mut *self;
        let Some(Phase(shared)) = &this.phase else { return Pin::new(&mut this.body).poll_frame(cx) };
        // hyper gathers up to 16 pieces before it writes; a client that does not read would hold them all.
        if shared.unsent.load(Ordering::Relaxed) >= SMALL {
            shared.held_back.store(true, Ordering::Relaxed);
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
