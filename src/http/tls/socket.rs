//! Stream above a socket with TLS, whose memory is bounded.

use std::fmt;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;

use super::handshake::HANDSHAKES;
use super::read_ahead::ReadAhead;
use crate::departure::DetectDeparture;
use crate::memory_budget::{MemoryBudget, Permit, UNBUDGETED_BYTES};
use crate::stream::SocketStream;

/// Budget of encrypted bytes that clients have not read. Beside it, each connection may hold
/// [`UNBUDGETED_BYTES`].
pub static TLS_WRITES: MemoryBudget = MemoryBudget::new(4 * 1024 * 1024);

/// Most bytes that are encrypted at once: four records, which one system call sends.
const MAX_WRITE_BYTES: usize = 64 * 1024;

/// Most slices of one write: the head of a response, and the parts of its body.
const MAX_SLICES: usize = 16;

/// Most bytes of a handshake, whose messages rustls bounds to 64 KiB each.
const MAX_HANDSHAKE_BYTES: usize = 128 * 1024;

/// Longest message of a handshake that rustls holds in memory.
const MAX_HANDSHAKE_MESSAGE_BYTES: usize = 64 * 1024;

/// Most bytes after the handshake that hold no content. Each record has up to 16 KiB of content, and messages of
/// TLS itself are short; a client that sends more wants only that they are held in memory.
const MAX_BYTES_WITHOUT_CONTENT: usize = 40 * 1024;

/// Bytes by which a full record is longer than its content, at least (RFC 8446, 5.2).
const RECORD_OVERHEAD_BYTES: u64 = 5 + 1 + 16;

/// Longest content of a record (RFC 8446, 5.1).
const MAX_RECORD_CONTENT_BYTES: u64 = 16 * 1024;

/// Socket of a connection with TLS.
pub(crate) struct TlsSocket {
    stream: TlsStream<BoundedStream>,
    /// Part of the budget that encrypted bytes take until the client has read them.
    write_permit: Option<Permit>,
}

/// Socket below TLS, which bounds the bytes that TLS holds, and counts those that were sent.
pub(crate) struct BoundedStream {
    stream: SocketStream,
    received: Received,
    read_ahead: ReadAhead,
    /// Bytes sent since [`take_sent`](Self::take_sent) was called last.
    sent: u64,
}

/// Received bytes of which no content has been read.
enum Received {
    InHandshake { bytes: usize, permit: Option<Permit> },
    SinceContent { bytes: usize },
}

// === impl BoundedStream ===

impl BoundedStream {
    pub(super) fn new(stream: SocketStream) -> Self {
        Self {
            stream,
            received: Received::InHandshake { bytes: 0, permit: None },
            read_ahead: ReadAhead::default(),
            sent: 0,
        }
    }

    /// Returns the bytes that were sent since the last call.
    fn take_sent(&mut self) -> u64 {
        std::mem::take(&mut self.sent)
    }
}

impl Received {
    /// Counts received bytes, and fails if a handshake is too long.
    fn add(&mut self, count: usize) -> io::Result<()> {
        match self {
            Self::InHandshake { bytes, permit } => {
                *bytes += count;
                if *bytes > MAX_HANDSHAKE_BYTES {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "TLS handshake is too long"));
                }
                if *bytes > UNBUDGETED_BYTES && permit.is_none() {
                    let taken = HANDSHAKES.try_acquire(MAX_HANDSHAKE_MESSAGE_BYTES);
                    *permit =
                        Some(taken.ok_or_else(|| io::Error::other("too many long TLS handshakes at once"))?);
                }
            }
            Self::SinceContent { bytes } => *bytes += count,
        }
        Ok(())
    }
}

impl AsyncRead for BoundedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let Self { stream, received, read_ahead, .. } = &mut *self;
        ready!(match received {
            Received::InHandshake { .. } => Pin::new(stream).poll_read(cx, buffer),
            Received::SinceContent { .. } => read_ahead.poll_read(stream, cx, buffer),
        })?;
        let count = buffer.filled().len() - before;
        Poll::Ready(received.add(count))
    }
}

