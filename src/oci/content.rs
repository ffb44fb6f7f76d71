//! Content: bytes that can be read at an offset, in memory or in parts of files, which are read when they are
//! needed.
//!
//! A registry therefore holds no second copy of itself: it serves the pages that it runs from, and all
//! generations on a node share these pages, since their executables are one file. No blob is ever in memory
//! as a whole.
//!
//! Reads block, except [`Chunks::try_next`]. Used by the rooms that serve, save and push.

use std::fs::File;
use std::io::{self, IoSliceMut, Read};
use std::ops::Range;
use std::sync::Arc;
use std::task::Poll;

use bytes::{Buf as _, Bytes};
use rustix::buffer::spare_capacity;
use rustix::io::{Errno, ReadWriteFlags, preadv2};

use crate::{Algorithm, Digest, Hasher};

/// Longest chunk that is read from a file, in bytes: it stays in a processor's cache until it is sent or
/// hashed.
const MAX_CHUNK_BYTES: u64 = Chunks::MAX_CHUNK_BYTES as u64;

/// Immutable content; clones and slices share it.
#[derive(Clone, Debug, Default)]
pub struct Content(Vec<Segment>);

#[derive(Clone, Debug)]
enum Segment {
    Memory(Bytes),
    File(Arc<File>, Range<u64>),
}

impl Segment {
    fn len(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File(_, range) => range.end - range.start,
        }
    }

    /// Returns the part at `range`, which must lie within.
    fn slice(&self, range: Range<u64>) -> Self {
        match self {
            Self::Memory(bytes) => {
                let at = |offset| usize::try_from(offset).expect("an offset in memory is an address");
                Self::Memory(bytes.slice(at(range.start)..at(range.end)))
            }
            Self::File(file, whole) => {
                Self::File(file.clone(), whole.start + range.start..whole.start + range.end)
            }
        }
    }
}

// === impl Content ===

impl Content {
    /// Creates content from the first `length` bytes of a file, which must not change while the content
    /// lives.
    #[must_use]
    pub fn of_file(file: File, length: u64) -> Self {
        if length == 0 { Self::default() } else { Self(vec![Segment::File(Arc::new(file), 0..length)]) }
    }

    /// Returns the length in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.0.iter().map(Segment::len).sum()
    }

    /// Returns true if the content has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads and hashes the content.
    pub fn digest(&self, algorithm: Algorithm) -> io::Result<Digest> {
        let mut hasher = Hasher::new(algorithm);
        for chunk in self.chunks() {
            hasher.update(&chunk?);
        }
        Ok(hasher.finish())
    }

    /// Returns the part of the content at `range`, clamped to its length.
    #[must_use]
    pub fn slice(&self, range: Range<u64>) -> Self {
        let mut start = 0;
        let mut parts = Vec::new();
        for segment in &self.0 {
            let within = |at: u64| at.saturating_sub(start).min(segment.len());
            let (from, to) = (within(range.start), within(range.end));
            if from < to {
                parts.push(segment.slice(from..to));
            }
            start += segment.len();
        }
        Self(parts)
    }

    /// Returns the content in chunks, in order; those of files have at most [`Chunks::MAX_CHUNK_BYTES`].
    #[must_use]
    pub fn chunks(&self) -> Chunks {
        Chunks { segments: self.0.clone().into_iter(), file: None, max_bytes: MAX_CHUNK_BYTES }
    }

    /// Returns the content as a reader.
    #[must_use]
    pub fn reader(&self) -> impl Read + Send + use<> {
        ContentReader { chunks: self.chunks(), chunk: Bytes::new() }
    }

    /// Returns the bytes if the content is one segment in memory.
    #[must_use]
    pub fn as_bytes(&self) -> Option<&Bytes> {
        match &self.0[..] {
            [Segment::Memory(bytes)] => Some(bytes),
            _ => None,
        }
    }

    /// Returns the bytes as a whole: shared if the content is one segment in memory, else copied.
    pub fn to_bytes(&self) -> io::Result<Bytes> {
        if let Some(bytes) = self.as_bytes() {
            return Ok(bytes.clone());
        }
        let mut all = Vec::with_capacity(usize::try_from(self.len()).unwrap_or_default());
        for chunk in self.chunks() {
            all.extend_from_slice(&chunk?);
        }
        Ok(all.into())
    }
}

impl<const N: usize> From<[Bytes; N]> for Content {
    fn from(segments: [Bytes; N]) -> Self {
        segments.map(|bytes| Self(vec![Segment::Memory(bytes)])).into_iter().collect()
    }
}

impl FromIterator<Self> for Content {
    fn from_iter<I: IntoIterator<Item = Self>>(parts: I) -> Self {
        Self(parts.into_iter().flat_map(|part| part.0).filter(|segment| segment.len() > 0).collect())
    }
}

/// Iterator over content, chunk by chunk.
#[derive(Debug)]
pub struct Chunks {
    segments: std::vec::IntoIter<Segment>,
    /// File that is being read, with the range that is left of it.
    file: Option<(Arc<File>, Range<u64>)>,
    /// Longest chunk of a file, in bytes.
    max_bytes: u64,
}

impl Chunks {
    /// Longest chunk that is read from a file, in bytes, unless [`Self::limit`] says less.
    pub const MAX_CHUNK_BYTES: usize = 256 * 1024;

    /// Bounds the length in bytes of the chunks that are read from files from now on.
    pub fn limit(&mut self, max_bytes: usize) {
        self.max_bytes = (max_bytes as u64).clamp(1, MAX_CHUNK_BYTES);
    }

