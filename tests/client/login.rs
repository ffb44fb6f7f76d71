//! Logins, right and wrong, and what registries and token servers answer beside.

use std::fs;
use std::path::Path;
use std::process::Output;

use quinistry::client::ClientError;

use crate::support::certificates::{Certificates, Profile};
use crate::support::client::{LOGIN, client, client_with, honest, image, login_for, reference};
use crate::support::distribution::{Distribution, Version};
use crate::support::process::{command, output_with};
use crate::support::scripted_registry::{Answer, ScriptedRegistry};
use crate::support::server::PROGRAM;

/// Logs in as `user`, with the configuration in a folder.
fn login(host: &str, password: &str, more: &[&str], folder: &Path) -> Output {
    let mut login = command(PROGRAM);
    login.args(["login", host, "-u", "user", "--password-stdin"]).args(more);
    login.env("DOCKER_CONFIG", folder).env("HOME", "/nonexistent");
    output_with(&mut login, password.as_bytes()).unwrap()
}

/// Asserts a failure that stores nothing, and returns its one line.
#[track_caller]
fn refused(host: &str, password: &str, more: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let output = login(host, password, more, folder.path());
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert_eq!((error.lines().count(), output.stdout.as_slice()), (1, &b""[..]), "{error}");
    assert!(!error.contains(password), "{error}");
    assert!(!folder.path().join("config.json").exists());
    error
}

#[test]
fn a_login_to_distribution_says_what_is_wrong() {
    let Some(made) = Certificates::new() else { return };
    let pair = made.self_signed("pair", Profile::default());
    let stranger = made.self_signed("stranger", Profile::default());
    let path = made.path().join("htpasswd");
    // bcrypt of hunter2, of the lowest cost
    fs::write(&path, "user:$2b$04$abcdefghijklmnopqrstuuV3duMsC0HpUex6N9qapiuOHHWkwRXVm\n").unwrap();
    let sections = format!("auth: {{htpasswd: {{realm: test, path: '{}'}}}}\n", path.display());
    for version in [Version::Second, Version::Third] {
        let Some(registry) = Distribution::with_tls(version, &pair, "", &sections) else { return };
        let (host, ca) = (registry.host.as_str(), ["--ca", pair.certificate.to_str().unwrap()]);
        let error = refused(host, "wrong", &ca);
        assert!(
            error.contains(&format!("failed to log in to {host}: {host} refused the credentials")),
            "{error}"
        );
        assert!(error.contains("; check user and password"), "{error}");
        let error = refused(host, "hunter2", &["--ca", stranger.certificate.to_str().unwrap()]);
        assert!(error.contains("no trusted authority has issued its certificate"), "{error}");
        let error = refused(host, "hunter2", &[]);
        assert!(error.contains("it speaks TLS, and the request was plain HTTP"), "{error}");
        let folder = tempfile::tempdir().unwrap();
        let accepted = login(host, "hunter2\n", &ca, folder.path());
        assert_eq!(accepted.stdout, format!("logged in to {host} as user\n").as_bytes(), "{accepted:?}");
        assert_eq!(accepted.stderr, b"");
        let mut list = command(PROGRAM);
        list.args(["list", host]).args(ca).env("DOCKER_CONFIG", folder.path());
        let listed = crate::support::process::output(&mut list).unwrap();
        assert!(listed.status.success(), "{listed:?}");
        list.env("DOCKER_CONFIG", "/nonexistent");
        let anonymous = crate::support::process::output(&mut list).unwrap();
        let error = String::from_utf8(anonymous.stderr).unwrap();
        assert!(
            error.contains(&format!("requires credentials; log in to it first (quinistry login {host})")),
            "{error}"
        );
    }
}

#[test]
fn a_registry_that_accepts_any_password_is_no_success() {
    let Some(registry) = Distribution::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let output = login(&registry.host, "anything", &[], folder.path());
    let (out, error) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(out, format!("stored credentials of user for {}, unchecked\n", registry.host));
    assert!(
        error.starts_with(&format!("warning: {} answers without credentials, too", registry.host))
            && error.lines().count() == 1,
        "{error}"
    );
    assert!(output.status.success() && folder.path().join("config.json").exists());
}

