//! Cursor of a list that ends behind a name which the client must not learn: the name, encrypted.
//!
//! The key lives as long as the process. A cursor of another start is refused, so that no client takes the rest of
//! a list for empty.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::api::response::error::Error;

/// First character of a cursor, which no name has.
const MARK: char = '~';

static KEY: LazyLock<LessSafeKey> = LazyLock::new(|| {
    let key = random::<32>();
    LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &key).expect("the key has 32 bytes"))
});

fn random<const LENGTH: usize>() -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    SystemRandom::new().fill(&mut bytes).expect("the system has random numbers");
    bytes
}

/// Returns the cursor of a name.
pub(super) fn seal(name: &str) -> String {
    // Names differ in length, and the length of a cursor must not tell it.
    let mut text = format!("{name:\0<width$}", width = quinistry_oci::RepositoryName::MAX_LEN).into_bytes();
    let nonce = random::<NONCE_LEN>();
    KEY.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut text)
        .expect("a name is short enough to be encrypted");
    format!("{MARK}{}", URL_SAFE_NO_PAD.encode([&nonce[..], &text].concat()))
}

/// Returns the name of a cursor; `None` if the text is not a cursor.
pub(super) fn open(text: &str) -> Result<Option<String>, Error> {
    let Some(text) = text.strip_prefix(MARK) else { return Ok(None) };
    let decoded = URL_SAFE_NO_PAD.decode(text).map_err(|_| Error::PageCursor)?;
    let (nonce, sealed) = decoded.split_first_chunk::<NONCE_LEN>().ok_or(Error::PageCursor)?;
    let mut sealed = sealed.to_vec();
    let name = KEY
        .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::empty(), &mut sealed)
        .map_err(|_| Error::PageCursor)?;
    let name = std::str::from_utf8(name).map_err(|_| Error::PageCursor)?;
    Ok(Some(name.trim_end_matches('\0').to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_hides_its_name() {
        let (one, other) = (seal("secret/a"), seal("a"));
        assert_eq!(open(&one).unwrap().as_deref(), Some("secret/a"));
        assert_eq!(open(&other).unwrap().as_deref(), Some("a"));
        assert!(!one.contains("secret") && one.len() == other.len());
        assert_eq!(open("secret/a").unwrap(), None);
        for forged in ["~", "~AAAA", &one[..one.len() - 1], &format!("{one}A")] {
            assert!(matches!(open(forged), Err(Error::PageCursor)), "{forged}");
        }
    }
}
