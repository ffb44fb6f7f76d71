//! Tokens that are issued, used, and ended.

use std::collections::HashMap;
use std::sync::Mutex;

use super::*;
use crate::auth::Right;
use crate::auth::token::tests::signer::Signer;

const NOW: u64 = 1_800_000_000;

/// Users and API keys whose versions a test changes.
#[derive(Debug, Default)]
struct Versions {
    users: Mutex<HashMap<String, [u8; 8]>>,
    keys: Mutex<HashMap<String, KeyUser>>,
}

impl CredentialVersions for Versions {
    fn version_of_user(&self, user: &str) -> Option<[u8; 8]> {
        self.users.lock().unwrap().get(user).copied()
    }

    fn api_key(&self, id: &str) -> Option<KeyUser> {
        self.keys.lock().unwrap().get(id).cloned()
    }
}

fn settings() -> TokenSettings {
    TokenSettings {
        service: "registry.example".into(),
        other_services: vec!["other.example".into()],
        lifetime: Duration::from_mins(5),
        key_file: None,
    }
}

fn issuer(secret: &[u8]) -> (TokenIssuer, Arc<Versions>) {
    let versions = Arc::new(Versions::default());
    versions.users.lock().unwrap().insert("alice".into(), [1; 8]);
    (TokenIssuer::open(settings(), Some(secret), versions.clone()).unwrap(), versions)
}

fn alice() -> Identity {
    Identity {
        name: Some("alice".into()),
        proof: IdentityProof::Password { version: Some([1; 8]) },
        ceiling: None,
    }
}

fn pull(name: &str) -> Vec<AccessEntry> {
    vec![AccessEntry { kind: "repository".into(), name: name.into(), actions: vec!["pull".into()] }]
}

fn issue(issuer: &TokenIssuer, identity: &Identity) -> String {
    issuer.issue_at(identity, "registry.example", &pull("a"), NOW).unwrap().token
}

fn use_token(issuer: &TokenIssuer, token: &str) -> Option<Result<Identity, AuthenticationError>> {
    issuer.identify(token, NOW, Instant::now())
}

#[test]
fn a_token_gives_its_user_within_the_granted_access() {
    let (issuer, _) = issuer(b"secret");
    let identity = use_token(&issuer, &issue(&issuer, &alice())).unwrap().unwrap();
    assert_eq!(
        (identity.name.as_deref(), identity.proof),
        (Some("alice"), IdentityProof::OwnToken { key: None })
    );
    let ceiling = identity.ceiling.unwrap();
    assert!(
        ceiling.permits(&"a".parse().unwrap(), Right::Pull)
            && ceiling.can_be_widened(crate::auth::challenge::Scope::Catalog)
    );
    assert!(!ceiling.permits(&"a".parse().unwrap(), Right::Push));
    let anonymous = use_token(&issuer, &issue(&issuer, &Identity::anonymous())).unwrap().unwrap();
    assert_eq!((anonymous.name, anonymous.proof), (None, IdentityProof::OwnToken { key: None }));
    assert!(anonymous.ceiling.is_some());
}

#[test]
fn row_114_a_token_ends_with_its_user_password_service_and_secret() {
    let (one, versions) = issuer(b"secret");
    let token = issue(&one, &alice());
    assert!(use_token(&one, &token).unwrap().is_ok());
    versions.users.lock().unwrap().insert("alice".into(), [2; 8]);
    assert!(use_token(&one, &token).unwrap().is_err(), "another password, or another user of the same name");
    versions.users.lock().unwrap().remove("alice");
    assert!(use_token(&one, &token).unwrap().is_err(), "no such user");
    assert!(one.issue_at(&alice(), "registry.example", &[], NOW).is_none());
    let (other, _) = issuer(b"another secret");
    assert!(use_token(&other, &token).is_none(), "another source may know it");
    versions.users.lock().unwrap().insert("alice".into(), [1; 8]);
    let foreign = one.issue_at(&alice(), "other.example", &pull("a"), NOW).unwrap().token;
    assert!(use_token(&one, &foreign).unwrap().is_err(), "a token for another service");
    assert!(use_token(&one, &issue(&one, &Identity::anonymous())).unwrap().is_ok());
}

#[test]
fn another_secret_ends_the_tokens_of_the_former_one() {
    let ((one, _), (same, _), (other, _)) = (issuer(b"secret"), issuer(b"secret"), issuer(b"another"));
    assert!(!same.ends_tokens_of(&one) && other.ends_tokens_of(&one));
}

