//! Content in several pieces: bytes in memory, and parts of files, which are read when they are needed. So a registry
//! holds no second copy of itself: what it serves are pages that it runs from, and all generations on a node, whose files
//! are one, share them; and no blob is ever in memory as a whole.
//!
//! Reads block. Used by the rooms that serve, save and push.

use std::fs::File;
use std::io::{self, IoSliceMut, Read};
use std::ops::Range;
use std::sync::Arc;
use std::task::Poll;

use bytes::{Buf as _, Bytes};
use rustix::buffer::spare_capacity;
use rustix::io::{Errno, ReadWriteFlags, preadv2};

use crate::{Algorithm, Digest, Hasher};

/// How much of a file is read at once: it stays in a processor's cache until it is sent or hashed.
const PIECE: u64 = Pieces::LONGEST as u64;

/// Immutable content; clones and slices share it.
#[derive(Clone, Debug, Default)]
pub struct Segments(Vec<Segment>);

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

    /// `range` lies within.
    fn slice(&self, range: Range<u64>) -> Self {
        match self {
            Self::Memory(bytes) => {
                let at = |offset| usize::try_from(offset).expect("what is in memory has an address");
                Self::Memory(bytes.slice(at(range.start)..at(range.end)))
            }
            Self::File(file, whole) => {
                Self::File(file.clone(), whole.start + range.start..whole.start + range.end)
            }
        }
    }
}

// === impl Segments ===

impl Segments {
    /// The first `length` bytes of a file, which must not change while this lives.
    #[must_use]
    pub fn of_file(file: File, length: u64) -> Self {
        if length == 0 { Self::default() } else { Self(vec![Segment::File(Arc::new(file), 0..length)]) }
    }

    /// The length in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.0.iter().map(Segment::len).sum()
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The hash of the content.
    pub fn digest(&self, algorithm: Algorithm) -> io::Result<Digest> {
        let mut hasher = Hasher::new(algorithm);
        for piece in self.pieces() {
            hasher.update(&piece?);
        }
        Ok(hasher.finish())
    }

    /// The part of the content at `range`, clamped to what there is.
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

    /// The pieces, in order, each of a size that memory bears.
    #[must_use]
    pub fn pieces(&self) -> Pieces {
        Pieces { segments: self.0.clone().into_iter(), file: None, most: PIECE }
    }

    /// The content as a reader.
    #[must_use]
    pub fn reader(&self) -> impl Read + Send + use<> {
        Reader { pieces: self.pieces(), piece: Bytes::new() }
    }

    /// The content if it is one piece in memory.
    #[must_use]
    pub fn as_bytes(&self) -> Option<&Bytes> {
        match &self.0[..] {
            [Segment::Memory(bytes)] => Some(bytes),
            _ => None,
        }
    }

    /// The content in one piece: shared if it is one in memory already, else copied.
    pub fn to_bytes(&self) -> io::Result<Bytes> {
        if let Some(bytes) = self.as_bytes() {
            return Ok(bytes.clone());
        }
        let mut all = Vec::with_capacity(usize::try_from(self.len()).unwrap_or_default());
        for piece in self.pieces() {
            all.extend_from_slice(&piece?);
        }
        Ok(all.into())
    }
}

impl<const N: usize> From<[Bytes; N]> for Segments {
    fn from(segments: [Bytes; N]) -> Self {
        segments.map(|bytes| Self(vec![Segment::Memory(bytes)])).into_iter().collect()
    }
}

impl FromIterator<Self> for Segments {
    fn from_iter<I: IntoIterator<Item = Self>>(parts: I) -> Self {
        Self(parts.into_iter().flat_map(|part| part.0).filter(|segment| segment.len() > 0).collect())
    }
}

/// Content, piece by piece.
#[derive(Debug)]
pub struct Pieces {
    segments: std::vec::IntoIter<Segment>,
    /// What is left of the file that is being read.
    file: Option<(Arc<File>, Range<u64>)>,
    /// Longest piece of a file, in bytes.
    most: u64,
}

impl Pieces {
    /// Longest piece that is read from a file at once, unless [`Self::limit`] says less.
    pub const LONGEST: usize = 256 * 1024;

    /// Bounds the length of the pieces that are read from files from now on.
    pub fn limit(&mut self, most: usize) {
        self.most = (most as u64).clamp(1, PIECE);
    }

    /// The next piece, if reading it does not have to wait for a disk.
    pub fn poll_at_hand(&mut self) -> Poll<Option<io::Result<Bytes>>> {
        let most = self.most;
        match self.turn() {
            Turn::Over => Poll::Ready(None),
            Turn::Memory(bytes) => Poll::Ready(Some(Ok(bytes))),
            Turn::File(file, rest) => match read_at_hand(file, rest.start, next_length(rest, most)) {
                Some(piece) => {
                    rest.start += piece.len() as u64;
                    Poll::Ready(Some(Ok(piece)))
                }
                None => Poll::Pending,
            },
        }
    }

