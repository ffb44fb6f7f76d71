//! Key that signs this registry's own tokens.

use std::path::Path;
use std::sync::LazyLock;

use jsonwebtoken::Algorithm;
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use ring::{hkdf, hmac};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject as _;
use serde::Serialize;
use serde_json::{Value, json};

use crate::auth::token::algorithm::AllowedAlgorithms;
pub(super) use crate::auth::token::key::encode;
use crate::auth::token::key::{KeyType, VerificationKey};

/// Label of the key that is derived from a secret.
const KEY_LABEL: &[u8] = b"quinistry token";

/// Label of the name of that key, which says nothing about it.
const ID_LABEL: &[u8] = b"quinistry token key id";

/// Secret of a process whose configuration has none.
static PROCESS_SECRET: LazyLock<[u8; 32]> = LazyLock::new(random);

/// Key that signs tokens, and verifies them.
pub struct SigningKey {
    pair: Pair,
    id: String,
    verification: VerificationKey,
}

enum Pair {
    Secret(hmac::Key),
    Ed25519(Ed25519KeyPair),
    P256(EcdsaKeyPair),
}

/// Error of a file with a key that signs.
#[derive(Debug, thiserror::Error)]
pub enum SigningKeyError {
    /// File that cannot be read.
    #[error("failed to read {file}: {error}")]
    Read {
        /// Path.
        file: String,
        /// Reason.
        error: std::io::Error,
    },
    /// File that every user of the machine can write.
    #[error("every user can write {file}, the key of tokens; run `chmod 600` on it")]
    Writable {
        /// Path.
        file: String,
    },
    /// Content that is not such a key.
    #[error(
        "is not a private key on Ed25519 or P-256 in PKCS#8 (PEM); make one with \
         `openssl genpkey -algorithm ed25519`"
    )]
    Malformed,
    /// File of which this is true.
    #[error("file {file} of the key of tokens {error}")]
    File {
        /// Path.
        file: String,
        /// Reason.
        error: Box<SigningKeyError>,
    },
}

impl SigningKeyError {
    pub(super) fn in_file(self, path: &Path) -> Self {
        Self::File { file: path.display().to_string(), error: Box::new(self) }
    }
}

// === impl SigningKey ===

impl SigningKey {
    /// Derives a key from a secret that all replicas of a registry share.
    #[must_use]
    pub fn of_secret(secret: &[u8]) -> Self {
        let (key, id) = (derive(secret, KEY_LABEL), derive(secret, ID_LABEL));
        Self {
            pair: Pair::Secret(hmac::Key::new(hmac::HMAC_SHA256, &key)),
            id: encode(&id[..16]),
            verification: VerificationKey::secret(&key).expect("a derived key is long enough"),
        }
    }

    /// Derives a key from a secret of this process.
    #[must_use]
    pub fn of_process() -> Self {
        Self::of_secret(&*PROCESS_SECRET)
    }

    /// Parses a private key in PKCS#8 (RFC 5958) as PEM.
    pub fn of_pem(pem: &[u8]) -> Result<Self, SigningKeyError> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem).map_err(|_| SigningKeyError::Malformed)?;
        let der = der.secret_pkcs8_der();
        // OpenSSL leaves the public key out.
        if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
            let key = VerificationKey::ed25519(pair.public_key().as_ref());
            return Ok(Self::asymmetric(Pair::Ed25519(pair), key.map_err(|_| SigningKeyError::Malformed)?));
        }
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der, &SystemRandom::new());
        let pair = pair.map_err(|_| SigningKeyError::Malformed)?;
        let key = VerificationKey::elliptic(KeyType::P256, pair.public_key().as_ref());
        Ok(Self::asymmetric(Pair::P256(pair), key.map_err(|_| SigningKeyError::Malformed)?))
    }

    fn asymmetric(pair: Pair, verification: VerificationKey) -> Self {
        Self { pair, id: verification.thumbprint.clone(), verification }
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) const fn verification(&self) -> &VerificationKey {
        &self.verification
    }

    const fn algorithm(&self) -> Algorithm {
        match self.pair {
            Pair::Secret(_) => Algorithm::HS256,
            Pair::Ed25519(_) => Algorithm::EdDSA,
            Pair::P256(_) => Algorithm::ES256,
        }
    }

    pub(super) fn algorithms(&self) -> AllowedAlgorithms {
        AllowedAlgorithms::only(self.algorithm())
    }

    /// Returns the public key as a JWK (RFC 7517); `None` for a secret.
    pub(super) fn public_jwk(&self) -> Option<Value> {
        let (id, alg) = (&self.id, self.algorithm());
        match &self.pair {
            Pair::Secret(_) => None,
            Pair::Ed25519(pair) => Some(json!({
                "kid": id, "use": "sig", "alg": alg, "kty": "OKP", "crv": "Ed25519",
                "x": encode(pair.public_key().as_ref()),
            })),
            Pair::P256(pair) => {
                let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
                Some(json!({
                    "kid": id, "use": "sig", "alg": alg, "kty": "EC", "crv": "P-256",
                    "x": encode(x), "y": encode(y),
                }))
            }
        }
    }

    /// Signs claims; `None` if the system has no randomness, which P-256 needs.
    pub(super) fn sign(&self, claims: &impl Serialize) -> Option<String> {
        let header = json!({"typ": "JWT", "alg": self.algorithm(), "kid": self.id}).to_string();
        let claims = serde_json::to_vec(claims).ok()?;
        let message = format!("{}.{}", encode(header.as_bytes()), encode(&claims));
        let signature = match &self.pair {
            Pair::Secret(key) => encode(hmac::sign(key, message.as_bytes()).as_ref()),
            Pair::Ed25519(pair) => encode(pair.sign(message.as_bytes()).as_ref()),
            Pair::P256(pair) => encode(pair.sign(&SystemRandom::new(), message.as_bytes()).ok()?.as_ref()),
        };
        Some(format!("{message}.{signature}"))
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Derives 32 bytes from a secret (RFC 5869).
fn derive(secret: &[u8], label: &[u8]) -> [u8; 32] {
    let mut key = [0; 32];
    hkdf::Salt::new(hkdf::HKDF_SHA256, &[])
        .extract(secret)
        .expand(&[label], hkdf::HKDF_SHA256)
        .and_then(|material| material.fill(&mut key))
        .expect("32 bytes are the length of the hash");
    key
}

fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).expect("the system has randomness");
    bytes
}

/// Returns an id that no other token has.
pub(super) fn random_id() -> String {
    encode(&random()[..16])
}
