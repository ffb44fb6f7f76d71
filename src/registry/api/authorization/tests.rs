//! Answers of a registry with users: who gets which status, challenge and list.

mod audit;
mod lists;
mod matrix;
mod pushes;
mod refusals;

use std::sync::Arc;

use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, EXPECT, HOST, WWW_AUTHENTICATE};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use quinistry_http::client_address::{ClientAddress, TrustedProxies};
use quinistry_oci::{Digest, Manifest, RepositoryName, media_type, to_json};
use quinistry_store::{Memory, Store, Tagged};

use crate::api::dispatch::dispatch;
use crate::auth::authenticator::{CredentialVerifier, Credentials, Verification};
use crate::auth::challenge::Challenge;
use crate::auth::rules::{AccessRule, Grantee, Group, Groups};
use crate::auth::{
    AccessControl, AuthenticationError, Authenticator, Ceiling, Identity, IdentityProof, Right, Rules,
};
use crate::config::Origin;
use crate::{Settings, State};

/// Password of all users.
const PASSWORD: &str = "s3cret-password";

/// Verifier that knows the users `alice`, `bob`, `carol` and `ci-7` by [`PASSWORD`], and three tokens.
#[derive(Debug)]
struct TestUsers;

/// Limit to reading one repository.
#[derive(Debug)]
struct PullOnly {
    repository: &'static str,
    can_be_widened: bool,
}

impl Ceiling for PullOnly {
    fn permits(&self, repository: &RepositoryName, right: Right) -> bool {
        repository.as_str() == self.repository && right == Right::Pull
    }

    fn permits_catalog(&self) -> bool {
        false
    }

    fn can_be_widened(&self, _: crate::auth::challenge::Scope<'_>) -> bool {
        self.can_be_widened
    }
}

impl CredentialVerifier for TestUsers {
    fn verify<'a>(&'a self, credentials: Credentials<'a>, _: Option<ClientAddress>) -> Verification<'a> {
        Box::pin(async move {
            let named = |name: &str, proof| Identity { name: Some(name.into()), proof, ceiling: None };
            let limit = |repository, can_be_widened| -> Option<Arc<dyn Ceiling>> {
                Some(Arc::new(PullOnly { repository, can_be_widened }))
            };
            let invalid = || Err(AuthenticationError::Invalid { reason: "unknown".into() });
            Some(match credentials {
                Credentials::Basic { user: "slow", .. } => {
                    Err(AuthenticationError::TooManyAttempts { retry_after_seconds: 3 })
                }
                // A check that does not end.
                Credentials::Basic { user: "pending", .. } => std::future::pending().await,
                Credentials::Basic { user: user @ ("alice" | "bob" | "carol" | "ci-7"), password }
                    if password == PASSWORD.as_bytes() =>
                {
                    Ok(named(user, IdentityProof::Password { version: None }))
                }
                Credentials::Bearer("token-of-alice") => Ok(Identity {
                    ceiling: limit("team/app", true),
                    ..named("alice", IdentityProof::OwnToken { key: Some("k2".into()) })
                }),
                Credentials::Bearer("key-of-alice") => Ok(Identity {
                    ceiling: limit("team/app", false),
                    ..named("alice", IdentityProof::ApiKey("k1".into()))
                }),
                Credentials::Bearer("anonymous-token") => {
                    Ok(Identity { proof: IdentityProof::OwnToken { key: None }, ..Identity::anonymous() })
                }
                _ => invalid(),
            })
        })
    }
}

fn rule(line: u32, repositories: &[&str], who: Grantee, can: &[Right]) -> AccessRule {
    AccessRule {
        repositories: repositories.iter().map(ToString::to_string).collect(),
        who: vec![who],
        can: can.to_vec(),
        place: Origin::File { file: "c.yml".into(), line, column: 5 },
    }
}

