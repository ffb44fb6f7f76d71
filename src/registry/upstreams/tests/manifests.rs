//! Tags and manifests: freshness, outages, verification.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Method, StatusCode};
use quinistry_oci::{Digest, media_type};

use super::scripted::{DigestHeader, Outage};
use super::{Mirror, hub_settings, image, index, manifest_path};
use crate::upstreams::{MissingPolicy, UpstreamSettings};
use crate::{Settings, TagPolicies};

const APP: &str = "library/app";
const TTL: Duration = Duration::from_mins(15);
const HALF_TTL: Duration = Duration::from_secs(450);

fn tag(mirror: &Mirror, bytes: &Bytes) -> Digest {
    mirror.upstream.tag(APP, "latest", bytes, media_type::OCI_MANIFEST)
}

/// Returns a registry that has stored the tag `latest`.
async fn warm(mirror: Mirror) -> (Mirror, Bytes, Digest) {
    let bytes = image(b"one");
    let digest = tag(&mirror, &bytes);
    assert_eq!(mirror.get(&manifest_path("latest")).await.body, bytes);
    assert_eq!(mirror.upstream.asked(), ["GET library/app:latest"]);
    (mirror, bytes, digest)
}

#[tokio::test]
async fn a_fresh_tag_is_served_without_a_question_and_an_old_one_costs_one_head() {
    let (mirror, bytes, digest) = warm(Mirror::new()).await;
    for _ in 0..1000 {
        let answer = mirror.get(&manifest_path("latest")).await;
        assert_eq!((answer.status, &answer.body), (StatusCode::OK, &bytes));
        assert_eq!(answer.header("docker-content-digest"), Some(digest.as_str()));
        assert!(!answer.is_stale());
    }
    mirror.pass(HALF_TTL);
    assert_eq!(mirror.head(&manifest_path("latest")).await.status, StatusCode::OK);
    assert_eq!(mirror.upstream.asked(), [""; 0]);
    mirror.pass(HALF_TTL);
    for _ in 0..10 {
        assert_eq!(mirror.get(&manifest_path("latest")).await.body, bytes);
    }
    assert_eq!(mirror.upstream.asked(), ["HEAD library/app:latest"]);
    // Manifests by digest are never asked for again.
    mirror.pass(10 * TTL);
    assert_eq!(mirror.get(&manifest_path(digest.as_str())).await.body, bytes);
    assert_eq!(mirror.upstream.asked(), [""; 0]);
}

#[tokio::test]
async fn one_question_is_shared_by_all_who_wait() {
    let mirror = Mirror::new();
    let bytes = image(b"one");
    tag(&mirror, &bytes);
    mirror.upstream.delay(Duration::from_millis(50));
    let path = manifest_path("latest");
    for expected in ["GET library/app:latest", "HEAD library/app:latest"] {
        let answers = join_all((0..50).map(|_| mirror.get(&path))).await;
        assert!(answers.iter().all(|answer| answer.body == bytes));
        assert_eq!(mirror.upstream.asked(), [expected]);
        mirror.pass(TTL);
    }
}

#[tokio::test]
async fn a_tag_that_has_moved_is_fetched_by_its_digest() {
    let (mirror, ..) = warm(Mirror::new()).await;
    let second = image(b"two");
    let digest = tag(&mirror, &second);
    mirror.pass(TTL);
    assert_eq!(mirror.get(&manifest_path("latest")).await.body, second);
    let by_digest = format!("GET library/app:{digest}");
    assert_eq!(mirror.upstream.asked(), ["HEAD library/app:latest".into(), by_digest]);
    assert_eq!(mirror.restarted().get(&manifest_path("latest")).await.body, second);
}

#[tokio::test]
async fn row_162_a_tag_that_flips_is_asked_for_once_in_its_lifetime() {
    let (mirror, first, _) = warm(Mirror::new()).await;
    let second = image(b"two");
    for round in 0..6 {
        tag(&mirror, if round % 2 == 0 { &second } else { &first });
        mirror.get(&manifest_path("latest")).await;
    }
    assert_eq!(mirror.upstream.asked(), [""; 0]);
    mirror.pass(TTL);
    tag(&mirror, &second);
    assert_eq!(mirror.get(&manifest_path("latest")).await.body, second);
    mirror.upstream.asked();
    mirror.pass(TTL);
    // The repository has the first manifest still, which gets the tag without a transfer.
    tag(&mirror, &first);
    assert_eq!(mirror.get(&manifest_path("latest")).await.body, first);
    assert_eq!(mirror.upstream.asked(), ["HEAD library/app:latest"]);
}

