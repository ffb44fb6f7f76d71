//! Content in several pieces, so that the layer never copies the executable that it wraps.

use std::ops::Range;

use bytes::Bytes;

use crate::oci::{Algorithm, Digest, Hasher};

/// Immutable content; clones and slices share the bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Segments(Vec<Bytes>);

impl Segments {
    /// The pieces, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Bytes> {
        self.0.iter()
    }

    /// The length in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.iter().map(|segment| segment.len() as u64).sum()
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The hash of the content.
    #[must_use]
    pub fn digest(&self, algorithm: Algorithm) -> Digest {
        let mut hasher = Hasher::new(algorithm);
        self.iter().for_each(|segment| hasher.update(segment));
        hasher.finish()
    }

    /// The part of the content at `range`, clamped to what there is.
    #[must_use]
    pub fn slice(&self, range: Range<u64>) -> Self {
        let mut start = 0;
        let mut parts = Vec::new();
        for segment in self.iter() {
            let length = segment.len() as u64;
            let within =
                |at: u64| usize::try_from(at.saturating_sub(start).min(length)).unwrap_or(segment.len());
            let (from, to) = (within(range.start), within(range.end));
            if from < to {
                parts.push(segment.slice(from..to));
            }
            start += length;
        }
        Self(parts)
    }

    /// The content in one piece: shared if it is in one already, else copied.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        match &self.0[..] {
            [] => Bytes::new(),
            [one] => one.clone(),
            many => many.concat().into(),
        }
    }
}

impl<const N: usize> From<[Bytes; N]> for Segments {
    fn from(segments: [Bytes; N]) -> Self {
        segments.into_iter().collect()
    }
}

impl FromIterator<Bytes> for Segments {
    fn from_iter<I: IntoIterator<Item = Bytes>>(segments: I) -> Self {
        Self(segments.into_iter().filter(|segment| !segment.is_empty()).collect())
    }
}

impl IntoIterator for Segments {
    type Item = Bytes;
    type IntoIter = std::vec::IntoIter<Bytes>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slice_is_that_of_the_whole() {
        let segments = Segments::from(["ab", "", "cde", "f"].map(Bytes::from));
        let whole = segments.to_bytes();
        assert_eq!((&whole[..], segments.len()), (&b"abcdef"[..], 6));
        for from in 0..8 {
            for to in 0..8 {
                let expected = whole.get(from.min(6)..to.min(6)).unwrap_or_default();
                assert_eq!(segments.slice(from as u64..to as u64).to_bytes(), expected, "{from}..{to}");
            }
        }
        assert_eq!(segments.slice(2..u64::MAX).to_bytes(), "cdef");
        assert_eq!(segments.digest(Algorithm::Sha256), Digest::sha256(b"abcdef"));
        assert!(Segments::default().is_empty());
    }
}
