//! Where the client's credentials go, and above all where they do not.

use quinistry::client::ClientError;

use crate::support::client::{
    LOGIN, blob, client, client_with, fetch, honest, image, layout_of, login_for, push, reference,
    with_tokens,
};
use crate::support::scripted_registry::{Answer, ScriptedRegistry};

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
    assert!(error.to_string().ends_with("more than 10 redirects"), "{error}");
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

/// Starts a registry that leads each request of one kind to another path of its own, once, and takes a push.
fn redirecting(kind: &'static str, status: u16) -> ScriptedRegistry {
    ScriptedRegistry::start(move |request| {
        let path = request.path();
        let is_moved = path.starts_with("/moved");
        let this = if path.contains("/manifests/") {
            "manifest"
        } else if path.contains("/uploads/") {
            "upload"
        } else {
            "blob"
        };
        if !is_moved && kind == format!("{this} {}", request.method) {
            return Answer::new(status).with("location", format!("/moved{}", request.target));
        }
        match (this, request.method.as_str()) {
            ("upload", "POST") => Answer::new(202).with("location", "/v2/a/blobs/uploads/1"),
            ("upload" | "manifest", "PUT") => Answer::new(201),
            ("manifest", "DELETE") => Answer::new(202),
            _ => Answer::new(404),
        }
    })
}

#[tokio::test]
async fn writes_follow_redirects_with_method_and_body() {
    let folder = tempfile::tempdir().unwrap();
    let image = image();
    let layout = layout_of(&image, folder.path());
    for kind in ["upload POST", "upload PUT", "manifest PUT", "blob HEAD", "manifest HEAD"] {
        for status in [301, 302, 307, 308] {
            let registry = redirecting(kind, status);
            let report = push(&client(), &layout, &reference(&registry.host, "a:1")).await;
            let report = report.unwrap_or_else(|error| panic!("{kind} {status}: {error}"));
            assert_eq!(report.uploaded, 3, "{kind} {status}");
            let moved: Vec<_> = registry
                .requests()
                .into_iter()
                .filter(|request| request.path().starts_with("/moved"))
                .map(|request| (request.method, request.body.len()))
                .collect();
            let method = kind.split(' ').nth(1).unwrap();
            assert!(
                !moved.is_empty() && moved.iter().all(|(of, _)| of == method),
                "{kind} {status}: {moved:?}"
            );
            assert!(
                method != "PUT" || moved.iter().all(|(_, length)| *length > 0),
                "{kind} {status}: {moved:?}"
            );
        }
    }
    let registry = redirecting("manifest DELETE", 308);
    client().delete(&reference(&registry.host, "a:1")).await.unwrap();
    assert_eq!(registry.asked(), ["DELETE /v2/a/manifests/1", "DELETE /moved/v2/a/manifests/1"]);
}

#[tokio::test]
async fn a_see_other_is_read_and_never_written() {
    let registry = redirecting("manifest DELETE", 303);
    client().delete(&reference(&registry.host, "a:1")).await.unwrap_err();
    assert_eq!(registry.asked(), ["DELETE /v2/a/manifests/1", "GET /moved/v2/a/manifests/1"]);
}

#[tokio::test]
async fn a_token_server_is_followed_and_another_host_gets_no_credentials() {
    let folder = tempfile::tempdir().unwrap();
    let other = ScriptedRegistry::start(|_| Answer::ok(r#"{"token":"T"}"#));
    for status in [301, 302, 303, 307, 308] {
        for (elsewhere, to) in
            [(false, "/token/".to_owned()), (true, format!("http://{}/token/", other.host))]
        {
            let registry = ScriptedRegistry::start(move |request| match request.path() {
                "/token" => Answer::new(status).with("location", &to),
                "/token/" => Answer::ok(r#"{"token":"T"}"#),
                _ if request.header("authorization") == Some("Bearer T") => honest(&image(), request),
                _ => {
                    let realm = format!("http://{}/token", request.header("host").unwrap());
                    Answer::new(401).with("www-authenticate", format!(r#"Bearer realm="{realm}""#))
                }
            });
            let client = client_with(&login_for(&registry.host), folder.path());
            client.manifest(&reference(&registry.host, "a")).await.unwrap();
            let basic = format!("Basic {LOGIN}");
            let sent = |requests: Vec<crate::support::scripted_registry::Request>| {
                let last = requests.into_iter().rfind(|request| request.path() == "/token/").unwrap();
                last.header("authorization").map(str::to_owned)
            };
            let expected = if elsewhere { None } else { Some(basic) };
            assert_eq!(
                sent(if elsewhere { other.requests() } else { registry.requests() }),
                expected,
                "{status}"
            );
        }
    }
}

#[tokio::test]
async fn an_identity_token_stays_with_its_server() {
    let folder = tempfile::tempdir().unwrap();
    let thief = ScriptedRegistry::start(|_| Answer::ok(r#"{"token":"T"}"#));
    let to = format!("http://{}/token", thief.host);
    let registry = ScriptedRegistry::start(move |request| {
        if request.path() == "/token" {
            return Answer::new(307).with("location", &to);
        }
        let realm = format!("http://{}/token", request.header("host").unwrap());
        Answer::new(401).with("www-authenticate", format!(r#"Bearer realm="{realm}""#))
    });
    let config = format!(r#"{{"auths":{{"{}":{{"identitytoken":"refresh"}}}}}}"#, registry.host);
    let error =
        client_with(&config, folder.path()).manifest(&reference(&registry.host, "a")).await.unwrap_err();
    assert!(error.to_string().contains("identity token"), "{error}");
    assert_eq!(thief.requests().len(), 0);
}

#[tokio::test]
async fn each_repository_gets_the_credentials_of_its_longest_key() {
    let folder = tempfile::tempdir().unwrap();
    let registry = ScriptedRegistry::start(|request| {
        // team:t and all:a
        let wanted = if request.path().contains("/team/") { "Basic dGVhbTp0" } else { "Basic YWxsOmE=" };
        if request.header("authorization") == Some(wanted) {
            return honest(&image(), request);
        }
        Answer::new(401).with("www-authenticate", r#"Basic realm="x""#)
    });
    let host = &registry.host;
    let config =
        format!(r#"{{"auths":{{"{host}":{{"auth":"YWxsOmE="}},"{host}/team":{{"auth":"dGVhbTp0"}}}}}}"#);
    let client = client_with(&config, folder.path());
    for name in ["team/app", "other", "team/app", "teams"] {
        client.manifest(&reference(host, name)).await.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}
