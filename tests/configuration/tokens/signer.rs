//! Ed25519 key that signs whatever it is given.

use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::Value;

pub(super) struct Signer(Ed25519KeyPair);

impl Signer {
    pub(super) fn random() -> Self {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self(Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap())
    }

    pub(super) fn public(&self) -> Vec<u8> {
        self.0.public_key().as_ref().to_vec()
    }

    pub(super) fn sign(&self, header: &Value, claims: &Value) -> String {
        self.sign_text(&header.to_string(), &claims.to_string())
    }

    pub(super) fn sign_text(&self, header: &str, claims: &str) -> String {
        let message = message(header, claims);
        format!("{message}.{}", encode(self.0.sign(message.as_bytes()).as_ref()))
    }

    /// Makes an HMAC with the public key as its secret.
    pub(super) fn sign_as_secret(&self, header: &Value, claims: &Value) -> String {
        let message = message(&header.to_string(), &claims.to_string());
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.public());
        format!("{message}.{}", encode(hmac::sign(&key, message.as_bytes()).as_ref()))
    }
}

pub(super) fn message(header: &str, claims: &str) -> String {
    format!("{}.{}", encode(header.as_bytes()), encode(claims.as_bytes()))
}

pub(super) fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}
