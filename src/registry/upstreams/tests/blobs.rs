//! Blobs: rights, ranges, sharing, lies, and stores that take nothing.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use quinistry_oci::{Digest, media_type};
use tower_service::Service as _;

use super::scripted::Outage;
use super::{Mirror, blob, blob_path, hub_settings, image, manifest_path};
use crate::Settings;
use crate::upstreams::UpstreamSettings;

const APP: &str = "library/app";
const LENGTH: usize = 300_001;

/// Returns a registry whose manifest names a blob of the upstream.
async fn named(mirror: Mirror) -> (Mirror, Bytes, Digest) {
    let bytes = blob(LENGTH);
    let digest = mirror.upstream.add_blob(APP, &bytes);
    mirror.upstream.tag(APP, "latest", &image(&bytes), media_type::OCI_MANIFEST);
    mirror.get(&manifest_path("latest")).await;
    mirror.upstream.asked();
    (mirror, bytes, digest)
}

#[tokio::test]
async fn a_blob_that_a_manifest_names_is_fetched_once_and_then_stored() {
    let (mirror, bytes, digest) = named(Mirror::new()).await;
    let path = blob_path(&digest);
    let answers = join_all((0..20).map(|_| mirror.get(&path))).await;
    for answer in answers {
        assert_eq!((answer.status, &answer.body), (StatusCode::OK, &bytes));
        assert_eq!(answer.header("docker-content-digest"), Some(digest.as_str()));
        assert_eq!(answer.header("content-length"), Some("300001"));
    }
    mirror.settle().await;
    assert_eq!(mirror.upstream.asked(), [format!("GET {APP} {digest}")]);
    mirror.upstream.fail(Outage::Away);
    assert_eq!(mirror.restarted().get(&path).await.body, bytes);
    assert_eq!(mirror.upstream.asked(), [""; 0]);
}

#[tokio::test]
async fn a_digest_alone_opens_nothing() {
    let (mirror, bytes, digest) = named(Mirror::new()).await;
    mirror.get(&blob_path(&digest)).await;
    mirror.settle().await;
    // From then on the upstream is known to have sent it.
    mirror.get(&blob_path(&digest)).await;
    mirror.upstream.asked();
    // Another repository of the upstream that does not have the blob.
    let other = format!("/v2/docker.io/team/other/blobs/{digest}");
    for method in [Method::GET, Method::HEAD, Method::GET] {
        assert_eq!(mirror.ask(method, &other, &[]).await.status, StatusCode::NOT_FOUND);
    }
    assert_eq!(mirror.upstream.asked(), [format!("HEAD team/other {digest}")]);
    // One that has it, as the upstream says: the stored bytes are linked.
    mirror.upstream.add_blob("team/third", &bytes);
    let third = format!("/v2/docker.io/team/third/blobs/{digest}");
    assert_eq!(mirror.get(&third).await.body, bytes);
    assert_eq!(mirror.upstream.asked(), [format!("HEAD team/third {digest}")]);
    // One whose manifest names it: no question at all.
    mirror.upstream.tag("team/fourth", "latest", &image(&bytes), media_type::OCI_MANIFEST);
    mirror.get("/v2/docker.io/team/fourth/manifests/latest").await;
    mirror.upstream.asked();
    let fourth = format!("/v2/docker.io/team/fourth/blobs/{digest}");
    assert_eq!(mirror.get(&fourth).await.body, bytes);
    assert_eq!(mirror.upstream.asked(), [""; 0]);
    // A repository of this registry.
    let local = mirror.get(&format!("/v2/team/app/blobs/{digest}")).await;
    assert_eq!(local.status, StatusCode::NOT_FOUND);
    assert_eq!(mirror.upstream.asked(), [""; 0]);
}

