//! Pieces of files that the kernel sends, without a copy in user space (`sendfile(2)`).
//!
//! hyper knows bytes, and no files. A body leaves a piece of a file with its connection, and gives hyper a
//! placeholder instead: as many bytes of a region that holds nothing. hyper queues bytes without copying
//! them, so that the socket finds the placeholder among the bytes to write, and sends the piece in its place.
//! A piece without its placeholder, or a placeholder without its piece, ends the connection: a copy of a
//! placeholder never reaches a client.
//!
//! `sendfile` waits for the disk. Bytes that are not in memory are therefore read by a thread that may block,
//! first. The kernel tells what it has in memory for one byte at a time (`preadv2`): rustix has no
//! `cachestat`.

use std::fmt;
use std::fs::File;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::{self, IoSlice, IoSliceMut};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, ready};

use axum::body::Body;
use bytes::Bytes;
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::response_state::ResponseState;

/// Size in bytes of the blocks of a file of which one byte each is looked for in memory. The kernel reads and
/// forgets neighbouring pages together: by default it reads as many bytes ahead.
const PROBED_BLOCK_BYTES: u64 = 128 * 1024;

/// Most bytes that are looked for in memory before some are sent: a socket seldom takes more at once.
const MAX_PROBED_BYTES: u64 = 512 * 1024;

/// Size in bytes of most pages of memory.
const PAGE_BYTES: u64 = 4096;

/// Most bytes that are read, before the next ones are sent, to have them in memory.
const MAX_READ_BYTES: u64 = 256 * 1024;

/// Size in bytes of the buffer that they are read into.
const BUFFER_BYTES: usize = 16 * 1024;

/// Region that placeholders are slices of. Its pages are never touched, so that it takes addresses and no
/// memory.
static PLACEHOLDERS: LazyLock<Vec<u8>> = LazyLock::new(|| vec![0; FileSender::MAX_PIECE_BYTES]);

fn is_placeholder(bytes: &[u8]) -> bool {
    PLACEHOLDERS.as_ptr_range().contains(&bytes.as_ptr())
}

/// File of which a connection sends pieces.
pub trait SentFile: fmt::Debug + Send + Sync + 'static {
    /// Returns the file.
    fn file(&self) -> &File;

    /// Returns an error if no more of the file may be sent. Called before each part that is sent, and after
    /// the last one of a piece.
    fn check(&self) -> io::Result<()>;
}

/// Piece of a file that a connection is to send in place of a placeholder.
#[derive(Debug)]
pub(super) struct FilePiece {
    file: Arc<dyn SentFile>,
    /// Bytes that are left to send.
    range: Range<u64>,
    /// True once bytes of the piece were sent.
    has_begun: bool,
    /// Offset of a byte that was looked for in memory, and whether the kernel has it there.
    probed: Option<(u64, bool)>,
    /// Body that gave the piece, once hyper has dropped it.
    body: Option<Body>,
}

impl FilePiece {
    fn len(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// Keeps the body that gave the piece until it is sent: a body that is dropped may log how much of it
    /// was.
    pub(super) fn keep(&mut self, body: Body) {
        self.body = Some(body);
    }
}

/// Way of a response's body to the socket of its connection: an extension of each request over TCP without
/// TLS.
#[derive(Clone, Debug)]
pub struct FileSender(ResponseState);

impl FileSender {
    /// Longest piece, in bytes. A quarter of it costs twice the processor time for each byte.
    pub const MAX_PIECE_BYTES: usize = 1024 * 1024;

    /// Shortest piece, in bytes. A shorter one is read and written in as little time.
    pub const MIN_PIECE_BYTES: usize = 64 * 1024;

    /// Shortest piece, in bytes, that begins within a page. `sendfile` sends 16 pages at once, and the few
    /// bytes that are left of a short piece cost the client one more wake-up.
    pub const MIN_UNALIGNED_BYTES: usize = 256 * 1024;

    pub(super) fn new(state: ResponseState) -> Self {
        Self(state)
    }

    /// Leaves a piece of a file to the connection, and returns the bytes that the body must give in its
    /// place. `None` if the piece must be read: it is too long or too short, or its filesystem does not tell
    /// what is in memory.
    #[must_use]
    pub fn send(&self, file: Arc<dyn SentFile>, range: Range<u64>) -> Option<Bytes> {
        let length = usize::try_from(range.end.checked_sub(range.start)?).ok()?;
        let is_aligned = range.start.is_multiple_of(PAGE_BYTES);
        let least = if is_aligned { Self::MIN_PIECE_BYTES } else { Self::MIN_UNALIGNED_BYTES };
        if !(least..=Self::MAX_PIECE_BYTES).contains(&length) {
            return None;
        }
        let is_cached = is_cached_at(file.file(), range.start).ok()?;
        let mut piece = self.0.piece();
        if piece.is_some() {
            return None;
        }
        self.0.set_unsent_of_piece(length as u64);
        let probed = Some((range.start, is_cached));
        *piece = Some(FilePiece { file, range, has_begun: false, probed, body: None });
        Some(Bytes::from_static(&PLACEHOLDERS[..length]))
    }

