//! Keys that verify tokens, from the files that a configuration names. Pure.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

pub use super::certificates::{BundleError, ChainError};
pub use super::jwk::JwkSetError;
pub use super::key::KeyError;

use super::certificates::CertificateBundle;
use super::jwk;
use super::key::VerificationKey;

/// Longest file with keys, in bytes.
pub const MAX_KEY_FILE_BYTES: usize = 1 << 20;

/// Keys that verify tokens.
#[derive(Clone, Debug, Default)]
pub struct TokenKeys {
    by_id: HashMap<Box<str>, Arc<VerificationKey>>,
    bundle: CertificateBundle,
}

/// Error of a file with keys.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFileError {
    /// Error of a JWK set.
    #[error(transparent)]
    JwkSet(#[from] JwkSetError),
    /// Error of a bundle of certificates.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// Two keys with one id, of which only one would count.
    #[error("has two keys with the kid {0:?}; give each its own")]
    DuplicateId(String),
}

/// Warning of a JWK set without keys that verify tokens.
pub const NO_KEYS: &str = "has no key that verifies tokens: tokens that its keys have signed are refused";

// === impl TokenKeys ===

impl TokenKeys {
    /// Adds the certificates of a bundle in PEM, named by RFC 7638 thumbprint and by libtrust id.
    /// Returns true: a bundle without certificates is an error, since no server writes one.
    pub fn add_bundle(&mut self, pem: &[u8]) -> Result<bool, KeyFileError> {
        let (bundle, keys) = CertificateBundle::parse(pem)?;
        for key in keys {
            let (id, key) = (key.libtrust_id, Arc::new(key.key));
            self.add(key.thumbprint.clone(), key.clone(), true)?;
            self.add(id, key, true)?;
        }
        self.bundle = bundle;
        Ok(true)
    }

    /// Adds the keys of a JWK set, named by `kid`, or by RFC 7638 thumbprint if they have none. A set without keys that
    /// verify tokens is an order: its server has withdrawn them. Returns true if it has any.
    pub fn add_jwk_set(&mut self, json: &[u8]) -> Result<bool, KeyFileError> {
        let keys = jwk::parse_set(json)?;
        let has_keys = !keys.is_empty();
        let mut ids = std::collections::HashSet::new();
        for jwk::IdentifiedKey { id, key } in keys {
            let id = id.unwrap_or_else(|| key.thumbprint.clone());
            if !ids.insert(id.clone()) {
                return Err(KeyFileError::DuplicateId(id));
            }
            self.add(id, Arc::new(key), false)?;
        }
        Ok(has_keys)
    }

    /// Adds a key. An id may name the same key twice, as that of a renewed certificate, but not two keys.
    fn add(&mut self, id: String, key: Arc<VerificationKey>, keeps_former: bool) -> Result<(), KeyFileError> {
        match self.by_id.entry(id.clone().into()) {
            Entry::Vacant(place) => {
                place.insert(key);
            }
            Entry::Occupied(mut former) => {
                if former.get().thumbprint != key.thumbprint {
                    return Err(KeyFileError::DuplicateId(id));
                }
                // The entry of a JWK set says more than a certificate.
                if !keeps_former {
                    former.insert(key);
                }
            }
        }
        Ok(())
    }

    /// Returns the key with an id.
    pub(super) fn find(&self, id: &str) -> Option<&VerificationKey> {
        self.by_id.get(id).map(AsRef::as_ref)
    }

    /// Returns the key of a chain of certificates that leads to the bundle at `now`, in seconds since the
    /// epoch.
    pub(super) fn of_chain(&self, chain: &[String], now: u64) -> Result<VerificationKey, ChainError> {
        self.bundle.key_of_chain(chain, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
    const OTHER: &str = "O2onvM62pC1io6jQKm8Nc2UyFXcd4kOmOsBIoYtZ2ik";

    fn set(keys: &[(Option<&str>, &str)]) -> String {
        let key = |(id, x): &(Option<&str>, &str)| {
            let id = id.map(|id| format!(r#""kid":"{id}","#)).unwrap_or_default();
            format!(r#"{{{id}"kty":"OKP","crv":"Ed25519","x":"{x}"}}"#)
        };
        format!(r#"{{"keys":[{}]}}"#, keys.iter().map(key).collect::<Vec<_>>().join(","))
    }

    #[test]
    fn row_125_a_set_with_two_keys_of_one_kid_is_refused() {
        let load = |keys: &[(Option<&str>, &str)]| TokenKeys::default().add_jwk_set(set(keys).as_bytes());
        let refused = Err(KeyFileError::DuplicateId("a".into()));
        assert_eq!(load(&[(Some("a"), ONE), (Some("b"), OTHER)]), Ok(true));
        assert_eq!(load(&[(Some("a"), ONE), (Some("a"), OTHER)]), refused);
        assert_eq!(load(&[(Some("a"), ONE), (Some("a"), ONE)]), refused);
        assert_eq!(load(&[]), Ok(false), "the keys are withdrawn");
    }

    #[test]
    fn a_key_without_a_kid_is_named_by_its_thumbprint() {
        let mut keys = TokenKeys::default();
        keys.add_jwk_set(set(&[(None, ONE)]).as_bytes()).unwrap();
        assert!(keys.find("kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k").is_some());
        assert!(keys.find("").is_none());
    }
}
