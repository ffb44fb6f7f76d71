//! Key that verifies tokens. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use ring::digest::{SHA256, digest};
use x509_cert::der::asn1::UintRef;
use x509_cert::der::{Decode as _, Reader as _, SliceReader};
use x509_cert::spki::SubjectPublicKeyInfoRef;

/// Shortest and longest modulus of an RSA key, in bits: shorter ones can be factored, and longer ones cost
/// time at each request.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// Longest exponent of an RSA key, in bytes; ring verifies exponents of up to 33 bits.
const MAX_EXPONENT_BYTES: usize = 5;

/// Shortest secret of an HMAC, in bytes (RFC 7518, 3.2: as long as the hash, of which SHA-256 is the
/// shortest).
const MIN_SECRET_BYTES: usize = 32;

const RSA_ENCRYPTION: &str = "1.2.840.113549.1.1.1";
const EC_PUBLIC_KEY: &str = "1.2.840.10045.2.1";
const P256: &str = "1.2.840.10045.3.1.7";
const P384: &str = "1.3.132.0.34";
const ED25519: &str = "1.3.101.112";

/// Reason for which a key cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// RSA key of another length.
    #[error("RSA key has {0} bits, and 2048 to 8192 are supported; make a new key")]
    RsaBits(usize),
    /// RSA key with an exponent that is even, 1 or longer than 33 bits.
    #[error("RSA key has an exponent that is not supported; use 65537")]
    RsaExponent,
    /// Key of a type or on a curve that is not supported.
    #[error("type or curve of the key is not supported; use RSA, P-256, P-384 or Ed25519")]
    Unsupported,
    /// Secret that is too short.
    #[error("secret is shorter than 32 bytes")]
    ShortSecret,
    /// Bytes that are not a key.
    #[error("key is malformed")]
    Malformed,
}

/// Type of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::auth) enum KeyType {
    Rsa,
    P256,
    P384,
    Ed25519,
    /// Secret of an HMAC.
    Secret,
}

/// Key that verifies tokens.
#[derive(Clone, Debug)]
pub(in crate::auth) struct VerificationKey {
    pub(in crate::auth) key_type: KeyType,
    /// Only algorithm that the key is for, if its file says so.
    pub(in crate::auth) only: Option<Algorithm>,
    pub(in crate::auth) decoding: DecodingKey,
    /// RFC 7638 thumbprint with SHA-256, in base64url.
    pub(in crate::auth) thumbprint: String,
}

