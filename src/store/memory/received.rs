//! Bytes of an upload in memory, which can be read while others are appended.

use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use quinistry_oci::{Content, ReadAt};

/// Least length of a chunk of an upload, in bytes: the overhead of many small chunks would not be
/// counted.
const MIN_CHUNK_BYTES: usize = 64 * 1024;

/// Received bytes. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Received(Arc<Mutex<Chunks>>);

#[derive(Debug, Default)]
struct Chunks {
    /// Full chunks, each with the offset after its last byte.
    full: Vec<(u64, Bytes)>,
    /// Bytes that do not fill a chunk yet.
    last: Vec<u8>,
}

/// Received bytes as content of the length that they will have.
#[derive(Debug)]
struct Tail {
    received: Received,
    length: u64,
}

// === impl Received ===

impl Received {
    fn chunks(&self) -> MutexGuard<'_, Chunks> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn append(&self, bytes: &[u8]) {
        let mut chunks = self.chunks();
        chunks.last.extend_from_slice(bytes);
        if chunks.last.len() >= MIN_CHUNK_BYTES {
            let chunk = Bytes::from(std::mem::take(&mut chunks.last));
            let end = chunks.full_bytes() + chunk.len() as u64;
            chunks.full.push((end, chunk));
        }
    }

    /// Returns all bytes that were received so far.
    pub(super) fn content(&self) -> Content {
        let chunks = self.chunks();
        let last = Bytes::copy_from_slice(&chunks.last);
        let full = chunks.full.iter().map(|(_, chunk)| chunk.clone());
        full.chain([last]).map(|chunk| Content::from([chunk])).collect()
    }

    /// Returns content of `length` bytes, whose reads fail where the bytes are not received yet.
    pub(super) fn tail(&self, length: u64) -> Content {
        Content::new(Tail { received: self.clone(), length })
    }
}

// === impl Chunks ===

impl Chunks {
    fn full_bytes(&self) -> u64 {
        self.full.last().map_or(0, |(end, _)| *end)
    }

    /// Returns the first bytes of `range`, up to the end of a chunk; `None` if they are not received yet.
    fn first_of(&self, range: Range<u64>) -> Option<Bytes> {
        let index = self.full.partition_point(|(end, _)| *end <= range.start);
        let wanted = usize::try_from(range.end - range.start).ok()?;
        if let Some((end, chunk)) = self.full.get(index) {
            let from = chunk.len() - usize::try_from(end - range.start).ok()?;
            return Some(chunk.slice(from..chunk.len().min(from + wanted)));
        }
        let from = usize::try_from(range.start - self.full_bytes()).ok()?;
        let rest = self.last.get(from..)?;
        let part = &rest[..rest.len().min(wanted)];
        (!part.is_empty()).then(|| Bytes::copy_from_slice(part))
    }
}

impl ReadAt for Tail {
    fn length(&self) -> u64 {
        self.length
    }

    fn read_at(&self, mut range: Range<u64>) -> io::Result<Bytes> {
        let wanted = usize::try_from(range.end - range.start).map_err(io::Error::other)?;
        let mut all = Vec::new();
        while all.len() < wanted {
            let part = self.try_read_at(range.clone()).ok_or(io::ErrorKind::UnexpectedEof)?;
            if all.is_empty() && part.len() == wanted {
                return Ok(part);
            }
            range.start += part.len() as u64;
            all.extend_from_slice(&part);
        }
        Ok(all.into())
    }

    fn try_read_at(&self, range: Range<u64>) -> Option<Bytes> {
        self.received.chunks().first_of(range)
    }
}
