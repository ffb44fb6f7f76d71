//! State of an upload: bytes received, parts cut off, and hashes. Pure.

use quinistry_oci::{Algorithm, Digest, Hasher};

use super::sizes::PartSizes;

/// Hashes of all received bytes.
#[derive(Clone, Debug)]
pub(super) struct Hashes {
    pub(super) sha256: Hasher,
    /// SHA-512, if the client has announced a digest by it.
    pub(super) sha512: Option<Hasher>,
}

/// State of an upload.
#[derive(Clone, Debug)]
pub(super) struct Progress {
    sizes: PartSizes,
    offset: u64,
    parts: u32,
    /// Number of bytes in parts.
    in_parts: u64,
    hashes: Hashes,
}

// === impl Hashes ===

impl Hashes {
    /// Creates the hashes of no bytes. SHA-256 is always among them.
    pub(super) fn new(other: Option<Algorithm>) -> Self {
        let sha512 = other.filter(|algorithm| *algorithm == Algorithm::Sha512).map(Hasher::new);
        Self { sha256: Hasher::new(Algorithm::Sha256), sha512 }
    }

    /// Returns a digest; `None` if the bytes were not hashed by the algorithm.
    pub(super) fn digest(&self, algorithm: Algorithm) -> Option<Digest> {
        let hasher = match algorithm {
            Algorithm::Sha256 => Some(&self.sha256),
            Algorithm::Sha512 => self.sha512.as_ref(),
        };
        hasher.map(|hasher| hasher.clone().finish())
    }

    fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        if let Some(sha512) = &mut self.sha512 {
            sha512.update(bytes);
        }
    }
}

// === impl Progress ===

impl Progress {
    /// Creates the state of an upload without bytes.
    pub(super) fn new(sizes: PartSizes, other: Option<Algorithm>) -> Self {
        Self { sizes, offset: 0, parts: 0, in_parts: 0, hashes: Hashes::new(other) }
    }

    /// Creates the state of an upload that has `offset` bytes and `parts` parts.
    pub(super) fn resumed(sizes: PartSizes, offset: u64, parts: u32, hashes: Hashes) -> Self {
        Self { sizes, offset, parts, in_parts: sizes.total(parts), hashes }
    }

    pub(super) fn sizes(&self) -> PartSizes {
        self.sizes
    }

    /// Returns the number of received bytes.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Returns the number of parts that were cut off.
    pub(super) fn parts(&self) -> u32 {
        self.parts
    }

    pub(super) fn hashes(&self) -> &Hashes {
        &self.hashes
    }

    /// Returns the number of received bytes that are in no part.
    pub(super) fn in_no_part(&self) -> u64 {
        self.offset - self.in_parts
    }

    /// Returns the size of the part that gathers; `None` if there are too many parts.
    pub(super) fn part_size(&self) -> Option<u64> {
        self.sizes.after(self.parts)
    }

    /// Returns the number of bytes that the gathering part lacks; `None` if there are too many parts.
    pub(super) fn missing(&self) -> Option<u64> {
        Some(self.part_size()?.saturating_sub(self.in_no_part()))
    }

    /// Takes in the next bytes, no more than are missing.
    pub(super) fn receive(&mut self, bytes: &[u8]) {
        debug_assert!(
            self.missing().is_some_and(|missing| bytes.len() as u64 <= missing),
            "the part has room"
        );
        self.offset += bytes.len() as u64;
        self.hashes.update(bytes);
    }

    /// Cuts off the bytes that are in no part as the next part, and returns its number.
    pub(super) fn cut(&mut self) -> u32 {
        self.parts += 1;
        self.in_parts = self.offset;
        self.parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_gather_in_parts() {
        let mut progress = Progress::new(PartSizes { first: 10, greatest: 10 }, Some(Algorithm::Sha512));
        progress.receive(b"0123456");
        assert_eq!((progress.offset(), progress.in_no_part(), progress.missing()), (7, 7, Some(3)));
        progress.receive(b"789");
        assert_eq!((progress.missing(), progress.cut()), (Some(0), 1));
        assert_eq!((progress.in_no_part(), progress.missing()), (0, Some(10)));
        progress.receive(b"abc");
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let digest = progress.hashes().digest(algorithm).unwrap();
            assert_eq!(digest, Digest::of(algorithm, b"0123456789abc"));
        }
        let hashes = progress.hashes().clone();
        let resumed = Progress::resumed(progress.sizes(), 13, 1, hashes);
        assert_eq!((resumed.in_no_part(), resumed.missing()), (3, Some(7)));
    }

    #[test]
    fn after_the_last_part_nothing_is_received() {
        let sizes = PartSizes { first: 1, greatest: 1 };
        let mut progress = Progress::resumed(sizes, 9_999, 9_999, Hashes::new(None));
        progress.receive(b"x");
        assert_eq!((progress.missing(), progress.cut()), (Some(0), 10_000));
        assert_eq!(progress.missing(), None);
        assert_eq!(progress.hashes().digest(Algorithm::Sha512), None);
    }
}