#[test]
fn a_password_is_checked_where_none_is_needed_but_a_wrong_one_is_refused() {
    let registry = ScriptedRegistry::start(|request| match request.header("authorization") {
        Some(given) if given != format!("Basic {LOGIN}") => {
            Answer::new(401).with("www-authenticate", r#"Basic realm="x""#)
        }
        _ => Answer::ok("{}"),
    });
    let error = refused(&registry.host, "wrong", &[]);
    assert!(error.contains("refused the credentials"), "{error}");
}

#[test]
fn what_is_no_registry_is_not_logged_in_to() {
    let error = refused("127.0.0.1:1", "hunter2", &[]);
    assert!(error.contains("failed to reach 127.0.0.1:1 (is a registry running there?)"), "{error}");
    let missing = ScriptedRegistry::start(|_| Answer::new(404));
    let page =
        ScriptedRegistry::start(|_| Answer::ok("<html>").with("content-type", "text/html; charset=utf-8"));
    for (other, status) in [(&missing, "404 Not Found"), (&page, "a page of HTML")] {
        let error = refused(&other.host, "hunter2", &[]);
        let expected = format!("{} answers, but not as a registry does ({status} at /v2/)", other.host);
        assert!(error.contains(&expected), "{error}");
    }
    let broken = ScriptedRegistry::start(|_| Answer::new(401));
    assert!(refused(&broken.host, "hunter2", &[]).contains("401 without a challenge"));
    let long = "x".repeat(70_000);
    assert!(refused(&missing.host, &long, &[]).contains("standard input is longer than any password"));
}

/// Starts a registry without content whose token server answers in this way.
fn with_token_server(
    mut answer: impl FnMut() -> Answer + Send + 'static,
) -> (ScriptedRegistry, ScriptedRegistry) {
    let tokens = ScriptedRegistry::start(move |_| answer());
    let realm = format!("http://{}/token", tokens.host);
    let registry = ScriptedRegistry::start(move |request| match request.header("authorization") {
        Some("Bearer T") => Answer::ok("{}"),
        _ => Answer::new(401).with("www-authenticate", format!(r#"Bearer realm="{realm}",service="s""#)),
    });
    (registry, tokens)
}

#[test]
fn a_token_server_that_refuses_is_named() {
    let (registry, tokens) = with_token_server(|| {
        Answer::new(401).body(r#"{"errors":[{"code":"UNAUTHORIZED","message":"no such user"}]}"#)
    });
    let error = refused(&registry.host, "hunter2", &[]);
    let expected = format!(
        "the token server {} of {} refused the credentials: UNAUTHORIZED: no such user; check user",
        tokens.host, registry.host
    );
    assert!(error.contains(&expected), "{error}");
}

#[tokio::test]
async fn a_token_server_that_is_busy_is_asked_again() {
    let mut left = 2;
    let (registry, tokens) = with_token_server(move || {
        left -= 1;
        if left > 0 { Answer::new(429).with("retry-after", 0) } else { Answer::ok(r#"{"token":"T"}"#) }
    });
    client().ping(&registry.host).await.unwrap();
    assert_eq!(tokens.requests().len(), 2);
    let (registry, tokens) = with_token_server(|| Answer::new(429).with("retry-after", 3600));
    let error = client().ping(&registry.host).await.unwrap_err();
    assert!(error.to_string().ends_with("; the registry limits requests, so try again later"), "{error}");
    assert_eq!(tokens.requests().len(), 1, "an hour is not waited for");
}

#[tokio::test]
async fn a_scope_that_the_registry_names_late_is_asked_for_once() {
    let challenge = |host: &str, more: &str| {
        let value = format!(r#"Bearer realm="http://{host}/token",service="s"{more}"#);
        Answer::new(401).with("www-authenticate", value)
    };
    let late = r#",error="insufficient_scope",scope="repository:a:pull repository:base:pull""#;
    for granting in [true, false] {
        let registry = ScriptedRegistry::start(move |request| {
            let host = request.header("host").unwrap().to_owned();
            if request.path() == "/token" {
                let token = if request.target.contains("base") && granting { "both" } else { "one" };
                return Answer::ok(format!(r#"{{"access_token":"{token}"}}"#));
            }
            match request.header("authorization") {
                Some("Bearer both") => honest(&image(), request),
                Some(_) => challenge(&host, late),
                None => challenge(&host, ""),
            }
        });
        let result = client().manifest(&reference(&registry.host, "a")).await;
        assert_eq!(result.is_ok(), granting, "{:?}", result.err());
        let asked: Vec<_> = registry.requests().into_iter().filter(|one| one.path() == "/token").collect();
        assert_eq!(asked.len(), 2);
        assert_eq!(
            asked[1].target,
            "/token?service=s&scope=repository%3Aa%3Apull&scope=repository%3Abase%3Apull"
        );
    }
}

#[tokio::test]
async fn a_public_image_is_pulled_where_only_the_root_asks_for_a_login() {
    let registry = ScriptedRegistry::start(|request| match request.path() {
        "/v2/" => Answer::new(401).with("www-authenticate", r#"Basic realm="x""#),
        _ => honest(&image(), request),
    });
    client().manifest(&reference(&registry.host, "a")).await.unwrap();
    assert!(registry.requests().iter().all(|request| request.path() != "/v2/"));
}

#[tokio::test]
async fn a_user_without_the_right_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let registry = ScriptedRegistry::start(|request| match request.header("authorization") {
        None => Answer::new(401).with("www-authenticate", r#"Basic realm="x""#),
        Some(_) => Answer::new(403).body(r#"{"errors":[{"code":"DENIED","message":"requested access"}]}"#),
    });
    let client = client_with(&login_for(&registry.host), folder.path());
    let error = client.manifest(&reference(&registry.host, "a")).await.unwrap_err();
    assert!(matches!(&error, ClientError::Status { status, .. } if status.as_u16() == 403), "{error}");
    let expected = "403 Forbidden: DENIED: requested access; if you lack the right to do this, ask for it, or log in \
                    as another user";
    assert!(error.to_string().contains(expected), "{error}");
}

#[test]
fn several_lines_on_standard_input_are_not_a_password() {
    let error = refused("localhost:1", "secret\nother\n", &[]);
    assert!(error.contains("standard input has several lines; pipe the password alone"), "{error}");
}
