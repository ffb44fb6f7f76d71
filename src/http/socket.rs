//! Deadlines and memory bounds of a connection: for idle clients, slow request heads, and clients that do not
//! read.
//!
//! They wrap the socket because hyper has no deadline for writes, and because only the socket shows how many
//! bytes really moved. Request bodies have no deadline here: each reader of a body sets its own.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf, Take};
use tokio::time::{Instant, Sleep};

use super::departure::DetectDeparture;
use super::file_piece::{PieceWriter, find_placeholder};
use super::memory_budget::{Permit, READ_BUFFERS, RESPONSES, UNBUDGETED_BYTES};
use super::response_state::ResponseState;
use super::server::MAX_READ_BUFFER_BYTES;
use super::stream::{CountSent, PlainTcp};
use super::tls::TLS_WRITES;

/// Deadlines that a [`DeadlineSocket`] enforces.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadlines {
    /// Longest time from the first byte of a request's head to its last.
    pub(super) head: Duration,
    /// Longest time without a request.
    pub(super) idle: Duration,
    /// Window in which a client that delays writes must read `min_write_bytes`.
    pub(super) write: Duration,
    /// Bytes that a client must read within `write`.
    pub(super) min_write_bytes: u64,
}

/// Window in which a client that holds part of the responses' budget must read [`MIN_BYTES_IN_SHORT_WINDOW`]
/// while that budget is nearly exhausted.
const SHORT_WINDOW: Duration = Duration::from_secs(2);

/// Bytes that a client must read within [`SHORT_WINDOW`]: 32 KiB/s.
const MIN_BYTES_IN_SHORT_WINDOW: u64 = 64 * 1024;

/// Most bytes of a body that are read at once without a permit of the budget: hyper allocates a buffer of two
/// pages for each read, and this many bytes touch only one of them.
const UNBUDGETED_BODY_READ_BYTES: usize = 2 * 1024;

/// Time between checks whether a client whose request waits has left.
const DEPARTURE_CHECK_PERIOD: Duration = Duration::from_millis(250);

/// Socket that enforces deadlines and bounds the memory of its connection.
#[derive(Debug)]
pub(super) struct DeadlineSocket<S> {
    /// Wrapped socket, whose limit is set before each read.
    socket: Take<S>,
    deadlines: Deadlines,
    state: ResponseState,
    /// Timer that wakes the task at the earliest deadline: possibly too early, never too late.
    alarm: Pin<Box<Sleep>>,
    /// True once the alarm has been armed.
    is_armed: bool,
    /// Received part of a request's head, outside of responses.
    head: Option<PartialHead>,
    /// Bytes of the last read.
    last_read: usize,
    /// Permit of a client that sends much, and may fill large buffers.
    read_permit: Option<Permit>,
    slow_write: Option<SlowWrite>,
    /// Time of the next check whether the client has left, while the handler has not received the whole body.
    departure_check: Option<Instant>,
    pieces: PieceWriter,
}

/// Received bytes of a request's head.
#[derive(Clone, Copy, Debug)]
struct PartialHead {
    bytes: usize,
    /// Time at which the socket first waited for the rest. Most heads arrive whole, and need no clock.
    since: Option<Instant>,
}

/// Progress of a client that reads more slowly than the server writes.
#[derive(Clone, Copy, Debug)]
struct SlowWrite {
    /// Start of the longer window, and bytes read by the client since then.
    long: (Instant, u64),
    /// Start of the window of [`SHORT_WINDOW`], and bytes read by the client since then.
    short: (Instant, u64),
}

impl<S> Drop for DeadlineSocket<S> {
    /// Drops a piece that will not be sent: its body may hold the state that holds the piece.
    fn drop(&mut self) {
        let piece = self.state.piece().take();
        drop(piece);
    }
}

impl<S: AsyncRead> DeadlineSocket<S> {
    pub(super) fn new(socket: S, deadlines: Deadlines) -> Self {
        Self {
            socket: socket.take(0),
            deadlines,
            state: ResponseState::new(),
            alarm: Box::pin(tokio::time::sleep(deadlines.idle)),
            is_armed: false,
            head: None,
            last_read: 0,
            read_permit: None,
            slow_write: None,
            departure_check: None,
            pieces: PieceWriter::default(),
        }
    }

