//! Keys of the target for tokens, and right signatures.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::json;

/// Time at which tokens are verified, in seconds since the epoch.
pub const NOW: u64 = 1_800_000_000;

/// Key of all runs, so that a finding can be repeated.
static SIGNER: LazyLock<Ed25519KeyPair> =
    LazyLock::new(|| Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap());

/// Returns a JWK set with a key of each type, of which the one with the id `ed` signs.
#[must_use]
pub fn key_set() -> String {
    json!({"keys": [
        {"kid": "ed", "kty": "OKP", "crv": "Ed25519", "x": encode(SIGNER.public_key().as_ref())},
        // RFC 7515, A.3.
        {"kid": "ec", "kty": "EC", "crv": "P-256",
         "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"},
        // RFC 7515, A.2.
        {"kid": "rsa", "kty": "RSA", "e": "AQAB",
         "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT\
               -SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-\
               UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2eth\
               FkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"},
        {"kid": "secret", "kty": "oct", "k": encode(&[9; 32])},
    ]})
    .to_string()
}

/// Signs a message, and returns it with its signature.
#[must_use]
pub fn sign(message: &str) -> String {
    format!("{message}.{}", encode(SIGNER.sign(message.as_bytes()).as_ref()))
}

/// Encodes bytes as the parts of a token.
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
