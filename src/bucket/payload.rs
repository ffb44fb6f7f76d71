//! Bodies of requests, in pieces of memory that are not joined: a part is sent from the blocks in which it was
//! gathered.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use quinistry_oci::{Algorithm, Digest, Hasher};

/// Body of a request. Clones share the bytes.
#[derive(Clone, Debug, Default)]
pub struct Payload {
    /// Pieces that are not empty.
    pieces: VecDeque<Bytes>,
    length: u64,
}

// === impl Payload ===

impl Payload {
    /// Returns the number of bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Returns true if there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Adds bytes at the end.
    pub fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.length += piece.len() as u64;
            self.pieces.push_back(piece);
        }
    }

    /// Returns the payload with another one at its end.
    #[must_use]
    pub fn followed_by(mut self, other: Self) -> Self {
        other.pieces.into_iter().for_each(|piece| self.push(piece));
        self
    }

    /// Removes and returns the first piece.
    pub(crate) fn pop(&mut self) -> Option<Bytes> {
        let piece = self.pieces.pop_front()?;
        self.length -= piece.len() as u64;
        Some(piece)
    }

    /// Removes and returns the first bytes of the first piece, `most` at most.
    pub(crate) fn take_piece(&mut self, most: u64) -> Bytes {
        let Some(first) = self.pieces.front_mut() else { return Bytes::new() };
        if first.len() as u64 <= most {
            return self.pop().unwrap_or_default();
        }
        let taken = first.split_to(usize::try_from(most).unwrap_or(usize::MAX).min(first.len()));
        self.length -= taken.len() as u64;
        taken
    }

    /// Returns the pieces in order.
    pub fn pieces(&self) -> impl Iterator<Item = &Bytes> {
        self.pieces.iter()
    }

    /// Returns a copy of the bytes, in one piece.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(usize::try_from(self.length).unwrap_or_default());
        self.pieces.iter().for_each(|piece| bytes.extend_from_slice(piece));
        bytes
    }

    /// Returns the digest of the bytes.
    #[must_use]
    pub fn digest(&self, algorithm: Algorithm) -> Digest {
        let mut hasher = Hasher::new(algorithm);
        self.pieces.iter().for_each(|piece| hasher.update(piece));
        hasher.finish()
    }

    /// Removes the first `length` bytes, or all of a shorter payload.
    pub fn advance(&mut self, mut length: u64) {
        while length > 0
            && let Some(first) = self.pieces.front_mut()
        {
            let taken = first.len().min(usize::try_from(length).unwrap_or(usize::MAX));
            let _ = first.split_to(taken);
            if first.is_empty() {
                self.pieces.pop_front();
            }
            self.length -= taken as u64;
            length -= taken as u64;
        }
    }

    /// Removes bytes from the beginning if the payload begins with them. Returns false, and may have removed some of
    /// them, if it does not.
    pub(crate) fn strip_prefix(&mut self, mut prefix: &[u8]) -> bool {
        while !prefix.is_empty() {
            let Some(first) = self.pieces.front() else { return false };
            let compared = first.len().min(prefix.len());
            if first[..compared] != prefix[..compared] {
                return false;
            }
            prefix = &prefix[compared..];
            self.advance(compared as u64);
        }
        true
    }
}

impl<T: Into<Bytes>> From<T> for Payload {
    fn from(bytes: T) -> Self {
        let mut payload = Self::default();
        payload.push(bytes.into());
        payload
    }
}

impl From<Payload> for reqwest::Body {
    fn from(mut payload: Payload) -> Self {
        match payload.pieces.len() {
            0 => Bytes::new().into(),
            1 => payload.pop().unwrap_or_default().into(),
            _ => Self::wrap(payload),
        }
    }
}

/// Each piece is a frame, and is freed once the connection has sent it and no clone is left.
impl http_body::Body for Payload {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.pop().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.is_empty()
    }

    /// The length is known, so that the request has a `Content-Length`, which stores demand.
    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.length)
    }
}

#[cfg(test)]
mod tests {
    use http_body::Body as _;
    use http_body_util::BodyExt as _;

    use super::*;

    fn payload() -> Payload {
        let mut payload = Payload::from("ab");
        for piece in ["", "cde", "f"] {
            payload.push(piece.into());
        }
        payload
    }

    #[test]
    fn pieces_are_the_same_bytes_as_one() {
        let payload = payload();
        assert_eq!((payload.length(), payload.pieces().count()), (6, 3));
        assert_eq!(payload.to_vec(), b"abcdef");
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            assert_eq!(payload.digest(algorithm), Digest::of(algorithm, b"abcdef"));
        }
        assert!(Payload::default().is_empty() && Payload::from("").is_empty());
    }

    #[test]
    fn a_beginning_is_removed_across_pieces() {
        for length in 0..9 {
            let mut rest = payload();
            rest.advance(length as u64);
            let expected = &b"abcdef"[length.min(6)..];
            assert_eq!((rest.to_vec(), rest.length()), (expected.to_vec(), expected.len() as u64));
        }
        let mut rest = payload();
        assert!(rest.strip_prefix(b"abc") && rest.strip_prefix(b"") && rest.strip_prefix(b"d"));
        assert_eq!(rest.to_vec(), b"ef");
        assert!(!payload().strip_prefix(b"abd"));
        assert!(!payload().strip_prefix(b"abcdefg"));
    }

    #[tokio::test]
    async fn a_request_tells_its_length_before_it_sends_the_pieces() {
        let body = payload();
        assert_eq!(body.size_hint().exact(), Some(6));
        assert_eq!(body.collect().await.unwrap().to_bytes(), "abcdef");
        assert_eq!(reqwest::Body::from(payload()).size_hint().exact(), Some(6));
        assert_eq!(reqwest::Body::from(Payload::default()).size_hint().exact(), Some(0));
    }
}
