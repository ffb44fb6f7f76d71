//! Manifests, and answers that are none.

use std::time::Duration;

use quinistry_fetch::{ManifestHead, ManifestHeaders, SourceError, Upstream as _};
use quinistry_oci::{Digest, media_type};

use super::server::{PUBLIC, Response, Server, answer, endless, redirect};
use super::{options, remote, repository, tag};

const INDEX: &str =
    r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;

fn index() -> Response {
    let digest = Digest::sha256(INDEX.as_bytes());
    answer(200, &[("content-type", media_type::OCI_INDEX), ("docker-content-digest", digest.as_str())], INDEX)
}

#[tokio::test]
async fn a_manifest_is_asked_for_in_words_of_our_own() {
    let server = Server::start(PUBLIC, |request| {
        let digest = format!("\"{}\"", Digest::sha256(INDEX.as_bytes()));
        if request.header("if-none-match") == Some(&digest) { answer(304, &[], "") } else { index() }
    })
    .await;
    let remote = remote(options(&server));
    let (repository, tag) = (repository("library/debian"), tag("12"));
    let headers = ManifestHeaders {
        digest: Some(Digest::sha256(INDEX.as_bytes())),
        media_type: Some(media_type::OCI_INDEX.into()),
        length: Some(INDEX.len() as u64),
    };
    let head = remote.head_manifest(&repository, &tag, None).await.unwrap();
    assert_eq!(head, ManifestHead::Found(headers.clone()));
    let other = Digest::sha256(b"other");
    let head = remote.head_manifest(&repository, &tag, Some(&other)).await.unwrap();
    assert_eq!(head, ManifestHead::Found(headers.clone()));
    let head = remote.head_manifest(&repository, &tag, headers.digest.as_ref()).await.unwrap();
    assert_eq!(head, ManifestHead::Unchanged);
    let manifest = remote.get_manifest(&repository, &tag).await.unwrap();
    assert_eq!((manifest.headers, &manifest.bytes[..]), (headers, INDEX.as_bytes()));

    let requests = server.requests();
    let names = |number: usize| {
        let mut names: Vec<_> =
            requests[number].headers.keys().map(|name| name.as_str().to_owned()).collect();
        names.sort();
        names
    };
    assert_eq!(names(0), ["accept", "accept-encoding", "host", "quinistry-hops", "user-agent"]);
    assert_eq!(names(3), names(0));
    for request in &requests {
        assert_eq!(request.path, "/v2/library/debian/manifests/12");
        assert_eq!(request.header("quinistry-hops"), Some("1"));
        assert_eq!(request.header("accept-encoding"), Some("identity"));
        assert!(request.header("user-agent").unwrap().starts_with("quinistry/"));
        for kind in [
            media_type::OCI_INDEX,
            media_type::OCI_MANIFEST,
            media_type::DOCKER_LIST,
            media_type::DOCKER_MANIFEST,
        ] {
            assert!(request.header("accept").unwrap().contains(kind), "{kind}");
        }
    }
}

#[tokio::test]
async fn a_path_of_the_upstream_stands_before_the_api() {
    let server = Server::start(PUBLIC, |_| index()).await;
    let mut options = options(&server);
    options.remote_url = server.url("public.test", "/mirror/");
    let asked = remote(options).get_manifest(&repository("a"), &tag("1")).await;
    assert!(asked.is_ok(), "{asked:?}");
    assert_eq!(server.asked(), ["GET /mirror/v2/a/manifests/1"]);
}

#[tokio::test]
async fn row_161_a_portal_in_place_of_the_upstream_is_no_answer() {
    let html = [("content-type", "text/html; charset=utf-8")];
    let server = Server::start(PUBLIC, move |_| answer(200, &html, "<html>log in</html>")).await;
    let remote = remote(options(&server));
    let (repository, tag) = (repository("a"), tag("1"));
    let invalid = |error: SourceError| matches!(error, SourceError::Invalid(_));
    assert!(invalid(remote.head_manifest(&repository, &tag, None).await.unwrap_err()));
    assert!(invalid(remote.get_manifest(&repository, &tag).await.unwrap_err()));
    assert!(invalid(remote.tags(&repository, 10).await.unwrap_err()));
    // There may be no referrers API, but there is no fallback tag either.
    assert!(invalid(remote.referrers(&repository, &Digest::sha256(b"")).await.unwrap_err()));
}

#[tokio::test]
async fn row_158_endless_encoded_and_circling_answers_are_bounded() {
    let json = ("content-type", media_type::OCI_INDEX);
    let server = Server::start(PUBLIC, move |request| match request.path.rsplit('/').next().unwrap() {
        "endless" | "list" => endless(&[json]),
        "long" => answer(200, &[json], vec![b' '; (4 << 20) + 1]),
        "gzip" => answer(200, &[json, ("content-encoding", "gzip")], INDEX),
        "short" => answer(200, &[json], &INDEX[..20]),
        _ => redirect(&format!("/v2/{}", request.number)),
    })
    .await;
    let remote = remote(options(&server));
    let repository = repository("a");
    for name in ["endless", "long", "gzip", "short", "circle"] {
        let error = remote.get_manifest(&repository, &tag(name)).await.unwrap_err();
        assert!(matches!(error, SourceError::Invalid(_)), "{name}: {error}");
    }
    assert_eq!(server.requests().len(), 4 + 6, "five redirects are followed");
    assert!(matches!(remote.tags(&repository, 10).await, Err(SourceError::Invalid(_))));
}

#[tokio::test]
async fn refusals_and_faults_of_the_upstream_are_told_apart() {
    let server = Server::start(PUBLIC, |request| match request.path.rsplit('/').next().unwrap() {
        "limited" => answer(429, &[("retry-after", "120")], ""),
        "denied" => answer(403, &[], ""),
        "schema1" => answer(200, &[("content-type", media_type::DOCKER_SCHEMA_1)], "{}"),
        "old" => answer(200, &[("content-type", "application/json")], r#"{"schemaVersion":1}"#),
        "plain" => answer(200, &[("content-type", "text/plain")], INDEX),
        "away" => answer(503, &[], ""),
        _ => answer(404, &[], ""),
    })
    .await;
    let remote = remote(options(&server));
    let repository = repository("a");
    let ask = async |name: &str| remote.get_manifest(&repository, &tag(name)).await;
    let minutes = Some(Duration::from_mins(2));
    assert!(
        matches!(ask("limited").await, Err(SourceError::Limited { retry_after }) if retry_after == minutes)
    );
    assert!(matches!(ask("denied").await, Err(SourceError::Refused)));
    for missing in ["schema1", "old", "missing"] {
        assert!(matches!(ask(missing).await, Err(SourceError::NotFound)), "{missing}");
    }
    assert!(matches!(ask("away").await, Err(SourceError::Unavailable(_))));
    assert_eq!(ask("plain").await.unwrap().headers.media_type, None);
    let none = super::remote(crate::RemoteOptions::new("none", "https://unknown.test"));
    assert!(matches!(none.get_manifest(&repository, &tag("1")).await, Err(SourceError::Unavailable(_))));
}
