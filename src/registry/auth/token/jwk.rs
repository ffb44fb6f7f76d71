//! JWK sets (RFC 7517). Pure.

use jsonwebtoken::Algorithm;
use serde::Deserialize;

use super::key::{self, KeyError, KeyType, VerificationKey};
use super::unique_names;

/// Most keys of a set. Servers that rotate keys publish a few.
const MAX_KEYS: usize = 1000;

/// Error of a JWK set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwkSetError {
    /// Text that is not a JWK set.
    #[error("is not a JWK set: {0}")]
    Malformed(String),
    /// Set with too many keys.
    #[error("has more than {MAX_KEYS} keys; remove those that no longer sign")]
    TooManyKeys,
    /// Key that cannot be used.
    #[error("key {number}: {reason}")]
    Key {
        /// Place in the set, from 1.
        number: usize,
        /// Reason.
        reason: KeyError,
    },
}

/// Key of a set with its `kid`.
pub(super) struct IdentifiedKey {
    pub(super) id: Option<String>,
    pub(super) key: VerificationKey,
}

#[derive(Deserialize)]
struct JwkSet {
    keys: Vec<Jwk>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    r#use: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
    k: Option<String>,
}

/// Parses a JWK set. Keys of other types, on other curves and for other purposes are left out (RFC 7517, 5);
/// a key that is meant to verify tokens and cannot do so safely is an error.
pub(super) fn parse_set(bytes: &[u8]) -> Result<Vec<IdentifiedKey>, JwkSetError> {
    let malformed = |error: serde_json::Error| JwkSetError::Malformed(error.to_string());
    let value = unique_names::parse(bytes).map_err(malformed)?;
    let set: JwkSet = serde_json::from_value(value).map_err(malformed)?;
    if set.keys.len() > MAX_KEYS {
        return Err(JwkSetError::TooManyKeys);
    }
    let mut keys = Vec::new();
    for (index, jwk) in set.keys.into_iter().enumerate() {
        match jwk.verification_key() {
            Ok(Some(key)) => keys.push(IdentifiedKey { id: jwk.kid, key }),
            Ok(None) => {}
            Err(reason) => return Err(JwkSetError::Key { number: index + 1, reason }),
        }
    }
    Ok(keys)
}

// === impl Jwk ===

impl Jwk {
    /// Returns the key, unless it is for another purpose or cannot be verified with.
    fn verification_key(&self) -> Result<Option<VerificationKey>, KeyError> {
        let signs = self.r#use.as_deref().is_none_or(|purpose| purpose == "sig");
        let verifies = self.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"));
        let only = self.alg.as_deref().map(str::parse::<Algorithm>);
        if !signs || !verifies || matches!(only, Some(Err(_))) {
            return Ok(None);
        }
        let key = match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => VerificationKey::rsa(&field(self.n.as_deref())?, &field(self.e.as_deref())?)?,
            ("EC", Some("P-256")) => VerificationKey::elliptic(KeyType::P256, &self.point()?)?,
            ("EC", Some("P-384")) => VerificationKey::elliptic(KeyType::P384, &self.point()?)?,
            ("OKP", Some("Ed25519")) => VerificationKey::ed25519(&field(self.x.as_deref())?)?,
            ("oct", _) => VerificationKey::secret(&field(self.k.as_deref())?)?,
            _ => return Ok(None),
        };
        let only = only.and_then(Result::ok);
        if only.is_some_and(|only| !key.fits(only)) {
            return Err(KeyError::Malformed);
        }
        Ok(Some(VerificationKey { only, ..key }))
    }

    fn point(&self) -> Result<Vec<u8>, KeyError> {
        let (x, y) = (field(self.x.as_deref())?, field(self.y.as_deref())?);
        // The key joins both coordinates. If one were shorter and the other longer, the boundary would move.
        if x.len() != y.len() {
            return Err(KeyError::Malformed);
        }
        Ok([&[4], x.as_slice(), y.as_slice()].concat())
    }
}

fn field(value: Option<&str>) -> Result<Vec<u8>, KeyError> {
    value.and_then(key::decode).ok_or(KeyError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ED25519: &str = r#""kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo""#;

    fn keys(fields: &str) -> Result<usize, JwkSetError> {
        parse_set(format!(r#"{{"keys":[{{{fields}}}]}}"#).as_bytes()).map(|keys| keys.len())
    }

    #[test]
    fn only_keys_for_signatures_are_taken() {
        assert_eq!(keys(ED25519), Ok(1));
        for fields in
            [r#""use":"sig""#, r#""key_ops":["sign","verify"]"#, r#""alg":"EdDSA""#, r#""kid":null"#]
        {
            assert_eq!(keys(&format!("{ED25519},{fields}")), Ok(1), "{fields}");
        }
        for fields in [r#""use":"enc""#, r#""key_ops":["encrypt"]"#, r#""key_ops":[]"#, r#""alg":"ECDH-ES""#]
        {
            assert_eq!(keys(&format!("{ED25519},{fields}")), Ok(0), "{fields}");
        }
        for other in [
            r#""kty":"EC","crv":"P-521","x":"AA","y":"AA""#,
            r#""kty":"OKP","crv":"X25519","x":"AA""#,
            r#""kty":"AKP","alg":"ML-DSA-44""#,
        ] {
            assert_eq!(keys(other), Ok(0), "{other}");
        }
    }

    #[test]
    fn row_121_a_key_that_cannot_verify_safely_is_refused() {
        let malformed = Err(JwkSetError::Key { number: 1, reason: KeyError::Malformed });
        assert_eq!(keys(&format!(r#"{ED25519},"alg":"RS256""#)), malformed, "the algorithm does not fit");
        assert_eq!(keys(r#""kty":"OKP","crv":"Ed25519""#), malformed);
        assert_eq!(keys(r#""kty":"OKP","crv":"Ed25519","x":"AA""#), malformed);
        assert_eq!(keys(r#""kty":"EC","crv":"P-256","x":"AA","y":"AA""#), malformed);
        assert_eq!(keys(r#""kty":"RSA","n":"*","e":"AQAB""#), malformed);
        let modulus =
            |bytes: usize| format!(r#""kty":"RSA","e":"AQAB","n":"{}""#, key::encode(&vec![0xff; bytes]));
        for bits in [512, 16_384] {
            let refused = JwkSetError::Key { number: 1, reason: KeyError::RsaBits(bits) };
            assert_eq!(keys(&modulus(bits / 8)), Err(refused));
        }
        assert_eq!(
            keys(r#""kty":"oct","k":"c2hvcnQ""#),
            Err(JwkSetError::Key { number: 1, reason: KeyError::ShortSecret })
        );
    }

    #[test]
    fn text_that_is_not_a_set_is_refused() {
        for text in [
            "",
            "[]",
            "{}",
            r#"{"keys":{}}"#,
            r#"{"keys":[],"keys":[]}"#,
            r#"{"keys":[{"kty":1}]}"#,
            r#"{"keys":[{}]}"#,
        ] {
            assert!(matches!(parse_set(text.as_bytes()), Err(JwkSetError::Malformed(_))), "{text}");
        }
        let many = format!(r#"{{"keys":[{}{{"kty":"x"}}]}}"#, r#"{"kty":"x"},"#.repeat(MAX_KEYS));
        assert!(matches!(parse_set(many.as_bytes()), Err(JwkSetError::TooManyKeys)));
    }
}
