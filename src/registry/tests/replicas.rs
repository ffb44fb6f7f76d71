//! Uploads through several replicas of a registry on one bucket.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::header::{CONTENT_RANGE, LOCATION, RANGE, RETRY_AFTER};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use quinistry_bucket::testing::{Fault, FaultPlan, Faulty, Mem, RequestKind};
use quinistry_bucket::{
    Bucket, BucketUploads, StoreAbilities, TransferMemory, TransferOptions, UploadOptions,
};
use quinistry_oci::{Algorithm, Digest};
use quinistry_store::Store;
use tokio::runtime::Handle;
use tower_service::Service as _;

use crate::{Settings, State, UploadSecret, router};

pub(crate) type SharedBucket = Arc<Faulty<Mem>>;

pub(super) fn bucket() -> SharedBucket {
    Arc::new(Faulty::new(Mem::default(), FaultPlan::default()))
}

/// Returns a replica's way to a bucket, with memory for a number of parts. A replica opens it where threads may block.
pub(crate) fn storage(objects: SharedBucket, runtime: Handle, parts: u64) -> Bucket {
    let transfers = TransferOptions::default();
    let options =
        UploadOptions { transfers, parts_may_differ: true, copies_parts: true, is_exclusive: false };
    let memory = TransferMemory::new(parts * transfers.part_bytes);
    let uploads = BucketUploads::new(objects.clone(), runtime.clone(), memory.clone(), options);
    Bucket::new(objects, runtime, StoreAbilities::ALL, memory, uploads)
}

/// Starts a replica with memory for one part.
async fn replica(bucket: &SharedBucket, settings: Settings) -> axum::Router {
    router(State::stored(store(bucket).await, settings))
}

async fn store(bucket: &SharedBucket) -> Store {
    store_with_memory_for(bucket, 4).await
}

/// Opens a store whose uploads share the memory of a number of parts.
async fn store_with_memory_for(bucket: &SharedBucket, parts: u64) -> Store {
    let (objects, runtime) = (bucket.clone(), Handle::current());
    let open = move || Store::open(storage(objects, runtime, parts), false).unwrap();
    tokio::task::spawn_blocking(open).await.unwrap()
}

async fn replicas(bucket: &SharedBucket) -> [axum::Router; 2] {
    [replica(bucket, Settings::default()).await, replica(bucket, Settings::default()).await]
}

async fn ask(
    replica: &mut axum::Router,
    method: Method,
    uri: &str,
    range: Option<&str>,
    body: impl Into<Body>,
) -> Response<Body> {
    let mut request = Request::builder().method(method).uri(uri);
    if let Some(range) = range {
        request = request.header(CONTENT_RANGE, range);
    }
    replica.call(request.body(body.into()).unwrap()).await.unwrap()
}

fn header(response: &Response<Body>, name: http::HeaderName) -> String {
    response.headers()[name].to_str().unwrap().to_owned()
}

async fn begin(replica: &mut axum::Router) -> String {
    let response = ask(replica, Method::POST, "/v2/a/b/blobs/uploads/", None, "").await;
    assert_eq!(response.status(), StatusCode::ACCEPTED);
    assert_eq!(header(&response, RANGE), "0-0");
    header(&response, LOCATION)
}

async fn pull(replica: &mut axum::Router, digest: &Digest) -> Option<Vec<u8>> {
    let response = ask(replica, Method::GET, &format!("/v2/a/b/blobs/{digest}"), None, "").await;
    let is_found = response.status() == StatusCode::OK;
    let body = response.into_body().collect().await.unwrap().to_bytes();
    is_found.then(|| body.to_vec())
}

