//! Content: bytes that can be read at an offset, in memory or behind a [`ReadAt`], such as a file or a remote
//! object, which is read when it is needed.
//!
//! A registry therefore holds no second copy of itself: it serves the pages that it runs from, and all
//! generations on a node share these pages, since their executables are one file. No blob is ever in memory
//! as a whole.
//!
//! Reads block, except [`Chunks::try_next`]. Used by the rooms that serve, save and push.

mod chunks;
mod file;

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use self::file::FileSource;
use crate::{Algorithm, Digest, Hasher};

pub use self::chunks::Chunks;

/// Source of content: immutable bytes that can be read at an offset. Implement this trait for content that is
/// neither in memory nor in a file of this machine, and wrap it by [`Content::new`].
pub trait ReadAt: fmt::Debug + Send + Sync + 'static {
    /// Returns the length in bytes.
    fn length(&self) -> u64;

    /// Reads all bytes of `range`, which lies within the length. Fewer bytes are an error
    /// ([`io::ErrorKind::UnexpectedEof`]). May block.
    fn read_at(&self, range: Range<u64>) -> io::Result<Bytes>;

    /// Reads the first bytes of `range`, one at least, for a reader that goes on up to `end`; all of them, unless a
    /// source knows better. May block.
    fn read_on(&self, range: Range<u64>, end: u64) -> io::Result<Bytes> {
        let _ = end;
        self.read_at(range)
    }

    /// Returns the first bytes of `range`, one at least, as far as they are available without blocking;
    /// `None` if none are, or if the source cannot tell.
    fn try_read_at(&self, range: Range<u64>) -> Option<Bytes> {
        let _ = range;
        None
    }

    /// Returns the file that holds the bytes at the same offsets, if there is one on this machine.
    fn as_file(&self) -> Option<&File> {
        None
    }

    /// Returns an error if the bytes may have changed. A caller that reads the file of [`Self::as_file`]
    /// itself calls this for each part that it reads.
    fn check_unchanged(&self) -> io::Result<()> {
        Ok(())
    }
}

/// Immutable content; clones and slices share it.
#[derive(Clone, Debug, Default)]
pub struct Content(Vec<Segment>);

#[derive(Clone, Debug)]
enum Segment {
    /// Bytes in memory, which are shared and need no allocation.
    Memory(Bytes),
    Source(Arc<dyn ReadAt>, Range<u64>),
}

impl Segment {
    fn len(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::Source(_, range) => range.end - range.start,
        }
    }

    /// Returns the part at `range`, which must lie within.
    fn slice(&self, range: Range<u64>) -> Self {
        match self {
            Self::Memory(bytes) => Self::Memory(slice_bytes(bytes, range)),
            Self::Source(source, whole) => {
                Self::Source(source.clone(), whole.start + range.start..whole.start + range.end)
            }
        }
    }
}

fn slice_bytes(bytes: &Bytes, range: Range<u64>) -> Bytes {
    let at = |offset| usize::try_from(offset).expect("an offset in memory is an address");
    bytes.slice(at(range.start)..at(range.end))
}

impl ReadAt for Bytes {
    fn length(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, range: Range<u64>) -> io::Result<Bytes> {
        Ok(slice_bytes(self, range))
    }

    fn try_read_at(&self, range: Range<u64>) -> Option<Bytes> {
        Some(slice_bytes(self, range))
    }
}

impl ReadAt for Content {
    fn length(&self) -> u64 {
        self.len()
    }

    fn read_at(&self, range: Range<u64>) -> io::Result<Bytes> {
        self.slice(range).to_bytes()
    }
}

// === impl Content ===

impl Content {
    /// Creates content from all bytes of a source.
    #[must_use]
    pub fn new(source: impl ReadAt) -> Self {
        let length = source.length();
        if length == 0 { Self::default() } else { Self(vec![Segment::Source(Arc::new(source), 0..length)]) }
    }

    /// Creates content from the first `length` bytes of a file, which must not change while the content
    /// lives.
    #[must_use]
    pub fn of_file(file: File, length: u64) -> Self {
        Self::new(FileSource::new(file, length))
    }

