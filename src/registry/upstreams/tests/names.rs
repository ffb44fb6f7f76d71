//! Names of upstreams: namespaces, patterns, writes.

use axum::body::Body;
use http::{Method, Request, StatusCode};
use quinistry_oci::media_type;
use tower_service::Service as _;

use super::{Mirror, blob, blob_path, hub_settings, image, manifest_path};
use crate::Settings;
use crate::upstreams::UpstreamSettings;

#[tokio::test]
async fn row_157_a_namespace_is_looked_up_and_answered_and_never_dialled() {
    let mirror = Mirror::new();
    let bytes = image(b"one");
    mirror.upstream.tag("library/app", "latest", &bytes, media_type::OCI_MANIFEST);
    let path = "/v2/library/app/manifests/latest";
    let answer = mirror.get(&format!("{path}?ns=docker.io")).await;
    assert_eq!((&answer.body, answer.header("oci-namespace")), (&bytes, Some("docker.io")));
    assert_eq!(mirror.get("/v2/app/manifests/latest?ns=docker.io").await.body, bytes);
    for unknown in ["169.254.169.254", "quay.io", "docker.io:443"] {
        let answer = mirror.get(&format!("{path}?ns={unknown}")).await;
        assert_eq!((answer.status, answer.header("oci-namespace")), (StatusCode::NOT_FOUND, None));
    }
    for bad in ["ns=docker.io:443/..", "ns=", "ns=docker.io&ns=docker.io", "ns=a%0d%0ab"] {
        let answer = mirror.get(&format!("{path}?{bad}")).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (StatusCode::BAD_REQUEST, "NAME_INVALID"),
            "{bad}"
        );
    }
    assert_eq!(mirror.upstream.asked(), ["GET library/app:latest"]);
}

