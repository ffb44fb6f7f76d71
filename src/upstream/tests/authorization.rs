//! Tokens and credentials, and the hosts that never get them.

use futures_util::future::join_all;
use quinistry_fetch::{SourceError, Upstream as _};
use quinistry_oci::media_type;

use super::server::{OTHER, PUBLIC, Received, Response, Server, answer, redirect};
use super::{options, password, remote, repository, tag};
use crate::helper::write_executable;
use crate::{RemoteCredentials, RemoteOptions};

const MANIFEST: &str = r#"{"schemaVersion":2,"manifests":[]}"#;
/// Header with the user and the password of the tests.
const BASIC: &str = "Basic dXNlcjpodW50ZXIy";

fn manifest() -> Response {
    answer(200, &[("content-type", media_type::OCI_INDEX)], MANIFEST)
}

fn challenge(text: &str) -> Response {
    answer(401, &[("www-authenticate", text)], "")
}

/// Answers with a manifest to those who have a token.
fn protected(request: &Received, realm: &str) -> Response {
    match request.header("authorization") {
        Some("Bearer good") => manifest(),
        _ => challenge(&format!("Bearer realm=\"{realm}\",service=\"reg\",scope=\"repository:other:push\"")),
    }
}

fn token(text: &str) -> Response {
    answer(200, &[("content-type", "application/json")], format!(r#"{{"token":"{text}","expires_in":300}}"#))
}

/// Starts a token server at `address`, and an upstream that names it by `host`.
async fn pair(address: std::net::Ipv4Addr, host: &str) -> (Server, Server) {
    let tokens = Server::start(address, |_| token("good")).await;
    let realm = tokens.url(host, "/token");
    (Server::start(PUBLIC, move |request| protected(request, &realm)).await, tokens)
}

async fn ask(options: RemoteOptions) -> Result<(), SourceError> {
    remote(options).get_manifest(&repository("a"), &tag("1")).await.map(drop)
}

#[tokio::test]
async fn a_token_server_on_the_own_host_gets_the_password_once_for_all() {
    let (server, tokens) = pair(PUBLIC, "public.test").await;
    let remote = remote(RemoteOptions { credentials: password(), ..options(&server) });
    let (first, second) = (repository("a"), repository("b"));
    let tag = tag("1");
    let asked = join_all((0..20).map(|_| remote.get_manifest(&first, &tag))).await;
    assert!(asked.iter().all(Result::is_ok), "{asked:?}");
    assert_eq!(tokens.requests().len(), 1);
    assert_eq!(tokens.authorizations(), [Some(BASIC.into())]);
    assert_eq!(tokens.requests()[0].query, "service=reg&scope=repository%3Aa%3Apull&account=user");
    let before = server.requests().len();
    remote.get_manifest(&first, &tag).await.unwrap();
    assert_eq!(server.requests().len(), before + 1, "the token is used at once");
    remote.get_manifest(&second, &tag).await.unwrap();
    assert_eq!(tokens.requests().len(), 2, "another repository is another scope");
    assert!(server.authorizations().iter().flatten().all(|value| value == "Bearer good"));
}

#[tokio::test]
async fn a_token_server_elsewhere_gets_no_secret_unless_it_is_listed() {
    let (server, tokens) = pair(OTHER, "other.test").await;
    ask(RemoteOptions { credentials: password(), ..options(&server) }).await.unwrap();
    assert_eq!(tokens.authorizations(), [None]);
    assert_eq!(tokens.requests()[0].query, "service=reg&scope=repository%3Aa%3Apull");
    let realms = vec!["other.test".into()];
    ask(RemoteOptions { credentials: password(), realms, ..options(&server) }).await.unwrap();
    assert_eq!(tokens.authorizations(), [None, Some(BASIC.into())]);
}

#[tokio::test]
async fn a_token_server_that_redirects_takes_the_password_nowhere() {
    let other = Server::start(OTHER, |_| token("good")).await;
    let elsewhere = other.url("other.test", "/token");
    let tokens = Server::start(PUBLIC, move |_| redirect(&elsewhere)).await;
    let realm = tokens.url("public.test", "/token");
    let server = Server::start(PUBLIC, move |request| protected(request, &realm)).await;
    ask(RemoteOptions { credentials: password(), ..options(&server) }).await.unwrap();
    assert_eq!(tokens.authorizations(), [Some(BASIC.into())]);
    assert_eq!(other.authorizations(), [None]);
}

#[tokio::test]
async fn credentials_and_tokens_stay_behind_at_a_redirect() {
    let other = Server::start(OTHER, |_| manifest()).await;
    let elsewhere = other.url("other.test", "/signed?x=y");
    let server = Server::start(PUBLIC, move |request| match request.header("authorization") {
        Some(BASIC) => redirect(&elsewhere),
        _ => challenge("Basic realm=\"x\""),
    })
    .await;
    let remote = remote(RemoteOptions { credentials: password(), ..options(&server) });
    for _ in 0..2 {
        remote.get_manifest(&repository("a"), &tag("1")).await.unwrap();
    }
    assert_eq!(server.authorizations(), [None, Some(BASIC.into()), Some(BASIC.into())]);
    assert_eq!(other.authorizations(), [None, None]);
    assert!(other.requests().iter().all(|request| request.header("quinistry-hops").is_none()));
}

#[tokio::test]
async fn a_redirect_back_to_the_upstream_gets_no_credentials() {
    let (sender, back) = std::sync::mpsc::channel::<String>();
    let back = std::sync::Mutex::new(back);
    let other = Server::start(OTHER, move |_| redirect(&back.lock().unwrap().recv().unwrap())).await;
    let elsewhere = other.url("other.test", "/x");
    let server = Server::start(PUBLIC, move |request| match request.header("authorization") {
        Some(BASIC) => redirect(&elsewhere),
        _ => challenge("Basic realm=\"x\""),
    })
    .await;
    sender.send(server.url("public.test", "/chosen")).unwrap();
    let error = ask(RemoteOptions { credentials: password(), ..options(&server) }).await.unwrap_err();
    assert!(matches!(error, SourceError::Invalid(_)), "{error}");
    assert_eq!(server.authorizations(), [None, Some(BASIC.into()), None]);
}

#[tokio::test]
async fn a_challenge_of_a_redirects_target_is_not_answered() {
    let other = Server::start(OTHER, |_| challenge("Basic realm=\"x\"")).await;
    let elsewhere = other.url("other.test", "/x");
    let server = Server::start(PUBLIC, move |_| redirect(&elsewhere)).await;
    let error = ask(RemoteOptions { credentials: password(), ..options(&server) }).await.unwrap_err();
    assert!(matches!(error, SourceError::Invalid(_)), "{error}");
    assert_eq!((server.authorizations(), other.authorizations()), (vec![None], vec![None]));
}

#[tokio::test]
async fn row_163_hostile_challenges_end_and_get_no_secret() {
    let tokens = Server::start(PUBLIC, |_| token("useless")).await;
    let realm = tokens.url("public.test", "/token");
    let server = Server::start(PUBLIC, move |request| protected(request, &realm)).await;
    let error = ask(RemoteOptions { credentials: password(), ..options(&server) }).await.unwrap_err();
    assert!(matches!(error, SourceError::Refused), "{error}");
    assert_eq!((server.requests().len(), tokens.requests().len()), (2, 1), "the loop ends");

    let long = "x".repeat(1 << 20);
    let less_long = "x".repeat(8 * 1024);
    for text in [
        "Bearer realm=\"file:///etc/passwd\"".into(),
        "Bearer realm=\"ftp://public.test/\"".into(),
        "Bearer realm=\"//public.test/\"".into(),
        "Bearer service=\"x\"".into(),
        "Negotiate".into(),
        format!("Bearer realm=\"http://public.test/\",service=\"{long}\""),
        format!("Bearer realm=\"http://public.test/\",service=\"{less_long}\""),
        format!("Bearer realm=\"http://public.test/{less_long}\""),
    ] {
        let name: String = text.chars().take(60).collect();
        let server = Server::start(PUBLIC, move |_| challenge(&text)).await;
        let error = ask(RemoteOptions { credentials: password(), ..options(&server) }).await.unwrap_err();
        assert!(matches!(error, SourceError::Invalid(_)), "{name}: {error:?}");
        assert_eq!(server.authorizations(), [None], "{name}");
    }
}

#[tokio::test]
async fn refused_credentials_are_a_refusal_and_a_limit_stays_one() {
    let meanings = [(401, "refused"), (429, "limited"), (404, "unavailable"), (503, "unavailable")];
    let meaning_of = |error: &SourceError| match error {
        SourceError::Refused => "refused",
        SourceError::Limited { retry_after: Some(_) } => "limited",
        SourceError::Unavailable(_) => "unavailable",
        _ => "other",
    };
    for (status, meaning) in meanings {
        let tokens = Server::start(PUBLIC, move |_| answer(status, &[("retry-after", "9")], "")).await;
        let realm = tokens.url("public.test", "/token");
        let server = Server::start(PUBLIC, move |request| protected(request, &realm)).await;
        let error = ask(RemoteOptions { credentials: password(), ..options(&server) }).await.unwrap_err();
        assert_eq!(meaning_of(&error), meaning, "{status}");
    }
    let server = Server::start(PUBLIC, |_| challenge("Basic realm=\"x\"")).await;
    assert!(matches!(ask(options(&server)).await, Err(SourceError::Refused)));
    assert_eq!(server.requests().len(), 1, "there is nothing to send");
}

#[tokio::test]
async fn a_token_that_the_upstream_refuses_is_replaced() {
    let tokens = Server::start(PUBLIC, |request| token(&format!("t{}", request.number))).await;
    let realm = tokens.url("public.test", "/token");
    let server = Server::start(PUBLIC, move |request| {
        // Each token is good for one request.
        let expected = format!("Bearer t{}", request.number / 2);
        let is_good = request.number % 2 == 1 && request.header("authorization") == Some(&expected);
        if is_good { manifest() } else { protected(request, &realm) }
    });
    let server = server.await;
    let remote = remote(options(&server));
    for _ in 0..3 {
        remote.get_manifest(&repository("a"), &tag("1")).await.unwrap();
    }
    assert_eq!((server.requests().len(), tokens.requests().len()), (6, 3));
}

#[tokio::test]
async fn row_168_a_helper_is_run_when_the_upstream_asks_and_its_failure_is_told_without_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let command = folder.path().join("helper");
    let helper = |script: &str| write_executable(&command, &format!("#!/bin/sh\n{script}\n"));
    let (server, tokens) = pair(PUBLIC, "public.test").await;
    let credentials = RemoteCredentials::Exec { command: command.clone(), lifetime: None };
    let options = RemoteOptions { credentials, ..options(&server) };

    helper("echo hunter2 >&2; echo hunter2; exit 1");
    let error = ask(options.clone()).await.unwrap_err();
    let SourceError::Unavailable(error) = error else { panic!("{error}") };
    let text = format!("{error:?} {error}: {}", error.source().unwrap());
    assert!(text.contains("credential helper") && !text.contains("hunter2"), "{text}");
    assert_eq!(tokens.requests().len(), 0);

    helper(r#"echo x >> "$0.runs"; echo '{"Username":"user","Secret":"hunter2"}'"#);
    let remote = remote(options.clone());
    for name in ["a", "b"] {
        remote.get_manifest(&repository(name), &tag("1")).await.unwrap();
    }
    assert_eq!(tokens.authorizations(), [Some(BASIC.into()), Some(BASIC.into())]);
    let runs = std::fs::read_to_string(folder.path().join("helper.runs")).unwrap();
    assert_eq!(runs.lines().count(), 1);

    helper(r#"echo '{"Username":"<token>","Secret":"refresh"}'"#);
    ask(options).await.unwrap();
    let last = tokens.requests().pop().unwrap();
    assert_eq!(last.method, "POST");
    let expected = "grant_type=refresh_token&client_id=quinistry&scope=repository%3Aa%3Apull&service=reg&refresh_token=refresh";
    assert_eq!(last.body, expected);
}
