//! Tokens over the router: who gets which, and what they open.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{Request, StatusCode};
use quinistry_store::{Memory, Store};
use serde_json::Value;

use super::*;
use crate::api::dispatch::dispatch;
use crate::auth::Rules;
use crate::auth::api_keys::KeyUser;
use crate::auth::authenticator::{Authenticator, CredentialVerifier};
use crate::auth::challenge::Challenge;
use crate::auth::issue::{CredentialVersions, TokenSettings};
use crate::auth::rules::{AccessRule, Grantee, Groups};
use crate::config::Origin;
use crate::{Settings, State};

const SERVICE: &str = "registry.example";

/// Source that knows `alice` with the password `right`.
#[derive(Debug)]
struct OneUser;

impl CredentialVerifier for OneUser {
    fn verify<'a>(
        &'a self,
        credentials: Credentials<'a>,
        _: Option<quinistry_http::client_address::ClientAddress>,
    ) -> std::pin::Pin<Box<dyn Future<Output = Option<Result<Identity, AuthenticationError>>> + Send + 'a>>
    {
        Box::pin(std::future::ready(match credentials {
            Credentials::Basic { user: "alice", password: b"right" } => Some(Ok(Identity {
                name: Some("alice".into()),
                proof: IdentityProof::Password { version: Some([1; 8]) },
                ceiling: None,
            })),
            Credentials::Basic { user: "key", password: b"right" } => Some(Ok(Identity {
                name: Some("alice".into()),
                proof: IdentityProof::ApiKey("k1".into()),
                ceiling: None,
            })),
            Credentials::Basic { .. } => Some(Err(AuthenticationError::Invalid { reason: "wrong".into() })),
            Credentials::Bearer(_) => None,
        }))
    }
}

impl CredentialVersions for OneUser {
    fn version_of_user(&self, user: &str) -> Option<[u8; 8]> {
        (user == "alice").then_some([1; 8])
    }

    fn api_key(&self, id: &str) -> Option<KeyUser> {
        let ceiling = Arc::new(crate::auth::token::access::TokenCeiling::default());
        let key = KeyUser { owner: "alice".into(), ceiling, expires: None, version: [2; 8] };
        (id == "k1").then_some(key)
    }
}

fn rule(repositories: &str, who: Grantee, can: &[Right]) -> AccessRule {
    AccessRule {
        repositories: vec![repositories.into()],
        who: vec![who],
        can: can.to_vec(),
        place: Origin::Default,
    }
}

/// A registry in which alice may pull and push in `team/**`, and everybody may pull from `public/**`.
fn registry(rules: &[AccessRule]) -> State {
    registry_with(rules, None)
}

fn registry_with(
    rules: &[AccessRule],
    connection: Option<Arc<dyn crate::auth::authenticator::ConnectionVerifier>>,
) -> State {
    let settings = TokenSettings {
        service: SERVICE.into(),
        other_services: vec!["other.example".into()],
        lifetime: Duration::from_mins(5),
        key_file: None,
    };
    let issuer = Arc::new(TokenIssuer::open(settings, Some(b"secret"), Arc::new(OneUser)).unwrap());
    let control = AccessControl {
        authenticator: Authenticator { verifiers: vec![Arc::new(OneUser), issuer.clone()], connection },
        rules: Rules::new(rules, Groups::default()).unwrap(),
        challenge: Challenge::OwnToken { service: SERVICE.into(), host: None },
        token_issuer: Some(issuer),
        builtin_is_public: true,
        trusted_proxies: quinistry_http::client_address::TrustedProxies::default(),
    };
    let settings = Settings { access: Some(Arc::new(control)), ..Settings::default() };
    State::stored(Store::open(Memory::new(1 << 20), false).unwrap(), settings)
}

fn public_and_team() -> State {
    registry(&[
        rule("public/**", Grantee::Anonymous, &[Right::Pull]),
        rule("team/**", Grantee::User("alice".into()), &[Right::Push]),
    ])
}

