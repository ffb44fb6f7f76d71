//! Requests to a storage whose room is nearly used up, as clients meet them.

use std::sync::atomic::{AtomicBool, Ordering};

use http::header::{CONTENT_TYPE, LOCATION};
use quinistry_oci::media_type;
use quinistry_store::Space;

use super::in_memory::Roomy;
use super::*;

#[tokio::test]
async fn without_room_pushes_are_507_and_pulls_and_deletions_go_on() {
    let is_scarce = Arc::<AtomicBool>::default();
    let asked = is_scarce.clone();
    let storage = Roomy::new(move || {
        // A fiftieth must stay free.
        let free = if asked.load(Ordering::Relaxed) { 19_999 } else { 20_000 };
        Ok(Space { used_bytes: None, free_bytes: Some(free), total_bytes: Some(1_000_000) })
    });
    let state = State::stored(Store::open(storage, false).unwrap(), Settings::default());
    let ask = async |method: Method, path: &str, body: &str| {
        let request =
            Request::builder().method(method).uri(path).header(CONTENT_TYPE, media_type::OCI_MANIFEST);
        let request = request.body(Body::from(body.to_owned())).unwrap();
        let (parts, body) = router(state.clone()).call(request).await.unwrap().into_parts();
        let location = parts.headers.get(LOCATION).map(|at| at.to_str().unwrap().to_owned());
        let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        (parts.status, location.unwrap_or_default(), body)
    };
    let uploads = "/v2/app/blobs/uploads/";
    let config = Digest::sha256(b"{}");
    let monolithic = |bytes: &str| format!("{uploads}?digest={}", Digest::sha256(bytes.as_bytes()));
    let image = |note: &str| {
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"a/b","digest":"{config}","size":2}},"layers":[],"annotations":{{"note":"{note}"}}}}"#,
            media_type::OCI_MANIFEST
        )
    };
    let tag = |tag: &str| format!("/v2/app/manifests/{tag}");

    assert_eq!(ask(Method::POST, &monolithic("{}"), "{}").await.0, StatusCode::CREATED);
    for name in ["v1", "v2"] {
        assert_eq!(ask(Method::PUT, &tag(name), &image("first")).await.0, StatusCode::CREATED);
    }
    let (status, session, _) = ask(Method::POST, uploads, "").await;
    assert_eq!(status, StatusCode::ACCEPTED);

    is_scarce.store(true, Ordering::Relaxed);
    let separator = if session.contains('?') { '&' } else { '?' };
    let end = format!("{session}{separator}digest={}", Digest::sha256(b"new"));
    for (method, path, body) in [
        (Method::POST, uploads.to_owned(), String::new()),
        (Method::POST, monolithic("new"), "new".into()),
        (Method::PATCH, session.clone(), "new".into()),
        (Method::PUT, end.clone(), "new".into()),
        (Method::PUT, tag("v1"), image("second")),
        (Method::PUT, tag("v3"), image("first")),
    ] {
        let (status, _, answer) = ask(method.clone(), &path, &body).await;
        assert_eq!(status, StatusCode::INSUFFICIENT_STORAGE, "{method} {path}: {answer}");
        assert!(answer.contains("DENIED"), "{method} {path}: {answer}");
    }
    let digest = Digest::sha256(image("first").as_bytes());
    let (blob, manifest) = (format!("/v2/app/blobs/{config}"), tag(digest.as_str()));
    for path in [&tag("v1"), &manifest, &blob, "/v2/app/tags/list", "/v2/_catalog"] {
        assert_eq!(ask(Method::GET, path, "").await.0, StatusCode::OK, "{path}");
    }
    assert_eq!(ask(Method::GET, &tag("v1"), "").await.2, image("first"), "nothing was pushed");
    for path in [&tag("v2"), &manifest, &blob] {
        assert_eq!(ask(Method::DELETE, path, "").await.0, StatusCode::ACCEPTED, "{path}");
    }

    // What was received before, and not while there was no room, may become a blob.
    is_scarce.store(false, Ordering::Relaxed);
    assert_eq!(ask(Method::PATCH, &session, "new").await.0, StatusCode::ACCEPTED);
    is_scarce.store(true, Ordering::Relaxed);
    assert_eq!(ask(Method::PUT, &end, "").await.0, StatusCode::CREATED);
}