/// Waits until a session has ended for a replica: of one that has become a blob it learns soon after the answer.
async fn await_end(replica: &mut axum::Router, location: &str) {
    let ended = async {
        while ask(replica, Method::GET, location, None, "").await.status() != StatusCode::NOT_FOUND {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), ended).await.expect("the session ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn row_49_each_request_of_an_upload_may_reach_another_replica_and_the_last_may_be_repeated() {
    let bucket = bucket();
    let mut replicas = replicas(&bucket).await;
    let location = begin(&mut replicas[0]).await;
    bucket.log().take();
    assert_eq!(header(&ask(&mut replicas[1], Method::GET, &location, None, "").await, RANGE), "0-0");
    for (i, chunk) in ["abc", "de", "fgh"].into_iter().enumerate() {
        let start = [0, 3, 5][i];
        let range = format!("{start}-{}", start + chunk.len() - 1);
        let response = ask(&mut replicas[1 - i % 2], Method::PATCH, &location, Some(&range), chunk).await;
        assert_eq!(response.status(), StatusCode::ACCEPTED);
        assert_eq!(header(&response, RANGE), format!("0-{}", start + chunk.len() - 1));
        assert_eq!(header(&response, LOCATION), location, "constant for the session");
        for replica in &mut replicas {
            let found = ask(replica, Method::GET, &location, None, "").await;
            assert_eq!(found.status(), StatusCode::NO_CONTENT);
            assert_eq!(header(&found, RANGE), header(&response, RANGE));
        }
    }
    // Out of order: the client learns where to go on.
    let response = ask(&mut replicas[0], Method::PATCH, &location, Some("3-4"), "xy").await;
    assert_eq!(
        (response.status(), header(&response, RANGE).as_str()),
        (StatusCode::RANGE_NOT_SATISFIABLE, "0-7")
    );
    assert_eq!(header(&response, LOCATION), location);
    let digest = Digest::sha256(b"abcdefghi");
    let put = format!("{location}&digest={digest}");
    // The answer to the first is lost, and the client asks the other replica.
    for i in [1, 0, 1] {
        let response = ask(&mut replicas[i], Method::PUT, &put, None, "i").await;
        assert_eq!(response.status(), StatusCode::CREATED);
        assert_eq!(header(&response, LOCATION), format!("/v2/a/b/blobs/{digest}"));
    }
    for replica in &mut replicas {
        assert_eq!(pull(replica, &digest).await.unwrap(), b"abcdefghi");
        await_end(replica, &location).await;
        let late = ask(replica, Method::PATCH, &location, Some("9-9"), "j").await;
        assert_eq!(late.status(), StatusCode::NOT_FOUND);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_session_is_unknown_to_each_replica() {
    // A chunk that is a record, and one that has parts.
    for length in [100, 11 << 20] {
        for first in [None, Some("abc")] {
            let bucket = bucket();
            let mut replicas = replicas(&bucket).await;
            let location = begin(&mut replicas[0]).await;
            // Both replicas know the session.
            for replica in &mut replicas {
                assert_eq!(
                    ask(replica, Method::GET, &location, None, "").await.status(),
                    StatusCode::NO_CONTENT
                );
            }
            if let Some(first) = first {
                let sent = ask(&mut replicas[1], Method::PATCH, &location, Some("0-2"), first).await;
                assert_eq!(sent.status(), StatusCode::ACCEPTED);
            }
            let cancelled = ask(&mut replicas[0], Method::DELETE, &location, None, "").await;
            assert_eq!(cancelled.status(), StatusCode::NO_CONTENT);
            let start = first.map_or(0, str::len);
            let range = format!("{start}-{}", start + length - 1);
            let chunk = vec![b'x'; length];
            let late = ask(&mut replicas[1], Method::PATCH, &location, Some(&range), chunk).await;
            assert_eq!(late.status(), StatusCode::NOT_FOUND);
            for replica in &mut replicas {
                assert_eq!(
                    ask(replica, Method::GET, &location, None, "").await.status(),
                    StatusCode::NOT_FOUND
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_age_of_a_session_is_by_the_clock_of_the_store() {
    let bucket = bucket();
    let mut replicas = replicas(&bucket).await;
    let location = begin(&mut replicas[0]).await;
    bucket.inner().clock().advance(Duration::from_hours(160));
    assert_eq!(
        ask(&mut replicas[1], Method::GET, &location, None, "").await.status(),
        StatusCode::NO_CONTENT
    );
    bucket.inner().clock().advance(Duration::from_hours(8));
    assert_eq!(ask(&mut replicas[0], Method::GET, &location, None, "").await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_begins_without_a_request_and_small_blobs_take_few() {
    let bucket = bucket();
    let mut registry = replica(&bucket, Settings::default()).await;
    // Creates the secret, and the register of the repository.
    let location = begin(&mut registry).await;
    let put = format!("{location}&digest={}", Digest::sha256(b"first"));
    assert_eq!(ask(&mut registry, Method::PUT, &put, None, "first").await.status(), StatusCode::CREATED);
    bucket.log().take();
    let location = begin(&mut registry).await;
    assert_eq!(bucket.log().take(), []);
    // As containerd does.
    let digest = Digest::sha256(b"containerd");
    let put = format!("{location}&digest={digest}");
    let response = ask(&mut registry, Method::PUT, &put, None, "containerd").await;
    assert_eq!(response.status(), StatusCode::CREATED);
    let counts = |requests: &[quinistry_bucket::testing::SentRequest]| {
        requests.iter().filter(|request| request.kind == RequestKind::Put).count()
    };
    assert_eq!(counts(&bucket.log().take()), 2);
    // As docker does.
    let location = begin(&mut registry).await;
    let response = ask(&mut registry, Method::PATCH, &location, None, "docker").await;
    assert_eq!(response.status(), StatusCode::ACCEPTED);
    assert_eq!(counts(&bucket.log().take()), 2, "record and begin");
    let put = format!("{location}&digest={}", Digest::sha256(b"docker"));
    assert_eq!(ask(&mut registry, Method::PUT, &put, None, "").await.status(), StatusCode::CREATED);
    let requests = bucket.log().take();
    // The end of the session is told after the answer.
    let waited: Vec<_> =
        requests.iter().filter(|request| !request.key.contains("/_uploads/")).cloned().collect();
    assert_eq!(counts(&waited), 2, "bytes and link");
    let is_read = |kind| matches!(kind, RequestKind::Get | RequestKind::List | RequestKind::Copy);
    assert!(!requests.iter().any(|request| is_read(request.kind)), "{requests:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_42_and_43_a_session_that_no_replica_has_begun_is_unknown() {
    let bucket = bucket();
    let mut replicas = replicas(&bucket).await;
    let location = begin(&mut replicas[0]).await;
    let (path, state) = location.split_once("?_state=").unwrap();
    let mut forged = state.to_owned();
    let last = if forged.pop() == Some('A') { 'Q' } else { 'A' };
    forged.push(last);
    let other = path.replace("/a/b/", "/a/c/");
    let unknown = [
        path.to_owned(),
        format!("{path}?_state="),
        format!("{path}?_state={forged}"),
        format!("{other}?_state={state}"),
        format!("{}0?_state={state}", &path[..path.len() - 1]),
    ];
    let digest = Digest::sha256(b"");
    for uri in unknown.iter().filter(|uri| **uri != location) {
        let separator = if uri.contains('?') { '&' } else { '?' };
        for method in [Method::GET, Method::PATCH, Method::DELETE, Method::PUT] {
            let uri = format!("{uri}{separator}digest={digest}");
            let response = ask(&mut replicas[1], method.clone(), &uri, None, "").await;
            assert_eq!(response.status(), StatusCode::NOT_FOUND, "{method} {uri}");
        }
    }
    // A session that has bytes is known without the state, too.
    assert_eq!(
        ask(&mut replicas[0], Method::PATCH, &location, None, "abc").await.status(),
        StatusCode::ACCEPTED
    );
    let response = ask(&mut replicas[1], Method::GET, path, None, "").await;
    assert_eq!((response.status(), header(&response, RANGE).as_str()), (StatusCode::NO_CONTENT, "0-2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_with_one_secret_recognise_sessions_and_others_do_not() {
    let bucket = bucket();
    let settings = |secret: &str| Settings {
        upload_secret: Some(UploadSecret::derived_from(secret.as_bytes())),
        ..Settings::default()
    };
    let mut first = replica(&bucket, settings("one")).await;
    let mut same = replica(&bucket, settings("one")).await;
    let mut other = replica(&bucket, settings("other")).await;
    let location = begin(&mut first).await;
    assert_eq!(bucket.inner().keys().iter().filter(|key| key.ends_with("/secret")).count(), 0);
    assert_eq!(ask(&mut same, Method::GET, &location, None, "").await.status(), StatusCode::NO_CONTENT);
    assert_eq!(ask(&mut other, Method::GET, &location, None, "").await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_announced_algorithm_and_a_cancelled_session_are_known_to_every_replica() {
    let bucket = bucket();
    let mut replicas = replicas(&bucket).await;
    let uri = "/v2/a/b/blobs/uploads/?digest-algorithm=sha512";
    let location = header(&ask(&mut replicas[0], Method::POST, uri, None, "").await, LOCATION);
    assert_eq!(
        ask(&mut replicas[1], Method::PATCH, &location, None, "abc").await.status(),
        StatusCode::ACCEPTED
    );
    let digest = Digest::of(Algorithm::Sha512, b"abcde");
    let put = format!("{location}&digest={digest}");
    assert_eq!(ask(&mut replicas[0], Method::PUT, &put, None, "de").await.status(), StatusCode::CREATED);
    assert_eq!(pull(&mut replicas[1], &digest).await.unwrap(), b"abcde");

    let location = begin(&mut replicas[0]).await;
    assert_eq!(
        ask(&mut replicas[0], Method::PATCH, &location, None, "abc").await.status(),
        StatusCode::ACCEPTED
    );
    assert_eq!(
        ask(&mut replicas[1], Method::DELETE, &location, None, "").await.status(),
        StatusCode::NO_CONTENT
    );
    for replica in &mut replicas {
        for method in [Method::GET, Method::DELETE] {
            let response = ask(replica, method, &location, None, "").await;
            assert_eq!(response.status(), StatusCode::NOT_FOUND);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_digest_ends_the_session() {
    let bucket = bucket();
    let mut replicas = replicas(&bucket).await;
    for body in ["", "de"] {
        let location = begin(&mut replicas[0]).await;
        ask(&mut replicas[0], Method::PATCH, &location, None, "abc").await;
        let put = format!("{location}&digest={}", Digest::sha256(b"other"));
        let response = ask(&mut replicas[1], Method::PUT, &put, None, body).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        let response = ask(&mut replicas[1], Method::GET, &location, None, "").await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
    }
    assert!(pull(&mut replicas[0], &Digest::sha256(b"other")).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn long_uploads_at_once_share_the_memory_for_one_part() {
    let store = store_with_memory_for(&bucket(), 1).await;
    let registry = router(State::stored(store, Settings::default()));
    let push = async |salt: u8| {
        let mut registry = registry.clone();
        let bytes = vec![salt; 25 << 20];
        let digest = Digest::sha256(&bytes);
        let location = begin(&mut registry).await;
        let response = ask(&mut registry, Method::PATCH, &location, None, bytes).await;
        assert_eq!(response.status(), StatusCode::ACCEPTED);
        let put = format!("{location}&digest={digest}");
        assert_eq!(ask(&mut registry, Method::PUT, &put, None, "").await.status(), StatusCode::CREATED);
    };
    let pushes = futures_util::future::join3(push(1), push(2), push(3));
    tokio::time::timeout(Duration::from_mins(5), pushes).await.expect("every push ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_alone_ends_the_uploads_that_were_left_behind() {
    let bucket = bucket();
    let stores = [store(&bucket).await, store(&bucket).await];
    let mut replica = router(State::stored(stores[1].clone(), Settings::default()));
    let location = begin(&mut replica).await;
    let received = ask(&mut replica, Method::PATCH, &location, None, "bytes").await;
    assert_eq!(received.status(), StatusCode::ACCEPTED);
    let [leader, other] = stores;
    let ended = tokio::task::spawn_blocking(move || {
        for store in [&leader, &other] {
            store.renew_lead().unwrap();
        }
        [&other, &leader].map(|store| {
            let idle = store.idle_uploads(Duration::ZERO).unwrap().len();
            (idle, store.expire_uploads(Duration::ZERO).unwrap())
        })
    });
    assert_eq!(ended.await.unwrap(), [(0, 0), (1, 1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_does_not_answer_for_now_makes_clients_try_again() {
    let bucket = bucket();
    let mut replica = replica(&bucket, Settings::default()).await;
    let location = begin(&mut replica).await;
    let blob = format!("/v2/a/b/blobs/{}", Digest::sha256(b"absent"));
    for (kind, within, method, uri) in [
        (RequestKind::Put, "/_uploads/", Method::PATCH, &location),
        (RequestKind::Get, "/_layers/", Method::GET, &blob),
    ] {
        bucket.plan().spoil(kind, within, Fault::Unavailable, 1);
        let response = ask(&mut replica, method, uri, None, "bytes").await;
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE, "{uri}");
        assert!(response.headers().contains_key(RETRY_AFTER), "{uri}");
    }
}
