//! State of a [`Hasher`], by which another process continues the hash.
//!
//! The form is that of `encoding.BinaryMarshaler` in Go's `crypto/sha256` and `crypto/sha512`, which is
//! published and which distribution stores too: a magic, the words of the state, the bytes of the block that
//! is not full yet, padded with zeros, and the number of all bytes; integers are big-endian.

use sha2::digest::common::hazmat::{SerializableState, SerializedState};
use sha2::{Sha256, Sha512};

use super::{Algorithm, Hasher, HasherState};

/// A byte string is not the state of a hasher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the state of a SHA-256 or SHA-512 hash in Go's form")]
pub struct HashStateError;

/// Places of a state's fields, in bytes.
struct Form {
    magic: &'static [u8; 4],
    word_bytes: usize,
    block_bytes: usize,
}

const SHA256: Form = Form { magic: b"sha\x03", word_bytes: 4, block_bytes: 64 };
const SHA512: Form = Form { magic: b"sha\x07", word_bytes: 8, block_bytes: 128 };

impl Hasher {
    /// Returns the state: 108 bytes for SHA-256, 204 for SHA-512.
    #[must_use]
    pub fn state(&self) -> Vec<u8> {
        match &self.0 {
            HasherState::Sha256(hasher) => SHA256.go_state(&hasher.serialize()),
            HasherState::Sha512(hasher) => SHA512.go_state(&hasher.serialize()),
        }
    }

    /// Continues a hash from its state.
    pub fn from_state(state: &[u8]) -> Result<Self, HashStateError> {
        let hasher = if state.starts_with(SHA256.magic) {
            HasherState::Sha256(restore::<Sha256>(&SHA256, state)?)
        } else {
            HasherState::Sha512(restore::<Sha512>(&SHA512, state)?)
        };
        Ok(Self(hasher))
    }

    /// Returns the algorithm of the hash.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        match &self.0 {
            HasherState::Sha256(_) => Algorithm::Sha256,
            HasherState::Sha512(_) => Algorithm::Sha512,
        }
    }
}

fn restore<H: SerializableState>(form: &Form, state: &[u8]) -> Result<H, HashStateError> {
    let own = form.own_state(state).ok_or(HashStateError)?;
    let own = SerializedState::<H>::try_from(&own[..]).map_err(|_| HashStateError)?;
    H::deserialize(&own).map_err(|_| HashStateError)
}

impl Form {
    const fn words_bytes(&self) -> usize {
        8 * self.word_bytes
    }

    /// Converts from the form of `sha2` 0.11: the words, the number of full blocks (twice as long as a word),
    /// the number of bytes in the block that is not full, and these bytes, padded to a block with that
    /// number. Integers are little-endian.
    fn go_state(&self, own: &[u8]) -> Vec<u8> {
        let (words, rest) = own.split_at(self.words_bytes());
        let (blocks, rest) = rest.split_at(2 * self.word_bytes);
        let (filled, block) = rest.split_first().expect("a block follows the number of blocks");
        let full_blocks = blocks[..8].iter().rev().fold(0, |sum: u64, byte| sum << 8 | u64::from(*byte));
        let length = full_blocks.wrapping_mul(self.block_bytes as u64).wrapping_add(u64::from(*filled));
        let mut go = self.magic.to_vec();
        go.extend(words.chunks(self.word_bytes).flat_map(|word| word.iter().rev()));
        go.extend(block);
        go.push(0);
        go.extend(length.to_be_bytes());
        go
    }

    /// Converts to the form of `sha2`; `None` if the bytes have another length or magic.
    fn own_state(&self, go: &[u8]) -> Option<Vec<u8>> {
        let rest = go.strip_prefix(self.magic)?;
        let (words, rest) = rest.split_at_checked(self.words_bytes())?;
        let (block, length) = rest.split_at_checked(self.block_bytes)?;
        let length = u64::from_be_bytes(length.try_into().ok()?);
        let block_bytes = self.block_bytes as u64;
        let filled = usize::try_from(length % block_bytes).ok()?;
        let mut own: Vec<u8> =
            words.chunks(self.word_bytes).flat_map(|word| word.iter().rev()).copied().collect();
        let mut blocks = (length / block_bytes).to_le_bytes().to_vec();
        blocks.resize(2 * self.word_bytes, 0);
        own.extend(blocks);
        own.push(u8::try_from(filled).ok()?);
        // Bytes behind the filled ones have no meaning, and `sha2` wants zeros.
        own.extend(&block[..filled]);
        own.resize(own.len() + self.block_bytes - 1 - filled, 0);
        Some(own)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Digest;
    use super::*;

    /// States that Go 1.26 made of the first bytes of [`bytes`], in hexadecimal digits.
    const VECTORS: &str = include_str!("state/go-1.26.txt");

    fn bytes(length: usize) -> Vec<u8> {
        (0..length).map(|i| u8::try_from(i * 7 % 256).unwrap()).collect()
    }

    fn hasher(algorithm: Algorithm, bytes: &[u8]) -> Hasher {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(bytes);
        hasher
    }

    fn from_hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
    }

    #[test]
    fn states_are_those_of_go() {
        let mut seen = 0;
        for line in VECTORS.lines() {
            let [length, size, state] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
            let algorithm = if size == "32" { Algorithm::Sha256 } else { Algorithm::Sha512 };
            let all = bytes(length.parse::<usize>().unwrap() + 500);
            let (first, rest) = all.split_at(all.len() - 500);
            let go = from_hex(state);
            assert_eq!(hasher(algorithm, first).state(), go, "{line}");
            let mut continued = Hasher::from_state(&go).unwrap();
            assert_eq!(continued.algorithm(), algorithm);
            continued.update(rest);
            assert_eq!(continued.finish(), Digest::of(algorithm, &all), "{line}");
            seen += 1;
        }
        assert_eq!(seen, 12);
    }

    #[test]
    fn a_hash_continues_from_its_state_after_any_number_of_bytes() {
        let all = bytes(400);
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            for length in 0..all.len() {
                let mut continued = Hasher::from_state(&hasher(algorithm, &all[..length]).state()).unwrap();
                continued.update(&all[length..]);
                assert_eq!(continued.finish(), Digest::of(algorithm, &all), "{length}");
            }
        }
    }

    #[test]
    fn other_bytes_are_no_state() {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let state = hasher(algorithm, b"abc").state();
            let mut longer = state.clone();
            longer.push(0);
            let mut other = state.clone();
            other[3] = 9;
            for wrong in [&state[..state.len() - 1], &longer, &other, &state[4..], b"", b"sha\x03"] {
                assert!(Hasher::from_state(wrong).is_err());
            }
        }
    }
}
