//! Verification of tokens with real signatures, most of which are hostile.

pub(in crate::auth) mod signer;

use std::time::Instant;

use serde_json::{Value, json};

use self::signer::Signer;
use super::algorithm::AllowedAlgorithms;
use super::key::{VerificationKey, encode};
use super::keys::{ChainError, TokenKeys};
use super::verification::{TokenError, TokenPolicy, VerifiedToken, verify};

/// Time of all tests, in seconds since the epoch. All certificates are valid then.
const NOW: u64 = 1_800_000_000;

/// Time at which the root has expired, and its leaf has not.
const AFTER_ROOT: u64 = 2_000_000_000;

const ROOT: &str = include_str!("tests/root.pem");
const OTHER_ROOT: &str = include_str!("tests/other.pem");
const LEAF: &str = include_str!("tests/leaf.pem");
const RSA: &str = include_str!("tests/rsa.pem");

fn policy() -> TokenPolicy {
    TokenPolicy {
        algorithms: AllowedAlgorithms::default(),
        issuer: "auth.example".into(),
        audience: "registry.example".into(),
    }
}

fn claims() -> Value {
    json!({
        "iss": "auth.example", "sub": "alice", "aud": "registry.example",
        "exp": NOW + 300, "nbf": NOW - 10, "iat": NOW, "jti": "x",
        "access": [{"type": "repository", "name": "a", "actions": ["pull", "push"]}],
    })
}

/// Keys of a JWK set with the public key of an Ed25519 signer as `ed`, and of a bundle with the root and an
/// RSA key.
fn keys(signer: &Signer) -> TokenKeys {
    let mut keys = TokenKeys::default();
    let jwk = json!({"keys": [{"kid": "ed", "kty": "OKP", "crv": "Ed25519", "x": encode(&signer.public())}]});
    keys.add_jwk_set(jwk.to_string().as_bytes()).unwrap();
    keys.add_bundle(format!("{ROOT}{RSA}").as_bytes()).unwrap();
    keys
}

/// Verifies a token of `signer`, whose key is known as `ed`, after `change` was made to its header and
/// claims.
fn verified(change: impl FnOnce(&mut Value, &mut Value)) -> Result<VerifiedToken, TokenError> {
    let signer = Signer::ed25519();
    let (mut header, mut claims) = (json!({"typ": "JWT", "alg": "EdDSA", "kid": "ed"}), claims());
    change(&mut header, &mut claims);
    verify(&signer.sign(&header, &claims), &policy(), &keys(&signer), NOW)
}

fn error(change: impl FnOnce(&mut Value, &mut Value)) -> TokenError {
    verified(change).unwrap_err()
}

/// Returns the DER of a PEM certificate in the form of `x5c`.
fn x5c(pem: &str) -> String {
    pem.lines().filter(|line| !line.starts_with('-')).collect()
}

#[test]
fn a_token_gives_its_subject_and_access() {
    let token = verified(|_, _| {}).unwrap();
    assert_eq!(token.subject.as_deref(), Some("alice"));
    assert_eq!(token.access[0].actions, ["pull", "push"]);
    assert_eq!((token.validity.not_before, token.validity.expires), (NOW - 10, NOW + 300));
    let anonymous = verified(|_, claims| claims["sub"] = "".into()).unwrap();
    assert_eq!(anonymous.subject, None);
    // typ and cty inform only.
    assert!(verified(|header, _| header["cty"] = "anything".into()).is_ok());
    assert!(verified(|_, claims| drop(claims.as_object_mut().unwrap().remove("nbf"))).is_ok());
}