    /// Creates content from the first `length` bytes of a file that another program may change. Reads fail from then on
    /// ([`io::ErrorKind::InvalidData`]). A file that is replaced or removed can be read to its end.
    pub fn of_guarded_file(file: File, length: u64) -> io::Result<Self> {
        Ok(Self::new(FileSource::guarded(file, length)?))
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

    /// Returns the content in chunks, in order; those not in memory have at most
    /// [`Chunks::MAX_CHUNK_BYTES`].
    #[must_use]
    pub fn chunks(&self) -> Chunks {
        Chunks::new(self.0.clone())
    }

    /// Returns the content as a reader.
    #[must_use]
    pub fn reader(&self) -> impl Read + Send + use<> {
        chunks::ContentReader::new(self.chunks())
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

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::sync::Mutex;
    use std::task::Poll;

    use super::*;

    /// Source whose reads are recorded, as each may be a request to another machine.
    #[derive(Clone, Debug)]
    struct Remote(Bytes, Arc<Mutex<Vec<Range<u64>>>>);

    impl ReadAt for Remote {
        fn length(&self) -> u64 {
            self.0.length()
        }

        fn read_at(&self, range: Range<u64>) -> io::Result<Bytes> {
            self.1.lock().unwrap().push(range.clone());
            self.0.read_at(range)
        }
    }

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
        assert!(content.chunks().all(|chunk| chunk.unwrap().len() <= Chunks::MAX_CHUNK_BYTES));
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

    #[test]
    fn a_guarded_file_cannot_be_read_after_a_write_and_can_after_its_removal() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        std::fs::write(&path, b"abc").unwrap();
        // The clock of files moves in steps, so that a write right after this one might have its time.
        let past = std::time::SystemTime::UNIX_EPOCH;
        let open = || {
            let file = File::open(&path).unwrap();
            file.set_modified(past).unwrap();
            Content::of_guarded_file(file, 3).unwrap()
        };
        let removed = open();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(removed.to_bytes().unwrap(), "abc");
        std::fs::write(&path, b"abc").unwrap();
        let changed = open();
        let mut chunks = changed.chunks();
        let check = |chunks: &mut Chunks| chunks.take_file(3, |file, _| file.check_unchanged().err());
        assert!(check(&mut chunks).is_none());
        std::fs::write(&path, b"abd").unwrap();
        assert_eq!(check(&mut changed.chunks()).unwrap().kind(), io::ErrorKind::InvalidData);
        assert!(matches!(chunks.try_next(), Poll::Pending));
        assert_eq!(chunks.next().unwrap().unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn parts_of_files_can_be_taken_instead_of_read() {
        let memory = |text: &'static str| Content::from([Bytes::from(text)]);
        let content: Content =
            [memory("ab"), file(b"cdefgh"), memory("ij"), file(b"k")].into_iter().collect();
        let mut chunks = content.slice(1..11).chunks();
        let take = |chunks: &mut Chunks, most| {
            chunks.take_file(most, |source, range| {
                assert!(source.as_file().is_some() && source.check_unchanged().is_ok());
                Some(source.read_at(range).unwrap())
            })
        };
        assert_eq!(take(&mut chunks, 4), None, "bytes in memory come first");
        assert_eq!(chunks.next().unwrap().unwrap(), "b");
        assert_eq!(take(&mut chunks, 4).unwrap(), "cdef");
        assert_eq!(chunks.take_file(4, |_, _| None::<()>), None);
        assert_eq!(chunks.next().unwrap().unwrap(), "gh", "a part that is not taken is read");
        assert_eq!(take(&mut chunks, 4), None);
        assert_eq!(chunks.next().unwrap().unwrap(), "ij");
        assert_eq!(take(&mut chunks, 4).unwrap(), "k");
        assert_eq!(take(&mut chunks, 4), None);
        assert!(chunks.next().is_none());
    }

    #[test]
    fn only_the_bytes_that_are_needed_are_read_from_a_source() {
        let reads = Arc::new(Mutex::new(Vec::new()));
        let bytes = Bytes::from(vec![7; 1_000_000]);
        let remote = Content::new(Remote(bytes, reads.clone()));
        let mixed: Content = [[Bytes::from("ab")].into(), remote].into_iter().collect();
        let mut chunks = mixed.slice(1..300_002).chunks();
        assert!(matches!(chunks.try_next(), Poll::Ready(Some(Ok(chunk))) if chunk == "b"));
        assert!(matches!(chunks.try_next(), Poll::Pending), "a source that cannot tell is not read");
        assert_eq!(reads.lock().unwrap()[..], []);
        assert_eq!(chunks.map(|chunk| chunk.unwrap().len()).sum::<usize>(), 300_000);
        assert_eq!(reads.lock().unwrap()[..], [0..262_144, 262_144..300_000]);
        assert_eq!(mixed.read_at(0..3).unwrap(), &b"ab\x07"[..]);
        assert_eq!(reads.lock().unwrap()[2..], *std::slice::from_ref(&(0..1)));
    }

    #[test]
    fn bytes_in_memory_are_shared_and_not_copied() {
        let bytes = Bytes::from("abcdef");
        assert_eq!(bytes.read_at(2..4).unwrap().as_ptr(), bytes[2..].as_ptr());
        assert_eq!(bytes.try_read_at(2..4).unwrap().as_ptr(), bytes[2..].as_ptr());
        let content = Content::from([bytes.clone()]).slice(1..3);
        assert_eq!(content.to_bytes().unwrap().as_ptr(), bytes[1..].as_ptr());
        assert_eq!(content.chunks().next().unwrap().unwrap().as_ptr(), bytes[1..].as_ptr());
    }
}
