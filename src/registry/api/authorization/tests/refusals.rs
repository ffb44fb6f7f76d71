//! 401 and 403, and their challenge.

use super::*;

#[tokio::test]
async fn the_first_contact_is_refused_also_where_anonymous_clients_may_pull() {
    let registry = Registry::with_rules();
    let digest = registry.fill("public/app", &["v1"]);
    let first = registry.ask("GET", "/v2/", "anonymous").await;
    let expected = "Bearer realm=\"http://registry.test:5000/v2/_token\",service=\"registry\"";
    assert_eq!((first.status, first.challenge()), (StatusCode::UNAUTHORIZED, expected));
    assert_eq!(first.json()["errors"][0]["code"], "UNAUTHORIZED");
    for path in ["manifests/v1".to_owned(), format!("manifests/{digest}"), "tags/list".into()] {
        let answer = registry.ask("GET", &format!("/v2/public/app/{path}"), "anonymous").await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
    }
    for who in ["alice", "bob", "token-of-alice", "anonymous-token"] {
        assert_eq!(registry.ask("GET", "/v2/", who).await.status, StatusCode::OK, "{who}");
    }
}

#[tokio::test]
async fn a_challenge_names_the_scope_that_is_needed() {
    let registry = Registry::with_rules();
    let begin = "Bearer realm=\"http://registry.test:5000/v2/_token\",service=\"registry\",scope=";
    for (who, method, path, scope) in [
        ("anonymous", "GET", "/v2/team/app/manifests/v1", "\"repository:team/app:pull\""),
        ("anonymous", "POST", "/v2/public/app/blobs/uploads/", "\"repository:public/app:pull,push\""),
        ("anonymous", "DELETE", "/v2/team/app/manifests/v1", "\"repository:team/app:delete\""),
        (
            "token-of-alice",
            "POST",
            "/v2/team/app/blobs/uploads/",
            "\"repository:team/app:pull,push\",error=\"insufficient_scope\"",
        ),
        ("token-of-alice", "GET", "/v2/_catalog", "\"registry:catalog:*\",error=\"insufficient_scope\""),
    ] {
        let answer = registry.ask(method, path, who).await;
        assert_eq!(answer.challenge(), format!("{begin}{scope}"), "{who} {path} {answer:?}");
    }
    let denied = registry.ask("PUT", "/v2/team/secret/app/manifests/v1", "bob").await;
    assert_eq!(denied.status, StatusCode::FORBIDDEN);
    let error = &denied.json()["errors"][0];
    assert_eq!(error["code"], "DENIED");
    let asked = serde_json::json!({
        "Type": "repository", "Class": "", "Name": "team/secret/app", "Action": "push",
    });
    assert_eq!(error["detail"][1], asked);
    let message = "requested access to the resource is denied: bob may not push to team/secret/app";
    assert_eq!(error["message"], message);
    // A key with a limit cannot be exchanged for one without.
    let limited = registry.ask("GET", "/v2/other/manifests/v1", "key-of-alice").await;
    assert_eq!(limited.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn row_110_wrong_credentials_are_refused_also_where_anonymous_clients_may_pull() {
    let registry = Registry::with_rules();
    registry.fill("public/app", &["v1"]);
    for path in ["/v2/", "/v2/public/app/manifests/v1", "/v2/_catalog", "/v2/team/app/manifests/v1"] {
        let answer = registry.ask("GET", path, "stranger").await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{path}");
        assert!(answer.challenge().ends_with("error=\"invalid_token\""), "{path} {answer:?}");
    }
    let slow = registry.ask("GET", "/v2/", "slow").await;
    assert_eq!(slow.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(slow.headers["retry-after"], "3");
}

async fn with_fields(registry: &Registry, fields: &[&[u8]]) -> Answer {
    let mut request = Request::get("/v2/public/app/manifests/v1").header(HOST, "registry.test");
    for field in fields {
        request = request.header(AUTHORIZATION, *field);
    }
    registry.request(request.body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn rows_100_to_103_odd_fields_have_their_answers() {
    let registry = Registry::with_rules();
    registry.fill("public/app", &["v1"]);
    let alice = authorization("alice").unwrap();
    let twice = with_fields(&registry, &[alice.as_bytes(), alice.as_bytes()]).await;
    assert_eq!(twice.status, StatusCode::BAD_REQUEST);
    assert_eq!(with_fields(&registry, &[b"Basic Og=="]).await.status, StatusCode::OK);
    assert_eq!(with_fields(&registry, &[b"bAsIc Og=="]).await.status, StatusCode::OK);
    let names = ["a\0:x", "a\nb:x", "\u{9b}:x"].map(|text| format!("Basic {}", STANDARD.encode(text)));
    let long = format!("Basic {}", "A".repeat(1 << 20)).into_bytes();
    let odd: [&[u8]; 7] = [b"Basic ???", b"Basic YWxpY2U=", b"Basic", b"Digest x", b"Bearer", b"\xff", &long];
    for field in odd.into_iter().chain(names.iter().map(String::as_bytes)) {
        let answer = with_fields(&registry, &[field]).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{:.40}", String::from_utf8_lossy(field));
        answer.challenge();
    }
}

#[tokio::test]
async fn row_143_a_host_that_is_no_host_is_not_reflected() {
    let registry = Registry::with_rules();
    let ask = async |registry: &Registry, host: &str| {
        let request = Request::get("/v2/").header(HOST, host).body(Body::empty()).unwrap();
        registry.request(request).await
    };
    for host in ["evil\"", "a b", "user@h", "", "h:99999", "[::1", &"h".repeat(60_000)] {
        let answer = ask(&registry, host).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{host:.20}");
        let body = String::from_utf8_lossy(&answer.body);
        assert!(host.is_empty() || !body.contains(host), "{host:.20}");
    }
    let host = Some("https://registry.example.com".parse().unwrap());
    let named = Registry::new(settings(rules(), Challenge::OwnToken { service: "s".into(), host }));
    let answer = ask(&named, "evil\"").await;
    assert_eq!(answer.challenge(), "Bearer realm=\"https://registry.example.com/v2/_token\",service=\"s\"");
}

#[tokio::test]
async fn a_challenge_is_not_cached() {
    let answer = Registry::with_rules().ask("GET", "/v2/", "anonymous").await;
    assert!(answer.challenge().contains("registry.test:5000"), "the Host is reflected");
    assert_eq!(answer.headers["cache-control"], "no-store");
}

#[tokio::test]
async fn the_path_for_another_servers_tokens_is_on_the_configured_host() {
    let challenge = |host: Option<&str>| Challenge::ExternalToken {
        realm: "https://auth.example/token".into(),
        service: "s".into(),
        own_path: Some("/auth/token".into()),
        host: host.map(|host| host.parse().unwrap()),
    };
    for (host, url) in [
        (None, "http://registry.test:5000"),
        (Some("https://registry.example.com"), "https://registry.example.com"),
    ] {
        let answer = Registry::new(settings(rules(), challenge(host))).ask("GET", "/v2/", "anonymous").await;
        assert_eq!(answer.challenge(), format!("Bearer realm=\"{url}/auth/token\",service=\"s\""));
    }
}

#[tokio::test]
async fn without_rules_users_may_do_everything_and_others_nothing() {
    let registry = Registry::new(settings(Rules::default(), basic()));
    registry.fill("a", &["v1"]);
    let refused = registry.ask("GET", "/v2/a/manifests/v1", "anonymous").await;
    assert_eq!(refused.challenge(), "Basic realm=\"the \\\"realm\\\"\"");
    let catalog = registry.ask("GET", "/v2/_catalog", "anonymous").await;
    assert_eq!(catalog.status, StatusCode::UNAUTHORIZED);
    assert_eq!(registry.ask("GET", "/v2/a/manifests/v1", "carol").await.status, StatusCode::OK);
    assert_eq!(registry.ask("DELETE", "/v2/a/manifests/v1", "carol").await.status, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn rules_without_users_are_for_all_clients() {
    let authenticator = Authenticator::default();
    let access = AccessControl { authenticator, ..control(rules(), Challenge::Impossible) };
    let registry = Registry::new(Settings { access: Some(Arc::new(access)), ..Settings::default() });
    registry.fill("public/app", &["v1"]);
    for who in ["anonymous", "alice"] {
        for (path, expected) in [("", 200), ("public/app/manifests/v1", 200), ("team/app/manifests/v1", 403)]
        {
            let answer = registry.ask("GET", &format!("/v2/{path}"), who).await;
            assert_eq!(answer.status.as_u16(), expected, "{who} {path}");
        }
    }
}

#[tokio::test]
async fn a_read_only_registry_asks_who_the_client_is_first() {
    let registry = Registry::new(Settings { read_only: true, ..settings(rules(), own_tokens()) });
    for (who, expected) in [("anonymous", 401), ("stranger", 401), ("carol", 403), ("bob", 405)] {
        for (method, path) in [("POST", "blobs/uploads/"), ("PUT", "manifests/v1")] {
            let answer = registry.ask(method, &format!("/v2/team/app/{path}"), who).await;
            assert_eq!(answer.status.as_u16(), expected, "{who} {path}");
        }
    }
    let kept = Registry::new(Settings { delete: false, ..settings(rules(), own_tokens()) });
    for (who, expected) in [("anonymous", 401), ("carol", 403), ("bob", 405)] {
        let answer = kept.ask("DELETE", "/v2/team/app/manifests/v1", who).await;
        assert_eq!(answer.status.as_u16(), expected, "{who}");
    }
}

#[tokio::test]
async fn row_133_referrers_of_an_unreadable_repository_are_refused() {
    let registry = Registry::with_rules();
    let path = format!("/v2/team/secret/app/referrers/{}", Digest::sha256(b""));
    for (who, expected) in [("anonymous", 401), ("bob", 403), ("alice", 200)] {
        assert_eq!(registry.ask("GET", &path, who).await.status.as_u16(), expected, "{who}");
    }
}

#[tokio::test]
async fn rows_135_and_136_each_request_of_an_upload_session_needs_the_right_to_push() {
    let registry = Registry::with_rules();
    let begun = registry.ask("POST", "/v2/team/app/blobs/uploads/", "bob").await;
    let session = begun.headers["location"].to_str().unwrap().to_owned();
    // Another user who may push there may go on with the session.
    assert_eq!(registry.ask("GET", &session, "alice").await.status, StatusCode::NO_CONTENT);
    assert_eq!(registry.ask("GET", &session, "carol").await.status, StatusCode::FORBIDDEN);
    assert_eq!(registry.ask("DELETE", &session, "carol").await.status, StatusCode::FORBIDDEN);
    // The right ends while the session is open.
    let none = Rules::new(&[], Groups::default()).unwrap();
    registry.state.replace_settings(settings(none, own_tokens()));
    let path = format!("{session}?digest={}", Digest::sha256(b""));
    assert_eq!(registry.ask("PUT", &path, "bob").await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_preflight_request_needs_no_credentials_if_other_origins_are_allowed() {
    let mut cors = settings(rules(), own_tokens());
    cors.headers.add("Access-Control-Allow-Origin", "*").unwrap();
    for (settings, expected) in [(cors, 204), (settings(rules(), own_tokens()), 405)] {
        let answer = Registry::new(settings).ask("OPTIONS", "/v2/team/app/manifests/v1", "anonymous").await;
        assert_eq!(answer.status.as_u16(), expected);
    }
}