#[tokio::test]
async fn a_cold_head_is_answered_by_the_upstreams_headers_and_its_tag_is_stored_with_the_manifest() {
    let mirror = Mirror::new();
    let bytes = image(b"one");
    let digest = tag(&mirror, &bytes);
    for _ in 0..3 {
        let answer = mirror.head(&manifest_path("latest")).await;
        assert_eq!((answer.status, answer.body.len()), (StatusCode::OK, 0));
        let expected = [digest.to_string(), bytes.len().to_string(), media_type::OCI_MANIFEST.to_owned()];
        let headers = ["docker-content-digest", "content-length", "content-type"];
        assert_eq!(headers.map(|name| answer.header(name).unwrap().to_owned()), expected);
    }
    assert_eq!(mirror.upstream.asked(), ["HEAD library/app:latest"]);
    // As containerd pulls.
    assert_eq!(mirror.get(&manifest_path(digest.as_str())).await.body, bytes);
    assert_eq!(mirror.upstream.asked(), [format!("GET library/app:{digest}")]);
    mirror.upstream.fail(Outage::Away);
    let restarted = mirror.restarted();
    let answer = restarted.get(&manifest_path("latest")).await;
    assert_eq!((answer.body.clone(), answer.is_stale()), (bytes, true));
}

#[tokio::test]
async fn headers_without_a_digest_are_completed_by_the_manifest() {
    let mirror = Mirror::new();
    let bytes = image(b"one");
    let digest = tag(&mirror, &bytes);
    mirror.upstream.say_digest(DigestHeader::Absent);
    let answer = mirror.head(&manifest_path("latest")).await;
    assert_eq!(answer.header("docker-content-digest"), Some(digest.as_str()));
    mirror.pass(TTL);
    assert!(!mirror.get(&manifest_path("latest")).await.is_stale());
    assert_eq!(mirror.upstream.asked().len(), 4);
}

#[tokio::test]
async fn what_is_stored_is_served_in_every_outage_also_after_a_restart() {
    for outage in [
        Outage::Away,
        Outage::Silent,
        Outage::Limited(None),
        Outage::Refused,
        Outage::NotFound,
        Outage::Invalid,
    ] {
        let (mirror, bytes, digest) = warm(Mirror::new()).await;
        mirror.upstream.fail(outage);
        mirror.pass(TTL);
        for mirror in [mirror.restarted(), mirror] {
            for _ in 0..20 {
                let answer = mirror.get(&manifest_path("latest")).await;
                assert_eq!((answer.status, &answer.body), (StatusCode::OK, &bytes), "{outage:?}");
                assert!(answer.is_stale(), "{outage:?}");
            }
            assert_eq!(mirror.upstream.asked().len(), 1, "{outage:?}");
            let answer = mirror.get(&manifest_path(digest.as_str())).await;
            assert!(answer.status == StatusCode::OK && !answer.is_stale(), "{outage:?}");
        }
    }
}