#[test]
fn each_algorithm_verifies_with_a_key_of_its_type() {
    let rsa = Signer::rsa();
    let thumbprint = {
        let (_, keys) = super::certificates::CertificateBundle::parse(RSA.as_bytes()).unwrap();
        (keys[0].key.thumbprint.clone(), keys[0].libtrust_id.clone())
    };
    let keys = keys(&Signer::ed25519());
    for algorithm in ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"] {
        // Servers of the 2.x line name their key by its libtrust id.
        for id in [&thumbprint.0, &thumbprint.1] {
            let token = rsa.sign(&json!({"alg": algorithm, "kid": id}), &claims());
            assert!(verify(&token, &policy(), &keys, NOW).is_ok(), "{algorithm} {id}");
        }
    }
    for (signer, algorithm, other) in [(Signer::p256(), "ES256", "ES384"), (Signer::p384(), "ES384", "ES256")]
    {
        let mut keys = TokenKeys::default();
        keys.add_jwk_set(json!({"keys": [signer.jwk("ec")]}).to_string().as_bytes()).unwrap();
        let token = |name| signer.sign(&json!({"alg": name, "kid": "ec"}), &claims());
        assert!(verify(&token(algorithm), &policy(), &keys, NOW).is_ok(), "{algorithm}");
        assert_eq!(verify(&token(other), &policy(), &keys, NOW).unwrap_err(), TokenError::KeyType);
        assert_eq!(verify(&token("EdDSA"), &policy(), &keys, NOW).unwrap_err(), TokenError::KeyType);
    }
}

#[test]
fn row_114_a_token_of_another_start_or_service_is_refused() {
    let (one, other) = (Signer::ed25519(), Signer::ed25519());
    let token = one.sign(&json!({"alg": "EdDSA", "kid": "ed"}), &claims());
    assert!(verify(&token, &policy(), &keys(&one), NOW).is_ok());
    assert_eq!(verify(&token, &policy(), &keys(&other), NOW).unwrap_err(), TokenError::Signature);
    assert_eq!(error(|_, claims| claims["aud"] = "other.example".into()), TokenError::Audience);
    assert_eq!(error(|_, claims| claims["iss"] = "auth.example/".into()), TokenError::Issuer);
}

#[test]
fn row_116_no_algorithm_and_no_public_key_as_a_secret() {
    for name in ["none", "None", "nOnE", "", "ES512", "HS256", "eddsa"] {
        assert_eq!(error(|header, _| header["alg"] = name.into()), TokenError::Algorithm, "{name}");
    }
    for value in [json!(null), json!(1), json!(["EdDSA"])] {
        assert_eq!(error(|header, _| header["alg"] = value), TokenError::Algorithm);
    }
    // An HMAC over the public key, where HMACs are accepted too.
    let policy = TokenPolicy {
        algorithms: AllowedAlgorithms::of_names(["HS256", "RS256", "EdDSA"]).unwrap(),
        ..policy()
    };
    let signer = Signer::ed25519();
    let id =
        super::certificates::CertificateBundle::parse(RSA.as_bytes()).unwrap().1[0].key.thumbprint.clone();
    for (id, secret) in [(id.as_str(), RSA.as_bytes().to_vec()), ("ed", signer.public())] {
        let token = Signer::secret(&secret).sign(&json!({"alg": "HS256", "kid": id}), &claims());
        assert_eq!(verify(&token, &policy, &keys(&signer), NOW).unwrap_err(), TokenError::KeyType);
    }
    // A secret that a JWK set has does verify, but only where its algorithm is listed.
    let secret = [7; 32];
    let mut with_secret = TokenKeys::default();
    let set = json!({"keys": [{"kid": "s", "kty": "oct", "k": encode(&secret)}]});
    with_secret.add_jwk_set(set.to_string().as_bytes()).unwrap();
    let token = Signer::secret(&secret).sign(&json!({"alg": "HS256", "kid": "s"}), &claims());
    assert!(verify(&token, &policy, &with_secret, NOW).is_ok());
    assert_eq!(verify(&token, &self::policy(), &with_secret, NOW).unwrap_err(), TokenError::Algorithm);
}

