//! Text by which replicas of a registry recognise an upload session that none of them has written down: it is
//! part of the session's `Location`, which the client sends with each request.
//!
//! The text is base64url of a code and of what it covers beside the repository and the session's name: the
//! time of the begin (seconds since 1970, 8 bytes, big-endian), and a byte for an announced algorithm. The
//! code is HMAC-SHA-256.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use quinistry_oci::{Algorithm, RepositoryName};
use quinistry_store::UploadId;
use ring::hmac;

/// Separates this use of a secret from others.
const LABEL: &[u8] = b"quinistry upload session";

const CODE_BYTES: usize = 32;

/// Byte that stands for SHA-512. Other algorithms are not written.
const SHA512: u8 = 2;

/// Secret by which replicas recognise upload sessions.
#[derive(Clone)]
pub struct UploadSecret(hmac::Key);

/// Content of the text that a client has sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UploadState {
    /// Time of the session's begin.
    pub(crate) begun: SystemTime,
    /// Algorithm by which the client will name the blob, if it has announced one.
    pub(crate) announced: Option<Algorithm>,
}

// === impl UploadSecret ===

impl UploadSecret {
    /// Derives the secret from one that has other uses, too.
    #[must_use]
    pub fn derived_from(secret: &[u8]) -> Self {
        let derived = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), LABEL);
        Self(hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref()))
    }

    /// Returns the text for a session.
    pub(crate) fn seal(&self, name: &RepositoryName, id: &UploadId, state: UploadState) -> String {
        let begun = state.begun.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut covered = begun.to_be_bytes().to_vec();
        covered.extend(state.announced.filter(|algorithm| *algorithm == Algorithm::Sha512).map(|_| SHA512));
        let code = hmac::sign(&self.0, &message(name, id, &covered));
        URL_SAFE_NO_PAD.encode([code.as_ref(), &covered].concat())
    }

    /// Returns the content of a text; `None` if it was not made for the session by this secret.
    pub(crate) fn open(&self, name: &RepositoryName, id: &UploadId, text: &str) -> Option<UploadState> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (code, covered) = bytes.split_at_checked(CODE_BYTES)?;
        hmac::verify(&self.0, &message(name, id, covered), code).ok()?;
        let (begun, rest) = covered.split_first_chunk::<8>()?;
        let begun = UNIX_EPOCH.checked_add(Duration::from_secs(u64::from_be_bytes(*begun)))?;
        let announced = match rest {
            [] => None,
            [SHA512] => Some(Algorithm::Sha512),
            _ => return None,
        };
        Some(UploadState { begun, announced })
    }
}

impl fmt::Debug for UploadSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UploadSecret")
    }
}

/// Returns what the code covers. Neither a repository's name nor a session's has a zero byte.
fn message(name: &RepositoryName, id: &UploadId, covered: &[u8]) -> Vec<u8> {
    [name.as_str().as_bytes(), &[0], id.as_str().as_bytes(), covered].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_700_000_000)
    }

    #[test]
    fn a_state_is_that_of_its_session_alone() {
        let secret = UploadSecret::derived_from(b"secret");
        let [name, other]: [RepositoryName; 2] = ["a/b", "a/c"].map(|name| name.parse().unwrap());
        let (id, other_id) = (UploadId::random(), UploadId::random());
        for announced in [None, Some(Algorithm::Sha512)] {
            let state = UploadState { begun: begun(), announced };
            let text = secret.seal(&name, &id, state);
            assert_eq!(secret.open(&name, &id, &text), Some(state));
            assert_eq!(secret.open(&other, &id, &text), None);
            assert_eq!(secret.open(&name, &other_id, &text), None);
            assert_eq!(UploadSecret::derived_from(b"other").open(&name, &id, &text), None);
        }
    }

    #[test]
    fn a_changed_state_is_none() {
        let secret = UploadSecret::derived_from(b"secret");
        let (name, id): (RepositoryName, _) = ("a/b".parse().unwrap(), UploadId::random());
        let text = secret.seal(&name, &id, UploadState { begun: begun(), announced: None });
        let bytes = URL_SAFE_NO_PAD.decode(&text).unwrap();
        for i in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[i] ^= 1;
            assert_eq!(secret.open(&name, &id, &URL_SAFE_NO_PAD.encode(changed)), None, "{i}");
        }
        for text in ["", "!", &text[1..], &text[..text.len() - 2], &format!("{text}AA"), &format!("{text}=")]
        {
            assert_eq!(secret.open(&name, &id, text), None, "{text}");
        }
    }

    #[test]
    fn a_secret_is_not_shown() {
        assert_eq!(format!("{:?}", UploadSecret::derived_from(b"secret")), "UploadSecret");
    }
}
