//! Inputs of `uploads`: a sequence of steps, each a letter with its arguments, each argument a character that
//! counts from `0`. Every byte has a meaning, since characters count modulo the number of choices.
//! [`Step::read`] shows the order.

use bytes::Bytes;
use quinistry::oci::{Algorithm, Digest};

use crate::{BodyTransfer, content};

/// Lengths of bodies in bytes. The last two exceed a chunk of memory and the registry's reads.
const LENGTHS: [usize; 10] = [0, 1, 2, 3, 5, 8, 100, 1000, 70_000, 300_000];

/// Limit of bodies of the last two lengths; hashing more of them only takes time.
const MAX_LONG_BODIES: usize = 2;

/// Reader of an input.
#[derive(Debug)]
pub struct InputReader<'a> {
    left: &'a [u8],
    long_bodies: usize,
}

impl<'a> InputReader<'a> {
    /// Creates a reader at the beginning of an input.
    #[must_use]
    pub const fn new(input: &'a [u8]) -> Self {
        Self { left: input, long_bodies: 0 }
    }

    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.left.split_first()?;
        self.left = rest;
        Some(*first)
    }

    /// Reads a choice among `count`; the first at the end of the input.
    fn choice(&mut self, count: u8) -> u8 {
        self.byte().map_or(0, |byte| byte.wrapping_sub(b'0') % count)
    }

    fn flag(&mut self) -> bool {
        self.choice(2) == 1
    }

    fn repository(&mut self) -> usize {
        usize::from(self.choice(2))
    }

    fn algorithm(&mut self) -> Algorithm {
        if self.flag() { Algorithm::Sha512 } else { Algorithm::Sha256 }
    }

    fn sent(&mut self) -> BodyTransfer {
        let mut length = LENGTHS[usize::from(self.choice(10))];
        if length > 1000 {
            self.long_bodies += 1;
            if self.long_bodies > MAX_LONG_BODIES {
                length = 9;
            }
        }
        // Few kinds, so that the same content arrives in several ways.
        let fill = usize::from(self.choice(3));
        let bytes = content(fill..fill + length);
        let chunks =
            |bytes: &Bytes| bytes.chunks(length / 3 + 1).map(Bytes::copy_from_slice).collect::<Vec<_>>();
        match self.choice(3) {
            0 => BodyTransfer::Sized(bytes),
            1 => BodyTransfer::Chunked(chunks(&bytes)),
            _ => BodyTransfer::Truncated(length as u64, chunks(&bytes.slice(..length / 2))),
        }
    }
}

/// A request to send. Sessions and blobs are selected by their order, modulo their number.
#[allow(missing_docs, reason = "they are said by their names, and by what the model does with them")]
#[derive(Debug)]
pub enum Step {
    Begin { repository: usize, algorithm: u8 },
    Patch { session: SessionReference, range: u8, sent: BodyTransfer },
    Finish { session: SessionReference, range: u8, sent: BodyTransfer, digest: u8 },
    Status { session: SessionReference, head: bool },
    Cancel { session: SessionReference },
    Forged { repository: usize, method: u8, id: u8, sent: BodyTransfer },
    Mount { repository: usize, blob: u8, algorithm: Algorithm, from: u8 },
    Whole { repository: usize, sent: BodyTransfer, digest: u8 },
    Delete { repository: usize, blob: u8, algorithm: Algorithm },
    AtOnce { session: u8, first: BodyTransfer, other: u8, sent: BodyTransfer },
}

/// A session, addressed in its own repository or in the other one.
#[derive(Clone, Copy, Debug)]
pub struct SessionReference {
    /// Number of the session.
    pub session: u8,
    /// True if the session is addressed in the other repository.
    pub in_other_repository: bool,
}

