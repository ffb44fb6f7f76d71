//! Requests of clients between the cycles of a collector, on a bucket with replicas.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use axum::body::Body;
use axum::{Router, response::Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{Method, Request, StatusCode};
use quinistry_oci::{Digest, media_type};
use quinistry_store::{Cycle, CycleReport, GcOptions, KeepAll, LocalClock, Store, StoreOptions};
use serde_json::json;
use tokio::time::timeout;
use tower_service::Service as _;

use super::replicas::{self, SharedBucket};
use crate::collection::CollectionHooks;
use crate::{Settings, State, router};

const GRACE: Duration = Duration::from_hours(1);

/// Lifetime of a view, as in service.
const VIEW_LIFETIME: Duration = Duration::from_mins(1);

/// Bucket whose time a test moves, with the local clocks of all replicas.
#[derive(Clone)]
struct Scene {
    bucket: SharedBucket,
    now: Arc<Mutex<Duration>>,
}

impl Scene {
    fn new() -> Self {
        Self { bucket: replicas::bucket(), now: Arc::new(Mutex::new(GRACE)) }
    }

    fn advance(&self, by: Duration) {
        self.bucket.inner().clock().advance(by);
        *self.now.lock().unwrap() += by;
    }

    /// Opens a replica whose waits move all clocks.
    async fn replica(&self) -> Store {
        let (now, moved) = (self.now.clone(), self.clone());
        self.open(LocalClock::of(move || *now.lock().unwrap()), move |by| moved.advance(by)).await
    }

    async fn open(&self, clock: LocalClock, wait: impl Fn(Duration) + Send + Sync + 'static) -> Store {
        let (objects, runtime) = (self.bucket.clone(), tokio::runtime::Handle::current());
        let open = move || {
            let bucket = replicas::storage(objects, runtime, 4);
            Store::open_collected(bucket, StoreOptions::default(), clock, VIEW_LIFETIME, wait).unwrap()
        };
        tokio::task::spawn_blocking(open).await.unwrap()
    }

    /// Runs a cycle after the grace of the last one has passed.
    async fn cycle(&self, store: &Store) -> CycleReport {
        self.advance(GRACE);
        self.advance(Duration::from_secs(40));
        let store = store.clone();
        let collect = move || {
            store.renew_lead().unwrap();
            let lead = store.lead().expect("no other replica leads");
            let rate = NonZeroU32::new(1_000_000).unwrap();
            let options = GcOptions { grace: GRACE, min_age: GRACE / 2, rate, ..GcOptions::default() };
            store.collect_online(&options, &KeepAll, &lead).unwrap()
        };
        match tokio::task::spawn_blocking(collect).await.unwrap() {
            Cycle::Done(report) => report,
            other => panic!("{other:?}"),
        }
    }
}

/// Returns the registry of a replica.
fn registry(store: &Store) -> Router {
    router(State::stored(store.clone(), Settings::default()))
}

async fn ask(registry: &Router, method: Method, path: &str, body: impl Into<Body>) -> Response {
    let request = Request::builder().method(method).uri(format!("/v2/a/b/{path}"));
    let request = request.header(CONTENT_TYPE, media_type::OCI_MANIFEST).body(body.into()).unwrap();
    registry.clone().call(request).await.unwrap()
}

async fn status(registry: &Router, method: Method, path: &str) -> StatusCode {
    ask(registry, method, path, "").await.status()
}

async fn push_blob(registry: &Router, bytes: &'static [u8]) -> Response {
    let path = format!("blobs/uploads/?digest={}", Digest::sha256(bytes));
    ask(registry, Method::POST, &path, bytes).await
}

/// Returns the path of a blob.
fn blob(bytes: &[u8]) -> String {
    format!("blobs/{}", Digest::sha256(bytes))
}

/// Returns the bytes of an image of one layer.
fn image(layer: &[u8]) -> Vec<u8> {
    let part =
        |bytes: &[u8]| json!({"mediaType": "a/b", "digest": Digest::sha256(bytes), "size": bytes.len()});
    quinistry_oci::to_json(&json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": part(b"{}"), "layers": [part(layer)],
    }))
}

