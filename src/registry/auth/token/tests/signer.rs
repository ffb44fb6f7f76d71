//! Signer of tokens, valid and hostile ones.

use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{
    self, ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING,
    EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _, RsaEncoding, RsaKeyPair,
};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::{Value, json};

use super::super::key::encode;

/// Key that signs whatever it is given.
pub(in crate::auth) enum Signer {
    Ed25519(Ed25519KeyPair),
    Elliptic { key: EcdsaKeyPair, pkcs8: Vec<u8>, curve: &'static str },
    Rsa(RsaKeyPair),
    Secret(Vec<u8>),
}

impl Signer {
    pub(in crate::auth) fn ed25519() -> Self {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self::Ed25519(Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap())
    }

    pub(in crate::auth) fn p256() -> Self {
        Self::elliptic(&ECDSA_P256_SHA256_FIXED_SIGNING, "P-256")
    }

    pub(in crate::auth) fn p384() -> Self {
        Self::elliptic(&ECDSA_P384_SHA384_FIXED_SIGNING, "P-384")
    }

    fn elliptic(algorithm: &'static EcdsaSigningAlgorithm, curve: &'static str) -> Self {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap().as_ref().to_vec();
        let key = EcdsaKeyPair::from_pkcs8(algorithm, &pkcs8, &random).unwrap();
        Self::Elliptic { key, pkcs8, curve }
    }

    /// Key on P-256 of a file.
    pub(in crate::auth) fn ec_file(pem: &str) -> Self {
        let pkcs8 = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).unwrap().secret_pkcs8_der().to_vec();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pkcs8, &SystemRandom::new());
        Self::Elliptic { key: key.unwrap(), pkcs8, curve: "P-256" }
    }

    pub(in crate::auth) fn rsa() -> Self {
        let pkcs8 = PrivatePkcs8KeyDer::from_pem_slice(include_bytes!("rsa.key")).unwrap();
        Self::Rsa(RsaKeyPair::from_pkcs8(pkcs8.secret_pkcs8_der()).unwrap())
    }

    pub(in crate::auth) fn secret(secret: &[u8]) -> Self {
        Self::Secret(secret.to_vec())
    }

    pub(in crate::auth) fn public(&self) -> Vec<u8> {
        match self {
            Self::Ed25519(key) => key.public_key().as_ref().to_vec(),
            Self::Elliptic { key, .. } => key.public_key().as_ref().to_vec(),
            Self::Rsa(key) => key.public_key().as_ref().to_vec(),
            Self::Secret(_) => unreachable!("a secret has no public key"),
        }
    }

    /// JWK of a key on an elliptic curve.
    pub(in crate::auth) fn jwk(&self, id: &str) -> Value {
        let Self::Elliptic { curve, .. } = self else { unreachable!("only elliptic keys are asked") };
        let point = self.public();
        let (x, y) = point[1..].split_at((point.len() - 1) / 2);
        json!({"kid": id, "kty": "EC", "crv": curve, "x": encode(x), "y": encode(y)})
    }

    /// Signs a token. The header's `alg` only chooses the form of an RSA signature.
    pub(in crate::auth) fn sign(&self, header: &Value, claims: &Value) -> String {
        self.sign_text(&header.to_string(), &claims.to_string())
    }

    pub(in crate::auth) fn sign_text(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", encode(header.as_bytes()), encode(claims.as_bytes()));
        let signature = self.signature(message.as_bytes(), header);
        format!("{message}.{}", encode(&signature))
    }

    fn signature(&self, message: &[u8], header: &str) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Ed25519(key) => key.sign(message).as_ref().to_vec(),
            Self::Elliptic { key, .. } => key.sign(&random, message).unwrap().as_ref().to_vec(),
            Self::Rsa(key) => {
                let has = |name| header.contains(name);
                let padding: &dyn RsaEncoding = match () {
                    () if has("RS384") => &signature::RSA_PKCS1_SHA384,
                    () if has("RS512") => &signature::RSA_PKCS1_SHA512,
                    () if has("PS256") => &signature::RSA_PSS_SHA256,
                    () if has("PS384") => &signature::RSA_PSS_SHA384,
                    () if has("PS512") => &signature::RSA_PSS_SHA512,
                    () => &signature::RSA_PKCS1_SHA256,
                };
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(padding, &random, message, &mut signature).unwrap();
                signature
            }
            Self::Secret(secret) => {
                hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message).as_ref().to_vec()
            }
        }
    }

    /// Signature of a message on P-256 in DER, which JWS does not have.
    pub(in crate::auth) fn sign_der(&self, message: &[u8]) -> Vec<u8> {
        let Self::Elliptic { pkcs8, .. } = self else { unreachable!("only elliptic keys are asked") };
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8, &random).unwrap();
        key.sign(&random, message).unwrap().as_ref().to_vec()
    }
}