impl Step {
    /// Reads the letter, then the arguments in the order of the fields below.
    #[must_use]
    pub fn read(choices: &mut InputReader<'_>) -> Option<Self> {
        const LETTERS: &[u8; 10] = b"BPFSCXMWDT";
        let letter = choices.byte()?;
        let letter =
            if LETTERS.contains(&letter) { letter } else { LETTERS[usize::from(letter) % LETTERS.len()] };
        let named = |choices: &mut InputReader<'_>| SessionReference {
            session: choices.choice(8),
            in_other_repository: choices.choice(8) == 1,
        };
        Some(match letter {
            b'B' => Self::Begin { repository: choices.repository(), algorithm: choices.choice(4) },
            b'P' => Self::Patch { session: named(choices), range: choices.choice(10), sent: choices.sent() },
            b'F' => Self::Finish {
                session: named(choices),
                range: choices.choice(10),
                sent: choices.sent(),
                digest: choices.choice(9),
            },
            b'S' => Self::Status { session: named(choices), head: choices.flag() },
            b'C' => Self::Cancel { session: named(choices) },
            b'X' => Self::Forged {
                repository: choices.repository(),
                method: choices.choice(4),
                id: choices.choice(6),
                sent: choices.sent(),
            },
            b'M' => Self::Mount {
                repository: choices.repository(),
                blob: choices.choice(8),
                algorithm: choices.algorithm(),
                from: choices.choice(5),
            },
            b'W' => Self::Whole {
                repository: choices.repository(),
                sent: choices.sent(),
                digest: choices.choice(9),
            },
            b'D' => Self::Delete {
                repository: choices.repository(),
                blob: choices.choice(8),
                algorithm: choices.algorithm(),
            },
            _ => Self::AtOnce {
                session: choices.choice(8),
                first: choices.sent(),
                other: choices.choice(5),
                sent: choices.sent(),
            },
        })
    }
}

/// Makes a `Content-Range` of some kind for a body sent to a session of `offset` bytes.
#[must_use]
pub fn content_range(kind: u8, offset: usize, sent: &BodyTransfer) -> Option<String> {
    let length = match sent {
        BodyTransfer::Truncated(announced, _) => usize::try_from(*announced).unwrap(),
        sent => sent.bytes().len(),
    };
    let last = (offset + length).saturating_sub(1);
    Some(match kind {
        0 | 1 => return None,
        2 | 3 => format!("{offset}-{last}"),
        4 => format!("0-{}", length.saturating_sub(1)),
        5 => format!("{}-{}", offset + 1, last + 1),
        6 => format!("{offset}-{}", last + 1),
        7 => format!("{last}-{offset}"),
        8 => format!("{offset}-{}", u64::MAX),
        _ => format!("bytes {offset}-{last}/{}", offset + length),
    })
}

/// Makes the query of a request that ends an upload, and tells what it announces.
#[must_use]
pub fn announced(kind: u8, content: &[u8]) -> (String, AnnouncedDigest) {
    let of = |algorithm| Digest::of(algorithm, content);
    let other = Digest::sha256(b"something else");
    match kind {
        0 | 1 => {
            (format!("?digest={}", of(Algorithm::Sha256)), AnnouncedDigest::Right(of(Algorithm::Sha256)))
        }
        2 => (
            format!("?digest={}", of(Algorithm::Sha256)).replace(':', "%3A"),
            AnnouncedDigest::Right(of(Algorithm::Sha256)),
        ),
        3 => (format!("?digest={}", of(Algorithm::Sha512)), AnnouncedDigest::Right(of(Algorithm::Sha512))),
        4 => (format!("?digest={other}"), AnnouncedDigest::Wrong),
        5 => (format!("?digest={}", of(Algorithm::Sha256).as_str().to_uppercase()), AnnouncedDigest::Invalid),
        6 => ("?digest=md5:d41d8cd98f00b204e9800998ecf8427e".into(), AnnouncedDigest::Invalid),
        7 => (format!("?digest={other}&digest={other}"), AnnouncedDigest::Invalid),
        _ => ("?digest=".into(), AnnouncedDigest::Invalid),
    }
}

/// Digest announced for content.
#[derive(Debug)]
pub enum AnnouncedDigest {
    /// The content's digest.
    Right(Digest),
    /// A digest of other content.
    Wrong,
    /// An invalid digest.
    Invalid,
}
