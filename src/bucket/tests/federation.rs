//! Workload identity federation of Google Cloud, on a scripted service.

use std::fs;

use rustls::RootCertStore;

use super::RUNTIME;
use super::gateway::{client, client_builder};
use super::scripted::{Received, Scripted};
use crate::{
    GcsCredentials, GcsOptions, HttpClients, InvalidStore, Objects as _, RootPrefix, S3, Secret, http_client,
};

fn json(body: &str) -> (String, String) {
    ("200 OK\r\ncontent-type: application/json".to_owned(), body.to_owned())
}

fn absent() -> (String, String) {
    ("404 Not Found".to_owned(), String::new())
}

fn bucket(server: &Scripted, credentials: GcsCredentials, clients: HttpClients) -> Result<S3, InvalidStore> {
    let endpoint = crate::Endpoint::with_path(&format!("http://{}", server.address), false).unwrap();
    let options = GcsOptions { bucket: "b".into(), credentials, endpoint: Some(endpoint) };
    S3::google(&options, &RootPrefix::default(), clients)
}

fn received(server: &Scripted) -> Received {
    server.requests.recv().unwrap()
}

#[test]
fn a_token_of_the_cluster_is_exchanged_for_one_of_google() {
    let answers = vec![json(r#"{"access_token": "exchanged", "expires_in": 3600}"#), absent(), absent()];
    let server = Scripted::start(answers);
    let folder = tempfile::tempdir().unwrap();
    let (token, file) = (folder.path().join("token"), folder.path().join("account.json"));
    fs::write(&token, "subject/token\n").unwrap();
    let account = serde_json::json!({
        "type": "external_account",
        "audience": "//iam.googleapis.com/pools/p",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": format!("http://{}/v1/token", server.address),
        "credential_source": {"file": token},
    });
    fs::write(&file, account.to_string()).unwrap();
    let verifying = client_builder(RootCertStore::empty()).user_agent("verifying");
    let credentials = http_client(verifying).unwrap();
    let clients = HttpClients { store: client(), credentials };
    let bucket = bucket(&server, GcsCredentials::KeyFile(file), clients).unwrap();
    for _ in 0..2 {
        RUNTIME.block_on(bucket.head("k")).unwrap_err();
    }
    let exchange = received(&server);
    assert!(exchange.head.starts_with("post /v1/token http/1.1\r\n"), "{}", exchange.head);
    // Secrets are sent by the client that verifies certificates.
    assert!(exchange.head.contains("user-agent: verifying"), "{}", exchange.head);
    assert!(exchange.body.contains("&subject_token=subject%2Ftoken"), "{}", exchange.body);
    assert!(exchange.body.contains("&audience=%2F%2Fiam.googleapis.com%2Fpools%2Fp&"), "{}", exchange.body);
    for _ in 0..2 {
        let head = received(&server).head;
        assert!(head.starts_with("head /b/k ") && head.contains("authorization: bearer exchanged"), "{head}");
    }
    assert!(bucket.sign(crate::SignedMethod::Get, "k", std::time::Duration::from_mins(1)).is_none());
}

#[test]
fn the_token_may_be_a_member_of_a_document_and_is_exchanged_for_that_of_a_service_account() {
    let answers = vec![
        json(r#"{"value": "subject"}"#),
        json(r#"{"access_token": "exchanged"}"#),
        json(r#"{"accessToken": "impersonated", "expireTime": "2026-11-29T00:00:00Z"}"#),
        absent(),
    ];
    let server = Scripted::start(answers);
    let at = |path| format!("http://{}{path}", server.address);
    let account = serde_json::json!({
        "type": "external_account",
        "audience": "a",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": at("/v1/token"),
        "service_account_impersonation_url": at("/v1/projects/-/serviceAccounts/s:generateAccessToken"),
        "credential_source": {
            "url": at("/identity"),
            "headers": {"Metadata": "True"},
            "format": {"type": "json", "subject_token_field_name": "value"},
        },
    });
    let credentials = GcsCredentials::Key(Secret::new(account.to_string()));
    let bucket = bucket(&server, credentials, client().into()).unwrap();
    RUNTIME.block_on(bucket.head("k")).unwrap_err();
    let source = received(&server).head;
    assert!(source.starts_with("get /identity ") && source.contains("metadata: true"), "{source}");
    assert!(received(&server).body.contains("&subject_token=subject"));
    let impersonation = received(&server);
    assert!(impersonation.head.contains("authorization: bearer exchanged"), "{}", impersonation.head);
    assert!(
        impersonation.body.contains("devstorage.full_control") && impersonation.body.contains("\"3600s\"")
    );
    assert!(received(&server).head.contains("authorization: bearer impersonated"));
}

#[test]
fn a_refused_exchange_names_the_step_and_the_reason_and_no_token() {
    let refused = (
        "400 Bad Request".to_owned(),
        r#"{"error": "invalid_grant", "error_description": "expired\n"}"#.into(),
    );
    let server = Scripted::start(vec![refused]);
    let account = |url: &str, source: &str| {
        format!(
            r#"{{"type": "external_account", "audience": "a", "subject_token_type": "t", "token_url": "{url}",
                "credential_source": {source}}}"#
        )
    };
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    fs::write(&token, "verysecret").unwrap();
    let file = format!("{{\"file\": \"{}\"}}", token.display());
    let open = |text: String| bucket(&server, GcsCredentials::Key(Secret::new(text)), client().into());
    let bucket = open(account(&format!("http://{}/token", server.address), &file)).unwrap();
    let error = RUNTIME.block_on(bucket.head("k")).unwrap_err();
    let cause = format!("{error}: {}", error.source.as_ref().unwrap());
    assert!(
        cause.contains("failed to exchange the token at the token_url: 127.0.0.1 answered 400"),
        "{cause}"
    );
    assert!(cause.contains("(invalid_grant: expired") && !cause.contains("verysecret"), "{cause}");
    for (text, problem) in [
        (account("http://sts.example.com/token", &file), "a token_url that is not a URL by https"),
        (account("https://sts.example.com", r#"{"environment_id": "aws1"}"#), "from a program or from AWS"),
        (
            account("https://sts.example.com", r#"{"executable": {"command": "x"}}"#),
            "from a program or from AWS",
        ),
        (account("https://sts.example.com", "{}"), "use a file or a URL"),
    ] {
        let error = open(text).unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains(problem), "{cause}");
    }
}
