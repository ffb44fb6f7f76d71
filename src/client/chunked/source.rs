//! Content of a blob to upload, checked before its last byte is given out.

use std::ops::Range;

use bytes::Bytes;
use futures_util::stream::{self, Stream};
use quinistry_oci::{Content, Descriptor, Hasher};

use super::CHUNK_BYTES;
use crate::BoxError;
use crate::source::SourceFailure;

/// Length of the pieces of a body after which progress is reported, in bytes.
pub(super) const PIECE_BYTES: u64 = 256 * 1024;

/// Content of a blob, which is hashed while it is read for the first time.
pub(super) struct Source {
    content: Content,
    blob: Descriptor,
    /// Hasher of the first `hashed` bytes; `None` once the digest of all bytes was found to be right.
    hasher: Option<Hasher>,
    hashed: u64,
    /// Bytes that were read last, and their place.
    chunk: (Range<u64>, Bytes),
}

/// Splits a chunk into the pieces of a body.
pub(super) fn pieces_of(mut chunk: Bytes) -> impl Iterator<Item = Result<Bytes, String>> {
    let length = usize::try_from(PIECE_BYTES).expect("a piece is in memory");
    std::iter::from_fn(move || {
        let piece = chunk.split_to(chunk.len().min(length));
        (!piece.is_empty()).then_some(Ok(piece))
    })
}

// === impl Source ===

impl Source {
    pub(super) fn new(content: Content, blob: Descriptor) -> Self {
        let hasher = Some(Hasher::new(blob.digest.algorithm()));
        Self { content, blob, hasher, hashed: 0, chunk: (0..0, Bytes::new()) }
    }

    /// Reads bytes on a thread that may block: the archive may be on a slow stick. Gives the source back, unless the
    /// thread panicked.
    pub(super) async fn read_on_thread(
        mut self,
        range: Range<u64>,
    ) -> Result<(Self, Result<Bytes, BoxError>), BoxError> {
        let read = tokio::task::spawn_blocking(move || {
            let result = self.read(range);
            (self, result)
        });
        Ok(read.await?)
    }

    /// Reads all bytes in pieces. An error is also kept in `failure`.
    pub(super) fn pieces(self, failure: SourceFailure) -> impl Stream<Item = Result<Bytes, String>> {
        stream::unfold((Some(self), 0), move |(source, offset)| {
            let failure = failure.clone();
            async move {
                let source = source?;
                let end = source.blob.size.min(offset + PIECE_BYTES);
                if offset == end {
                    return None;
                }
                let error = match source.read_on_thread(offset..end).await {
                    Ok((source, Ok(piece))) => return Some((Ok(piece), (Some(source), end))),
                    Ok((_, Err(error))) | Err(error) => error,
                };
                let text = error.to_string();
                failure.put(error);
                Some((Err(text), (None, end)))
            }
        })
    }

    /// Reads bytes on this thread. Fails instead of giving out the last ones if the content does not match the digest.
    fn read(&mut self, range: Range<u64>) -> Result<Bytes, BoxError> {
        let (place, chunk) = &self.chunk;
        if place.start <= range.start && range.end <= place.end {
            let at = |offset: u64| usize::try_from(offset - place.start).expect("a chunk is in memory");
            return Ok(chunk.slice(at(range.start)..at(range.end)));
        }
        self.hash_up_to(range.start)?;
        let bytes = self.content.slice(range.clone()).to_bytes()?;
        let unhashed = usize::try_from(self.hashed.saturating_sub(range.start))?.min(bytes.len());
        self.take(&bytes[unhashed..])?;
        self.chunk = (range, bytes.clone());
        Ok(bytes)
    }

    /// Hashes bytes that the registry has and this program has not read, such as those of an earlier attempt.
    fn hash_up_to(&mut self, end: u64) -> Result<(), BoxError> {
        while self.hasher.is_some() && self.hashed < end {
            let piece = self.hashed..end.min(self.hashed + CHUNK_BYTES);
            let bytes = self.content.slice(piece).to_bytes()?;
            self.take(&bytes)?;
        }
        Ok(())
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), BoxError> {
        let Some(hasher) = &mut self.hasher else { return Ok(()) };
        hasher.update(bytes);
        self.hashed += bytes.len() as u64;
        if self.hashed == self.blob.size {
            let actual = self.hasher.take().map(Hasher::finish);
            if let Some(actual) = actual.filter(|actual| *actual != self.blob.digest) {
                return Err(format!(
                    "content does not match its digest: got {actual}; copy the archive again"
                )
                .into());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;

    use super::*;

    fn source(bytes: &'static [u8]) -> Source {
        let blob = Descriptor::of("x", b"0123456789");
        Source::new([Bytes::from_static(bytes)].into(), blob)
    }

    #[test]
    fn content_is_hashed_once_in_whatever_order_it_is_read() {
        let mut good = source(b"0123456789");
        for (range, bytes) in [(0..4, "0123"), (2..4, "23"), (4..8, "4567"), (1..9, "12345678"), (9..10, "9")]
        {
            assert_eq!(good.read(range).unwrap(), bytes);
        }
        assert!(good.hasher.is_none(), "the digest was found to be right");
        assert_eq!(good.read(0..10).unwrap(), "0123456789");
    }

    #[tokio::test]
    async fn pieces_end_with_an_error_before_the_last_one_of_wrong_content() {
        let bytes = vec![7; usize::try_from(2 * PIECE_BYTES + 1).unwrap()];
        let blob = Descriptor::of("x", &bytes);
        let pieces = |bytes: Vec<u8>| {
            let failure = SourceFailure::default();
            let pieces = Source::new([Bytes::from(bytes)].into(), blob.clone()).pieces(failure.clone());
            async move { (pieces.collect::<Vec<_>>().await, failure.take().is_some()) }
        };
        let (good, failed) = pieces(bytes.clone()).await;
        let good: Vec<_> = good.into_iter().map(|piece| piece.unwrap().len() as u64).collect();
        assert_eq!((good, failed), (vec![PIECE_BYTES, PIECE_BYTES, 1], false));
        let (bad, failed) = pieces([&bytes[1..], b"x"].concat()).await;
        let bad: Vec<_> = bad.into_iter().map(|piece| piece.is_ok()).collect();
        assert_eq!((bad, failed), (vec![true, true, false], true));
    }

    #[test]
    fn the_last_bytes_of_wrong_content_are_not_given_out() {
        let mut bad = source(b"0123456788");
        assert!(bad.read(0..9).is_ok());
        let error = bad.read(9..10).unwrap_err().to_string();
        assert!(error.ends_with("copy the archive again"), "{error}");
        let mut skipped = source(b"0123x56789");
        assert!(skipped.read(8..10).is_err(), "bytes of an earlier attempt count");
    }
}
