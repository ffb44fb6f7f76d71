//! Content in chunks, of which no more than one is in memory at once.

use std::io::{self, Read};
use std::iter::Peekable;
use std::ops::Range;
use std::sync::Arc;
use std::task::Poll;

use bytes::{Buf as _, Bytes};

use super::{ReadAt, Segment};

/// Longest chunk that is read from a source, in bytes: it stays in a processor's cache until it is sent or
/// hashed.
const MAX_CHUNK_BYTES: u64 = Chunks::MAX_CHUNK_BYTES as u64;

/// Iterator over content, chunk by chunk.
#[derive(Debug)]
pub struct Chunks {
    segments: Peekable<std::vec::IntoIter<Segment>>,
    /// Source that is being read, with the range that is left of it.
    source: Option<(Arc<dyn ReadAt>, Range<u64>)>,
    /// Longest chunk of a source, in bytes.
    max_bytes: u64,
}

impl Chunks {
    /// Longest chunk that is read from a source, in bytes, unless [`Self::limit`] says less.
    pub const MAX_CHUNK_BYTES: usize = 256 * 1024;

    pub(super) fn new(segments: Vec<Segment>) -> Self {
        Self { segments: segments.into_iter().peekable(), source: None, max_bytes: MAX_CHUNK_BYTES }
    }

    /// Bounds the length in bytes of the chunks that are read from sources from now on.
    pub fn limit(&mut self, max_bytes: usize) {
        self.max_bytes = (max_bytes as u64).clamp(1, MAX_CHUNK_BYTES);
    }

    /// Returns the next chunk if reading it does not have to wait, as for a disk.
    pub fn try_next(&mut self) -> Poll<Option<io::Result<Bytes>>> {
        let max_bytes = self.max_bytes;
        match self.next_source() {
            ChunkSource::End => Poll::Ready(None),
            ChunkSource::Memory(bytes) => Poll::Ready(Some(Ok(bytes))),
            ChunkSource::Source(source, rest) => match source.try_read_at(next_range(rest, max_bytes)) {
                Some(chunk) => {
                    rest.start += chunk.len() as u64;
                    Poll::Ready(Some(Ok(chunk)))
                }
                None => Poll::Pending,
            },
        }
    }

    /// Passes the next part of the content, of at most `max_bytes`, to `take` if it lies in a file. The part
    /// is no longer among the chunks if `take` returns a value.
    pub fn take_file<T>(
        &mut self,
        max_bytes: usize,
        take: impl FnOnce(&Arc<dyn ReadAt>, Range<u64>) -> Option<T>,
    ) -> Option<T> {
        self.begin_source();
        let (source, rest) = self.source.as_mut().filter(|(_, rest)| !rest.is_empty())?;
        source.as_file()?;
        let range = next_range(rest, max_bytes as u64);
        let taken = take(source, range.clone())?;
        rest.start = range.end;
        Some(taken)
    }

    /// Begins to read the next segment if the source is read to its end, and that segment is a source.
    fn begin_source(&mut self) {
        let is_over = self.source.as_ref().is_none_or(|(_, rest)| rest.is_empty());
        if is_over
            && let Some(Segment::Source(source, range)) =
                self.segments.next_if(|segment| matches!(segment, Segment::Source(..)))
        {
            self.source = Some((source, range));
        }
    }

    fn next_source(&mut self) -> ChunkSource<'_> {
        self.begin_source();
        match &mut self.source {
            Some((source, rest)) if !rest.is_empty() => ChunkSource::Source(&**source, rest),
            _ => match self.segments.next() {
                Some(Segment::Memory(bytes)) => ChunkSource::Memory(bytes),
                _ => ChunkSource::End,
            },
        }
    }
}

/// Source of the next chunk.
enum ChunkSource<'a> {
    Memory(Bytes),
    Source(&'a dyn ReadAt, &'a mut Range<u64>),
    End,
}

impl Iterator for Chunks {
    type Item = io::Result<Bytes>;

    fn next(&mut self) -> Option<Self::Item> {
        let max_bytes = self.max_bytes;
        match self.next_source() {
            ChunkSource::End => None,
            ChunkSource::Memory(bytes) => Some(Ok(bytes)),
            ChunkSource::Source(source, rest) => {
                let read = source.read_on(next_range(rest, max_bytes), rest.end);
                match &read {
                    Ok(chunk) => rest.start += chunk.len() as u64,
                    Err(_) => rest.start = rest.end,
                }
                Some(read)
            }
        }
    }
}

fn next_range(rest: &Range<u64>, max_bytes: u64) -> Range<u64> {
    rest.start..rest.end.min(rest.start + max_bytes)
}

/// Content as a reader.
pub(super) struct ContentReader {
    chunks: Chunks,
    chunk: Bytes,
}

impl ContentReader {
    pub(super) fn new(chunks: Chunks) -> Self {
        Self { chunks, chunk: Bytes::new() }
    }
}

impl Read for ContentReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            match self.chunks.next() {
                Some(chunk) => self.chunk = chunk?,
                None => return Ok(0),
            }
        }
        let length = self.chunk.len().min(buffer.len());
        self.chunk.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}