    /// Returns the state in which the service records when a response begins and ends.
    pub(super) fn state(&self) -> ResponseState {
        self.state.clone()
    }

    /// Returns ready once `deadline` has passed; else the task is woken then or earlier.
    fn poll_deadline(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        // Re-arming costs more than waking early now and then, so an earlier alarm stays. An armed alarm
        // wakes this connection's task, which never changes.
        if deadline < self.alarm.deadline() {
            self.alarm.as_mut().reset(deadline);
        } else if self.is_armed && !self.alarm.is_elapsed() {
            return Poll::Pending;
        }
        while self.alarm.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            self.alarm.as_mut().reset(deadline);
        }
        // tokio polls no timer for a task whose budget is used up, and wakes the task to ask again.
        self.is_armed |= tokio::task::coop::has_budget_remaining();
        Poll::Pending
    }

    /// Arms an alarm that has elapsed, or was never armed. hyper does not poll the socket for reading after a
    /// response if it polled before the response, so only the alarm makes it do so: without one, a silent
    /// client would keep its connection for ever. The alarm is set to the idle deadline, since every earlier
    /// deadline arms it itself.
    fn keep_armed(&mut self, cx: &mut Context<'_>) {
        if !self.is_armed || self.alarm.is_elapsed() {
            let next = Instant::now() + self.deadlines.idle;
            let _ = self.poll_deadline(cx, next);
        }
    }

    /// Fails once the deadline of the request's head, or of an idle client, has passed. Called when the
    /// socket has nothing to read.
    fn poll_read_deadline(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.state.is_responding() {
            self.head = None;
            self.keep_armed(cx);
            return Poll::Pending;
        }
        if self.head.is_none() && self.state.unsent_of_piece() > 0 {
            // The client still reads the last response, and its deadlines are those of writes.
            self.keep_armed(cx);
            return Poll::Pending;
        }
        let (deadline, message) = match &mut self.head {
            Some(head) => {
                let since = *head.since.get_or_insert_with(Instant::now);
                (since + self.deadlines.head, "request head not complete in time")
            }
            None => (self.state.last_response() + self.deadlines.idle, "no request received in time"),
        };
        ready!(self.poll_deadline(cx, deadline));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, message)))
    }

    /// Returns the most bytes to read at once. hyper doubles a buffer that is full, so only a connection with
    /// a permit of the budget may fill one.
    fn read_limit(&mut self) -> io::Result<usize> {
        if self.read_permit.is_some() {
            return Ok(MAX_READ_BUFFER_BYTES);
        }
        let received = self.head.map_or(0, |head| head.bytes);
        if received < UNBUDGETED_BYTES {
            return Ok(UNBUDGETED_BYTES - received);
        }
        // A long head lies in the buffer until it is whole.
        self.read_permit = READ_BUFFERS.try_acquire(MAX_READ_BUFFER_BYTES);
        match self.read_permit {
            Some(_) => Ok(MAX_READ_BUFFER_BYTES),
            None => Err(io::Error::other("too many long request heads at once")),
        }
    }

    /// Counts the bytes of a read of at most `limit`.
    fn after_read(&mut self, read: usize, limit: usize) {
        self.last_read = read;
        if !self.state.is_responding() {
            let before = self.head.unwrap_or(PartialHead { bytes: 0, since: None });
            self.head = (read > 0).then_some(PartialHead { bytes: before.bytes + read, ..before });
        } else if read == limit && self.read_permit.is_none() {
            // More of the body is likely to follow. Without a permit it is received by small reads.
            self.read_permit = READ_BUFFERS.try_acquire(MAX_READ_BUFFER_BYTES);
        }
    }

    /// Applies the write deadlines to the result of a write of `wanted` bytes, in which the client took
    /// `sent`. At most `budgeted` of them hold memory of the responses' budget.
    fn after_write(
        &mut self,
        cx: &mut Context<'_>,
        (wanted, budgeted): (usize, usize),
        wrote: Poll<io::Result<usize>>,
        sent: u64,
    ) -> Poll<io::Result<usize>> {
        let taken = match &wrote {
            Poll::Ready(Ok(taken)) => *taken,
            Poll::Ready(Err(_)) => return wrote,
            Poll::Pending => 0,
        };
        if taken > 0 {
            // The response progresses, so its request's head has been read, and the client is not idle.
            self.head = None;
            self.wake_body(cx, taken == wanted);
            if taken == wanted {
                self.slow_write = None;
                return wrote;
            }
        }
        match self.poll_slow_write(cx, budgeted, sent) {
            Poll::Ready(error) => Poll::Ready(Err(error)),
            Poll::Pending => wrote,
        }
    }

    /// Wakes the body that waits for its last piece to be written, if all of it has been.
    fn wake_body(&self, cx: &Context<'_>, all: bool) {
        if all && self.state.sent() {
            cx.waker().wake_by_ref();
        }
    }

    /// Returns ready with an error if the client reads too slowly; it took `taken` bytes of the last write,
    /// of which at most `budgeted` bytes hold memory of the responses' budget.
    fn poll_slow_write(&mut self, cx: &mut Context<'_>, budgeted: usize, taken: u64) -> Poll<io::Error> {
        let new_window = || (Instant::now(), 0);
        let mut slow =
            self.slow_write.unwrap_or_else(|| SlowWrite { long: new_window(), short: new_window() });
        slow.long.1 += taken;
        slow.short.1 += taken;
        let too_slow = || io::Error::new(io::ErrorKind::TimedOut, "client reads too slowly");
        let holds_permit = budgeted > 2 * UNBUDGETED_BYTES;
        while self.poll_deadline(cx, slow.next(self.deadlines.write)).is_ready() {
            let now = Instant::now();
            if now >= slow.long.0 + self.deadlines.write {
                if slow.long.1 < self.deadlines.min_write_bytes {
                    return Poll::Ready(too_slow());
                }
                slow.long = (now, 0);
            }
            if now >= slow.short.0 + SHORT_WINDOW {
                if holds_permit && slow.short.1 < MIN_BYTES_IN_SHORT_WINDOW && responses_need_memory() {
                    return Poll::Ready(too_slow());
                }
                slow.short = (now, 0);
            }
        }
        self.slow_write = Some(slow);
        Poll::Pending
    }
}

