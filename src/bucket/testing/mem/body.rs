//! Bytes of objects and parts.

use std::ops::Range;

use bytes::Bytes;
use md5::{Digest as _, Md5};

use crate::Payload;

/// Length in bytes of the pieces in which a body is read.
const CHUNK_BYTES: u64 = 64 << 10;

/// A piece of a forgotten body.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// Bytes of an object, in segments that are shared with its parts.
#[derive(Clone, Debug, Default)]
pub(super) struct Body {
    segments: Vec<Segment>,
    length: u64,
}

#[derive(Clone, Debug)]
enum Segment {
    Bytes(Bytes),
    /// Bytes that were forgotten, by their number.
    Forgotten(u64),
}

impl Body {
    pub(super) fn new(payload: &Payload) -> Self {
        // A copy: the memory of the payload belongs to the budget of its sender.
        Self { segments: vec![Segment::Bytes(payload.to_vec().into())], length: payload.length() }
    }

    /// Makes a body of which only the length is kept.
    pub(super) fn forgotten(length: u64) -> Self {
        Self { segments: vec![Segment::Forgotten(length)], length }
    }

    pub(super) fn join<'a>(bodies: impl Iterator<Item = &'a Self>) -> Self {
        let mut whole = Self::default();
        for body in bodies {
            whole.segments.extend_from_slice(&body.segments);
            whole.length += body.length;
        }
        whole
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Returns a range of the body, which must lie in it.
    pub(super) fn slice(&self, range: Range<u64>) -> Self {
        let mut segments = Vec::new();
        let mut at = 0;
        for segment in &self.segments {
            let length = segment.length();
            let (begin, end) = (range.start.max(at), range.end.min(at + length));
            if begin < end {
                segments.push(segment.slice(begin - at..end - at));
            }
            at += length;
        }
        Self { segments, length: range.end - range.start }
    }

    /// Returns a range of the body in pieces as they may come from a network.
    pub(super) fn chunks(&self, range: Range<u64>) -> Vec<Bytes> {
        let mut chunks = Vec::new();
        for segment in self.slice(range).segments {
            let mut at = 0;
            while at < segment.length() {
                let end = segment.length().min(at + CHUNK_BYTES);
                chunks.push(match segment.slice(at..end) {
                    Segment::Bytes(bytes) => bytes,
                    Segment::Forgotten(length) => Bytes::from_static(&ZEROS[..index(length)]),
                });
                at = end;
            }
        }
        chunks
    }

    /// Returns the MD5 of the bytes, as S3 takes it for the `ETag`; that of forgotten bytes is one of their
    /// length.
    pub(super) fn md5(&self) -> [u8; 16] {
        let mut hash = Md5::new();
        for segment in &self.segments {
            match segment {
                Segment::Bytes(bytes) => hash.update(bytes),
                Segment::Forgotten(length) => hash.update(length.to_le_bytes()),
            }
        }
        hash.finalize().into()
    }
}

impl Segment {
    fn length(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Forgotten(length) => *length,
        }
    }

    fn slice(&self, range: Range<u64>) -> Self {
        match self {
            Self::Bytes(bytes) => Self::Bytes(bytes.slice(index(range.start)..index(range.end))),
            Self::Forgotten(_) => Self::Forgotten(range.end - range.start),
        }
    }
}

fn index(position: u64) -> usize {
    usize::try_from(position).expect("the segment is in memory or forgotten")
}

/// Returns an `ETag`: the hash in hexadecimal, in quotes.
pub(super) fn etag(md5: &[u8], suffix: &str) -> String {
    use std::fmt::Write as _;
    let mut tag = String::from("\"");
    for byte in md5 {
        write!(tag, "{byte:02x}").expect("writing to a string succeeds");
    }
    tag + suffix + "\""
}
