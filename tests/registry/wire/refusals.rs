//! Refused requests, and the errors in their answers.

use axum::body::Body;
use http::Request;
use quinistry::registry::{State, router};
use tower::ServiceExt as _;

use crate::support::in_process::QUINE;
use crate::wire::{assert_shows, blob, config_digest, layer_digest, manifest, manifest_digest, registry};

/// The expected answer with `code` and `message`.
fn error(status: u16, code: &str, message: &str) -> String {
    let body = format!(r#"{{"errors":[{{"code":"{code}","message":"{message}"}}]}}"#);
    format!("{status}\ncontent-length: {}\ncontent-type: application/json\n\n{body}", body.len())
}

/// GET shows `expected`, and HEAD the same without the body.
fn shows(path: &str, expected: &str) {
    assert_shows(&registry().get(path), expected);
    assert_shows(&registry().head(path), expected.rsplit_once("\n\n").unwrap().0);
}

#[test]
fn a_manifest_that_is_not_there_is_unknown() {
    let expected = error(404, "MANIFEST_UNKNOWN", "manifest is not known to this repository");
    let other = format!("sha256:{}", "0".repeat(64));
    let sha512 = format!("sha512:{}", "0".repeat(128));
    for reference in [
        "nothing",
        "LATEST",
        ".INVALID_MANIFEST_NAME",
        &other,
        &sha512,
        "md5:0",
        &config_digest(),
        &layer_digest(),
    ] {
        shows(&manifest(reference), &expected);
    }
}

#[test]
fn the_sha512_of_what_is_there_is_not_there() {
    use quinistry::oci::{Algorithm, Digest};
    let digest = Digest::of(Algorithm::Sha512, &QUINE.manifest().content.to_bytes().unwrap());
    shows(
        &manifest(digest.as_str()),
        &error(404, "MANIFEST_UNKNOWN", "manifest is not known to this repository"),
    );
    let digest = Digest::of(Algorithm::Sha512, &QUINE.config().content.to_bytes().unwrap());
    shows(&blob(digest.as_str()), &error(404, "BLOB_UNKNOWN", "blob is not known to this repository"));
}

#[test]
fn a_blob_that_is_not_there_is_unknown() {
    let expected = error(404, "BLOB_UNKNOWN", "blob is not known to this repository");
    for digest in [&*format!("sha256:{}", "0".repeat(64)), &manifest_digest(), "md5:0"] {
        shows(&blob(digest), &expected);
    }
}

#[test]
fn a_malformed_digest_is_told_apart_from_an_unknown_one() {
    let message = "not a digest: want sha256:<64 lowercase hex digits> or sha512:<128 lowercase hex digits>";
    for digest in ["sha256:baddigeststring", "sha256:", "nocolon"] {
        shows(&blob(digest), &error(400, "DIGEST_INVALID", message));
        shows(&format!("/v2/quinistry/referrers/{digest}"), &error(400, "DIGEST_INVALID", message));
    }
    shows(&manifest("sha256:baddigeststring"), &error(400, "DIGEST_INVALID", message));
}

#[test]
fn other_repositories_are_unknown() {
    let expected = error(404, "NAME_UNKNOWN", "repository is not known to this registry");
    let digest = layer_digest();
    for path in [
        "/v2/other/manifests/latest",
        "/v2/library/quinistry/tags/list",
        &format!("/v2/other/blobs/{digest}"),
        "/v2/other/blobs/malformed",
    ] {
        shows(path, &expected);
    }
}

#[test]
fn a_path_that_is_no_endpoint_is_never_an_empty_success() {
    let expected = error(404, "NAME_UNKNOWN", "no such endpoint");
    for path in [
        "/",
        "/v1/",
        "/v2x",
        "/v2/quinistry",
        "/v2/quinistry/",
        "/v2/quinistry/tags",
        "/v2/_catalog/",
        "/healthz",
        "/favicon.ico",
        "/v2/token",
        "/V2/",
    ] {
        shows(path, &expected);
    }
}

#[tokio::test]
async fn whatever_would_write_is_refused_wherever_it_is_sent() {
    let app = router(State::new(&QUINE));
    let digest = layer_digest();
    let paths = [
        "/v2/".to_owned(),
        "/v2/_catalog".into(),
        "/v2/quinistry/tags/list".into(),
        manifest("latest"),
        manifest(&manifest_digest()),
        blob(&digest),
        format!("/v2/quinistry/referrers/{digest}"),
        "/v2/quinistry/blobs/uploads/".into(),
        format!("/v2/quinistry/blobs/uploads/?digest={digest}"),
        format!("/v2/quinistry/blobs/uploads/?mount={digest}&from=other"),
        "/v2/quinistry/blobs/uploads/1".into(),
        "/v2/other/blobs/uploads/".into(),
        "/v2/other/manifests/latest".into(),
    ];
    let methods = ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"];
    for (path, method) in paths.iter().flat_map(|path| methods.map(|method| (path, method))) {
        let request = Request::builder().method(method).uri(path).body(Body::from("{}")).unwrap();
        let response = app.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), 405, "{method} {path}");
        assert_eq!(response.headers()["allow"], "GET, HEAD", "{method} {path}");
        let body = axum::body::to_bytes(response.into_body(), 1000).await.unwrap();
        let expected = r#"{"errors":[{"code":"UNSUPPORTED","message":"this registry has no storage to write to (start it with --storage DIR); allowed methods: GET, HEAD"}]}"#;
        assert_eq!(body, expected, "{method} {path}");
    }
}
