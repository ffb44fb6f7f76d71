//! Tests of settings, of their exchange, and of the prefix, by requests to a registry without a server.

use axum::body::Body;
use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, LINK, LOCATION, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use quinistry_oci::{Descriptor, Digest, Manifest, Platform, RepositoryName, Tag, media_type};
use quinistry_store::{Memory, Store, Tagged};
use serde_json::{Value, json};
use tower_service::Service as _;

use super::*;
use crate::{PathPrefix, State};

/// Response with its body.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn code(&self) -> String {
        self.json()["errors"][0]["code"].as_str().unwrap().into()
    }

    fn location(&self) -> &str {
        self.headers[LOCATION].to_str().unwrap()
    }
}

async fn send(state: &State, request: Request<Body>) -> Answer {
    let response = state.clone().call(request).await.unwrap();
    let (parts, body) = response.into_parts();
    Answer { status: parts.status, headers: parts.headers, body: body.collect().await.unwrap().to_bytes() }
}

async fn ask(state: &State, method: Method, uri: &str, body: impl Into<Body>) -> Answer {
    send(state, Request::builder().method(method).uri(uri).body(body.into()).unwrap()).await
}

async fn get(state: &State, uri: &str) -> Answer {
    ask(state, Method::GET, uri, Body::empty()).await
}

async fn put_manifest(state: &State, media_type: &str, document: &Value) -> Answer {
    let request = Request::put("/v2/a/b/manifests/latest").header(CONTENT_TYPE, media_type);
    send(state, request.body(quinistry_oci::to_json(document).into()).unwrap()).await
}

async fn push_blob(state: &State, bytes: &'static [u8]) {
    let uri = format!("/v2/a/b/blobs/uploads/?digest={}", Digest::sha256(bytes));
    assert_eq!(ask(state, Method::POST, &uri, bytes).await.status, StatusCode::CREATED);
}

fn store() -> Store {
    Store::open(Memory::new(1 << 20), false).unwrap()
}

fn with(change: impl FnOnce(&mut Settings)) -> Settings {
    let mut settings = Settings::default();
    change(&mut settings);
    settings
}

fn registry(change: impl FnOnce(&mut Settings)) -> State {
    State::stored(store(), with(change))
}

fn image(layer: &Descriptor) -> Value {
    json!({"schemaVersion": 2, "config": Descriptor::of(media_type::OCI_CONFIG, b"{}"), "layers": [layer]})
}

#[tokio::test]
async fn a_request_ends_with_the_settings_that_it_began_with() {
    let state = registry(|_| ());
    let session = ask(&state, Method::POST, "/v2/a/b/blobs/uploads/", Body::empty()).await;
    let uri = format!("{}?digest={}", session.location(), Digest::sha256(b"layer"));
    let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
    let body = futures_util::stream::once(async move {
        receiver.await.unwrap();
        Ok::<_, std::io::Error>(Bytes::from_static(b"layer"))
    });
    let mut push = tokio::spawn({
        let state = state.clone();
        async move { ask(&state, Method::PUT, &uri, Body::from_stream(body)).await }
    });
    // The request waits for its body.
    assert!(tokio::time::timeout(Duration::from_millis(20), &mut push).await.is_err());
    state.replace_settings(with(|settings| settings.read_only = true));
    let refused = ask(&state, Method::POST, "/v2/a/b/blobs/uploads/", Body::empty()).await;
    assert_eq!(
        (refused.status, &refused.headers[ALLOW]),
        (StatusCode::METHOD_NOT_ALLOWED, &"GET, HEAD".parse().unwrap())
    );
    sender.send(()).unwrap();
    assert_eq!(push.await.unwrap().status, StatusCode::CREATED);
    let blob = get(&state, &format!("/v2/a/b/blobs/{}", Digest::sha256(b"layer"))).await;
    assert_eq!((blob.status, &blob.body[..]), (StatusCode::OK, &b"layer"[..]), "reads go on");
    state.replace_settings(Settings::default());
    push_blob(&state, b"more").await;
}

