//! Tokens: the parser and the verifier, with keys of each type.
//!
//! The first line of an input is the header of a token in JSON, the rest its claims. Each is tried as it is, with a
//! signature of the fuzzer, and with a right one: only the last one may be accepted, and then only with the claims
//! that were signed.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use quinistry::registry::auth::issue::SigningKey;
use quinistry::registry::auth::token::algorithm::AllowedAlgorithms;
use quinistry::registry::auth::token::keys::TokenKeys;
use quinistry::registry::auth::token::verification::{TokenPolicy, verify};
use quinistry_fuzz::token::{NOW, encode, key_set, sign};
use serde_json::Value;

static POLICY: LazyLock<TokenPolicy> = LazyLock::new(|| TokenPolicy {
    algorithms: AllowedAlgorithms::of_names(["EdDSA", "ES256", "RS256", "PS256", "HS256"])
        .unwrap_or_default(),
    issuer: "i".into(),
    audience: "s".into(),
});

static KEYS: LazyLock<TokenKeys> = LazyLock::new(|| {
    let mut keys = TokenKeys::default();
    keys.add_jwk_set(key_set().as_bytes()).expect("the set has usable keys");
    keys
});

fuzz_target!(|input: &[u8]| {
    let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let (header, claims) = (&input[..end], input.get(end + 1..).unwrap_or_default());
    // Text that need not be a token at all.
    if let Ok(text) = std::str::from_utf8(input) {
        assert!(verify(text, &POLICY, &KEYS, NOW).is_err());
    }
    let message = format!("{}.{}", encode(header), encode(claims));
    for forged in [&[][..], &[0; 64], header, claims] {
        assert!(verify(&format!("{message}.{}", encode(forged)), &POLICY, &KEYS, NOW).is_err());
    }
    if let Ok(token) = verify(&sign(&message), &POLICY, &KEYS, NOW) {
        let header: Value = serde_json::from_slice(header).expect("an accepted header is JSON");
        let claims: Value = serde_json::from_slice(claims).expect("accepted claims are JSON");
        assert_eq!((header["alg"].as_str(), header["kid"].as_str()), (Some("EdDSA"), Some("ed")));
        assert!(header.get("crit").is_none() && header.get("x5c").is_none());
        assert_eq!(claims["iss"], "i");
        let audience = &claims["aud"];
        assert!(audience == "s" || audience.as_array().is_some_and(|list| list.contains(&"s".into())));
        assert!(claims["exp"].as_f64().is_some_and(|end| end + 60.0 > 1_800_000_000.0));
        assert_eq!(token.subject.as_deref().unwrap_or_default(), claims["sub"].as_str().unwrap_or_default());
    }
    let _ = SigningKey::of_pem(input);
    let _ = TokenKeys::default().add_jwk_set(input);
    let _ = TokenKeys::default().add_bundle(input);
});
