//! Hash of a password by bcrypt (Provos and Mazières, 1999), as one field of an htpasswd file.

use std::fmt;

use base64::Engine as _;
use base64::alphabet::BCRYPT;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use ring::rand::{SecureRandom as _, SystemRandom};
use subtle::ConstantTimeEq as _;

/// Length of the part of a password that bcrypt computes with, in bytes. Distribution ignores the rest as
/// well.
pub const MAX_PASSWORD_BYTES: usize = 72;

/// Cost of the hashes that this program makes: that of `htpasswd -B` with `-C 10`, and of distribution.
pub const NEW_HASH_COST: u32 = 10;

/// Lowest cost that bcrypt defines.
const MIN_COST: u32 = 4;

/// Highest cost that is computed. Each step doubles the time; one check at cost 17 takes more than 5 seconds.
const MAX_COST: u32 = 16;

/// Length of the salt in its text form.
const SALT_CHARACTERS: usize = 22;

/// Length of the digest in its text form.
const DIGEST_CHARACTERS: usize = 31;

/// Base 64 with bcrypt's alphabet. The unused bits of a last character may be set, as some programs do.
const BASE_64: GeneralPurpose = GeneralPurpose::new(
    &BCRYPT,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone)
        .with_decode_allow_trailing_bits(true),
);

/// Hash of a password, of a cost from 4 to 16.
#[derive(Clone, PartialEq, Eq)]
pub struct BcryptHash {
    cost: u32,
    salt: [u8; 16],
    digest: [u8; 23],
}

/// Error of [`BcryptHash::parse`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BcryptHashError {
    /// Hash of another kind, such as MD5, SHA-1 or crypt.
    #[error("hash is not bcrypt's ($2a$, $2b$ or $2y$)")]
    OtherKind,
    /// Text that begins as a hash of bcrypt.
    #[error("bcrypt hash is malformed")]
    Malformed,
    /// Cost below 4.
    #[error("cost {0} is below {MIN_COST}, the lowest of bcrypt")]
    CostTooLow(u32),
    /// Cost above 16.
    #[error("cost {0} is above {MAX_COST}, and each check would take more than 5 seconds")]
    CostTooHigh(u32),
}

// === impl BcryptHash ===

impl BcryptHash {
    /// Parses a hash such as `$2y$10$…`, of 60 characters.
    pub fn parse(text: &str) -> Result<Self, BcryptHashError> {
        let kinds = ["$2a$", "$2b$", "$2y$"];
        let rest = kinds.iter().find_map(|kind| text.strip_prefix(kind));
        let rest = rest.ok_or(BcryptHashError::OtherKind)?;
        let (cost, rest) = rest.split_once('$').ok_or(BcryptHashError::Malformed)?;
        if cost.len() != 2 || !cost.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(BcryptHashError::Malformed);
        }
        let cost = cost.parse().map_err(|_| BcryptHashError::Malformed)?;
        if rest.len() != SALT_CHARACTERS + DIGEST_CHARACTERS || !rest.is_ascii() {
            return Err(BcryptHashError::Malformed);
        }
        let (salt, digest) = rest.split_at(SALT_CHARACTERS);
        let hash = Self { cost, salt: decode(salt)?, digest: decode(digest)? };
        match cost {
            0..MIN_COST => Err(BcryptHashError::CostTooLow(cost)),
            MIN_COST..=MAX_COST => Ok(hash),
            _ => Err(BcryptHashError::CostTooHigh(cost)),
        }
    }

    /// Computes the hash of a password with a random salt and [`NEW_HASH_COST`]. Takes about 80 milliseconds.
    pub fn new(password: &[u8]) -> Result<Self, ring::error::Unspecified> {
        let mut salt = [0; 16];
        SystemRandom::new().fill(&mut salt)?;
        Ok(Self { cost: NEW_HASH_COST, salt, digest: digest(NEW_HASH_COST, salt, password) })
    }

    /// Returns a hash that takes as long to check as others of its cost, and that no known password has.
    pub(super) fn decoy(cost: u32) -> Self {
        Self { cost, salt: *b"quinistry decoy!", digest: [0; 23] }
    }

    /// Returns the cost: the binary logarithm of the number of rounds.
    #[must_use]
    pub const fn cost(&self) -> u32 {
        self.cost
    }

    /// Returns true if the password has this hash. Computes for a long time.
    #[must_use]
    pub fn matches(&self, password: &[u8]) -> bool {
        digest(self.cost, self.salt, password).ct_eq(&self.digest).into()
    }
}

/// Computes a digest, as OpenBSD does: of the first 72 bytes of the password and a final NUL.
fn digest(cost: u32, salt: [u8; 16], password: &[u8]) -> [u8; 23] {
    let mut text = password[..password.len().min(MAX_PASSWORD_BYTES)].to_vec();
    text.push(0);
    text.truncate(MAX_PASSWORD_BYTES);
    let output = bcrypt::bcrypt(cost, salt, &text);
    *output.first_chunk().expect("bcrypt's output has 24 bytes")
}

