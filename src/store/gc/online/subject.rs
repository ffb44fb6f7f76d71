//! Subjects of collection: revisions and links of repositories, and bytes.

use std::fmt;

use quinistry_oci::{Algorithm, Digest, Hasher, RepositoryName};

use crate::layout::{Key, RepositoryKeys, blob};

/// Kind of a subject, in the order in which subjects are swept: what refers to others goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum SubjectKind {
    /// Manifest of a repository, by all of its names.
    Revision,
    /// Link of a repository to a blob, by all of its names.
    Link,
    /// Bytes, which any number of repositories may have.
    Bytes,
}

impl SubjectKind {
    pub(super) const ALL: [Self; 3] = [Self::Revision, Self::Link, Self::Bytes];

    pub(super) const fn letter(self) -> char {
        match self {
            Self::Revision => 'r',
            Self::Link => 'l',
            Self::Bytes => 'b',
        }
    }
}

/// SHA-256 of content, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ContentId(pub(super) [u8; 32]);

impl fmt::Debug for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.digest(), f)
    }
}

impl ContentId {
    /// Returns the content of a SHA-256; `None` for another digest.
    pub(crate) fn of(digest: &Digest) -> Option<Self> {
        (digest.algorithm() == Algorithm::Sha256).then(|| Self(decode(digest.hex())))
    }

    /// Returns the content of 64 hexadecimal digits.
    pub(crate) fn of_hex(hex: &str) -> Option<Self> {
        let digest: Digest = format!("sha256:{hex}").parse().ok()?;
        Self::of(&digest)
    }

    pub(crate) fn digest(self) -> Digest {
        format!("sha256:{}", self.hex()).parse().expect("64 hexadecimal digits are a digest")
    }

    pub(super) fn hex(self) -> String {
        encode(&self.0)
    }
}

/// Hash of a subject, by which a view and the registers name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SubjectHash(pub(super) [u8; 32]);

impl SubjectHash {
    /// Length of the part by which a view knows a subject, in bytes. A collision costs one needless revival.
    pub(super) const SHORT_BYTES: usize = 16;

    pub(super) fn short(self) -> [u8; Self::SHORT_BYTES] {
        self.0.first_chunk().copied().expect("a hash has 32 bytes")
    }

    pub(super) fn hex(self) -> String {
        encode(&self.0)
    }

    pub(super) fn of_hex(hex: &str) -> Option<Self> {
        ContentId::of_hex(hex).map(|ContentId(bytes)| Self(bytes))
    }
}

/// Subject of collection. Revisions and links are named by the SHA-256 of their bytes, also if they were
/// pushed by another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    pub(super) kind: SubjectKind,
    /// Repository; `None` for bytes.
    pub(super) repository: Option<&'a RepositoryName>,
    /// SHA-256 of the bytes.
    pub(super) canonical: &'a Digest,
}

impl<'a> Subject<'a> {
    pub(crate) const fn revision(repository: &'a RepositoryName, canonical: &'a Digest) -> Self {
        Self { kind: SubjectKind::Revision, repository: Some(repository), canonical }
    }

    pub(crate) const fn link(repository: &'a RepositoryName, canonical: &'a Digest) -> Self {
        Self { kind: SubjectKind::Link, repository: Some(repository), canonical }
    }

    pub(crate) const fn bytes(canonical: &'a Digest) -> Self {
        Self { kind: SubjectKind::Bytes, repository: None, canonical }
    }

    /// Returns SHA-256(kind ‖ 0 ‖ repository ‖ 0 ‖ digest).
    pub(super) fn hash(&self) -> SubjectHash {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        let kind = u8::try_from(self.kind.letter()).expect("letters are ASCII");
        hasher.update(&[kind, 0]);
        hasher.update(self.repository.map_or("", RepositoryName::as_str).as_bytes());
        hasher.update(&[0]);
        hasher.update(self.canonical.as_str().as_bytes());
        SubjectHash(decode(hasher.finish().hex()))
    }

    /// Returns the key whose presence makes the subject be there.
    pub(super) fn key(&self) -> Key {
        match (self.kind, self.repository) {
            (SubjectKind::Revision, Some(name)) => RepositoryKeys(name).revision_link(self.canonical),
            (SubjectKind::Link, Some(name)) => RepositoryKeys(name).layer_link(self.canonical),
            _ => blob(self.canonical),
        }
    }
}

/// Shard of an epoch: neighbours by hash, of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Shard {
    pub(crate) kind: SubjectKind,
    pub(crate) number: usize,
}

impl Shard {
    /// Number of subjects of a shard: what one page of a scan lists, and one request removes.
    pub(super) const LENGTH: usize = 1000;

    pub(super) fn parse(text: &str) -> Option<Self> {
        let (kind, number) = text.split_once('-')?;
        let kind = SubjectKind::ALL.into_iter().find(|of| kind.chars().eq([of.letter()]))?;
        Some(Self { kind, number: number.parse().ok()? })
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.kind.letter(), self.number)
    }
}

fn decode(hex: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (byte, digits) in bytes.iter_mut().zip(hex.as_bytes().chunks(2)) {
        let digit = |at: usize| {
            let digit = char::from(digits[at]).to_digit(16);
            digit.and_then(|digit| u8::try_from(digit).ok()).unwrap_or_default()
        };
        *byte = digit(0) << 4 | digit(1);
    }
    bytes
}

fn encode(bytes: &[u8]) -> String {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_that_of_the_specification() {
        let (name, digest) = ("a/b".parse().unwrap(), Digest::sha256(b"x"));
        let subject = Subject::link(&name, &digest);
        let expected = Digest::sha256(format!("l\0a/b\0{digest}").as_bytes());
        assert_eq!(subject.hash().hex(), expected.hex());
        let expected = Digest::sha256(format!("b\0\0{digest}").as_bytes());
        assert_eq!(Subject::bytes(&digest).hash().hex(), expected.hex());
        assert_eq!(SubjectHash::of_hex(expected.hex()), Some(Subject::bytes(&digest).hash()));
    }

    #[test]
    fn contents_and_shards_are_read_as_they_are_written() {
        let digest = Digest::sha256(b"x");
        assert_eq!(ContentId::of(&digest).unwrap().digest(), digest);
        assert_eq!(ContentId::of(&Digest::of(Algorithm::Sha512, b"x")), None);
        for (kind, number) in [(SubjectKind::Revision, 0), (SubjectKind::Bytes, 249)] {
            let shard = Shard { kind, number };
            assert_eq!(Shard::parse(&shard.to_string()), Some(shard));
        }
        for text in ["", "r", "x-1", "r-", "rr-1", "r-1-1"] {
            assert_eq!(Shard::parse(text), None, "{text}");
        }
    }
}