#[tokio::test]
async fn claims_of_an_upstream_open_nothing_that_clients_have_pushed() {
    let (mirror, bytes, digest) = named(Mirror::new()).await;
    let store = &mirror.state.0.stored.as_ref().unwrap().store;
    let mut receiver = store.receive(&digest, None).unwrap();
    receiver.append(&bytes).unwrap();
    store.commit(&"team/secret".parse().unwrap(), &mut receiver, &digest).unwrap();
    // A manifest of the upstream names the digest, and the upstream has no such blob.
    mirror.upstream.remove_blob(APP, &digest);
    for _ in 0..2 {
        assert_eq!(mirror.get(&blob_path(&digest)).await.status, StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn blobs_of_a_stored_manifest_are_fetched_without_a_question_after_a_restart() {
    let (mirror, bytes, digest) = named(Mirror::new()).await;
    let restarted = mirror.restarted();
    restarted.get(&manifest_path("latest")).await;
    assert_eq!(mirror.upstream.asked(), [format!("HEAD {APP}:latest")]);
    assert_eq!(restarted.get(&blob_path(&digest)).await.body, bytes);
    assert_eq!(mirror.upstream.asked(), [format!("GET {APP} {digest}")]);
}

#[tokio::test]
async fn a_foreign_layer_that_a_manifest_names_proves_nothing() {
    let mirror = Mirror::new();
    let bytes = blob(LENGTH);
    let digest = mirror.upstream.add_blob("team/other", &bytes);
    let manifest = String::from_utf8(image(&bytes).to_vec()).unwrap();
    let foreign = manifest.replace(
        &format!("\"mediaType\":\"{}\"", media_type::OCI_LAYER_TAR),
        "\"urls\":[\"https://example.com/x\"],\"mediaType\":\"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip\"",
    );
    assert_ne!(foreign, manifest);
    mirror.upstream.tag(APP, "latest", &Bytes::from(foreign), media_type::OCI_MANIFEST);
    assert_eq!(mirror.get(&manifest_path("latest")).await.status, StatusCode::OK);
    mirror.upstream.asked();
    assert_eq!(mirror.get(&blob_path(&digest)).await.status, StatusCode::NOT_FOUND);
    assert_eq!(mirror.upstream.asked(), [format!("HEAD {APP} {digest}")]);
}

#[tokio::test]
async fn a_request_that_has_passed_too_many_caches_asks_nothing() {
    let (mirror, _, digest) = named(Mirror::new()).await;
    for _ in 0..4 {
        let answer = mirror.ask(Method::GET, &blob_path(&digest), &[("quinistry-hops", "8")]).await;
        assert_eq!(answer.status, StatusCode::LOOP_DETECTED);
    }
    assert_eq!(mirror.upstream.asked(), [""; 0]);
    let answer = mirror.ask(Method::GET, &blob_path(&digest), &[("quinistry-hops", "7")]).await;
    assert_eq!(answer.status, StatusCode::OK, "the upstream does not count as away");
}

#[tokio::test]
async fn a_peer_gets_what_is_stored_and_asks_no_upstream() {
    let (mirror, bytes, digest) = named(Mirror::new()).await;
    let hops = quinistry_fetch::hops::PEER_HOPS.to_string();
    let ask = async || mirror.ask(Method::GET, &blob_path(&digest), &[("quinistry-hops", &hops)]).await;
    assert_eq!(ask().await.status, StatusCode::LOOP_DETECTED);
    assert_eq!(mirror.upstream.asked(), [""; 0]);
    mirror.get(&blob_path(&digest)).await;
    mirror.settle().await;
    mirror.upstream.asked();
    let answer = ask().await;
    assert_eq!((answer.status, answer.body), (StatusCode::OK, bytes));
    assert_eq!(mirror.upstream.asked(), [""; 0]);
}

#[tokio::test]
async fn a_cold_head_is_answered_by_the_upstream_and_stores_nothing() {
    let (mirror, _, digest) = named(Mirror::new()).await;
    let answer = mirror.head(&blob_path(&digest)).await;
    assert_eq!((answer.status, answer.header("content-length")), (StatusCode::OK, Some("300001")));
    assert_eq!(answer.header("docker-content-digest"), Some(digest.as_str()));
    assert_eq!(mirror.upstream.asked(), [format!("HEAD {APP} {digest}")]);
    mirror.upstream.fail(Outage::NotFound);
    let absent = Digest::sha256(b"absent");
    assert_eq!(mirror.head(&blob_path(&absent)).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn row_169_ranges_of_a_cold_blob_are_those_of_its_length() {
    for (range, status, content_range, expected) in [
        ("bytes=100-199", StatusCode::PARTIAL_CONTENT, Some("bytes 100-199/300001"), 100..200),
        ("bytes=-10", StatusCode::PARTIAL_CONTENT, Some("bytes 299991-300000/300001"), 299_991..300_001),
        ("bytes=300000-", StatusCode::PARTIAL_CONTENT, Some("bytes 300000-300000/300001"), 300_000..300_001),
        ("bytes=0-9999999", StatusCode::PARTIAL_CONTENT, Some("bytes 0-300000/300001"), 0..300_001),
        ("bytes=0-1,5-6", StatusCode::OK, None, 0..300_001),
        ("bytes=nonsense", StatusCode::OK, None, 0..300_001),
    ] {
        let (mirror, bytes, digest) = named(Mirror::new()).await;
        let answer = mirror.ask(Method::GET, &blob_path(&digest), &[("range", range)]).await;
        assert_eq!((answer.status, answer.header("content-range")), (status, content_range), "{range}");
        assert_eq!(answer.body, bytes.slice(expected), "{range}");
        mirror.settle().await;
        mirror.upstream.fail(Outage::Away);
        assert_eq!(mirror.get(&blob_path(&digest)).await.body, bytes, "{range}");
    }
    let (mirror, _, digest) = named(Mirror::new()).await;
    let answer = mirror.ask(Method::GET, &blob_path(&digest), &[("range", "bytes=300001-")]).await;
    assert_eq!(answer.status, StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(answer.header("content-range"), Some("bytes */300001"));
    let etag = format!("\"{digest}\"");
    let answer = mirror.ask(Method::GET, &blob_path(&digest), &[("if-none-match", &etag)]).await;
    assert_eq!(answer.status, StatusCode::NOT_MODIFIED);
}

#[tokio::test]
async fn no_client_ends_with_a_wrong_blob() {
    let (mirror, bytes, digest) = named(Mirror::new()).await;
    let mut wrong = bytes.to_vec();
    wrong[LENGTH / 2] ^= 1;
    mirror.upstream.add_blob_as(APP, &digest, &wrong.into());
    let request = http::Request::get(blob_path(&digest)).body(axum::body::Body::empty()).unwrap();
    let response = mirror.registry.clone().call(request).await.unwrap();
    assert!(response.into_body().collect().await.is_err(), "the connection is cut off");
    mirror.settle().await;
    assert_eq!(mirror.get(&blob_path(&digest)).await.status, StatusCode::BAD_GATEWAY);
}

#[tokio::test]
async fn row_167_without_room_for_a_blob_clients_are_served_and_nothing_is_kept() {
    let short = UpstreamSettings { max_blob_bytes: Some(1000), ..hub_settings() };
    for (settings, memory) in [(hub_settings(), 100_000), (short, 8 << 20)] {
        let (mirror, bytes, digest) = named(Mirror::with(settings, Settings::default(), memory)).await;
        for _ in 0..2 {
            assert_eq!(mirror.get(&blob_path(&digest)).await.body, bytes);
            mirror.settle().await;
        }
        mirror.upstream.fail(Outage::Away);
        assert_eq!(mirror.get(&blob_path(&digest)).await.status, StatusCode::BAD_GATEWAY);
    }
}

#[tokio::test]
async fn an_outage_has_its_status_and_a_limit_holds_for_blobs_as_well() {
    for (outage, status) in [
        (Outage::Away, StatusCode::BAD_GATEWAY),
        (Outage::Limited(Some(9)), StatusCode::TOO_MANY_REQUESTS),
        (Outage::Refused, StatusCode::NOT_FOUND),
        (Outage::NotFound, StatusCode::NOT_FOUND),
    ] {
        let (mirror, _, digest) = named(Mirror::new()).await;
        mirror.upstream.fail(outage);
        let answer = mirror.get(&blob_path(&digest)).await;
        assert_eq!(answer.status, status, "{outage:?}");
    }
    let (mirror, bytes, digest) = named(Mirror::new()).await;
    mirror.upstream.fail(Outage::Limited(Some(9)));
    mirror.get(&manifest_path("other")).await;
    mirror.upstream.fail(None);
    mirror.upstream.asked();
    let answer = mirror.get(&blob_path(&digest)).await;
    assert_eq!((answer.status, answer.header("retry-after")), (StatusCode::TOO_MANY_REQUESTS, Some("9")));
    assert_eq!(mirror.upstream.asked(), [""; 0]);
    mirror.pass(Duration::from_secs(9));
    assert_eq!(mirror.get(&blob_path(&digest)).await.body, bytes);
}

#[tokio::test]
async fn requests_and_bytes_are_counted() {
    let (mirror, bytes, digest) = named(Mirror::new()).await;
    for _ in 0..2 {
        mirror.get(&blob_path(&digest)).await;
        mirror.settle().await;
    }
    let metrics = crate::metrics::RegistryMetrics::default();
    metrics.watch_upstreams(mirror.state.upstream_metrics().unwrap());
    let page = metrics.render();
    let length = bytes.len();
    for line in [
        "registry_proxy_requests_total{type=\"blob\",upstream=\"scripted\"} 2".to_owned(),
        "registry_proxy_hits_total{type=\"blob\",upstream=\"scripted\"} 1".to_owned(),
        "registry_proxy_misses_total{type=\"blob\",upstream=\"scripted\"} 1".to_owned(),
        format!("registry_proxy_pulled_bytes_total{{type=\"blob\",upstream=\"scripted\"}} {length}"),
        format!("registry_proxy_pushed_bytes_total{{type=\"blob\",upstream=\"scripted\"}} {}", 2 * length),
        "registry_proxy_misses_total{type=\"manifest\",upstream=\"scripted\"} 1".to_owned(),
        "quinistry_upstream_up{upstream=\"scripted\"} 1".to_owned(),
        "quinistry_upstream_paused{upstream=\"scripted\"} 0".to_owned(),
        "quinistry_upstream_seconds_count{upstream=\"scripted\"} 1".to_owned(),
    ] {
        assert!(page.contains(&line), "{line}\n{page}");
    }
}
