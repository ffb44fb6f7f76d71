//! Where the client's credentials go, and above all where they do not.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod support;

use quinistry::client::ClientError;
use support::client::{LOGIN, blob, client, client_with, fetch, login_for, reference, with_tokens};
use support::scripted_registry::{Answer, ScriptedRegistry};

#[tokio::test]
async fn credentials_do_not_follow_a_redirect_to_another_port() {
    let folder = tempfile::tempdir().unwrap();
    let (descriptor, bytes) = blob();
    let store = ScriptedRegistry::start({
        let bytes = bytes.clone();
        move |_| Answer::ok(bytes.clone())
    });
    let to = format!("http://{}/store", store.host);
    let registry = ScriptedRegistry::start(move |request| match request.header("authorization") {
        None => Answer::new(401).with("www-authenticate", r#"Basic realm="x""#),
        Some(_) => Answer::new(307).with("location", &to),
    });
    let client = client_with(&login_for(&registry.host), folder.path());
    assert!(fetch(&client, &reference(&registry.host, "a"), &descriptor).await.unwrap() == bytes);
    assert_eq!(registry.requests()[1].header("authorization"), Some(format!("Basic {LOGIN}").as_str()));
    assert_eq!(store.requests()[0].header("authorization"), None);
}

#[tokio::test]
async fn a_challenge_from_where_a_redirect_led_is_not_answered() {
    let folder = tempfile::tempdir().unwrap();
    let thief = ScriptedRegistry::start(|_| Answer::new(401).with("www-authenticate", r#"Basic realm="x""#));
    let to = format!("http://{}/", thief.host);
    let registry = ScriptedRegistry::start(move |_| Answer::new(307).with("location", &to));
    let client = client_with(&login_for(&registry.host), folder.path());
    let error = fetch(&client, &reference(&registry.host, "a"), &blob().0).await.unwrap_err();
    assert!(matches!(error, ClientError::Status { .. }), "{error}");
    assert!(thief.requests().iter().all(|request| request.header("authorization").is_none()));
}

#[tokio::test]
async fn redirects_end() {
    let registry = ScriptedRegistry::start(|_| Answer::new(302).with("location", "/again"));
    let error = fetch(&client(), &reference(&registry.host, "a"), &blob().0).await.unwrap_err();
    assert!(error.to_string().ends_with("more than 5 redirects"), "{error}");
}

#[tokio::test]
async fn a_token_is_fetched_once_for_its_scope() {
    let folder = tempfile::tempdir().unwrap();
    let registry = with_tokens();
    let client = client_with(&login_for(&registry.host), folder.path());
    let name = reference(&registry.host, "a");
    for _ in 0..3 {
        client.manifest(&name).await.unwrap();
    }
    let tokens: Vec<_> =
        registry.requests().into_iter().filter(|request| request.path() == "/token").collect();
    assert_eq!(tokens.len(), 1);
    assert_eq!(tokens[0].target, "/token?service=reg&scope=repository%3Aa%3Apull&account=user");
}

#[tokio::test]
async fn an_identity_token_is_exchanged() {
    let folder = tempfile::tempdir().unwrap();
    let registry = with_tokens();
    let config = format!(r#"{{"auths":{{"{}":{{"identitytoken":"refresh"}}}}}}"#, registry.host);
    client_with(&config, folder.path()).manifest(&reference(&registry.host, "a")).await.unwrap();
    let request = &registry.requests()[1];
    assert_eq!(request.method, "POST");
    let body = String::from_utf8(request.body.clone()).unwrap();
    assert!(
        body.contains("grant_type=refresh_token&") && body.contains("scope=repository%3Aa%3Apull"),
        "{body}"
    );
}

#[tokio::test]
async fn no_credentials_and_wrong_credentials_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let registry = with_tokens();
    let name = reference(&registry.host, "a");
    let error = client().manifest(&name).await.unwrap_err();
    assert!(matches!(error, ClientError::NoCredentials { .. }), "{error}");
    let config = login_for(&registry.host).replace(LOGIN, "dTpw");
    let error = client_with(&config, folder.path()).manifest(&name).await.unwrap_err();
    assert!(matches!(error, ClientError::Refused { .. }), "{error}");
}

#[tokio::test]
async fn a_token_server_out_in_the_open_is_not_asked() {
    let folder = tempfile::tempdir().unwrap();
    let registry = ScriptedRegistry::start(|_| {
        Answer::new(401).with("www-authenticate", r#"Bearer realm="http://192.0.2.1/token",service="x""#)
    });
    let client = client_with(&login_for(&registry.host), folder.path());
    let error = client.manifest(&reference(&registry.host, "a")).await.unwrap_err();
    assert!(matches!(error, ClientError::Realm { .. }), "{error}");
}