#[test]
fn replicas_with_one_secret_accept_each_others_tokens() {
    let ((one, _), (other, _)) = (issuer(b"shared"), issuer(b"shared"));
    assert!(use_token(&other, &issue(&one, &alice())).unwrap().is_ok());
    let (own, again) = (SigningKey::of_process(), SigningKey::of_process());
    assert_eq!(own.id(), again.id(), "a reload keeps the key of the process");
}

#[test]
fn a_token_lives_as_long_as_configured_and_no_longer_than_its_key() {
    let (registry, versions) = issuer(b"secret");
    let issued = registry.issue_at(&alice(), "registry.example", &[], NOW).unwrap();
    assert_eq!((issued.issued, issued.lifetime), (NOW, 300));
    assert!(registry.identify(&issued.token, NOW + 359, Instant::now()).unwrap().is_ok());
    assert!(registry.identify(&issued.token, NOW + 360, Instant::now()).unwrap().is_err());
    let brief = TokenSettings { lifetime: Duration::from_secs(1), ..settings() };
    let brief = TokenIssuer::open(brief, Some(b"s"), versions.clone()).unwrap();
    assert_eq!(brief.issue_at(&alice(), "registry.example", &[], NOW).unwrap().lifetime, 60);
    let limit: Arc<dyn Ceiling> = Arc::new(TokenCeiling::new(pull("a"), None));
    let by_key = Identity {
        name: Some("alice".into()),
        proof: IdentityProof::ApiKey("k1".into()),
        ceiling: Some(limit.clone()),
    };
    assert!(registry.issue_at(&by_key, "registry.example", &[], NOW).is_none(), "the key was just removed");
    let expires = jiff::Timestamp::from_second(1_800_000_020).ok();
    let key = KeyUser { owner: "alice".into(), ceiling: limit, version: [3; 8], expires };
    versions.keys.lock().unwrap().insert("k1".into(), key.clone());
    let both = [pull("a"), pull("b")].concat();
    let issued = registry.issue_at(&by_key, "registry.example", &both, NOW).unwrap();
    assert_eq!(issued.lifetime, 20);
    let identity = use_token(&registry, &issued.token).unwrap().unwrap();
    assert_eq!(identity.proof.api_key(), Some("k1"));
    let ceiling = identity.ceiling.unwrap();
    assert!(ceiling.permits(&"a".parse().unwrap(), Right::Pull), "granted by token and key");
    assert!(!ceiling.permits(&"b".parse().unwrap(), Right::Pull), "the key does not reach so far");
    versions.keys.lock().unwrap().insert("k1".into(), KeyUser { version: [4; 8], ..key.clone() });
    assert!(use_token(&registry, &issued.token).unwrap().is_err(), "the key's record changed");
    versions.keys.lock().unwrap().insert("k1".into(), key);
    assert!(registry.identify(&issued.token, NOW + 19, Instant::now()).unwrap().is_ok());
    assert!(registry.identify(&issued.token, NOW + 20, Instant::now()).unwrap().is_err(), "without leeway");
    versions.keys.lock().unwrap().clear();
    assert!(use_token(&registry, &issued.token).unwrap().is_err(), "the key was removed");
}

#[test]
fn tokens_and_certificates_do_not_give_new_tokens() {
    let (issuer, _) = issuer(b"secret");
    for proof in
        [IdentityProof::OwnToken { key: None }, IdentityProof::ExternalToken, IdentityProof::Certificate]
    {
        let identity = Identity { proof, ..alice() };
        assert!(issuer.issue_at(&identity, "registry.example", &[], NOW).is_none());
    }
}

#[test]
fn a_token_has_no_more_scopes_than_the_registry_accepts() {
    let (issuer, _) = issuer(b"secret");
    let access: Vec<AccessEntry> =
        (10..74).flat_map(|number| pull(&format!("{number}{}", "a".repeat(250)))).collect();
    let made = issuer.issue_at(&alice(), "registry.example", &access, NOW).unwrap();
    assert!((30..64).contains(&made.entries), "{}", made.entries);
    let ceiling = use_token(&issuer, &made.token).unwrap().unwrap().ceiling.unwrap();
    let permits = |index: usize| ceiling.permits(&access[index].name.parse().unwrap(), Right::Pull);
    assert!(permits(0) && permits(made.entries - 1) && !permits(made.entries));
}