    /// Returns the next chunk if it is in memory, that is if reading it does not have to wait for a disk.
    pub fn try_next(&mut self) -> Poll<Option<io::Result<Bytes>>> {
        let max_bytes = self.max_bytes;
        match self.source() {
            ChunkSource::End => Poll::Ready(None),
            ChunkSource::Memory(bytes) => Poll::Ready(Some(Ok(bytes))),
            ChunkSource::File(file, rest) => {
                match read_cached(file, rest.start, next_length(rest, max_bytes)) {
                    Some(chunk) => {
                        rest.start += chunk.len() as u64;
                        Poll::Ready(Some(Ok(chunk)))
                    }
                    None => Poll::Pending,
                }
            }
        }
    }

    fn source(&mut self) -> ChunkSource<'_> {
        if self.file.as_ref().is_none_or(|(_, rest)| rest.is_empty()) {
            match self.segments.next() {
                None => return ChunkSource::End,
                Some(Segment::Memory(bytes)) => return ChunkSource::Memory(bytes),
                Some(Segment::File(file, range)) => self.file = Some((file, range)),
            }
        }
        match &mut self.file {
            Some((file, rest)) => ChunkSource::File(file, rest),
            None => ChunkSource::End,
        }
    }
}

/// Source of the next chunk.
enum ChunkSource<'a> {
    Memory(Bytes),
    File(&'a File, &'a mut Range<u64>),
    End,
}

impl Iterator for Chunks {
    type Item = io::Result<Bytes>;

    fn next(&mut self) -> Option<Self::Item> {
        let max_bytes = self.max_bytes;
        match self.source() {
            ChunkSource::End => None,
            ChunkSource::Memory(bytes) => Some(Ok(bytes)),
            ChunkSource::File(file, rest) => {
                let length = next_length(rest, max_bytes);
                let chunk = read(file, rest.start, length);
                rest.start += length as u64;
                Some(chunk)
            }
        }
    }
}

fn next_length(rest: &Range<u64>, max_bytes: u64) -> usize {
    usize::try_from(max_bytes.min(rest.end - rest.start)).expect("a chunk has an address")
}

/// Reads as much as the kernel has in memory; `None` if it has nothing, or cannot tell, or the file has
/// ended.
fn read_cached(file: &File, from: u64, length: usize) -> Option<Bytes> {
    let mut chunk = vec![0; length];
    let read = preadv2(file, &mut [IoSliceMut::new(&mut chunk)], from, ReadWriteFlags::NOWAIT).ok()?;
    chunk.truncate(read);
    (read > 0).then(|| chunk.into())
}

/// Reads `length` bytes of a file, into memory that was not filled with zeros first.
fn read(file: &File, from: u64, length: usize) -> io::Result<Bytes> {
    let mut chunk = Vec::with_capacity(length);
    while chunk.len() < length {
        let at = from + chunk.len() as u64;
        match rustix::io::pread(file, spare_capacity(&mut chunk), at) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    // The allocation may be larger than `length`, and the file longer.
    chunk.truncate(length);
    Ok(chunk.into())
}

struct ContentReader {
    chunks: Chunks,
    chunk: Bytes,
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

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn file(content: &[u8]) -> Content {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        Content::of_file(file, content.len() as u64)
    }

    #[test]
    fn every_slice_is_that_of_the_whole() {
        let memory = ["ab", "", "c"].map(Bytes::from);
        let content: Content = [memory.into(), file(b"de"), file(b""), file(b"f")].into_iter().collect();
        let whole = content.to_bytes().unwrap();
        assert_eq!((&whole[..], content.len()), (&b"abcdef"[..], 6));
        for from in 0..8 {
            for to in 0..8 {
                let expected = whole.get(from.min(6)..to.min(6)).unwrap_or_default();
                let slice = content.slice(from as u64..to as u64);
                assert_eq!(slice.to_bytes().unwrap(), expected, "{from}..{to}");
                assert_eq!(slice.len(), expected.len() as u64);
            }
        }
        assert_eq!(content.slice(2..u64::MAX).to_bytes().unwrap(), "cdef");
        assert_eq!(content.digest(Algorithm::Sha256).unwrap(), Digest::sha256(b"abcdef"));
        assert!(Content::default().is_empty());
    }

    #[test]
    fn files_are_read_in_chunks_and_in_order() {
        let bytes: Vec<u8> = (0_u32..200_000).flat_map(u32::to_le_bytes).collect();
        let content = file(&bytes);
        assert!(content.chunks().all(|chunk| chunk.unwrap().len() as u64 <= MAX_CHUNK_BYTES));
        assert_eq!(content.to_bytes().unwrap(), bytes);
        let mut read = Vec::new();
        content.slice(3..700_001).reader().read_to_end(&mut read).unwrap();
        assert_eq!(read, bytes[3..700_001]);
    }

    #[test]
    fn chunks_in_memory_are_the_same_as_chunks_that_are_read() {
        let bytes: Vec<u8> = (0_u32..200_000).flat_map(u32::to_le_bytes).collect();
        let content: Content = [[Bytes::from("ab")].into(), file(&bytes)].into_iter().collect();
        let mut chunks = content.slice(1..700_001).chunks();
        let mut all = Vec::new();
        loop {
            match chunks.try_next() {
                Poll::Ready(None) => break,
                Poll::Ready(Some(chunk)) => all.extend_from_slice(&chunk.unwrap()),
                // Not every filesystem can tell.
                Poll::Pending => all.extend_from_slice(&chunks.next().unwrap().unwrap()),
            }
        }
        assert_eq!(all, [b"b", &bytes[..699_999]].concat());
    }

    #[test]
    fn a_file_that_is_shorter_than_it_was_is_an_error_and_not_an_end() {
        let short = Content::of_file(tempfile::tempfile().unwrap(), 1);
        assert_eq!(short.to_bytes().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