    /// Returns the bytes of the last piece that were not sent.
    #[must_use]
    pub fn unsent(&self) -> u64 {
        self.0.unsent_of_piece()
    }
}

/// Returns the index of the slice that is the placeholder of `piece`. Fails if there is one of them without
/// the other, or if bytes precede the rest of a piece that has begun.
pub(super) fn find_placeholder(
    piece: Option<&FilePiece>,
    slices: &[IoSlice<'_>],
) -> io::Result<Option<usize>> {
    let mut found = slices.iter().enumerate().filter(|(_, slice)| is_placeholder(slice));
    match (piece, found.next(), found.next()) {
        (None, None, _) => Ok(None),
        (Some(piece), Some((index, slice)), None)
            if piece.len() == slice.len() as u64 && (index == 0 || !piece.has_begun) =>
        {
            Ok(Some(index))
        }
        _ => Err(io::Error::other("a piece of a file and its placeholder do not match")),
    }
}

/// Sender of a socket's pieces.
#[derive(Debug, Default)]
pub(super) struct PieceWriter {
    /// Read that brings the next bytes into memory, and returns where they end.
    reading: Option<JoinHandle<io::Result<u64>>>,
    /// True if the last call of `poll_send` waits for that read, and not for the client.
    is_waiting_for_disk: bool,
}

impl PieceWriter {
    /// Returns true if the piece waits for the disk, and not for the client.
    pub(super) fn is_waiting_for_disk(&self) -> bool {
        self.is_waiting_for_disk
    }

    /// Sends `head`, then bytes of the piece that waits, which is taken away after its last byte. While the
    /// piece waits for the disk, `head` is sent alone. Returns how many bytes of both were sent.
    pub(super) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        stream: &TcpStream,
        head: &[IoSlice<'_>],
        state: &ResponseState,
    ) -> Poll<io::Result<usize>> {
        self.is_waiting_for_disk = false;
        let head_bytes: usize = head.iter().map(|slice| slice.len()).sum();
        let mut slot = state.piece();
        let Some(piece) = &mut *slot else { return Poll::Ready(Ok(0)) };
        loop {
            ready!(stream.poll_write_ready(cx))?;
            let start = piece.range.start;
            let end = match self.poll_cached(cx, piece) {
                Poll::Ready(end) => end.map_err(log_fault)?,
                Poll::Pending if head_bytes > 0 => start,
                Poll::Pending => {
                    self.is_waiting_for_disk = true;
                    return Poll::Pending;
                }
            };
            piece.file.check().map_err(log_fault)?;
            let (sent_of_head, sent_of_piece) = match try_send(stream, head, piece.file.file(), start..end) {
                Ok((0, 0)) => continue,
                sent => sent.map_err(log_fault)?,
            };
            piece.has_begun |= sent_of_piece > 0;
            piece.range.start += sent_of_piece as u64;
            if piece.range.is_empty() {
                // Before the last part counts as sent: a response of a changed file is not complete.
                piece.file.check().map_err(log_fault)?;
            }
            state.set_unsent_of_piece(piece.len());
            let sent = if piece.range.is_empty() { slot.take() } else { None };
            drop(slot);
            drop(sent);
            return Poll::Ready(Ok(sent_of_head + sent_of_piece));
        }
    }

    /// Returns ready once the next bytes of `piece` are in memory, as far as the kernel tells, with their
    /// end.
    fn poll_cached(&mut self, cx: &mut Context<'_>, piece: &mut FilePiece) -> Poll<io::Result<u64>> {
        let Range { start, end } = piece.range;
        let mut reading = if let Some(reading) = self.reading.take() {
            reading
        } else {
            let is_cached = match piece.probed.take() {
                Some((offset, is_cached)) if offset == start => is_cached,
                _ => is_cached_at(piece.file.file(), start)?,
            };
            if is_cached {
                let probed = start..end.min(start + MAX_PROBED_BYTES);
                let cached = cached_end(piece.file.file(), &probed)?;
                if cached > start {
                    piece.probed = (cached < probed.end).then_some((cached, false));
                    return Poll::Ready(Ok(cached));
                }
            }
            let (file, range) = (piece.file.clone(), start..end.min(start + MAX_READ_BYTES));
            tokio::task::spawn_blocking(move || read(file.file(), range))
        };
        match Pin::new(&mut reading).poll(cx) {
            // Not looked for again: memory may be so short that the bytes would be read for ever.
            Poll::Ready(read) => Poll::Ready(read.map_err(io::Error::other)?),
            Poll::Pending => {
                self.reading = Some(reading);
                Poll::Pending
            }
        }
    }
}

/// Sends `head` and bytes of `range` as far as the socket takes them at once. Returns how many bytes of each
/// were sent; none if the socket takes none, which the next call of `poll_write_ready` waits for.
fn try_send(
    stream: &TcpStream,
    head: &[IoSlice<'_>],
    file: &File,
    range: Range<u64>,
) -> io::Result<(usize, usize)> {
    let head_bytes: usize = head.iter().map(|slice| slice.len()).sum();
    let piece_bytes = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
    let mut sent = (0, 0);
    // tokio waits for the socket to be writable if it takes no more.
    let attempt = stream.try_io(Interest::WRITABLE, || {
        if head_bytes > 0 {
            // The head goes out with the first bytes of the piece, if any follow.
            let more = if piece_bytes > 0 { SendFlags::MORE } else { SendFlags::empty() };
            let flags = more | SendFlags::NOSIGNAL;
            sent.0 = sendmsg(stream, head, &mut SendAncillaryBuffer::default(), flags)?;
        }
        if sent.0 < head_bytes {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut offset = range.start;
        // A short count may be that of a full socket, of a file that ended, or of a page that cannot be read.
        while sent.1 < piece_bytes {
            match rustix::fs::sendfile(stream, file, Some(&mut offset), piece_bytes - sent.1) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(taken) => sent.1 += taken,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    });
    match attempt {
        // What was sent counts. The next call meets the error again.
        Err(error) if error.kind() != io::ErrorKind::WouldBlock && sent == (0, 0) => Err(error),
        _ => Ok(sent),
    }
}

/// Returns true if a file can cause the error, and neither a client nor a shutdown.
fn is_of_file(error: &io::Error) -> bool {
    const ERRNOS: [Errno; 6] =
        [Errno::IO, Errno::BADMSG, Errno::UCLEAN, Errno::STALE, Errno::INVAL, Errno::NOSYS];
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData)
        || Errno::from_io_error(error).is_some_and(|errno| ERRNOS.contains(&errno))
}

/// Logs an error of a file. The connection is cut off, so that half a response does not look like a whole
/// one.
fn log_fault(error: io::Error) -> io::Error {
    if is_of_file(&error) {
        tracing::error!(%error, "failed to send file, response cut off");
    }
    error
}

/// Returns the end of the first bytes of `range` that the kernel has in memory, as far as some of them show: the
/// last byte, and one byte of each block. Clients cannot foresee which one, and so cannot have the kernel read just
/// that. In a range of one block only the last byte is looked for: a client that reads that byte first can make one
/// short read of the disk wait on this thread.
fn cached_end(file: &File, range: &Range<u64>) -> io::Result<u64> {
    let (mut end, mut next) = (range.start, range.start);
    while next < range.end && range.end - range.start > PROBED_BLOCK_BYTES {
        let block = next..range.end.min(next + PROBED_BLOCK_BYTES);
        let offset = random_offset(&block);
        if !is_cached_at(file, offset)? {
            return Ok(end);
        }
        // Whole pages go out in fewer parts.
        end = range.start.max(offset - offset % PAGE_BYTES);
        next = block.end;
    }
    Ok(if is_cached_at(file, range.end - 1)? { range.end } else { end })
}

/// Returns an offset within `range` that clients cannot foresee.
fn random_offset(range: &Range<u64>) -> u64 {
    range.start + RandomState::new().build_hasher().finish() % (range.end - range.start)
}

/// Returns true if the kernel has a byte in memory. Fails if it cannot tell.
fn is_cached_at(file: &File, offset: u64) -> io::Result<bool> {
    let mut byte = [0];
    match preadv2(file, &mut [IoSliceMut::new(&mut byte)], offset, ReadWriteFlags::NOWAIT) {
        // Not the end of the file: Linux 5.9 and 5.10 may return 0 elsewhere (readv(2), BUGS). The thread
        // that may block meets a real end.
        Ok(read) => Ok(read > 0),
        Err(Errno::AGAIN | Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Reads bytes of a file, so that the kernel has them in memory, and returns their end. Blocks.
fn read(file: &File, range: Range<u64>) -> io::Result<u64> {
    let mut buffer = [0; BUFFER_BYTES];
    let mut at = range.start;
    while at < range.end {
        match file.read_at(&mut buffer, at) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => at += read as u64,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(range.end)
}

#[cfg(test)]
mod tests;