/// Checks that an answer tells the client to come back.
fn assert_comes_back(response: &Response, what: &str) {
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE, "{what}");
    let seconds = response.headers()[RETRY_AFTER].to_str().unwrap().parse::<u32>().unwrap();
    assert!(seconds > 0, "{what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn head_of_a_condemned_blob_revives_and_holds_it() {
    let scene = Scene::new();
    let (leader, other) = (scene.replica().await, scene.replica().await);
    let registry = registry(&other);
    for bytes in [&b"layer"[..], b"other"] {
        assert_eq!(push_blob(&registry, bytes).await.status(), StatusCode::CREATED);
    }
    let report = scene.cycle(&leader).await;
    assert_eq!((report.links.condemned, report.blobs.condemned), (2, 2));
    assert_eq!(status(&registry, Method::HEAD, &blob(b"layer")).await, StatusCode::OK);
    let report = scene.cycle(&leader).await;
    assert_eq!((report.links.revived["head"], report.blobs.revived["head"]), (1, 1), "{report:?}");
    assert_eq!(status(&registry, Method::GET, &blob(b"layer")).await, StatusCode::OK);
    assert_eq!(status(&registry, Method::HEAD, &blob(b"other")).await, StatusCode::NOT_FOUND);
    for _ in 0..2 {
        scene.cycle(&leader).await;
    }
    assert_eq!(status(&registry, Method::HEAD, &blob(b"layer")).await, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn under_a_view_that_is_too_old_heads_and_pushes_come_back_and_pulls_go_on() {
    let scene = Scene::new();
    let (now, is_slow) = (scene.now.clone(), Arc::<AtomicBool>::default());
    let slow = is_slow.clone();
    let clock = LocalClock::of(move || {
        let mut now = now.lock().unwrap();
        if slow.load(Ordering::SeqCst) {
            // Each request takes longer than a view counts.
            *now += 2 * VIEW_LIFETIME;
        }
        *now
    });
    let store = scene.open(clock, |_| {}).await;
    let registry = registry(&store);
    for bytes in [&b"{}"[..], b"layer"] {
        assert_eq!(push_blob(&registry, bytes).await.status(), StatusCode::CREATED);
    }
    let manifest = image(b"layer");
    let by_digest = format!("manifests/{}", Digest::sha256(&manifest));
    let pushed = ask(&registry, Method::PUT, "manifests/v1", manifest.clone()).await;
    assert_eq!(pushed.status(), StatusCode::CREATED);

    is_slow.store(true, Ordering::SeqCst);
    for path in [&blob(b"layer"), &by_digest] {
        assert_comes_back(&ask(&registry, Method::HEAD, path, "").await, path);
    }
    assert_comes_back(&ask(&registry, Method::PUT, "manifests/v2", manifest.clone()).await, "manifest");
    assert_comes_back(&push_blob(&registry, b"more").await, "blob");
    for path in [&blob(b"layer"), &by_digest, "manifests/v1"] {
        assert_eq!(status(&registry, Method::GET, path).await, StatusCode::OK, "{path}");
    }
    assert_eq!(status(&registry, Method::HEAD, "manifests/v1").await, StatusCode::OK);

    is_slow.store(false, Ordering::SeqCst);
    let pushed = ask(&registry, Method::PUT, "manifests/v2", manifest).await;
    assert_eq!(pushed.status(), StatusCode::CREATED);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_ends_a_removal_that_was_cut_off_also_if_nothing_is_collected() {
    for leads_before in [true, false] {
        let scene = Scene::new();
        let (former, leader, other) = (scene.replica().await, scene.replica().await, scene.replica().await);
        let registry = registry(&other);
        assert_eq!(push_blob(&registry, b"layer").await.status(), StatusCode::CREATED);
        assert_eq!(scene.cycle(&former).await.links.condemned, 1);
        // The former leader was stopped after it had begun to decide.
        let sealed = scene.bucket.inner().keys().into_iter().find(|key| key.ends_with("/sealed")).unwrap();
        let register = |name: &str| sealed.replace("/sealed", &format!("/{name}/l-0"));
        scene.bucket.inner().plant(&register("doom"), "{}", SystemTime::UNIX_EPOCH);
        assert_comes_back(&push_blob(&registry, b"layer").await, "blob of a shard that is decided");

        scene.advance(Duration::from_secs(40));
        let lead = {
            let leader = leader.clone();
            move || {
                leader.renew_lead().unwrap();
                assert!(leader.lead().is_some());
            }
        };
        if leads_before {
            tokio::task::spawn_blocking(lead.clone()).await.unwrap();
        }
        let state = State::stored(leader, Settings { read_only: leads_before, ..Settings::default() });
        let task = tokio::spawn(state.collect_garbage(CollectionHooks::default(), Arc::default()));
        if leads_before {
            state.replace_settings(Settings::default());
        } else {
            tokio::task::spawn_blocking(lead).await.unwrap();
        }
        let ended = async {
            while scene.bucket.inner().bytes(&register("done")).is_none() {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_mins(1), ended).await.expect("the leader ends the removal");
        assert_eq!(push_blob(&registry, b"layer").await.status(), StatusCode::CREATED);
        task.abort();
    }
}