#[tokio::test]
async fn row_170_both_spellings_are_one_repository() {
    let mirror = Mirror::new();
    let bytes = image(b"one");
    mirror.upstream.tag("library/app", "latest", &bytes, media_type::OCI_MANIFEST);
    assert_eq!(mirror.get("/v2/docker.io/app/manifests/latest").await.body, bytes);
    assert_eq!(mirror.get(&manifest_path("latest")).await.body, bytes);
    assert_eq!(mirror.upstream.asked(), ["GET library/app:latest"]);
    let catalog = mirror.get("/v2/_catalog").await;
    assert_eq!(&catalog.body[..], br#"{"repositories":["docker.io/library/app"]}"#);
}

#[tokio::test]
async fn repositories_of_an_upstream_are_read_only_and_others_are_not() {
    let mirror = Mirror::new();
    let bytes = image(b"one");
    mirror.upstream.tag("library/app", "latest", &bytes, media_type::OCI_MANIFEST);
    mirror.get(&manifest_path("latest")).await;
    for (method, path) in [
        (Method::PUT, manifest_path("latest")),
        (Method::POST, "/v2/docker.io/library/app/blobs/uploads/".into()),
        (Method::POST, "/v2/library/app/blobs/uploads/?ns=docker.io".into()),
        (Method::PATCH, "/v2/docker.io/library/app/blobs/uploads/x".into()),
        (Method::PUT, "/v2/docker.io/library/app/blobs/uploads/x".into()),
    ] {
        let answer = mirror.ask(method, &path, &[]).await;
        let found = (answer.status, answer.code());
        assert_eq!(found, (StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED".into()), "{path}");
        assert!(answer.header("allow").unwrap().starts_with("GET, HEAD"));
    }
    let push = mirror.ask(Method::POST, "/v2/team/app/blobs/uploads/", &[]).await;
    assert_eq!(push.status, StatusCode::ACCEPTED);
    // A deletion drops the copy, and the next client fetches another one.
    mirror.upstream.asked();
    let deleted = mirror.ask(Method::DELETE, &manifest_path("latest"), &[]).await;
    assert_eq!(deleted.status, StatusCode::ACCEPTED);
    assert_eq!(mirror.get(&manifest_path("latest")).await.body, bytes);
    assert_eq!(mirror.upstream.asked(), ["GET library/app:latest"]);
    let kept = Mirror::with(hub_settings(), Settings { delete: false, ..Settings::default() }, 1 << 20);
    let refused = kept.ask(Method::DELETE, &manifest_path("latest"), &[]).await;
    assert_eq!(refused.status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn names_that_the_patterns_exclude_are_never_asked_for() {
    let hidden = UpstreamSettings { deny: vec!["library/app".into()], ..hub_settings() };
    let mirror = Mirror::with(hidden, Settings::default(), 1 << 20);
    for path in [manifest_path("latest"), "/v2/docker.io/app/tags/list".into()] {
        assert_eq!(mirror.get(&path).await.code(), "NAME_UNKNOWN");
    }
    let root = UpstreamSettings {
        prefix: None,
        namespaces: Vec::new(),
        allow: vec!["public/**".into()],
        ..UpstreamSettings::new(None, "https://quay.io".parse().unwrap())
    };
    let mirror = Mirror::with(root, Settings::default(), 1 << 20);
    assert_eq!(mirror.get("/v2/team/app/manifests/latest").await.status, StatusCode::NOT_FOUND);
    let push = mirror.ask(Method::POST, "/v2/team/app/blobs/uploads/", &[]).await;
    assert_eq!(push.status, StatusCode::ACCEPTED);
    assert_eq!(mirror.upstream.asked(), [""; 0]);
    mirror.get("/v2/public/app/manifests/latest").await;
    assert_eq!(mirror.upstream.asked(), ["GET public/app:latest"]);
    // Of Docker Hub's library under the root, the long names alone belong to the upstream.
    let library = UpstreamSettings {
        allow: vec!["library/*".into()],
        ..UpstreamSettings::new(None, "https://registry-1.docker.io".parse().unwrap())
    };
    let mirror = Mirror::with(library, Settings::default(), 1 << 20);
    let push = mirror.ask(Method::POST, "/v2/app/blobs/uploads/", &[]).await;
    assert_eq!(push.status, StatusCode::ACCEPTED);
    assert_eq!(mirror.get("/v2/app/manifests/latest").await.status, StatusCode::NOT_FOUND);
    assert_eq!(mirror.upstream.asked(), [""; 0]);
    mirror.get("/v2/library/app/manifests/latest").await;
    assert_eq!(mirror.upstream.asked(), ["GET library/app:latest"]);
}

#[tokio::test]
async fn names_that_the_patterns_exclude_are_no_source_of_mounts() {
    let bytes = blob(1000);
    let mirror = Mirror::new();
    let digest = mirror.upstream.add_blob("library/app", &bytes);
    mirror.upstream.tag("library/app", "latest", &image(&bytes), media_type::OCI_MANIFEST);
    mirror.get(&manifest_path("latest")).await;
    mirror.get(&blob_path(&digest)).await;
    mirror.settle().await;
    let mount = async |mirror: &Mirror, to: &str, from: &str| {
        let path = format!("/v2/{to}/blobs/uploads/?mount={digest}{from}");
        mirror.ask(Method::POST, &path, &[]).await.status
    };
    // The patterns come later than the copy.
    let hidden = UpstreamSettings { deny: vec!["library/app".into()], ..hub_settings() };
    let store = mirror.state.0.stored.as_ref().unwrap().store.clone();
    let hiding = Mirror::on(store, hidden, Settings::default(), mirror.upstream.clone());
    for from in ["&from=docker.io/library/app", "&from=docker.io/app", ""] {
        assert_eq!(mount(&hiding, "team/hidden", from).await, StatusCode::ACCEPTED, "{from}");
    }
    let absent = hiding.get(&format!("/v2/team/hidden/blobs/{digest}")).await;
    assert_eq!(absent.status, StatusCode::NOT_FOUND);
    for (number, from) in ["&from=docker.io/library/app", "&from=docker.io/app", ""].into_iter().enumerate() {
        assert_eq!(mount(&mirror, &format!("team/{number}"), from).await, StatusCode::CREATED, "{from}");
    }
    // Its copies can be deleted.
    let deleted = hiding.ask(Method::DELETE, &blob_path(&digest), &[]).await;
    assert_eq!(deleted.status, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn a_registry_without_upstreams_ignores_namespaces() {
    let store = quinistry_store::Store::open(quinistry_store::Memory::new(1 << 20), false).unwrap();
    let mut registry = crate::router(crate::State::stored(store, Settings::default()));
    let request = Request::get("/v2/a/tags/list?ns=/../&ns=b").body(Body::empty()).unwrap();
    assert_eq!(registry.call(request).await.unwrap().status(), StatusCode::NOT_FOUND);
}
