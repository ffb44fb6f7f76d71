//! Rules and tokens of users for the two spellings of a name of Docker Hub's library.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Method, StatusCode};
use quinistry_http::client_address::{ClientAddress, TrustedProxies};
use quinistry_oci::media_type;

use super::{Mirror, hub_settings, image};
use crate::Settings;
use crate::auth::api_keys::KeyUser;
use crate::auth::authenticator::{Authenticator, CredentialVerifier, Credentials};
use crate::auth::challenge::Challenge;
use crate::auth::issue::{CredentialVersions, TokenIssuer, TokenSettings};
use crate::auth::rules::{AccessRule, Grantee, Groups};
use crate::auth::{AccessControl, AuthenticationError, Identity, IdentityProof, Right, Rules};
use crate::config::Origin;

const SERVICE: &str = "registry.example";

/// Source that knows `alice` with the password `right`.
#[derive(Debug)]
struct Alice;

impl CredentialVerifier for Alice {
    fn verify<'a>(
        &'a self,
        credentials: Credentials<'a>,
        _: Option<ClientAddress>,
    ) -> Pin<Box<dyn Future<Output = Option<Result<Identity, AuthenticationError>>> + Send + 'a>> {
        Box::pin(async move {
            matches!(credentials, Credentials::Basic { user: "alice", password: b"right" }).then(|| {
                let proof = IdentityProof::Password { version: Some([1; 8]) };
                Ok(Identity { name: Some("alice".into()), proof, ceiling: None })
            })
        })
    }
}

impl CredentialVersions for Alice {
    fn version_of_user(&self, _: &str) -> Option<[u8; 8]> {
        Some([1; 8])
    }

    fn api_key(&self, _: &str) -> Option<KeyUser> {
        None
    }
}

/// Returns a registry whose own tokens let alice pull from these repositories, in front of an upstream that has
/// `library/app` and `library/secret`.
fn mirror(repositories: &[&str]) -> Mirror {
    let rule = AccessRule {
        repositories: repositories.iter().map(ToString::to_string).collect(),
        who: vec![Grantee::User("alice".into())],
        can: vec![Right::Pull],
        place: Origin::Default,
    };
    let settings = TokenSettings {
        service: SERVICE.into(),
        other_services: vec!["other.example".into()],
        lifetime: Duration::from_mins(5),
        key_file: None,
    };
    let issuer = Arc::new(TokenIssuer::open(settings, Some(b"secret"), Arc::new(Alice)).unwrap());
    let control = AccessControl {
        authenticator: Authenticator { verifiers: vec![Arc::new(Alice), issuer.clone()], connection: None },
        rules: Rules::new(&[rule], Groups::default()).unwrap(),
        challenge: Challenge::OwnToken { service: SERVICE.into(), host: None },
        token_issuer: Some(issuer),
        builtin_is_public: true,
        trusted_proxies: TrustedProxies::default(),
    };
    let settings = Settings { access: Some(Arc::new(control)), ..Settings::default() };
    let mirror = Mirror::with(hub_settings(), settings, 1 << 20);
    for name in ["library/app", "library/secret"] {
        mirror.upstream.tag(name, "latest", &image(b"one"), media_type::OCI_MANIFEST);
    }
    mirror
}

/// Returns the scope that alice gets of the one that she asks for, and the token.
async fn token(mirror: &Mirror, query: &str) -> (String, String) {
    let basic = format!("Basic {}", STANDARD.encode("alice:right"));
    let headers = [("authorization", basic.as_str()), ("host", "r.example")];
    let answer = mirror.ask(Method::GET, &format!("/v2/_token?{query}"), &headers).await;
    let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    let text = |key: &str| body[key].as_str().unwrap().to_owned();
    (text("scope"), format!("Bearer {}", text("token")))
}

async fn status(mirror: &Mirror, token: &str, path: &str) -> StatusCode {
    let headers = [("authorization", token), ("host", "r.example")];
    mirror.ask(Method::GET, path, &headers).await.status
}

#[tokio::test]
async fn tokens_for_either_spelling_open_both() {
    let mirror = mirror(&["docker.io/library/app"]);
    let paths = [
        "/v2/docker.io/app/manifests/latest",
        "/v2/docker.io/library/app/manifests/latest",
        "/v2/app/manifests/latest?ns=docker.io",
        "/v2/library/app/manifests/latest?ns=docker.io",
    ];
    for asked in ["docker.io/app", "docker.io/library/app"] {
        let (scope, token) = token(&mirror, &format!("scope=repository:{asked}:pull,push")).await;
        assert_eq!(scope, "repository:docker.io/library/app:pull", "{asked}");
        for path in paths {
            assert_eq!(status(&mirror, &token, path).await, StatusCode::OK, "{asked} {path}");
        }
        let other = status(&mirror, &token, "/v2/docker.io/secret/manifests/latest").await;
        assert_eq!(other, StatusCode::FORBIDDEN);
    }
    let both = "scope=repository:docker.io/app:pull&scope=repository:docker.io/library/app:pull";
    assert_eq!(token(&mirror, both).await.0, "repository:docker.io/library/app:pull");
}

#[tokio::test]
async fn the_short_spelling_opens_nothing_that_the_rules_close() {
    // The first pattern names no repository of the library, and the second one excludes one.
    let mirror = mirror(&["docker.io/*", "docker.io/library/*", "!docker.io/library/secret"]);
    for asked in ["docker.io/secret", "docker.io/library/secret"] {
        let (scope, token) = token(&mirror, &format!("scope=repository:{asked}:pull")).await;
        assert_eq!(scope, "", "{asked}");
        let answer = status(&mirror, &token, &format!("/v2/{asked}/manifests/latest")).await;
        assert_eq!(answer, StatusCode::FORBIDDEN, "{asked}");
    }
    assert_eq!(mirror.upstream.asked(), [""; 0]);
    // A name without the prefix is another repository, and a token for it opens none of the upstream.
    let (_, bare) = token(&mirror, "scope=repository:app:pull&scope=repository:library/app:pull").await;
    for path in ["/v2/app/manifests/latest?ns=docker.io", "/v2/docker.io/app/manifests/latest"] {
        assert_eq!(status(&mirror, &bare, path).await, StatusCode::UNAUTHORIZED, "{path}");
    }
    // Another registry has its own names.
    let other = "service=other.example&scope=repository:docker.io/app:pull";
    assert_eq!(token(&mirror, other).await.0, "repository:docker.io/app:pull");
}