#[tokio::test]
async fn replaced_settings_hold_for_all_clones() {
    let state = registry(|_| ());
    push_blob(&state, b"layer").await;
    let clone = state.clone();
    state.replace_settings(with(|settings| settings.delete = false));
    let uri = format!("/v2/a/b/blobs/{}", Digest::sha256(b"layer"));
    let refused = ask(&clone, Method::DELETE, &uri, Body::empty()).await;
    assert_eq!(refused.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(
        (refused.code().as_str(), &refused.headers[ALLOW]),
        ("UNSUPPORTED", &"GET, HEAD".parse().unwrap())
    );
    clone.replace_settings(Settings::default());
    assert_eq!(ask(&state, Method::DELETE, &uri, Body::empty()).await.status, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn every_response_has_the_extra_headers_and_keeps_its_own() {
    let state = registry(|settings| {
        for (name, value) in [
            ("X-Content-Type-Options", "none"),
            ("Strict-Transport-Security", "max-age=1"),
            ("Content-Type", "x/y"),
        ] {
            settings.headers.add(name, value).unwrap();
        }
        settings.answers_root = true;
    });
    for path in ["/v2/", "/v2/a/tags/list", "/elsewhere", "/v2/A/tags/list", "/"] {
        for method in [Method::GET, Method::HEAD, Method::PUT] {
            let Answer { headers, .. } = ask(&state, method, path, Body::empty()).await;
            assert_eq!(
                headers.get_all(X_CONTENT_TYPE_OPTIONS).iter().collect::<Vec<_>>(),
                ["none"],
                "{path}"
            );
            assert_eq!(headers["strict-transport-security"], "max-age=1", "{path}");
            assert_eq!(headers["docker-distribution-api-version"], "registry/2.0", "{path}");
        }
    }
    assert_eq!(get(&state, "/v2/").await.headers[CONTENT_TYPE], "application/json");
}

#[tokio::test]
async fn a_registry_below_a_prefix_answers_there_and_nowhere_else() {
    let settings = with(|settings| settings.pages = PageLimits { repositories: 1, tags: 1 });
    let state = State::stored(store(), settings).with_prefix("/sub/registry/".parse::<PathPrefix>().unwrap());
    assert_eq!(get(&state, "/sub/registry/v2/").await.status, StatusCode::OK);
    for path in
        ["/", "/v2/", "/sub/registry", "/sub/registry/", "/sub/v2/", "/sub/registryv2/", "/sub/registry//v2/"]
    {
        assert_eq!(get(&state, path).await.status, StatusCode::NOT_FOUND, "{path}");
    }
    for name in ["a", "b"] {
        let session = ask(&state, Method::POST, &format!("/sub/registry/v2/{name}/blobs/uploads/"), "").await;
        assert_eq!(session.status, StatusCode::ACCEPTED);
        let chunk = ask(&state, Method::PATCH, session.location(), "lay").await;
        assert_eq!(chunk.location(), session.location(), "the client can use the location as it is");
        let behind =
            Request::patch(session.location()).header("content-range", "9-11").body("xyz".into()).unwrap();
        let behind = send(&state, behind).await;
        assert_eq!(
            (behind.status, behind.location()),
            (StatusCode::RANGE_NOT_SATISFIABLE, session.location())
        );
        let end = format!("{}?digest={}", session.location(), Digest::sha256(b"layer"));
        let created = ask(&state, Method::PUT, &end, "er").await;
        assert_eq!(created.status, StatusCode::CREATED);
        assert_eq!(get(&state, created.location()).await.body, "layer");
    }
    let first = get(&state, "/sub/registry/v2/_catalog").await;
    assert_eq!(first.json()["repositories"], json!(["a"]));
    let link = first.headers[LINK].to_str().unwrap();
    assert_eq!(link, "</sub/registry/v2/_catalog?n=1&last=a>; rel=\"next\"");
    let next = get(&state, "/sub/registry/v2/_catalog?n=1&last=a").await;
    assert_eq!(next.json()["repositories"], json!(["b"]));
}

#[tokio::test]
async fn pages_end_at_their_limits_and_lead_to_the_next_one() {
    let state = registry(|settings| settings.pages = PageLimits { repositories: 2, tags: 1 });
    let store = state.0.stored.as_ref().unwrap().store.clone();
    let index = Bytes::from_static(br#"{"schemaVersion":2,"manifests":[]}"#);
    let manifest = Manifest::parse(&index, Some(media_type::OCI_INDEX)).unwrap();
    let tags: Vec<Tag> = ["v1", "v2"].map(|tag| tag.parse().unwrap()).into();
    for name in ["a", "b", "c"] {
        let name: RepositoryName = name.parse().unwrap();
        let digest = Digest::sha256(&index);
        store.put_manifest(&name, &index, &manifest, Tagged { digest: &digest, tags: &tags }).unwrap();
    }
    for (uri, list, items, link) in [
        ("/v2/_catalog", "repositories", json!(["a", "b"]), Some("</v2/_catalog?n=2&last=b>; rel=\"next\"")),
        (
            "/v2/_catalog?n=1000",
            "repositories",
            json!(["a", "b"]),
            Some("</v2/_catalog?n=2&last=b>; rel=\"next\""),
        ),
        ("/v2/_catalog?n=1&last=b", "repositories", json!(["c"]), None),
        ("/v2/a/tags/list", "tags", json!(["v1"]), Some("</v2/a/tags/list?n=1&last=v1>; rel=\"next\"")),
        ("/v2/a/tags/list?n=5&last=v1", "tags", json!(["v2"]), None),
    ] {
        let answer = get(&state, uri).await;
        assert_eq!((answer.status, &answer.json()[list]), (StatusCode::OK, &items), "{uri}");
        assert_eq!(answer.headers.get(LINK).map(|link| link.to_str().unwrap()), link, "{uri}");
    }
}

#[tokio::test]
async fn the_root_is_answered_if_the_settings_say_so() {
    let state = registry(|_| ());
    assert_eq!(get(&state, "/").await.status, StatusCode::NOT_FOUND);
    state.replace_settings(with(|settings| settings.answers_root = true));
    let prefixed =
        registry(|settings| settings.answers_root = true).with_prefix("/registry/".parse().unwrap());
    for state in [&state, &prefixed] {
        let answer = get(state, "/").await;
        assert_eq!((answer.status, &answer.body[..]), (StatusCode::OK, &b""[..]));
        assert_eq!(
            (&answer.headers[CACHE_CONTROL], &answer.headers[CONTENT_LENGTH]),
            (&"no-cache".parse().unwrap(), &"0".parse().unwrap())
        );
        assert_eq!(get(state, "/x").await.status, StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn layers_with_urls_are_taken_by_rule() {
    let layer = Descriptor {
        urls: vec!["https://layers.example/a".into()],
        ..Descriptor::of("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", b"layer")
    };
    let state = registry(|_| ());
    push_blob(&state, b"{}").await;
    assert_eq!(
        put_manifest(&state, media_type::OCI_MANIFEST, &image(&layer)).await.status,
        StatusCode::CREATED
    );
    let rules = |allow: &[&'static str]| {
        let urls = UrlRules::new(allow.iter().copied(), []).unwrap();
        with(|settings| settings.validation.urls = Some(urls))
    };
    state.replace_settings(rules(&[]));
    let refused = put_manifest(&state, media_type::OCI_MANIFEST, &image(&layer)).await;
    assert_eq!((refused.status, refused.code().as_str()), (StatusCode::BAD_REQUEST, "MANIFEST_INVALID"));
    state.replace_settings(rules(&["^https://layers\\.example/"]));
    assert_eq!(
        put_manifest(&state, media_type::OCI_MANIFEST, &image(&layer)).await.status,
        StatusCode::CREATED
    );
}

#[tokio::test]
async fn an_index_may_lack_what_the_settings_do_not_require() {
    let entry = |architecture: &str| Descriptor {
        platform: Some(Platform {
            architecture: architecture.into(),
            os: "linux".into(),
            ..Platform::default()
        }),
        ..Descriptor::of(media_type::OCI_MANIFEST, architecture.as_bytes())
    };
    let index = json!({"schemaVersion": 2, "manifests": [entry("arm64"), entry("s390x")]});
    let listed = |architecture: &str| {
        RequiredEntries::OfPlatforms(vec![RequiredPlatform {
            architecture: architecture.into(),
            os: "linux".into(),
        }])
    };
    for (entries, status) in [
        (RequiredEntries::All, StatusCode::BAD_REQUEST),
        (RequiredEntries::None, StatusCode::CREATED),
        (listed("amd64"), StatusCode::CREATED),
        (listed("s390x"), StatusCode::BAD_REQUEST),
    ] {
        let state = registry(|settings| settings.validation.entries = entries.clone());
        let answer = put_manifest(&state, media_type::OCI_INDEX, &index).await;
        assert_eq!(answer.status, status, "{entries:?}");
        if status == StatusCode::BAD_REQUEST {
            assert_eq!(answer.code(), "MANIFEST_BLOB_UNKNOWN");
        }
    }
}

#[tokio::test]
async fn an_image_lacks_no_blob_even_without_validation() {
    let state = registry(|settings| settings.validation = Validation::disabled());
    push_blob(&state, b"{}").await;
    let layer = Descriptor::of(media_type::OCI_LAYER_TAR, b"missing");
    let refused = put_manifest(&state, media_type::OCI_MANIFEST, &image(&layer)).await;
    assert_eq!((refused.status, refused.code().as_str()), (StatusCode::BAD_REQUEST, "MANIFEST_BLOB_UNKNOWN"));
}

#[tokio::test]
async fn images_of_another_class_are_denied() {
    let state = registry(|settings| settings.classes = vec![RepositoryClass::Plugin]);
    push_blob(&state, b"{}").await;
    push_blob(&state, b"layer").await;
    let layer = Descriptor::of(media_type::OCI_LAYER_TAR, b"layer");
    let denied = put_manifest(&state, media_type::OCI_MANIFEST, &image(&layer)).await;
    assert_eq!((denied.status, denied.code().as_str()), (StatusCode::FORBIDDEN, "DENIED"));
    state.replace_settings(with(|settings| settings.classes = vec![RepositoryClass::Image]));
    let taken = put_manifest(&state, media_type::OCI_MANIFEST, &image(&layer)).await;
    assert_eq!(taken.status, StatusCode::CREATED);
}