impl VerificationKey {
    /// Makes an RSA key of its modulus and exponent, big-endian.
    pub(in crate::auth) fn rsa(modulus: &[u8], exponent: &[u8]) -> Result<Self, KeyError> {
        let (modulus, exponent) = (without_leading_zeros(modulus), without_leading_zeros(exponent));
        let top = modulus.first().ok_or(KeyError::Malformed)?;
        let bits = modulus.len() * 8 - top.leading_zeros() as usize;
        if !RSA_BITS.contains(&bits) {
            return Err(KeyError::RsaBits(bits));
        }
        let is_odd = exponent.last().is_some_and(|last| last % 2 == 1);
        if !is_odd || exponent == [1] || exponent.len() > MAX_EXPONENT_BYTES {
            return Err(KeyError::RsaExponent);
        }
        let decoding = DecodingKey::from_rsa_raw_components(modulus, exponent);
        let (n, e) = (encode(modulus), encode(exponent));
        Ok(Self::new(KeyType::Rsa, decoding, &format!(r#"{{"e":"{e}","kty":"RSA","n":"{n}"}}"#)))
    }

    /// Makes a key of an uncompressed point on an elliptic curve (SEC 1, 2.3.3).
    pub(in crate::auth) fn elliptic(key_type: KeyType, point: &[u8]) -> Result<Self, KeyError> {
        let (curve, length) = match key_type {
            KeyType::P256 => ("P-256", 32),
            KeyType::P384 => ("P-384", 48),
            _ => return Err(KeyError::Unsupported),
        };
        let Some((4, coordinates)) = point.split_first().filter(|_| point.len() == 1 + 2 * length) else {
            return Err(KeyError::Malformed);
        };
        let (x, y) = coordinates.split_at(length);
        let (x, y) = (encode(x), encode(y));
        let json = format!(r#"{{"crv":"{curve}","kty":"EC","x":"{x}","y":"{y}"}}"#);
        Ok(Self::new(key_type, DecodingKey::from_ec_der(point), &json))
    }

    /// Makes an Ed25519 key (RFC 8032, 5.1.5).
    pub(in crate::auth) fn ed25519(public: &[u8]) -> Result<Self, KeyError> {
        if public.len() != 32 {
            return Err(KeyError::Malformed);
        }
        let json = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, encode(public));
        Ok(Self::new(KeyType::Ed25519, DecodingKey::from_ed_der(public), &json))
    }

    /// Makes a secret of an HMAC.
    pub(in crate::auth) fn secret(secret: &[u8]) -> Result<Self, KeyError> {
        if secret.len() < MIN_SECRET_BYTES {
            return Err(KeyError::ShortSecret);
        }
        let json = format!(r#"{{"k":"{}","kty":"oct"}}"#, encode(secret));
        let decoding = DecodingKey::from_secret(secret).map_err(|_| KeyError::Malformed)?;
        Ok(Self::new(KeyType::Secret, decoding, &json))
    }

    /// Makes a key of the DER of a `SubjectPublicKeyInfo` (RFC 5280, 4.1).
    pub(in crate::auth) fn of_public_key_info(der: &[u8]) -> Result<Self, KeyError> {
        let info = SubjectPublicKeyInfoRef::try_from(der).map_err(|_| KeyError::Malformed)?;
        let key = info.subject_public_key.as_bytes().ok_or(KeyError::Malformed)?;
        match info.algorithm.oid.to_string().as_str() {
            RSA_ENCRYPTION => {
                let (modulus, exponent) = rsa_components(key).map_err(|_| KeyError::Malformed)?;
                Self::rsa(modulus, exponent)
            }
            EC_PUBLIC_KEY => {
                let curve = info.algorithm.parameters_oid().map_err(|_| KeyError::Unsupported)?;
                match curve.to_string().as_str() {
                    P256 => Self::elliptic(KeyType::P256, key),
                    P384 => Self::elliptic(KeyType::P384, key),
                    _ => Err(KeyError::Unsupported),
                }
            }
            ED25519 => Self::ed25519(key),
            _ => Err(KeyError::Unsupported),
        }
    }

    fn new(key_type: KeyType, decoding: DecodingKey, canonical_json: &str) -> Self {
        let thumbprint = encode(digest(&SHA256, canonical_json.as_bytes()).as_ref());
        Self { key_type, only: None, decoding, thumbprint }
    }

    /// Returns true if the key may verify signatures of an algorithm.
    pub(in crate::auth) fn fits(&self, algorithm: Algorithm) -> bool {
        let has_type = match self.key_type {
            KeyType::Rsa => algorithm.family() == AlgorithmFamily::Rsa,
            KeyType::P256 => algorithm == Algorithm::ES256,
            KeyType::P384 => algorithm == Algorithm::ES384,
            KeyType::Ed25519 => algorithm == Algorithm::EdDSA,
            KeyType::Secret => algorithm.family() == AlgorithmFamily::Hmac,
        };
        has_type && self.only.is_none_or(|only| only == algorithm)
    }
}

/// Reads the modulus and the exponent of an `RSAPublicKey` (RFC 8017, A.1.1).
fn rsa_components(der: &[u8]) -> x509_cert::der::Result<(&[u8], &[u8])> {
    let mut reader = SliceReader::new(der)?;
    let components = reader.sequence(|reader| {
        let (modulus, exponent) = (UintRef::decode(reader)?, UintRef::decode(reader)?);
        Ok::<_, x509_cert::der::Error>((modulus.as_bytes(), exponent.as_bytes()))
    })?;
    reader.finish()?;
    Ok(components)
}

fn without_leading_zeros(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    &bytes[zeros..]
}

/// Encodes bytes as base64url without padding (RFC 7515, 2).
pub(in crate::auth) fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Decodes base64url without padding.
pub(in crate::auth) fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// Returns the id that libtrust gives a key: 240 bits of the SHA-256 of its `SubjectPublicKeyInfo` in base32,
/// in twelve groups. Token servers for distribution 2.x send it as `kid`.
pub(in crate::auth) fn libtrust_id(public_key_info: &[u8]) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let hash = digest(&SHA256, public_key_info);
    let mut id = String::with_capacity(59);
    for (index, group) in hash.as_ref()[..30].chunks_exact(5).enumerate() {
        let bits = group.iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
        for place in 0..8 {
            if (index > 0 || place > 0) && place % 4 == 0 {
                id.push(':');
            }
            let letter = bits >> (35 - 5 * place) & 31;
            id.push(char::from(ALPHABET[usize::try_from(letter).expect("five bits fit")]));
        }
    }
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thumbprint_is_that_of_the_rfc() {
        // RFC 7638, 3.1.
        let modulus = decode(
            "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
        );
        let key = VerificationKey::rsa(&modulus.unwrap(), &[1, 0, 1]).unwrap();
        assert_eq!(key.thumbprint, "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
        // RFC 8037, A.3.
        let public = decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo").unwrap();
        let key = VerificationKey::ed25519(&public).unwrap();
        assert_eq!(key.thumbprint, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }

    #[test]
    fn a_libtrust_id_is_twelve_groups_of_base32() {
        let id = libtrust_id(b"");
        assert_eq!(id.split(':').map(str::len).collect::<Vec<_>>(), [4; 12]);
        // Base32 of the first 30 bytes of SHA-256 of nothing, e3b0c442…
        assert_eq!(id, "4OYM:IQUY:7QOB:JGX3:6TEJ:S35Z:EQT2:4QPE:MSNZ:GTFE:SWMR:W6CS");
    }

    #[test]
    fn row_121_rsa_keys_that_are_too_short_or_too_long_are_refused() {
        let of_bits = |bits: usize| {
            let mut modulus = vec![0xff; bits.div_ceil(8)];
            if !bits.is_multiple_of(8) {
                modulus[0] = (1 << (bits % 8)) - 1;
            }
            VerificationKey::rsa(&modulus, &[1, 0, 1]).map(|key| key.key_type)
        };
        for bits in [512, 1024, 2047, 8193, 16_384] {
            assert_eq!(of_bits(bits), Err(KeyError::RsaBits(bits)));
        }
        for bits in [2048, 2049, 4096, 8192] {
            assert_eq!(of_bits(bits), Ok(KeyType::Rsa));
        }
        let modulus = [0xff; 256];
        for exponent in [&[][..], &[0], &[1], &[2], &[1, 0, 0], &[1, 0, 0, 0, 0, 1]] {
            assert_eq!(
                VerificationKey::rsa(&modulus, exponent).map(|key| key.key_type),
                Err(KeyError::RsaExponent)
            );
        }
        assert_eq!(VerificationKey::rsa(&[], &[3]).map(|key| key.key_type), Err(KeyError::Malformed));
    }

    #[test]
    fn each_key_verifies_the_algorithms_of_its_type() {
        let secret = VerificationKey::secret(&[7; 32]).unwrap();
        let ed25519 = VerificationKey::ed25519(&[7; 32]).unwrap();
        let mut point = [7; 65];
        point[0] = 4;
        let p256 = VerificationKey::elliptic(KeyType::P256, &point).unwrap();
        assert!(secret.fits(Algorithm::HS512) && !secret.fits(Algorithm::EdDSA));
        assert!(ed25519.fits(Algorithm::EdDSA) && !ed25519.fits(Algorithm::HS256));
        assert!(p256.fits(Algorithm::ES256) && !p256.fits(Algorithm::ES384));
        let only = VerificationKey { only: Some(Algorithm::HS256), ..secret };
        assert!(only.fits(Algorithm::HS256) && !only.fits(Algorithm::HS384));
        assert!(VerificationKey::secret(&[7; 31]).is_err());
        assert!(VerificationKey::elliptic(KeyType::P384, &point).is_err());
        point[0] = 2;
        assert!(VerificationKey::elliptic(KeyType::P256, &point).is_err());
    }
}