#[tokio::test]
async fn without_a_stored_copy_an_outage_has_its_status() {
    for (outage, status, code) in [
        (Outage::Away, StatusCode::BAD_GATEWAY, "UNKNOWN"),
        (Outage::Silent, StatusCode::BAD_GATEWAY, "UNKNOWN"),
        (Outage::Invalid, StatusCode::BAD_GATEWAY, "UNKNOWN"),
        (Outage::Limited(Some(7)), StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS"),
        (Outage::Refused, StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN"),
        (Outage::NotFound, StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN"),
    ] {
        for reference in ["latest", Digest::sha256(b"x").as_str()] {
            let mirror = Mirror::new();
            mirror.upstream.fail(outage);
            let answer = mirror.get(&manifest_path(reference)).await;
            assert_eq!((answer.status, answer.code().as_str()), (status, code), "{outage:?}");
            assert_eq!(answer.header("www-authenticate"), None);
            let head = mirror.head(&manifest_path(reference)).await;
            assert_eq!(head.status, status, "{outage:?}");
        }
    }
}

#[tokio::test]
async fn a_limited_upstream_is_not_asked_until_it_permits() {
    let (mirror, ..) = warm(Mirror::new()).await;
    mirror.upstream.fail(Outage::Limited(Some(30)));
    let answer = mirror.get(&manifest_path("other")).await;
    assert_eq!((answer.status, answer.header("retry-after")), (StatusCode::TOO_MANY_REQUESTS, Some("30")));
    mirror.upstream.fail(None);
    mirror.pass(Duration::from_secs(20));
    for _ in 0..5 {
        let answer = mirror.get(&manifest_path("third")).await;
        let found = (answer.status, answer.header("retry-after"));
        assert_eq!(found, (StatusCode::TOO_MANY_REQUESTS, Some("10")));
    }
    assert_eq!(mirror.upstream.asked(), ["GET library/app:other"]);
    mirror.pass(Duration::from_secs(10));
    assert_eq!(mirror.get(&manifest_path("third")).await.status, StatusCode::NOT_FOUND);
    assert_eq!(mirror.upstream.asked(), ["GET library/app:third"]);
}

#[tokio::test]
async fn an_upstream_that_is_away_is_left_alone_for_a_while() {
    let mirror = Mirror::new();
    mirror.upstream.fail(Outage::Away);
    for number in 0..20 {
        let answer = mirror.get(&manifest_path(&format!("t{number}"))).await;
        assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
    }
    assert_eq!(mirror.upstream.asked().len(), 3);
    mirror.upstream.fail(None);
    mirror.pass(Duration::from_secs(5));
    assert_eq!(mirror.get(&manifest_path("a")).await.status, StatusCode::NOT_FOUND);
    assert_eq!(mirror.upstream.asked().len(), 1);
}

#[tokio::test]
async fn a_tag_that_the_upstream_has_removed_goes_only_if_the_settings_say_so() {
    let settings = UpstreamSettings { missing: MissingPolicy::Drop, ..hub_settings() };
    let (mirror, bytes, digest) = warm(Mirror::with(settings, Settings::default(), 1 << 20)).await;
    mirror.pass(TTL);
    // Credentials that have expired hide the tag, and do not remove it.
    mirror.upstream.fail(Outage::Refused);
    assert_eq!(mirror.get(&manifest_path("latest")).await.status, StatusCode::NOT_FOUND);
    mirror.upstream.fail(None);
    mirror.pass(Duration::from_mins(1));
    assert_eq!(mirror.get(&manifest_path("latest")).await.body, bytes);
    mirror.upstream.untag(APP, "latest");
    mirror.pass(TTL);
    assert_eq!(mirror.get(&manifest_path("latest")).await.status, StatusCode::NOT_FOUND);
    mirror.upstream.fail(Outage::Away);
    assert_eq!(mirror.restarted().get(&manifest_path("latest")).await.status, StatusCode::BAD_GATEWAY);
    assert_eq!(mirror.get(&manifest_path(digest.as_str())).await.body, bytes);
}

#[tokio::test]
async fn row_160_absent_names_are_asked_for_once() {
    let mirror = Mirror::new();
    let path = manifest_path("nothing");
    mirror.upstream.delay(Duration::from_millis(20));
    join_all((0..20).map(|_| mirror.get(&path))).await;
    assert_eq!(mirror.get(&path).await.status, StatusCode::NOT_FOUND);
    assert_eq!(mirror.head(&path).await.status, StatusCode::NOT_FOUND);
    assert_eq!(mirror.upstream.asked(), ["GET library/app:nothing"]);
    // What appears is found when the answer is old.
    mirror.upstream.tag(APP, "nothing", &image(b"one"), media_type::OCI_MANIFEST);
    assert_eq!(mirror.get(&path).await.status, StatusCode::NOT_FOUND);
    mirror.pass(Duration::from_mins(1));
    assert_eq!(mirror.get(&path).await.status, StatusCode::OK);
}

#[tokio::test]
async fn row_160_a_client_that_asks_for_many_names_leaves_connections_to_others() {
    let settings = UpstreamSettings { max_connections: 4, ..hub_settings() };
    let mirror = Arc::new(Mirror::with(settings, Settings::default(), 64 << 20));
    tag(&mirror, &image(b"layer"));
    mirror.upstream.fail(Outage::Silent);
    let greedy = |number: usize| {
        let mirror = mirror.clone();
        async move { mirror.get_from([192, 0, 2, 1], &manifest_path(&format!("absent-{number}"))).await.status }
    };
    let greedy: Vec<_> = (0..100).map(|number| tokio::spawn(greedy(number))).collect();
    let mut asked = Vec::new();
    while asked.len() < 2 {
        tokio::task::yield_now().await;
        asked.extend(mirror.upstream.asked());
    }
    mirror.upstream.fail(None);
    let other = mirror.get_from([192, 0, 2, 2], &manifest_path("latest")).await;
    assert_eq!(other.status, StatusCode::OK);
    assert_eq!(asked.len(), 2, "{asked:?}");
    for answer in greedy {
        let status = answer.await.unwrap();
        let is_told = [StatusCode::NOT_FOUND, StatusCode::BAD_GATEWAY, StatusCode::TOO_MANY_REQUESTS];
        assert!(is_told.contains(&status), "{status}");
    }
}

#[tokio::test]
async fn row_161_a_captive_portal_replaces_nothing() {
    let (mirror, bytes, _) = warm(Mirror::new()).await;
    let page = Bytes::from_static(b"<html>log in</html>");
    mirror.upstream.tag(APP, "latest", &page, "text/html");
    mirror.upstream.tag(APP, "other", &page, "text/html");
    mirror.upstream.say_digest(DigestHeader::Absent);
    mirror.pass(TTL);
    let answer = mirror.get(&manifest_path("latest")).await;
    assert_eq!((answer.body.clone(), answer.is_stale()), (bytes, true));
    for method in [Method::GET, Method::HEAD] {
        let answer = mirror.ask(method, &manifest_path("other"), &[]).await;
        assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
    }
}

#[tokio::test]
async fn row_164_a_digest_that_the_bytes_do_not_have_is_refused() {
    let mirror = Mirror::new();
    let bytes = image(b"one");
    tag(&mirror, &bytes);
    mirror.upstream.say_digest(DigestHeader::Other(Digest::sha256(b"another")));
    assert_eq!(mirror.get(&manifest_path("latest")).await.status, StatusCode::BAD_GATEWAY);
    let long = Digest::of(quinistry_oci::Algorithm::Sha512, &bytes);
    mirror.upstream.say_digest(DigestHeader::Other(long.clone()));
    let answer = mirror.get(&manifest_path("latest")).await;
    assert_eq!(answer.header("docker-content-digest"), Some(long.as_str()));
    assert_eq!(mirror.get(&manifest_path(long.as_str())).await.body, bytes);
}

#[tokio::test]
async fn row_159_an_index_is_stored_although_nothing_it_names_is_here_and_nothing_is_followed() {
    let mirror = Mirror::new();
    let many = index(10_000);
    let digest = mirror.upstream.tag(APP, "many", &many, media_type::OCI_INDEX);
    assert_eq!(mirror.get(&manifest_path("many")).await.body, many);
    assert_eq!(mirror.upstream.asked(), ["GET library/app:many"]);
    mirror.upstream.fail(Outage::Away);
    assert_eq!(mirror.get(&manifest_path(digest.as_str())).await.body, many);
    let long = Bytes::from(vec![b' '; 5 << 20]);
    mirror.upstream.fail(None);
    mirror.upstream.tag(APP, "long", &long, media_type::OCI_INDEX);
    assert_eq!(mirror.get(&manifest_path("long")).await.status, StatusCode::BAD_GATEWAY);
}

#[tokio::test]
async fn manifests_of_schema_1_are_absent() {
    let mirror = Mirror::new();
    let old = Bytes::from_static(br#"{"schemaVersion":1,"fsLayers":[]}"#);
    mirror.upstream.tag(APP, "old", &old, "application/vnd.docker.distribution.manifest.v1+prettyjws");
    assert_eq!(mirror.get(&manifest_path("old")).await.code(), "MANIFEST_UNKNOWN");
}

#[tokio::test]
async fn row_167_without_room_for_a_manifest_clients_are_served() {
    let bytes = image(b"one");
    let read_only = Settings { read_only: true, ..Settings::default() };
    for mirror in [
        Mirror::with(hub_settings(), Settings::default(), 16),
        Mirror::with(hub_settings(), read_only, 1 << 20),
    ] {
        let digest = tag(&mirror, &bytes);
        for reference in ["latest", digest.as_str()] {
            let answer = mirror.get(&manifest_path(reference)).await;
            assert_eq!((answer.status, &answer.body), (StatusCode::OK, &bytes));
            assert_eq!(answer.header("docker-content-digest"), Some(digest.as_str()));
        }
        assert_eq!(mirror.upstream.asked().len(), 2);
        mirror.upstream.fail(Outage::NotFound);
        assert_eq!(mirror.get(&manifest_path("latest")).await.status, StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn an_immutable_tag_stays_where_it_is() {
    let policy = crate::TagPolicy {
        repositories: vec!["docker.io/**".into()],
        tags: vec!["latest".into()],
        except: Vec::new(),
    };
    let tags = TagPolicies::new(&[policy], &[]).unwrap();
    let settings = Settings { tags: Some(std::sync::Arc::new(tags)), ..Settings::default() };
    let (mirror, first, _) = warm(Mirror::with(hub_settings(), settings, 1 << 20)).await;
    tag(&mirror, &image(b"two"));
    mirror.pass(TTL);
    let answer = mirror.get(&manifest_path("latest")).await;
    assert_eq!((answer.body.clone(), answer.is_stale()), (first, false));
}

#[tokio::test]
async fn a_tag_that_waits_for_its_manifest_moves_nothing_back() {
    let policy = crate::TagPolicy {
        repositories: vec!["docker.io/**".into()],
        tags: vec!["latest".into()],
        except: Vec::new(),
    };
    let immutable = std::sync::Arc::new(TagPolicies::new(&[policy], &[]).unwrap());
    for tags in [None, Some(immutable)] {
        let settings = Settings { tags, ..Settings::default() };
        let mirror = Mirror::with(hub_settings(), settings, 1 << 20);
        let (first, second) = (image(b"one"), image(b"two"));
        let digest = tag(&mirror, &first);
        mirror.head(&manifest_path("latest")).await;
        // Another replica on the same storage asks later, and stores what the tag means then.
        tag(&mirror, &second);
        let replica = mirror.restarted();
        assert_eq!(replica.get(&manifest_path("latest")).await.body, second);
        let answer = mirror.get(&manifest_path(digest.as_str())).await;
        assert_eq!((answer.status, &answer.body), (StatusCode::OK, &first));
        mirror.upstream.fail(Outage::Away);
        assert_eq!(mirror.restarted().get(&manifest_path("latest")).await.body, second);
        assert_eq!(mirror.restarted().get(&manifest_path(digest.as_str())).await.body, first);
    }
}

#[tokio::test]
async fn a_tag_waits_for_its_manifest_as_long_as_its_headers_are_believed() {
    let mirror = Mirror::new();
    let digest = tag(&mirror, &image(b"one"));
    mirror.head(&manifest_path("latest")).await;
    mirror.pass(TTL);
    assert_eq!(mirror.get(&manifest_path(digest.as_str())).await.status, StatusCode::OK);
    mirror.upstream.fail(Outage::Away);
    assert_eq!(mirror.get(&manifest_path("latest")).await.status, StatusCode::BAD_GATEWAY);
}

#[tokio::test]
async fn a_moved_tag_that_cannot_be_stored_is_asked_for_once_in_its_lifetime() {
    let (writer, first, _) = warm(Mirror::new()).await;
    let second = image(b"two");
    let digest = tag(&writer, &second);
    let (head, get) = ("HEAD library/app:latest".to_owned(), format!("GET library/app:{digest}"));
    let read_only = Settings { read_only: true, ..Settings::default() };
    let store = writer.state.0.stored.as_ref().unwrap().store.clone();
    let mirror = Mirror::on(store, hub_settings(), read_only, writer.upstream.clone());
    for expected in [vec![head.clone(), get.clone()], vec![get]] {
        let answer = mirror.get(&manifest_path("latest")).await;
        assert_eq!((&answer.body, answer.is_stale()), (&second, false));
        assert_eq!(mirror.upstream.asked(), expected);
    }
    let answer = mirror.head(&manifest_path("latest")).await;
    assert_eq!(answer.header("docker-content-digest"), Some(digest.as_str()));
    assert_eq!(mirror.upstream.asked(), [""; 0]);
    // The storage has the manifest from then on, and only the tag cannot be written.
    writer.get(&manifest_path(digest.as_str())).await;
    mirror.upstream.asked();
    assert_eq!(mirror.get(&manifest_path("latest")).await.body, second);
    assert_eq!(mirror.upstream.asked(), [""; 0]);
    mirror.pass(TTL);
    assert_eq!(mirror.get(&manifest_path("latest")).await.body, second);
    assert_eq!(mirror.upstream.asked(), [head]);
    mirror.upstream.fail(Outage::Away);
    mirror.pass(TTL);
    let answer = mirror.get(&manifest_path("latest")).await;
    assert_eq!((&answer.body, answer.is_stale()), (&first, true));
}

#[tokio::test]
async fn an_upstream_that_lacks_the_digest_it_names_removes_no_tag() {
    let settings = UpstreamSettings { missing: MissingPolicy::Drop, ..hub_settings() };
    let (mirror, first, _) = warm(Mirror::with(settings, Settings::default(), 1 << 20)).await;
    let digest = tag(&mirror, &image(b"two"));
    mirror.upstream.untag(APP, digest.as_str());
    mirror.pass(TTL);
    let answer = mirror.get(&manifest_path("latest")).await;
    assert_eq!((answer.body.clone(), answer.is_stale()), (first, true));
}

#[tokio::test]
async fn a_manifest_takes_its_place_in_memory_until_it_is_stored() {
    let settings = UpstreamSettings { max_connections: 1, ..hub_settings() };
    let mirror = Mirror::with(settings, Settings::default(), 1 << 20);
    let bytes = image(b"one");
    tag(&mirror, &bytes);
    mirror.upstream.tag("library/other", "latest", &bytes, media_type::OCI_MANIFEST);
    let queue = &mirror.state.0.stored.as_ref().unwrap().repository_queue;
    let turn = queue.wait(&"docker.io/library/app".parse().unwrap()).await;
    let path = manifest_path("latest");
    let others = async {
        while mirror.upstream.asked().is_empty() {
            tokio::task::yield_now().await;
        }
        let other = mirror.get("/v2/docker.io/library/other/manifests/latest").await;
        assert_eq!(other.status, StatusCode::BAD_GATEWAY);
        assert_eq!(mirror.upstream.asked(), [""; 0]);
        drop(turn);
    };
    let (first, ()) = tokio::join!(mirror.get(&path), others);
    assert_eq!(first.body, bytes);
    assert_eq!(mirror.get("/v2/docker.io/library/other/manifests/latest").await.body, bytes);
}

#[tokio::test]
async fn a_reload_keeps_the_ages_of_tags_and_forgets_what_was_absent() {
    let (mut mirror, bytes, _) = warm(Mirror::new()).await;
    mirror.get(&manifest_path("absent")).await;
    mirror.upstream.asked();
    mirror.reload(hub_settings());
    // Settings that change elsewhere reload no upstream.
    let current = Settings::clone(&mirror.state.0.settings.current());
    mirror.state.replace_settings(Settings { delete: false, ..current });
    assert_eq!(mirror.get(&manifest_path("latest")).await.body, bytes);
    assert_eq!(mirror.upstream.asked(), [""; 0]);
    mirror.get(&manifest_path("absent")).await;
    assert_eq!(mirror.upstream.asked(), ["GET library/app:absent"]);
    mirror.pass(TTL);
    mirror.get(&manifest_path("latest")).await;
    assert_eq!(mirror.upstream.asked(), ["HEAD library/app:latest"]);
    // Another upstream may mean another manifest by the tag.
    let other = UpstreamSettings { remote_url: "https://mirror.example".parse().unwrap(), ..hub_settings() };
    mirror.reload(other);
    mirror.get(&manifest_path("latest")).await;
    assert_eq!(mirror.upstream.asked(), ["HEAD library/app:latest"]);
}