fn decode<const N: usize>(text: &str) -> Result<[u8; N], BcryptHashError> {
    let bytes = BASE_64.decode(text).map_err(|_| BcryptHashError::Malformed)?;
    bytes.try_into().map_err(|_| BcryptHashError::Malformed)
}

impl fmt::Display for BcryptHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "$2y${:02}${}{}", self.cost, BASE_64.encode(self.salt), BASE_64.encode(self.digest))
    }
}

/// Shows the cost alone.
impl fmt::Debug for BcryptHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BcryptHash").field("cost", &self.cost).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hash of an empty password, from the test vectors of jBCrypt.
    const EMPTY: &str = "$2a$06$DCq7YPn5Rq63x1Lad4cll.TV4S6ytwfsfvkgY8jIucDrjc8deX1s.";

    /// Hash of `abc`, from the same source.
    const ABC: &str = "$2a$06$If6bvum7DFjUnE9p2uDeDu0YHzrHM6tf.iqN8.yx.jNN1ILEf7h0i";

    #[test]
    fn known_passwords_match_and_others_do_not() {
        for (hash, password) in [(EMPTY, ""), (ABC, "abc")] {
            for kind in ["$2a$", "$2b$", "$2y$"] {
                let hash = BcryptHash::parse(&hash.replace("$2a$", kind)).unwrap();
                assert!(hash.matches(password.as_bytes()), "{hash}");
                assert!(!hash.matches(b"abd"), "{hash}");
            }
        }
    }

    #[test]
    fn a_new_hash_is_read_again() {
        let hash = BcryptHash::new(b"secret").unwrap();
        let text = hash.to_string();
        assert_eq!((text.len(), &text[..7]), (60, "$2y$10$"));
        assert_eq!(BcryptHash::parse(&text), Ok(hash.clone()));
        assert!(hash.matches(b"secret"));
        assert_ne!(BcryptHash::new(b"secret").unwrap(), hash, "each hash has a salt of its own");
    }

    #[test]
    fn other_texts_are_no_hashes_that_can_be_checked() {
        use BcryptHashError::{CostTooHigh, CostTooLow, Malformed, OtherKind};
        for (text, error) in [
            ("$apr1$x$y", OtherKind),
            ("{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", OtherKind),
            ("$2x$06$DCq7YPn5Rq63x1Lad4cll.TV4S6ytwfsfvkgY8jIucDrjc8deX1s.", OtherKind),
            ("", OtherKind),
            ("$2y$", Malformed),
            ("$2y$+6$DCq7YPn5Rq63x1Lad4cll.TV4S6ytwfsfvkgY8jIucDrjc8deX1s.", Malformed),
            ("$2y$06$DCq7YPn5Rq63x1Lad4cll.TV4S6ytwfsfvkgY8jIucDrjc8deX1s", Malformed),
            ("$2y$06$DCq7YPn5Rq63x1Lad4cll.TV4S6ytwfsfvkgY8jIucDrjc8deX1s.:x", Malformed),
            ("$2y$06$DCq7YPn5Rq63x1Lad4cll.TV4S6ytwfsfvkgY8jIucDrjc8deX\u{e9}.", Malformed),
            ("$2y$03$DCq7YPn5Rq63x1Lad4cll.TV4S6ytwfsfvkgY8jIucDrjc8deX1s.", CostTooLow(3)),
            ("$2y$17$DCq7YPn5Rq63x1Lad4cll.TV4S6ytwfsfvkgY8jIucDrjc8deX1s.", CostTooHigh(17)),
            ("$2y$99$DCq7YPn5Rq63x1Lad4cll.TV4S6ytwfsfvkgY8jIucDrjc8deX1s.", CostTooHigh(99)),
        ] {
            assert_eq!(BcryptHash::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn row_104_passwords_that_differ_behind_72_bytes_are_equal() {
        let mut hash = BcryptHash::decoy(4);
        hash.digest = digest(4, hash.salt, &[b'x'; 72]);
        assert!(hash.matches(&[b'x'; 73]));
        assert!(hash.matches(&[[b'x'; 72].as_slice(), b"yz"].concat()));
        assert!(!hash.matches(&[b'x'; 71]));
        // NUL bytes and bytes that are not UTF-8 count as they are.
        hash.digest = digest(4, hash.salt, b"a\0b\xff");
        assert!(hash.matches(b"a\0b\xff") && !hash.matches(b"a\0c\xff") && !hash.matches(b"a"));
    }

    #[test]
    fn debug_text_has_no_digest() {
        assert_eq!(format!("{:?}", BcryptHash::parse(ABC).unwrap()), "BcryptHash { cost: 6, .. }");
    }
}