#[test]
fn row_117_keys_in_a_token_are_never_used() {
    let (trusted, attacker) = (Signer::ed25519(), Signer::ed25519());
    let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": encode(&attacker.public())});
    for (name, value) in [
        ("jwk", jwk),
        ("jku", json!("https://attacker.example/jwks.json")),
        ("x5u", json!("https://attacker.example/chain.pem")),
    ] {
        let verify =
            |header: Value| verify(&attacker.sign(&header, &claims()), &policy(), &keys(&trusted), NOW);
        let alone = verify(json!({"alg": "EdDSA", name: value}));
        assert_eq!(alone.unwrap_err(), TokenError::NoKeyId, "{name}");
        let with_id = verify(json!({"alg": "EdDSA", "kid": "ed", name: value}));
        assert_eq!(with_id.unwrap_err(), TokenError::Signature, "{name}");
        // The trusted key's own token is not harmed by it.
        let header = json!({"alg": "EdDSA", "kid": "ed", name: value});
        assert!(self::verify(&trusted.sign(&header, &claims()), &policy(), &keys(&trusted), NOW).is_ok());
    }
    // The attacker's certificate, which signs itself.
    let attacker = Signer::ec_file(include_str!("tests/other.key"));
    let chain = json!([x5c(OTHER_ROOT)]);
    for header in [
        json!({"alg": "ES256", "x5c": chain.clone()}),
        json!({"alg": "ES256", "kid": "ed", "x5c": chain.clone()}),
    ] {
        let found = verify(&attacker.sign(&header, &claims()), &policy(), &keys(&trusted), NOW);
        assert_eq!(found.unwrap_err(), TokenError::Chain(ChainError::Untrusted));
    }
    // A trusted certificate with the attacker's signature.
    let header = json!({"alg": "ES256", "x5c": [x5c(ROOT)]});
    let found = verify(&attacker.sign(&header, &claims()), &policy(), &keys(&trusted), NOW);
    assert_eq!(found.unwrap_err(), TokenError::Signature);
}

#[test]
fn row_118_a_kid_is_a_name_and_nothing_else() {
    assert_eq!(error(|header, _| header["kid"] = "../../etc/passwd".into()), TokenError::UnknownKey);
    assert_eq!(error(|header, _| header["kid"] = "".into()), TokenError::UnknownKey);
    assert_eq!(error(|header, _| header["kid"] = "ED".into()), TokenError::UnknownKey);
    for value in [json!(null), json!(1), json!(["ed"])] {
        assert_eq!(error(|header, _| header["kid"] = value), TokenError::NoKeyId);
    }
    assert_eq!(error(|header, _| drop(header.as_object_mut().unwrap().remove("kid"))), TokenError::NoKeyId);
    assert_eq!(error(|header, _| header["kid"] = "x".repeat(5 * 1024).into()), TokenError::TooLong);
    assert_eq!(error(|header, _| header["kid"] = "x".repeat(1 << 20).into()), TokenError::TooLong);
}