impl<S: AsyncRead + CountSent> DeadlineSocket<S> {
    /// Returns the bytes that the client took in a write.
    fn sent(&mut self, wrote: &Poll<io::Result<usize>>) -> u64 {
        let accepted = if let Poll::Ready(Ok(accepted)) = wrote { *accepted } else { 0 };
        self.socket.get_mut().sent(accepted)
    }

    /// Applies the write deadlines to the result of a flush, which waits only where a stream holds bytes itself.
    fn after_flush(&mut self, cx: &mut Context<'_>, flushed: Poll<io::Result<()>>) -> Poll<io::Result<()>> {
        if flushed.is_ready() {
            self.slow_write = None;
            return flushed;
        }
        let sent = self.socket.get_mut().sent(0);
        match self.poll_slow_write(cx, MAX_READ_BUFFER_BYTES, sent) {
            Poll::Ready(error) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + DetectDeparture> DeadlineSocket<S> {
    /// Returns ready with an error if the client left before it sent the whole body that the handler waits
    /// with.
    fn poll_departure(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let unread = self.state.unread();
        if unread == 0 {
            self.departure_check = None;
            return Poll::Pending;
        }
        let next = || Instant::now() + DEPARTURE_CHECK_PERIOD;
        let mut check = self.departure_check.unwrap_or_else(next);
        while self.poll_deadline(cx, check).is_ready() {
            // hyper reads again only when its caller has received what it read before, so it holds at most the
            // bytes of the last read.
            if self.socket.get_ref().has_departed(unread.saturating_sub(self.last_read as u64)) {
                return Poll::Ready(io::Error::new(
                    io::ErrorKind::ConnectionAborted,
                    "client left before its request was complete",
                ));
            }
            check = next();
        }
        self.departure_check = Some(check);
        Poll::Pending
    }
}

/// Returns true if little memory is left for responses.
fn responses_need_memory() -> bool {
    RESPONSES.is_nearly_exhausted() || TLS_WRITES.is_nearly_exhausted()
}

impl SlowWrite {
    /// Returns the end of the window that ends first.
    fn next(&self, long: Duration) -> Instant {
        (self.long.0 + long).min(self.short.0 + SHORT_WINDOW)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for DeadlineSocket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let limit = if self.state.is_responding() {
            // The buffer holds no part of the head now.
            self.head = None;
            self.read_permit.as_ref().map_or(UNBUDGETED_BODY_READ_BYTES, |_| MAX_READ_BUFFER_BYTES)
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

impl<S: AsyncRead + AsyncWrite + CountSent + PlainTcp + Unpin> DeadlineSocket<S> {
    /// Sends the piece of a file in place of its placeholder `slices[index]`, and before it the slices before
    /// that.
    fn poll_send_piece(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
        index: usize,
    ) -> Poll<io::Result<usize>> {
        let wanted: usize = slices.iter().map(|slice| slice.len()).sum();
        let stream = self.socket.get_ref().plain_tcp().ok_or(io::ErrorKind::Unsupported)?;
        let wrote = self.pieces.poll_send(cx, stream, &slices[..index], &self.state);
        if self.pieces.is_waiting_for_disk() {
            // The client cannot help that the disk is slow.
            self.slow_write = None;
            return Poll::Pending;
        }
        let sent = self.sent(&wrote);
        self.after_write(cx, (wanted, wanted - slices[index].len()), wrote, sent)
    }
}

impl<S: AsyncRead + AsyncWrite + CountSent + DetectDeparture + PlainTcp + Unpin> AsyncWrite
    for DeadlineSocket<S>
{
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let slices = [io::IoSlice::new(bytes)];
        let placeholder = find_placeholder(self.state.piece().as_ref(), &slices)?;
        if let Some(index) = placeholder {
            return self.poll_send_piece(cx, &slices, index);
        }
        let wrote = Pin::new(self.socket.get_mut()).poll_write(cx, bytes);
        let sent = self.sent(&wrote);
        self.after_write(cx, (bytes.len(), bytes.len()), wrote, sent)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let placeholder = find_placeholder(self.state.piece().as_ref(), slices)?;
        if let Some(index) = placeholder {
            return self.poll_send_piece(cx, slices, index);
        }
        let wanted = slices.iter().map(|slice| slice.len()).sum();
        let wrote = Pin::new(self.socket.get_mut()).poll_write_vectored(cx, slices);
        let sent = self.sent(&wrote);
        self.after_write(cx, (wanted, wanted), wrote, sent)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.get_ref().is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper calls this whenever the task is woken, for any reason.
        if let Poll::Ready(error) = self.poll_departure(cx) {
            return Poll::Ready(Err(error));
        }
        self.keep_armed(cx);
        let flushed = Pin::new(self.socket.get_mut()).poll_flush(cx);
        self.after_flush(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = Pin::new(self.socket.get_mut()).poll_shutdown(cx);
        self.after_flush(cx, ended)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;

    use tokio::task::coop::{consume_budget, has_budget_remaining};

    use super::*;

    #[tokio::test]
    async fn an_alarm_that_is_first_polled_without_budget_rings() {
        let deadlines = Deadlines {
            head: Duration::from_millis(10),
            idle: Duration::from_millis(10),
            write: Duration::from_secs(30),
            min_write_bytes: 1,
        };
        let (socket, _client) = tokio::io::duplex(64);
        let mut socket = DeadlineSocket::new(socket, deadlines);
        let mut is_first = true;
        // A task of its own, which the test's own timeout does not wake.
        let read = tokio::spawn(poll_fn(move |cx| {
            while is_first && has_budget_remaining() {
                let _ = pin!(consume_budget()).poll(cx);
            }
            is_first = false;
            Pin::new(&mut socket).poll_read(cx, &mut ReadBuf::new(&mut [0; 8]))
        }));
        let read =
            tokio::time::timeout(Duration::from_secs(10), read).await.expect("the alarm rings").unwrap();
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
