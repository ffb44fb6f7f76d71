//! The client towards pods of its own cluster, which are not trusted: it sends one request, and follows
//! neither redirects nor challenges.

use quinistry::client::{Client, ClientError, ClientOptions, Selection, VerifyReport};

use crate::support::client::{honest, image, reference};
use crate::support::scripted_registry::{Answer, ScriptedRegistry};

async fn ask(registry: &ScriptedRegistry) -> Result<VerifyReport, ClientError> {
    let client =
        Client::new(ClientOptions { plain_http: true, peers: true, ..ClientOptions::default() }).unwrap();
    client.verify(&reference(&registry.host, "a:latest"), &Selection::All, &()).await
}

#[tokio::test]
async fn an_honest_peer_is_verified() {
    let image = image();
    let digest = image.digest().clone();
    let registry = ScriptedRegistry::start(move |request| honest(&image, request));
    assert_eq!(ask(&registry).await.unwrap().resolved.digest, digest);
}

#[tokio::test]
async fn a_failure_is_told_at_once_and_not_tried_again() {
    let registry = ScriptedRegistry::start(|_| Answer::new(503).with("retry-after", 0));
    assert!(matches!(ask(&registry).await, Err(ClientError::Status { status, .. }) if status == 503));
    assert_eq!(registry.asked().len(), 1, "{:?}", registry.asked());
}

#[tokio::test]
async fn redirects_and_challenges_lead_nowhere() {
    let elsewhere = ScriptedRegistry::start(|_| Answer::ok("{}"));
    let url = format!("http://{}/token", elsewhere.host);
    for status in [302, 307, 401] {
        let url = url.clone();
        let registry = ScriptedRegistry::start(move |_| {
            Answer::new(status)
                .with("location", &url)
                .with("www-authenticate", format!(r#"Bearer realm="{url}",service="any""#))
        });
        assert!(ask(&registry).await.is_err());
        assert_eq!(elsewhere.asked(), Vec::<String>::new(), "led by {status}");
    }
}

#[tokio::test]
async fn a_blob_that_breaks_off_is_told_at_once() {
    let image = image();
    let registry = ScriptedRegistry::start(move |request| {
        let answer = honest(&image, request);
        if request.path().contains("/blobs/") { answer.cut_after(3) } else { answer }
    });
    assert!(matches!(ask(&registry).await, Err(ClientError::Broken { .. })));
    let blobs = registry.asked().iter().filter(|asked| asked.contains("/blobs/")).count();
    assert_eq!(blobs, 1, "{:?}", registry.asked());
}