#[test]
fn row_119_only_the_compact_form_without_extensions_is_a_token() {
    let critical = |name: &str, value: Value| error(|header, _| header[name] = value);
    assert_eq!(critical("crit", json!(["exp"])), TokenError::Critical);
    assert_eq!(critical("crit", json!([])), TokenError::Critical);
    assert_eq!(critical("b64", json!(false)), TokenError::Critical);
    let signer = Signer::ed25519();
    let token = signer.sign(&json!({"alg": "EdDSA", "kid": "ed"}), &claims());
    let parts: Vec<&str> = token.split('.').collect();
    let as_json = json!({"protected": parts[0], "payload": parts[1], "signature": parts[2]}).to_string();
    for text in [
        "",
        ".",
        "..",
        "a.b",
        &format!("{token}.{}.{}", parts[1], parts[2]),
        &format!("{token}."),
        &as_json,
        &format!("{}=.{}.{}", parts[0], parts[1], parts[2]),
        &format!("{}.{}.{}=", parts[0], parts[1], parts[2]),
        &format!("{} .{}.{}", parts[0], parts[1], parts[2]),
    ] {
        let found = verify(text, &policy(), &keys(&signer), NOW).unwrap_err();
        assert!(matches!(found, TokenError::Malformed | TokenError::Json), "{text} {found:?}");
    }
    // Names that stand twice, in the header and in the claims.
    let raw = |header: &str, claims: &str| signer.sign_text(header, claims);
    let header = r#"{"alg":"EdDSA","kid":"ed"}"#;
    let twice = raw(r#"{"alg":"none","alg":"EdDSA","kid":"ed"}"#, &claims().to_string());
    assert_eq!(verify(&twice, &policy(), &keys(&signer), NOW).unwrap_err(), TokenError::Json);
    let twice = raw(header, &claims().to_string().replacen('{', r#"{"aud":"other","#, 1));
    assert_eq!(verify(&twice, &policy(), &keys(&signer), NOW).unwrap_err(), TokenError::Json);
}

#[test]
fn row_120_signatures_of_another_form_are_refused() {
    let p256 = Signer::p256();
    let mut keys = TokenKeys::default();
    keys.add_jwk_set(json!({"keys": [p256.jwk("ec")]}).to_string().as_bytes()).unwrap();
    let token = p256.sign(&json!({"alg": "ES256", "kid": "ec"}), &claims());
    assert!(verify(&token, &policy(), &keys, NOW).is_ok());
    let (message, signature) = token.rsplit_once('.').unwrap();
    let signature = super::key::decode(signature).unwrap();
    let der = p256.sign_der(message.as_bytes());
    let zero = vec![0; 64];
    // r = 0 and s = 0 each alone, as in CVE-2022-21449.
    let zero_r = [&[0; 32], &signature[32..]].concat();
    let zero_s = [&signature[..32], &[0; 32]].concat();
    for forged in
        [&signature[..63], &[&signature[..], &[0]].concat(), &der, &zero, &zero_r, &zero_s, &[], &[0; 4096]]
    {
        let found = verify(&format!("{message}.{}", encode(forged)), &policy(), &keys, NOW);
        assert_eq!(found.unwrap_err(), TokenError::Signature, "{} bytes", forged.len());
    }
    let ed = Signer::ed25519();
    let token = ed.sign(&json!({"alg": "EdDSA", "kid": "ed"}), &claims());
    let (message, _) = token.rsplit_once('.').unwrap();
    for length in [0, 32, 64, 65] {
        let token = format!("{message}.{}", encode(&vec![0; length]));
        assert_eq!(verify(&token, &policy(), &self::keys(&ed), NOW).unwrap_err(), TokenError::Signature);
    }
}

#[test]
fn row_122_an_audience_is_named_by_a_text_or_a_list() {
    let audience = |value: Value| verified(|_, claims| claims["aud"] = value).map(drop);
    assert_eq!(audience(json!("registry.example")), Ok(()));
    assert_eq!(audience(json!(["other", "registry.example"])), Ok(()));
    for value in [json!([]), json!(["other"]), json!(""), json!([""]), json!("registry.example ")] {
        assert_eq!(audience(value.clone()), Err(TokenError::Audience), "{value}");
    }
    for value in [json!({}), json!(null), json!(1), json!([1]), json!([["registry.example"]])] {
        assert!(audience(value.clone()).is_err(), "{value}");
    }
    for name in ["aud", "iss", "exp"] {
        assert!(verified(|_, claims| drop(claims.as_object_mut().unwrap().remove(name))).is_err(), "{name}");
    }
    for (name, value) in [
        ("exp", json!("1")),
        ("exp", json!(1e300)),
        ("exp", json!(NOW - 3600)),
        ("nbf", json!(-1)),
        ("nbf", json!(NOW + 3600)),
        ("iss", json!(["auth.example", "other"])),
        ("sub", json!(1)),
    ] {
        assert!(verified(|_, claims| claims[name] = value.clone()).is_err(), "{name} {value}");
    }
    assert!(verified(|_, claims| claims["exp"] = json!(1_800_000_300.5)).is_ok());
}

#[test]
fn row_123_access_is_a_list_of_exact_entries() {
    let access =
        |value: Value| verified(|_, claims| claims["access"] = value).map(|token| token.access.len());
    assert_eq!(access(json!(null)), Ok(0));
    assert_eq!(access(json!([])), Ok(0));
    for value in [json!("*"), json!({}), json!([1]), json!([{"type": 1}]), json!([{"actions": "pull"}])] {
        assert_eq!(access(value.clone()), Err(TokenError::Claims), "{value}");
    }
    let many: Vec<Value> = vec![json!({"type": "repository", "name": "a", "actions": []}); 100_000];
    assert_eq!(access(json!(many)), Err(TokenError::TooLong));
}

#[test]
fn row_124_a_chain_leads_to_the_bundle_or_is_refused() {
    let keys = keys(&Signer::ed25519());
    let leaf = Signer::ec_file(include_str!("tests/leaf.key"));
    let check = |chain: Value, now: u64| {
        let mut claims = claims();
        claims["exp"] = json!(now + 300);
        verify(&leaf.sign(&json!({"alg": "ES256", "x5c": chain}), &claims), &policy(), &keys, now).map(drop)
    };
    let (leaf_der, root, other) = (x5c(LEAF), x5c(ROOT), x5c(OTHER_ROOT));
    assert_eq!(check(json!([leaf_der]), NOW), Ok(()));
    assert_eq!(check(json!([leaf_der, root, leaf_der, other, root]), NOW), Ok(()), "loops end");
    let untrusted = Err(TokenError::Chain(ChainError::Untrusted));
    assert_eq!(check(json!([leaf_der]), AFTER_ROOT), untrusted, "the root has expired");
    assert_eq!(check(json!([leaf_der]), 1_700_000_000), untrusted, "nothing is valid yet");
    assert_eq!(check(json!([other, root]), NOW), untrusted);
    let malformed = Err(TokenError::Chain(ChainError::Malformed));
    for chain in [json!([]), json!("x"), json!(null), json!([1]), json!(["*"]), json!([encode(b"x")])] {
        assert_eq!(check(chain.clone(), NOW), malformed, "{chain}");
    }
    assert_eq!(check(json!(vec!["AAAA"; 9]), NOW), malformed);
    let begin = Instant::now();
    assert_eq!(check(json!(vec![leaf_der.as_str(); 1000]), NOW), Err(TokenError::TooLong));
    assert!(begin.elapsed().as_secs() < 10, "a long chain is not even parsed");
    // A certificate that signs itself is taken as the end of a chain only if the bundle has it.
    let own = Signer::ec_file(include_str!("tests/root.key"));
    let token = own.sign(&json!({"alg": "ES256", "x5c": [root]}), &claims());
    assert!(verify(&token, &policy(), &keys, NOW).is_ok());
    let rsa = Signer::rsa().sign(&json!({"alg": "RS256", "x5c": [x5c(RSA)]}), &claims());
    assert!(verify(&rsa, &policy(), &keys, NOW).is_ok());
}

#[test]
fn claims_that_only_own_tokens_have_are_ignored_in_others() {
    for (name, value) in [("ver", json!(1)), ("key", json!({"a": 1})), ("ver", json!("1.0"))] {
        let token = verified(|_, claims| claims[name] = value).unwrap();
        assert_eq!((token.version.as_str(), token.api_key), ("", None));
    }
    assert_eq!(verified(|_, claims| claims["sub"] = Value::Null).unwrap().subject, None);
    let signer = Signer::ed25519();
    let keys = keys(&signer);
    let own = |value: Value| {
        let mut claims = claims();
        claims["ver"] = value;
        let token = signer.sign(&json!({"alg": "EdDSA", "kid": "ed"}), &claims);
        super::verification::verify_own(&token, &policy(), keys.find("ed").unwrap(), NOW)
    };
    assert_eq!(own("v".into()).unwrap().version, "v");
    assert_eq!(own(1.into()).unwrap_err(), TokenError::Claims);
}

#[test]
fn row_127_a_subject_is_a_user_name() {
    for name in ["alice", "alice@example.com", "Zo\u{eb} X", "a/b"] {
        let token = verified(|_, claims| claims["sub"] = name.into()).unwrap();
        assert_eq!(token.subject.as_deref(), Some(name));
    }
    let long = "x".repeat(256);
    for name in ["a,b", "a:b", "group:dev", "a\nb", "a\u{0}", "a\u{7f}", " alice ", "anonymous", &long] {
        assert_eq!(error(|_, claims| claims["sub"] = name.into()), TokenError::Subject, "{name:?}");
    }
    assert_eq!(error(|_, claims| claims["sub"] = "x".repeat(1 << 20).into()), TokenError::TooLong);
}

#[test]
fn a_reason_has_no_part_of_the_token() {
    for change in [("kid", json!("secret-kid")), ("alg", json!("secret-alg"))] {
        let reason = error(|header, _| header[change.0] = change.1).to_string();
        assert!(!reason.contains("secret"), "{reason}");
    }
    let reason = error(|_, claims| claims["aud"] = "secret-aud".into()).to_string();
    assert!(!reason.contains("secret"), "{reason}");
    let key = VerificationKey::secret(b"secret-secret-secret-secret-secret").unwrap();
    assert!(!format!("{:?}", key.decoding).contains("115, 101, 99"), "{key:?}");
}
