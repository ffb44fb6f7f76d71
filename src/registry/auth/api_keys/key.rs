//! Text of an API key. Pure but for random numbers.

use std::fmt;

use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom as _, SystemRandom};

/// Beginning of each key.
const PREFIX: &str = "qk_";

/// Length of an identifier, in random bytes.
const ID_BYTES: usize = 6;

/// Length of a secret, in random bytes.
const SECRET_BYTES: usize = 32;

/// Length of a checksum, in bytes of the SHA-256 of the text in front of it.
const CHECKSUM_BYTES: usize = 4;

/// Identifier of a key: 12 hexadecimal digits in lower case. Not a secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyId(Box<str>);

/// Key that was just made. `Debug` does not show the secret.
pub struct NewKey {
    /// Identifier.
    pub id: KeyId,
    /// Whole text of the key, for the client.
    pub text: String,
}

// === impl KeyId ===

impl KeyId {
    /// Parses an identifier.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        is_hex(text, ID_BYTES).then(|| Self(text.into()))
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// === impl NewKey ===

impl NewKey {
    /// Makes a random key; fails if the system has no random numbers.
    pub fn random() -> Result<Self, ring::error::Unspecified> {
        let (mut id, mut secret) = ([0; ID_BYTES], [0; SECRET_BYTES]);
        let random = SystemRandom::new();
        random.fill(&mut id)?;
        random.fill(&mut secret)?;
        let id = KeyId(hex(&id).into());
        let text = format!("{PREFIX}{id}_{}", hex(&secret));
        let checksum = checksum(&text);
        Ok(Self { id, text: text + &checksum })
    }
}

impl fmt::Debug for NewKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Returns the identifier of a text that has the form and the checksum of a key.
pub(super) fn id_of(text: &str) -> Option<KeyId> {
    let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
    if !is_hex(secret, SECRET_BYTES + CHECKSUM_BYTES) {
        return None;
    }
    let (body, given) = text.split_at(text.len() - 2 * CHECKSUM_BYTES);
    // A checksum is no secret: its comparison may take a time that depends on it.
    if checksum(body) == given { KeyId::parse(id) } else { None }
}

/// Returns the hash of a key by which the file knows it.
pub(super) fn hash(text: &str) -> [u8; 32] {
    *digest(&SHA256, text.as_bytes()).as_ref().first_chunk().expect("SHA-256 has 32 bytes")
}

fn checksum(text: &str) -> String {
    hex(&hash(text)[..CHECKSUM_BYTES])
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)]))
        .collect()
}

/// Returns the bytes of hexadecimal digits in lower case.
pub(super) fn bytes_of_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if !is_hex(text, N) {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(bytes)
}

fn is_hex(text: &str, bytes: usize) -> bool {
    text.len() == 2 * bytes && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_has_its_form_and_is_recognised() {
        let key = NewKey::random().unwrap();
        assert_eq!((key.text.len(), key.text.matches('_').count()), (88, 2));
        assert_eq!(id_of(&key.text), Some(key.id.clone()));
        assert_ne!(NewKey::random().unwrap().text, key.text);
        assert!(!format!("{key:?}").contains(&key.text[16..]));
    }

    #[test]
    fn a_text_with_one_other_character_is_no_key() {
        let key = NewKey::random().unwrap().text;
        for at in 0..key.len() {
            let mut other = key.clone().into_bytes();
            other[at] = if other[at] == b'0' { b'1' } else { b'0' };
            assert_eq!(id_of(std::str::from_utf8(&other).unwrap()), None, "{at}");
        }
        for other in
            ["", "qk_", "qk__", &key[1..], &key[..87], &key.to_uppercase(), &format!("{key} "), "qk_\u{e9}_x"]
        {
            assert_eq!(id_of(other), None, "{other}");
        }
    }

    #[test]
    fn hexadecimal_digits_are_read_again() {
        assert_eq!(hex(&[0, 255, 16]), "00ff10");
        assert_eq!(bytes_of_hex::<3>("00ff10"), Some([0, 255, 16]));
        for text in ["00FF10", "00ff1", "00ff1g", "+0ff10", "00ff1\u{e9}"] {
            assert_eq!(bytes_of_hex::<3>(text), None, "{text}");
        }
    }
}