fn basic(password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("alice:{password}")))
}

async fn ask(state: &State, request: http::request::Builder, body: &str) -> (Response, Value) {
    let request = request.header("host", "r.example").body(Body::from(body.to_owned())).unwrap();
    let response = dispatch(state, request).await;
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    (Response::from_parts(parts, Body::empty()), serde_json::from_slice(&bytes).unwrap_or_default())
}

async fn get(state: &State, path: &str, authorization: Option<&str>) -> (Response, Value) {
    let mut request = Request::builder().uri(path);
    if let Some(value) = authorization {
        request = request.header(AUTHORIZATION, value);
    }
    ask(state, request, "").await
}

async fn post(state: &State, form: &str) -> (Response, Value) {
    let request = Request::builder().method("POST").uri("/v2/_token");
    ask(state, request.header(CONTENT_TYPE, "application/x-www-form-urlencoded"), form).await
}

#[tokio::test]
async fn a_user_gets_the_actions_that_the_rules_grant() {
    let state = public_and_team();
    let path = "/v2/_token?service=registry.example&scope=repository:team/a:pull,push,delete\
                &scope=repository:other:pull%20repository:public/x:pull";
    let (response, body) = get(&state, path, Some(&basic("right"))).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
    assert_eq!(body["scope"], "repository:team/a:pull,push");
    assert_eq!((&body["expires_in"], &body["token"]), (&Value::from(300), &body["access_token"]));
    assert!(body.get("refresh_token").is_none());
    assert!(body["issued_at"].as_str().unwrap().parse::<Timestamp>().is_ok(), "{body}");
    let token = format!("Bearer {}", body["token"].as_str().unwrap());
    let status = async |method: &str, path: &str| {
        let request = Request::builder().method(method).uri(path).header(AUTHORIZATION, &token);
        ask(&state, request, "").await.0.status()
    };
    assert_eq!(status("GET", "/v2/").await, StatusCode::OK);
    assert_eq!(status("POST", "/v2/team/a/blobs/uploads/").await, StatusCode::ACCEPTED);
    assert_eq!(status("POST", "/v2/team/b/blobs/uploads/").await, StatusCode::UNAUTHORIZED);
    assert_eq!(status("POST", "/v2/other/blobs/uploads/").await, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn row_110_wrong_credentials_never_give_an_anonymous_token() {
    let state = public_and_team();
    let path = "/v2/_token?service=registry.example&scope=repository:public/a:pull";
    let (response, body) = get(&state, path, None).await;
    assert_eq!((response.status(), &body["scope"]), (StatusCode::OK, &"repository:public/a:pull".into()));
    for wrong in [&basic("wrong"), "Basic *", "Bearer x", "Digest a", "Basic"] {
        let (response, body) = get(&state, path, Some(wrong)).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{wrong}");
        assert_eq!(response.headers()[WWW_AUTHENTICATE], "Basic realm=\"registry.example\"");
        assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
        assert!(body.get("token").is_none());
    }
    for form in [
        "grant_type=password&username=alice&password=wrong",
        "grant_type=password",
        "grant_type=password&username=alice",
    ] {
        assert_eq!(post(&state, form).await.0.status(), StatusCode::UNAUTHORIZED, "{form}");
    }
    // A token does not give another one.
    let (_, body) = get(&state, path, Some(&basic("right"))).await;
    let token = format!("Bearer {}", body["token"].as_str().unwrap());
    assert_eq!(get(&state, path, Some(&token)).await.0.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn failed_logins_and_uses_of_keys_are_in_the_audit_log() {
    use quinistry_http::audit_log::{AuditLog, AuditPlace};

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let log = AuditLog::start(AuditPlace::File(path.clone())).unwrap();
    let state = public_and_team();
    let current = state.0.settings.current();
    let audit = Some(crate::Audit { log: log.clone(), pulls: false });
    state.replace_settings(Settings { audit, ..Settings::clone(&current) });
    get(&state, "/v2/_token", None).await;
    let (_, body) = get(&state, "/v2/_token", Some(&basic("right"))).await;
    let token = format!("Bearer {}", body["token"].as_str().unwrap());
    for field in [&basic("wrong"), "Basic *", &token, &format!("Basic {}", STANDARD.encode("key:right"))] {
        get(&state, "/v2/_token", Some(field)).await;
    }
    post(&state, "grant_type=password&username=mallory&password=wrong").await;
    log.flush(Duration::from_mins(1));
    let text = std::fs::read_to_string(path).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let fields = ["identity", "key", "action", "decision", "status"];
    let brief = |line: &Value| fields.map(|field| line[field].to_string()).join(" ").replace('"', "");
    let expected = [
        "alice null login denied 401",
        "null null login denied 401",
        "alice null login denied 401",
        "alice k1 login granted 200",
        "mallory null login denied 401",
    ];
    assert_eq!(lines.iter().map(brief).collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn clients_without_credentials_get_a_token_only_if_they_may_do_something() {
    let closed = registry(&[rule("**", Grantee::Authenticated, &[Right::Admin])]);
    assert_eq!(get(&closed, "/v2/_token", None).await.0.status(), StatusCode::UNAUTHORIZED);
    // Engines of the containers-libs send this when they have no credentials.
    assert_eq!(get(&closed, "/v2/_token", Some("Basic Og==")).await.0.status(), StatusCode::UNAUTHORIZED);
    let open = public_and_team();
    let (response, body) = get(&open, "/v2/_token?scope=repository:team/a:pull,push", None).await;
    assert_eq!((response.status(), &body["scope"]), (StatusCode::OK, &"".into()), "nothing is granted");
    let token = format!("Bearer {}", body["token"].as_str().unwrap());
    assert_eq!(get(&open, "/v2/", Some(&token)).await.0.status(), StatusCode::OK);
    assert_eq!(get(&open, "/v2/team/a/tags/list", Some(&token)).await.0.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn row_112_nothing_is_granted_that_the_rules_do_not_grant() {
    let state = public_and_team();
    let scopes = async |scope: &str| {
        let path = format!("/v2/_token?{scope}");
        let (response, body) = get(&state, &path, Some(&basic("right"))).await;
        (response.status().as_u16(), body["scope"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(scopes("scope=repository:../../x:pull").await, (200, String::new()));
    assert_eq!(scopes("scope=repository:*:*").await, (200, String::new()));
    assert_eq!(scopes("scope=unknown:a:pull").await, (200, String::new()));
    assert_eq!(scopes("scope=repository:team/a:*").await, (200, "repository:team/a:pull,push".into()));
    assert_eq!(
        scopes("scope=registry:catalog:*").await,
        (200, "registry:catalog:*".into()),
        "filtered by rules"
    );
    assert_eq!(scopes(&"scope=repository:a:pull&".repeat(100)).await.0, 400);
    assert_eq!(scopes("service=third.example").await.0, 400);
    let twice = "scope=repository:team/a:pull&scope=repository:team/a:pull,push";
    assert_eq!(scopes(twice).await, (200, "repository:team/a:pull,push".into()));
}

#[tokio::test]
async fn another_registry_gets_no_access_that_no_rule_grants() {
    let rules = [
        rule("public/**", Grantee::Anonymous, &[Right::Pull]),
        rule("team/**", Grantee::User("alice".into()), &[Right::Admin]),
    ];
    let admin = rule("**", Grantee::User("alice".into()), &[Right::Admin]);
    let asked = "scope=registry:catalog:*&scope=repository:quinistry:pull";
    let scope = async |state: &State, query: &str, field: Option<&str>| {
        let (response, body) = get(state, &format!("/v2/_token?{query}&{asked}"), field).await;
        assert_eq!(response.status(), StatusCode::OK);
        body["scope"].as_str().unwrap().to_owned()
    };
    let (limited, full) = (registry(&rules), registry(&[admin]));
    let user = basic("right");
    for field in [None, Some(&*user)] {
        assert_eq!(scope(&limited, "service=other.example", field).await, "");
        assert_eq!(scope(&limited, "service=registry.example", field).await, "registry:catalog:*");
    }
    let all = "registry:catalog:* repository:quinistry:pull";
    assert_eq!(scope(&full, "service=other.example", Some(&user)).await, all);
}

#[test]
fn the_built_in_repository_is_public_in_this_registry_alone() {
    let state = public_and_team();
    let control = state.0.settings.current().access.clone().unwrap();
    let access = |target| {
        let scope = RequestedScope::parse("repository:quinistry:pull").unwrap();
        granted(&control, target, &Identity::anonymous(), vec![scope]).len()
    };
    assert_eq!(access(TokenTarget::Own { has_builtin: true, upstreams: None }), 1);
    assert_eq!(access(TokenTarget::Own { has_builtin: false, upstreams: None }), 0);
    assert_eq!(access(TokenTarget::Other), 0);
}

#[tokio::test]
async fn row_113_only_short_forms_are_read() {
    let state = public_and_team();
    let form = "grant_type=password&username=alice&password=right&service=registry.example\
                &scope=repository:team/a:pull,push+repository:team/b:pull&client_id=containerd-client";
    let (response, body) = post(&state, form).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(body["scope"], "repository:team/a:pull,push repository:team/b:pull");
    let (response, body) = post(&state, "grant_type=refresh_token&refresh_token=x&service=a").await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert!(body.to_string().contains("unsupported_grant_type"), "{body}");
    assert_eq!(post(&state, "").await.0.status(), StatusCode::BAD_REQUEST);
    assert_eq!(post(&state, &"a".repeat(MAX_FORM_BYTES + 1)).await.0.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let send = async |kind: &str, length: Option<&str>, body: Body| {
        let mut request = Request::builder().method("POST").uri("/v2/_token").header(CONTENT_TYPE, kind);
        if let Some(length) = length {
            request = request.header("content-length", length);
        }
        dispatch(&state, request.body(body).unwrap()).await.status()
    };
    assert_eq!(send("multipart/form-data; boundary=x", None, Body::from("x")).await, 415);
    assert_eq!(send("", None, Body::from("x")).await, 415);
    let kind = "application/x-www-form-urlencoded; charset=utf-8";
    assert_eq!(send(kind, Some("1073741824"), Body::from("x")).await, 413);
    // Chunks for ever.
    let chunk = || Ok::<_, std::io::Error>(bytes::Bytes::from_static(&[b'a'; 1024]));
    let endless = futures_util::stream::iter(std::iter::repeat_with(chunk));
    assert_eq!(send(kind, None, Body::from_stream(endless)).await, 413);
}

#[tokio::test]
async fn row_113_a_form_and_a_header_cannot_name_two_users() {
    let state = public_and_team();
    let other = format!("Basic {}", STANDARD.encode("bob:right"));
    let right = basic("right");
    let form = "grant_type=password&username=alice&password=right";
    let wrong = basic("wrong");
    let rows: [(&[&str], &str, u16); 9] = [
        (&[], form, 200),
        (&[&right], form, 200),
        (&["Basic Og=="], form, 200),
        (&[&right, &right], form, 400),
        (&[&other], form, 400),
        (&[&wrong], form, 400),
        (&["Bearer x"], form, 400),
        (&["Digest x"], form, 401),
        (&[], &format!("{form}&username=alice"), 400),
    ];
    for (fields, form, status) in rows {
        let mut request = Request::builder().method("POST").uri("/v2/_token");
        for field in fields {
            request = request.header(AUTHORIZATION, *field);
        }
        let request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        let (response, body) = ask(&state, request, form).await;
        assert_eq!(response.status().as_u16(), status, "{fields:?} {form} {body}");
    }
}

/// Connection that proves the user of its certificate, here an extension.
#[derive(Debug)]
struct Certified;

#[derive(Clone)]
struct Certificate;

impl crate::auth::authenticator::ConnectionVerifier for Certified {
    fn identify(&self, extensions: &http::Extensions) -> Option<Identity> {
        extensions.get::<Certificate>().map(|Certificate| Identity {
            name: Some("alice".into()),
            proof: IdentityProof::Certificate,
            ceiling: None,
        })
    }
}

#[tokio::test]
async fn a_client_certificate_keeps_its_rights_with_a_token_and_lends_them_to_no_other_client() {
    let rules = [rule("team/**", Grantee::User("alice".into()), &[Right::Push])];
    let state = registry_with(&rules, Some(Arc::new(Certified)));
    let token = async |service: &str| {
        let path = format!("/v2/_token?service={service}&scope=repository:team/a:pull,push");
        let request = Request::builder().uri(path).extension(Certificate);
        let (response, body) = ask(&state, request, "").await;
        (
            response.status(),
            body["scope"].clone(),
            format!("Bearer {}", body["token"].as_str().unwrap_or_default()),
        )
    };
    let (status, scope, field) = token(SERVICE).await;
    assert_eq!((status, scope), (StatusCode::OK, "repository:team/a:pull,push".into()));
    let push = async |repository: &str, has_certificate: bool| {
        let path = format!("/v2/{repository}/blobs/uploads/");
        let mut request = Request::builder().method("POST").uri(path).header(AUTHORIZATION, &field);
        if has_certificate {
            request = request.extension(Certificate);
        }
        ask(&state, request, "").await.0.status()
    };
    assert_eq!(push("team/a", true).await, StatusCode::ACCEPTED);
    assert_eq!(push("team/b", true).await, StatusCode::UNAUTHORIZED, "the scope of the token holds");
    assert_eq!(push("team/a", false).await, StatusCode::UNAUTHORIZED, "the token alone is worth nothing");
    assert_eq!(token("other.example").await.0, StatusCode::UNAUTHORIZED, "others see no certificate");
}

#[tokio::test]
async fn row_113_a_form_that_does_not_arrive_is_given_up() {
    let state = public_and_team();
    let current = state.0.settings.current();
    state.replace_settings(Settings { body: Duration::from_millis(1), ..Settings::clone(&current) });
    let silent = futures_util::stream::pending::<Result<bytes::Bytes, std::io::Error>>();
    let request = Request::builder().method("POST").uri("/v2/_token");
    let request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
    let response = dispatch(&state, request.body(Body::from_stream(silent)).unwrap()).await;
    assert_eq!(response.status(), StatusCode::REQUEST_TIMEOUT);
}

#[tokio::test]
async fn the_endpoint_has_its_methods_and_is_absent_without_an_issuer() {
    let state = public_and_team();
    for (method, path, status) in [
        ("HEAD", "/v2/_token", 200),
        ("PUT", "/v2/_token", 405),
        ("DELETE", "/v2/_token", 405),
        ("GET", "/v2/_token/jwks.json", 200),
        ("POST", "/v2/_token/jwks.json", 405),
        ("GET", "/v2/_token/", 404),
        ("GET", "/v2/_tokens", 404),
    ] {
        let request = Request::builder().method(method).uri(path);
        assert_eq!(ask(&state, request, "").await.0.status(), status, "{method} {path}");
    }
    let (_, set) = get(&state, "/v2/_token/jwks.json", None).await;
    assert_eq!(set, serde_json::json!({"keys": []}), "a secret is not published");
    let plain = State::stored(Store::open(Memory::new(1 << 20), false).unwrap(), Settings::default());
    for path in ["/v2/_token", "/v2/_token/jwks.json"] {
        assert_eq!(get(&plain, path, None).await.0.status(), StatusCode::NOT_FOUND, "{path}");
    }
}
