//! Immutable tags, quotas and recorded pulls, as clients meet them.

use std::time::SystemTime;

use http::header::{CONTENT_TYPE, IF_NONE_MATCH, USER_AGENT};
use quinistry_oci::media_type;
use quinistry_store::{Access, Filesystem, LastPull, Usage};

use super::*;
use crate::{PullRecording, QuotaPolicies, QuotaPolicy, TagPolicies, TagPolicy};

/// Registry on a folder.
struct Registry {
    state: State,
    store: Store,
    _folder: tempfile::TempDir,
}

impl Registry {
    fn new(settings: Settings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(Filesystem::open(folder.path(), Access::Write).unwrap(), false).unwrap();
        Self { state: State::stored(store.clone(), settings), store, _folder: folder }
    }

    /// Sends a request. Returns the status and the body.
    async fn ask(&self, request: Request<Body>) -> (StatusCode, String) {
        let response = router(self.state.clone()).call(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (parts.status, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn send(&self, method: Method, path: &str, body: impl Into<Body>) -> (StatusCode, String) {
        let request = Request::builder().method(method).uri(path).header(CONTENT_TYPE, media_type::OCI_INDEX);
        self.ask(request.body(body.into()).unwrap()).await
    }
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.into()).collect()
}

fn index(note: &str) -> String {
    let media_type = media_type::OCI_INDEX;
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{media_type}","manifests":[],"annotations":{{"note":"{note}"}}}}"#
    )
}

#[tokio::test]
async fn an_immutable_tag_is_neither_moved_nor_deleted() {
    let policy =
        TagPolicy { repositories: texts(&["prod/**"]), tags: texts(&["*"]), except: texts(&["latest"]) };
    let lts = TagPolicy { repositories: texts(&["**"]), tags: texts(&["lts"]), except: Vec::new() };
    let tags = Some(Arc::new(TagPolicies::new(&[policy], &[lts]).unwrap()));
    let registry = Registry::new(Settings { tags, ..Settings::default() });
    let (first, second) = (index("first"), index("second"));
    let digest = Digest::sha256(first.as_bytes());
    let v1 = "/v2/prod/app/manifests/v1";
    for _ in 0..2 {
        assert_eq!(registry.send(Method::PUT, v1, first.clone()).await.0, StatusCode::CREATED);
    }
    let refused = format!("tag v1 is immutable here: it refers to {digest}, and cannot be moved or deleted");
    let by_digest = format!("/v2/prod/app/manifests/{digest}");
    let more = "/v2/prod/app/manifests/latest?tag=v1";
    for (method, path, body) in [
        (Method::PUT, v1, &*second),
        (Method::PUT, more, &second),
        (Method::DELETE, v1, ""),
        (Method::DELETE, &by_digest, ""),
    ] {
        let (status, body) = registry.send(method, path, body.to_owned()).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{path}: {body}");
        assert!(body.contains("DENIED") && body.contains(&refused), "{path}: {body}");
    }
    assert_eq!(
        registry.send(Method::GET, "/v2/prod/app/manifests/latest", "").await.0,
        StatusCode::NOT_FOUND
    );
    assert_eq!(registry.send(Method::GET, v1, "").await, (StatusCode::OK, first.clone()));

    let lts = "/v2/dev/app/manifests/lts";
    for body in [&first, &second] {
        assert_eq!(registry.send(Method::PUT, lts, body.clone()).await.0, StatusCode::CREATED);
    }
    let (status, body) = registry.send(Method::DELETE, lts, "").await;
    assert!(status == StatusCode::FORBIDDEN && body.contains("tag lts is protected here"), "{body}");

    registry.state.replace_settings(Settings::default());
    assert_eq!(registry.send(Method::PUT, v1, second).await.0, StatusCode::CREATED);
    assert_eq!(registry.send(Method::DELETE, lts, "").await.0, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn a_quota_refuses_what_does_not_fit() {
    let quota = QuotaPolicy { repositories: texts(&["team-a/**"]), bytes: Some(2048), tags: Some(1) };
    let quotas = Some(Arc::new(QuotaPolicies::new(&[quota]).unwrap()));
    let registry = Registry::new(Settings { quotas: quotas.clone(), ..Settings::default() });
    let blob = |length: usize| vec![7_u8; length];
    let post =
        |length: usize| format!("/v2/team-a/app/blobs/uploads/?digest={}", Digest::sha256(&blob(length)));
    assert_eq!(registry.send(Method::POST, &post(1536), blob(1536)).await.0, StatusCode::CREATED);
    let (status, body) = registry.send(Method::POST, &post(1024), blob(1024)).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let message = "quota of team-a/** exceeded: 1.5 of 2 KiB used, 1 KiB more needed";
    assert!(body.contains("DENIED") && body.contains(message), "{body}");
    let manifests = "/v2/team-a/other/manifests/";
    let (one, two) = (format!("{manifests}v1"), format!("{manifests}v2"));
    assert_eq!(registry.send(Method::PUT, &one, index("one")).await.0, StatusCode::CREATED);
    let (status, body) = registry.send(Method::PUT, &two, index("one")).await;
    assert!(status == StatusCode::FORBIDDEN && body.contains("1 of 1 tags used, 1 more needed"), "{body}");
    let usage = registry.store.quota_usage()[0].1;
    assert_eq!(usage, Some(Usage { bytes: 1536 + index("one").len() as u64, tags: 1 }));

    // The same quotas keep what is known of them.
    registry.state.replace_settings(Settings { quotas, ..Settings::default() });
    assert_eq!(registry.store.quota_usage()[0].1, usage);
    assert_eq!(registry.send(Method::DELETE, &one, "").await.0, StatusCode::ACCEPTED);
    assert_eq!(registry.send(Method::PUT, &two, index("one")).await.0, StatusCode::CREATED);
    registry.state.replace_settings(Settings::default());
    assert_eq!(registry.send(Method::POST, &post(1024), blob(1024)).await.0, StatusCode::CREATED);
}

#[tokio::test]
async fn pulls_are_gets_of_clients_that_are_not_ignored() {
    let pulls =
        PullRecording::unless(|client| client.user_agent.is_some_and(|agent| agent.contains("scanner")));
    let registry = Registry::new(Settings { pulls: Some(pulls), ..Settings::default() });
    registry.store.begin_pull_records().unwrap();
    let bodies = ["got", "looked at", "scanned", "by digest", "known"].map(index);
    for (number, body) in bodies.iter().enumerate() {
        let path = format!("/v2/app/manifests/v{number}");
        assert_eq!(registry.send(Method::PUT, &path, body.clone()).await.0, StatusCode::CREATED);
    }
    let by_digest = Digest::sha256(bodies[3].as_bytes());
    for _ in 0..3 {
        assert_eq!(registry.send(Method::GET, "/v2/app/manifests/v0", "").await.0, StatusCode::OK);
        assert_eq!(registry.send(Method::HEAD, "/v2/app/manifests/v1", "").await.0, StatusCode::OK);
        let scan = Request::get("/v2/app/manifests/v2").header(USER_AGENT, "scanner/1");
        assert_eq!(registry.ask(scan.body(Body::empty()).unwrap()).await.0, StatusCode::OK);
        let path = format!("/v2/app/manifests/{by_digest}");
        assert_eq!(registry.send(Method::GET, &path, "").await.0, StatusCode::OK);
        assert_eq!(registry.send(Method::GET, "/v2/app/manifests/absent", "").await.0, StatusCode::NOT_FOUND);
        // A client that looks for changes by GET gets no manifest.
        let known = format!("\"{}\"", Digest::sha256(bodies[4].as_bytes()));
        let look = Request::get("/v2/app/manifests/v4").header(IF_NONE_MATCH, known);
        assert_eq!(registry.ask(look.body(Body::empty()).unwrap()).await.0, StatusCode::NOT_MODIFIED);
    }
    registry.state.flush_records().await;
    assert_eq!(registry.store.written_pull_objects(), 1);
    registry.store.fold_pulls().unwrap();
    let pulls = registry.store.last_pulls(&"app".parse().unwrap()).unwrap();
    let by_tag = |tag: &str| pulls.tag(&tag.parse().unwrap()) != LastPull::Unknown;
    assert_eq!(
        ["v0", "v1", "v2", "v3", "v4", "absent"].map(by_tag),
        [true, false, false, false, false, false]
    );
    let by_digest = |body: &String| pulls.manifest(&Digest::sha256(body.as_bytes())) != LastPull::Unknown;
    assert_eq!(bodies.each_ref().map(by_digest), [true, false, false, true, false]);
    let LastPull::At(last) = pulls.manifest(&by_digest_of(&bodies[3])) else { panic!("unknown") };
    assert!(last >= SystemTime::now());
}

fn by_digest_of(body: &str) -> Digest {
    Digest::sha256(body.as_bytes())
}