impl AsyncWrite for BoundedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let sent = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        self.sent += sent as u64;
        Poll::Ready(Ok(sent))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let sent = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, slices))?;
        self.sent += sent as u64;
        Poll::Ready(Ok(sent))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

// === impl TlsSocket ===

impl TlsSocket {
    /// Takes a stream whose handshake is complete.
    pub(super) fn new(mut stream: TlsStream<BoundedStream>) -> Self {
        let (bounded, session) = stream.get_mut();
        bounded.received = Received::SinceContent { bytes: 0 };
        session.set_buffer_limit(Some(MAX_WRITE_BYTES));
        Self { stream, write_permit: None }
    }

    /// Returns the bytes that the client took since the last call.
    pub(crate) fn take_sent(&mut self) -> u64 {
        self.stream.get_mut().0.take_sent()
    }

    /// Returns ready with the most bytes to encrypt at once, when all that was encrypted before has been sent.
    fn poll_room(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<io::Result<usize>> {
        if self.stream.get_ref().1.wants_write() {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        }
        self.write_permit = None;
        if wanted <= UNBUDGETED_BYTES {
            return Poll::Ready(Ok(UNBUDGETED_BYTES));
        }
        let Some((bytes, permit)) = TLS_WRITES.try_acquire_part(MAX_WRITE_BYTES) else {
            return Poll::Ready(Ok(UNBUDGETED_BYTES));
        };
        self.write_permit = Some(permit);
        Poll::Ready(Ok(bytes))
    }

    /// Gives the permit back as soon as nothing of the write is left in memory.
    fn after_write(&mut self) {
        if !self.stream.get_ref().1.wants_write() {
            self.write_permit = None;
        }
    }
}

impl fmt::Debug for TlsSocket {
    /// Hides the keys of the session.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsSocket").finish_non_exhaustive()
    }
}

impl AsFd for TlsSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.get_ref().0.stream.as_fd()
    }
}

impl DetectDeparture for TlsSocket {
    /// Compares the missing bytes with the most content that received bytes can hold. Beside those in the kernel,
    /// TLS may hold one record, and the content of another.
    fn has_departed(&self, missing: u64) -> bool {
        let held = 2 * MAX_RECORD_CONTENT_BYTES;
        let missing = missing.saturating_sub(held);
        let records = missing.div_ceil(MAX_RECORD_CONTENT_BYTES);
        let received = missing + records * RECORD_OVERHEAD_BYTES;
        let bounded = self.stream.get_ref().0;
        bounded.stream.has_departed(received.saturating_sub(bounded.read_ahead.len() as u64))
    }
}

impl AsyncRead for TlsSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        // One call may read many records, each with its content.
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let received = &mut self.stream.get_mut().0.received;
        if buffer.filled().len() > before {
            *received = Received::SinceContent { bytes: 0 };
        } else if matches!(received, Received::SinceContent { bytes } if *bytes > MAX_BYTES_WITHOUT_CONTENT) {
            let error = io::Error::new(io::ErrorKind::InvalidData, "TLS records without content");
            return Poll::Ready(Err(error));
        }
        read
    }
}

impl AsyncWrite for TlsSocket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let room = ready!(self.poll_room(cx, bytes.len()))?;
        let written = Pin::new(&mut self.stream).poll_write(cx, &bytes[..bytes.len().min(room)]);
        self.after_write();
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wanted = slices.iter().map(|slice| slice.len()).sum();
        let mut room = ready!(self.poll_room(cx, wanted))?;
        let mut shortened = [IoSlice::new(&[]); MAX_SLICES];
        let mut count = 0;
        for (short, slice) in shortened.iter_mut().zip(slices) {
            *short = IoSlice::new(&slice[..slice.len().min(room)]);
            room -= short.len();
            count += 1;
            if room == 0 {
                break;
            }
        }
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, &shortened[..count]);
        self.after_write();
        written
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.after_write();
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