    fn turn(&mut self) -> Turn<'_> {
        if self.file.as_ref().is_none_or(|(_, rest)| rest.is_empty()) {
            match self.segments.next() {
                None => return Turn::Over,
                Some(Segment::Memory(bytes)) => return Turn::Memory(bytes),
                Some(Segment::File(file, range)) => self.file = Some((file, range)),
            }
        }
        match &mut self.file {
            Some((file, rest)) => Turn::File(file, rest),
            None => Turn::Over,
        }
    }
}

/// Whose turn it is.
enum Turn<'a> {
    Memory(Bytes),
    File(&'a File, &'a mut Range<u64>),
    Over,
}

impl Iterator for Pieces {
    type Item = io::Result<Bytes>;

    fn next(&mut self) -> Option<Self::Item> {
        let most = self.most;
        match self.turn() {
            Turn::Over => None,
            Turn::Memory(bytes) => Some(Ok(bytes)),
            Turn::File(file, rest) => {
                let length = next_length(rest, most);
                let piece = read(file, rest.start, length);
                rest.start += length as u64;
                Some(piece)
            }
        }
    }
}

fn next_length(rest: &Range<u64>, most: u64) -> usize {
    usize::try_from(most.min(rest.end - rest.start)).expect("a piece is small")
}

/// As much of that as the kernel has in memory; nothing if it has nothing, or cannot tell, or the file has ended.
fn read_at_hand(file: &File, from: u64, length: usize) -> Option<Bytes> {
    let mut piece = vec![0; length];
    let read = preadv2(file, &mut [IoSliceMut::new(&mut piece)], from, ReadWriteFlags::NOWAIT).ok()?;
    piece.truncate(read);
    (read > 0).then(|| piece.into())
}

/// So much of a file, into memory that nobody has filled with zeros before.
fn read(file: &File, from: u64, length: usize) -> io::Result<Bytes> {
    let mut piece = Vec::with_capacity(length);
    while piece.len() < length {
        let at = from + piece.len() as u64;
        match rustix::io::pread(file, spare_capacity(&mut piece), at) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    // There may have been more room than was asked for, and more in the file.
    piece.truncate(length);
    Ok(piece.into())
}

struct Reader {
    pieces: Pieces,
    piece: Bytes,
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.pieces.next() {
                Some(piece) => self.piece = piece?,
                None => return Ok(0),
            }
        }
        let length = self.piece.len().min(buffer.len());
        self.piece.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn file(content: &[u8]) -> Segments {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        Segments::of_file(file, content.len() as u64)
    }

    #[test]
    fn every_slice_is_that_of_the_whole() {
        let memory = ["ab", "", "c"].map(Bytes::from);
        let segments: Segments = [memory.into(), file(b"de"), file(b""), file(b"f")].into_iter().collect();
        let whole = segments.to_bytes().unwrap();
        assert_eq!((&whole[..], segments.len()), (&b"abcdef"[..], 6));
        for from in 0..8 {
            for to in 0..8 {
                let expected = whole.get(from.min(6)..to.min(6)).unwrap_or_default();
                let slice = segments.slice(from as u64..to as u64);
                assert_eq!(slice.to_bytes().unwrap(), expected, "{from}..{to}");
                assert_eq!(slice.len(), expected.len() as u64);
            }
        }
        assert_eq!(segments.slice(2..u64::MAX).to_bytes().unwrap(), "cdef");
        assert_eq!(segments.digest(Algorithm::Sha256).unwrap(), Digest::sha256(b"abcdef"));
        assert!(Segments::default().is_empty());
    }

    #[test]
    fn files_are_read_in_pieces_and_in_order() {
        let content: Vec<u8> = (0_u32..200_000).flat_map(u32::to_le_bytes).collect();
        let segments = file(&content);
        assert!(segments.pieces().all(|piece| piece.unwrap().len() as u64 <= PIECE));
        assert_eq!(segments.to_bytes().unwrap(), content);
        let mut read = Vec::new();
        segments.slice(3..700_001).reader().read_to_end(&mut read).unwrap();
        assert_eq!(read, content[3..700_001]);
    }

    #[test]
    fn what_is_at_hand_is_the_same_as_what_is_read() {
        let content: Vec<u8> = (0_u32..200_000).flat_map(u32::to_le_bytes).collect();
        let segments: Segments = [[Bytes::from("ab")].into(), file(&content)].into_iter().collect();
        let mut pieces = segments.slice(1..700_001).pieces();
        let mut all = Vec::new();
        loop {
            match pieces.poll_at_hand() {
                Poll::Ready(None) => break,
                Poll::Ready(Some(piece)) => all.extend_from_slice(&piece.unwrap()),
                // Not every filesystem can tell.
                Poll::Pending => all.extend_from_slice(&pieces.next().unwrap().unwrap()),
            }
        }
        assert_eq!(all, [b"b", &content[..699_999]].concat());
    }

    #[test]
    fn a_file_that_is_shorter_than_it_was_is_an_error_and_not_an_end() {
        let short = Segments::of_file(tempfile::tempfile().unwrap(), 1);
        assert_eq!(short.to_bytes().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
