//! A client's reading of a fetched blob, or of a range of it.

use std::ops::Range;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use futures_util::{Stream, stream};
use quinistry_oci::Chunks;
use tokio::sync::watch;

use crate::error::FetchError;
use crate::fetches::{Fetches, Request};
use crate::pass_through::PassThrough;
use crate::progress::{Progress, Step};
use crate::running::Seat;
use crate::staging::blocking;

/// Most bytes that a reader has in memory at once, beside those that the kernel has. (A blob that is not stored has its
/// withheld end in memory, too.)
pub const READ_BYTES: usize = 32 * 1024;

/// Reader of a blob while it is fetched. Dropping the reader leaves the fetch.
pub struct Reader(State);

enum State {
    Tail(Box<Tail>),
    PassThrough(Box<PassThrough>),
    Over,
}

/// Reading behind the task of a fetch.
pub(crate) struct Tail {
    fetches: Fetches,
    request: Request,
    /// Kept while the client reads: the last one that leaves may end the fetch.
    _seat: Seat,
    progress: watch::Receiver<Progress>,
    /// Bytes that the client still wants.
    range: Range<u64>,
    /// The staged bytes of `range`, unless a read of them was cancelled.
    chunks: Option<Chunks>,
}

enum Next {
    Piece(Bytes),
    Done,
    Cut(FetchError),
    GoOnAlone(Box<PassThrough>),
}

// === impl Reader ===

impl Reader {
    pub(crate) fn tail(tail: Tail) -> Self {
        Self(State::Tail(Box::new(tail)))
    }

    pub(crate) fn pass_through(transfer: PassThrough) -> Self {
        Self(State::PassThrough(Box::new(transfer)))
    }

    /// Waits for the next bytes, at most [`READ_BYTES`]; `None` after the last one that is wanted. After an error the
    /// client's connection must be cut off, since the blob is not complete. Dropping the future loses no bytes.
    pub async fn next(&mut self) -> Option<Result<Bytes, FetchError>> {
        loop {
            let next = match &mut self.0 {
                State::Over => return None,
                State::Tail(tail) => tail.next().await,
                State::PassThrough(transfer) => match transfer.next().await {
                    Some(Ok(piece)) => Next::Piece(piece),
                    Some(Err(error)) => Next::Cut(error),
                    None => Next::Done,
                },
            };
            match next {
                Next::Piece(piece) => return Some(Ok(piece)),
                Next::GoOnAlone(transfer) => self.0 = State::PassThrough(transfer),
                Next::Done => self.0 = State::Over,
                Next::Cut(error) => {
                    self.0 = State::Over;
                    return Some(Err(error));
                }
            }
        }
    }

    /// Returns the bytes as a stream, which ends after an error.
    pub fn into_stream(self) -> impl Stream<Item = Result<Bytes, FetchError>> + Send {
        stream::unfold(self, |mut reader| async { reader.next().await.map(|next| (next, reader)) })
    }
}

// === impl Tail ===

impl Tail {
    pub(crate) fn new(fetches: Fetches, request: Request, seat: Seat, range: Range<u64>) -> Self {
        let progress = seat.fetch.progress.subscribe();
        Self { fetches, request, _seat: seat, progress, range, chunks: None }
    }

    async fn next(&mut self) -> Next {
        loop {
            let (step, streaming) = match &*self.progress.borrow_and_update() {
                Progress::Streaming(streaming) => {
                    (streaming.step(self.range.start, self.range.end), streaming.clone())
                }
                // Tails are made of streaming fetches alone.
                _ => return Next::Cut(FetchError::Interrupted),
            };
            match step {
                Step::Done => return Next::Done,
                Step::Cut(error) => return Next::Cut(error),
                Step::Wait => {
                    if self.progress.changed().await.is_err() {
                        return Next::Cut(FetchError::Interrupted);
                    }
                }
                Step::Read(bytes) => {
                    let chunks = self.chunks.take();
                    let chunks =
                        chunks.unwrap_or_else(|| streaming.staged.slice(self.range.clone()).chunks());
                    return self.read(chunks, bytes).await;
                }
                Step::GoOnAlone(transfer) => {
                    let (fetches, request) = (self.fetches.clone(), self.request.clone());
                    let (staged, visible, range) = (&streaming.staged, streaming.visible, self.range.clone());
                    let begun = PassThrough::go_on(fetches, request, &transfer, staged, visible, range).await;
                    return begun.map_or_else(Next::Cut, |transfer| Next::GoOnAlone(Box::new(transfer)));
                }
            }
        }
    }

    /// Reads at most `bytes` staged bytes.
    async fn read(&mut self, mut chunks: Chunks, bytes: u64) -> Next {
        chunks.limit(usize::try_from(bytes).unwrap_or(READ_BYTES).min(READ_BYTES));
        // Bytes that came a moment ago are in the page cache, and a copy costs less than another thread.
        let (chunks, piece) = match chunks.try_next() {
            Poll::Ready(piece) => (chunks, piece),
            Poll::Pending => {
                let read = blocking(move || {
                    let piece = chunks.next();
                    (chunks, piece)
                });
                match read.await {
                    Ok(read) => read,
                    Err(_) => return Next::Cut(FetchError::Interrupted),
                }
            }
        };
        match piece {
            Some(Ok(piece)) => {
                self.range.start += piece.len() as u64;
                self.chunks = Some(chunks);
                Next::Piece(piece)
            }
            Some(Err(error)) => Next::Cut(FetchError::Staged(Arc::new(error))),
            None => Next::Cut(FetchError::Interrupted),
        }
    }
}