#[test]
fn a_password_that_changed_after_its_verification_gives_no_token() {
    let (issuer, versions) = issuer(b"secret");
    let verified = alice();
    versions.users.lock().unwrap().insert("alice".into(), [2; 8]);
    assert!(issuer.issue_at(&verified, "registry.example", &[], NOW).is_none());
}

#[test]
fn only_known_services_get_tokens() {
    let (issuer, _) = issuer(b"secret");
    assert_eq!(issuer.find_service(None), Some("registry.example"));
    assert_eq!(issuer.find_service(Some("")), Some("registry.example"));
    assert_eq!(issuer.find_service(Some("other.example")), Some("other.example"));
    assert_eq!(issuer.find_service(Some("third.example")), None);
}

#[test]
fn a_key_file_signs_with_a_published_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token.pem");
    // As `openssl genpkey -algorithm ed25519` writes it.
    let ed25519 = "-----BEGIN PRIVATE KEY-----\n\
                   MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
                   -----END PRIVATE KEY-----\n";
    let p256 = include_str!("../token/tests/leaf.key");
    let versions = Arc::new(Versions::default());
    versions.users.lock().unwrap().insert("alice".into(), [1; 8]);
    std::fs::write(&path, ed25519).unwrap();
    let settings = TokenSettings { key_file: Some(path.clone()), ..settings() };
    let issuer = TokenIssuer::open(settings, Some(b"unused"), versions).unwrap();
    for (pem, algorithm) in [(ed25519, "EdDSA"), (p256, "ES256")] {
        std::fs::write(&path, pem).unwrap();
        issuer.reload().unwrap();
        let token = issue(&issuer, &alice());
        assert!(use_token(&issuer, &token).unwrap().is_ok());
        let set = issuer.jwk_set();
        assert_eq!(set["keys"][0]["alg"], algorithm);
        let key = &set["keys"][0];
        assert!(verification::names_key(&token, key["kid"].as_str().unwrap()));
        assert!(!set.to_string().contains("\"d\""), "the private key is not published");
        // The published set alone verifies the token.
        let mut keys = crate::auth::token::keys::TokenKeys::default();
        keys.add_jwk_set(set.to_string().as_bytes()).unwrap();
        let policy = TokenPolicy {
            algorithms: crate::auth::token::algorithm::AllowedAlgorithms::default(),
            issuer: ISSUER.into(),
            audience: "registry.example".into(),
        };
        assert!(verification::verify(&token, &policy, &keys, NOW).is_ok());
    }
    let token = issue(&issuer, &alice());
    for broken in [
        "",
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        include_str!("../token/tests/rsa.key"),
    ] {
        std::fs::write(&path, broken).unwrap();
        let error = issuer.reload().unwrap_err().to_string();
        assert!(error.contains("token.pem") && error.contains("Ed25519"), "{error}");
        assert!(use_token(&issuer, &token).unwrap().is_ok(), "the former key stays");
    }
    std::fs::write(&path, ed25519).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    let error = issuer.reload().unwrap_err().to_string();
    assert!(error.contains("every user can write") && error.contains("chmod 600"), "{error}");
    assert!(use_token(&issuer, &token).unwrap().is_ok(), "the former key stays");
}

#[test]
fn a_secret_is_not_published_and_not_shown() {
    let (issuer, _) = issuer(b"secret-text");
    assert_eq!(issuer.jwk_set(), serde_json::json!({"keys": []}));
    assert!(!format!("{issuer:?}").contains("secret-text"));
}

#[test]
fn tokens_that_others_signed_are_left_to_other_sources() {
    let (issuer, _) = issuer(b"secret");
    let foreign = Signer::ed25519();
    let claims =
        serde_json::json!({"iss": ISSUER, "aud": "registry.example", "sub": "alice", "exp": NOW + 300});
    let token = foreign.sign(&serde_json::json!({"alg": "EdDSA", "kid": "other"}), &claims);
    assert!(use_token(&issuer, &token).is_none());
    assert!(use_token(&issuer, "not a token").is_none());
    // The id of the own key with another key's signature.
    let own = issuer.key.current().keys.id().to_owned();
    for (algorithm, signer) in [("EdDSA", foreign), ("HS256", Signer::secret(b"guessed"))] {
        let token = signer.sign(&serde_json::json!({"alg": algorithm, "kid": own}), &claims);
        assert!(use_token(&issuer, &token).unwrap().is_err());
    }
}