/// Rules of most tests.
fn rules() -> Rules {
    let rules = [
        rule(1, &["public/**"], Grantee::Anonymous, &[Right::Pull]),
        rule(2, &["public/**"], Grantee::Authenticated, &[Right::Pull]),
        rule(3, &["**"], Grantee::User("alice".into()), &[Right::Admin]),
        rule(4, &["team/**", "!team/secret/**"], Grantee::Group("dev".into()), &[Right::Push, Right::Delete]),
        rule(5, &["ci/*"], Grantee::Group("ci".into()), &[Right::Push, Right::Overwrite]),
    ];
    let group = |name: &str, member: &str| Group { name: name.into(), members: vec![member.into()] };
    Rules::new(&rules, Groups::new(&[group("dev", "bob"), group("ci", "ci-*")]).unwrap()).unwrap()
}

fn own_tokens() -> Challenge {
    Challenge::OwnToken { service: "registry".into(), host: None }
}

fn basic() -> Challenge {
    Challenge::Basic { realm: "the \"realm\"".into() }
}

/// Access control with [`TestUsers`].
fn control(rules: Rules, challenge: Challenge) -> AccessControl {
    AccessControl {
        authenticator: Authenticator { verifiers: vec![Arc::new(TestUsers)], connection: None },
        rules,
        challenge,
        token_issuer: None,
        builtin_is_public: true,
        trusted_proxies: TrustedProxies::default(),
    }
}

fn settings(rules: Rules, challenge: Challenge) -> Settings {
    Settings { access: Some(Arc::new(control(rules, challenge))), ..Settings::default() }
}

/// Registry in memory.
struct Registry {
    state: State,
    store: Store,
}

/// Answer with its whole body.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Registry {
    fn new(settings: Settings) -> Self {
        let store = Store::open(Memory::new(64 << 20), false).unwrap();
        Self { state: State::stored(store.clone(), settings), store }
    }

    /// Registry with the rules of most tests.
    fn with_rules() -> Self {
        Self::new(settings(rules(), own_tokens()))
    }

    /// Stores a manifest by tags, and returns its digest.
    fn fill(&self, repository: &str, tags: &[&str]) -> Digest {
        let bytes = manifest(1);
        let digest = Digest::sha256(&bytes);
        let tags: Vec<_> = tags.iter().map(|tag| tag.parse().unwrap()).collect();
        let parsed = Manifest::parse(&bytes, None).unwrap();
        let tagged = Tagged { digest: &digest, tags: &tags };
        self.store.put_manifest(&repository.parse().unwrap(), &bytes, &parsed, tagged).unwrap();
        digest
    }

    async fn ask(&self, method: &str, path: &str, who: &str) -> Answer {
        self.send(method, path, who, Body::empty()).await
    }

    async fn send(&self, method: &str, path: &str, who: &str, body: Body) -> Answer {
        let mut request = Request::builder().method(method).uri(path).header(HOST, "registry.test:5000");
        if let Some(field) = authorization(who) {
            request = request.header(AUTHORIZATION, field);
        }
        if path.contains("/manifests/") {
            request = request.header(CONTENT_TYPE, media_type::OCI_INDEX);
        }
        self.request(request.body(body).unwrap()).await
    }

    async fn request(&self, request: Request<Body>) -> Answer {
        let (parts, body) = dispatch(&self.state, request).await.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { status: parts.status, headers: parts.headers, body }
    }
}

impl Answer {
    /// Returns the only challenge.
    fn challenge(&self) -> &str {
        let all: Vec<_> = self.headers.get_all(WWW_AUTHENTICATE).iter().collect();
        assert_eq!(all.len(), usize::from(self.status == StatusCode::UNAUTHORIZED), "{self:?}");
        all.first().map_or("", |value| value.to_str().unwrap())
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// Returns the field of a user, or of a token.
fn authorization(who: &str) -> Option<String> {
    match who {
        "anonymous" => None,
        who if who.contains("token") || who.contains("key") => Some(format!("Bearer {who}")),
        who => {
            let password = if who == "stranger" { "wrong" } else { PASSWORD };
            Some(format!("Basic {}", STANDARD.encode(format!("{who}:{password}"))))
        }
    }
}

/// Returns an index without entries; each number has another digest.
fn manifest(number: u32) -> Bytes {
    let index = serde_json::json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [],
        "annotations": {"number": number.to_string()},
    });
    to_json(&index).into()
}
