//! Prefetch: what is fetched before a client asks, what is not, and when it stops.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use quinistry_oci::{Descriptor, Digest, Platform, RepositoryName, media_type, to_json};
use quinistry_store::{Quota, RepositoryMatcher};

use super::scripted::Outage;
use super::{Mirror, blob_path, hub_settings, image, manifest_path};
use crate::Settings;
use crate::upstreams::{
    ExcludedRepository, ExclusionReason, PrefetchRule, PrefetchedUpstream, UpstreamSettings,
};

pub(super) const APP: &str = "library/app";
pub(super) const INTERVAL: Duration = Duration::from_hours(6);

fn mirror(tags: &[&str]) -> Mirror {
    let settings = UpstreamSettings {
        platforms: vec!["linux/amd64".parse().unwrap()],
        prefetch: vec![PrefetchRule {
            // Both spellings of the name are one repository.
            repository: "app".parse().unwrap(),
            tags: tags.iter().map(ToString::to_string).collect(),
            interval: INTERVAL,
        }],
        ..hub_settings()
    };
    Mirror::with(settings, Settings::default(), 64 << 20)
}

impl Mirror {
    /// Makes the rounds that are due. Returns the questions that they cost.
    async fn prefetch(&self) -> Vec<String> {
        self.upstream.asked();
        self.rounds().await;
        self.settle().await;
        self.upstream.asked()
    }

    /// Makes the rounds that are due. Returns their result.
    pub(super) async fn rounds(&self) -> PrefetchedUpstream {
        let stored = self.state.0.stored.clone().unwrap();
        let upstreams = self.state.0.settings.current().upstreams.clone().unwrap();
        upstreams.prefetch(&stored).await.remove(0)
    }
}

#[derive(Debug)]
struct AllRepositories;

impl RepositoryMatcher for AllRepositories {
    fn matches(&self, _: &RepositoryName) -> bool {
        true
    }
}

/// Gives the upstream an image with its blobs, and returns its descriptor for an index.
fn publish(mirror: &Mirror, tag: &str, layer: &Bytes, architecture: &str) -> Descriptor {
    let bytes = image(layer);
    for blob in [layer, &Bytes::from_static(b"{}")] {
        mirror.upstream.add_blob(APP, blob);
    }
    mirror.upstream.tag(APP, tag, &bytes, media_type::OCI_MANIFEST);
    entry(media_type::OCI_MANIFEST, &bytes, architecture)
}

/// Returns the entry of an index for a manifest.
fn entry(media_type: &str, manifest: &[u8], architecture: &str) -> Descriptor {
    let platform = Platform { os: "linux".into(), architecture: architecture.into(), ..Platform::default() };
    Descriptor { platform: Some(platform), ..Descriptor::of(media_type, manifest) }
}

fn publish_index(mirror: &Mirror, tag: &str, entries: &[Descriptor]) -> Bytes {
    let index =
        serde_json::json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": entries});
    let index: Bytes = to_json(&index).into();
    mirror.upstream.tag(APP, tag, &index, media_type::OCI_INDEX);
    index
}

#[tokio::test]
async fn the_images_of_the_platforms_are_fetched_and_served_while_the_upstream_is_away() {
    let mirror = mirror(&["latest"]);
    let layer = Bytes::from_static(b"layer");
    let wanted = publish(&mirror, "amd64", &layer, "amd64");
    let other = publish(&mirror, "s390x", &Bytes::from_static(b"other layer"), "s390x");
    let index = publish_index(&mirror, "latest", &[wanted.clone(), other.clone()]);
    let mut asked = mirror.prefetch().await;
    asked.sort();
    let mut expected = vec![
        "GET library/app:latest".to_owned(),
        format!("GET library/app:{}", wanted.digest),
        format!("GET library/app {}", Digest::sha256(&layer)),
        format!("GET library/app {}", Digest::sha256(b"{}")),
    ];
    expected.sort();
    assert_eq!(asked, expected);
    mirror.upstream.fail(Outage::Away);
    assert_eq!(mirror.get(&manifest_path("latest")).await.body, index);
    assert_eq!(mirror.get(&manifest_path(wanted.digest.as_str())).await.status, StatusCode::OK);
    assert_eq!(mirror.get(&blob_path(&Digest::sha256(&layer))).await.body, layer);
    assert_eq!(mirror.get(&manifest_path(other.digest.as_str())).await.status, StatusCode::BAD_GATEWAY);
}

#[tokio::test]
async fn a_round_comes_once_in_its_interval_and_costs_one_head_if_nothing_has_moved() {
    let mirror = mirror(&["v*"]);
    publish(&mirror, "v1", &Bytes::from_static(b"one"), "amd64");
    publish(&mirror, "main", &Bytes::from_static(b"main"), "amd64");
    mirror.upstream.list(APP, &["main", "v1"]);
    let asked = mirror.prefetch().await;
    assert_eq!(asked[..2], ["tags library/app 10000", "GET library/app:v1"]);
    assert_eq!(asked.len(), 4);
    assert_eq!(mirror.prefetch().await, [""; 0]);
    mirror.pass(INTERVAL);
    assert_eq!(mirror.prefetch().await, ["tags library/app 10000", "HEAD library/app:v1"]);
    mirror.pass(INTERVAL);
    let moved = publish(&mirror, "v1", &Bytes::from_static(b"two"), "amd64");
    let asked = mirror.prefetch().await;
    assert_eq!(asked.len(), 4, "the configuration is stored already: {asked:?}");
    assert_eq!(asked[2], format!("GET library/app:{}", moved.digest));
}

#[tokio::test]
async fn a_limit_ends_a_round_until_the_upstream_permits_requests_again() {
    let mirror = mirror(&["a", "b"]);
    let layer = Bytes::from_static(b"layer");
    for tag in ["a", "b"] {
        publish(&mirror, tag, &layer, "amd64");
    }
    mirror.upstream.fail(Outage::Limited(Some(120)));
    assert_eq!(mirror.prefetch().await, ["GET library/app:a"]);
    assert_eq!(mirror.prefetch().await, [""; 0]);
    mirror.upstream.fail(None);
    mirror.pass(Duration::from_secs(119));
    assert_eq!(mirror.prefetch().await, [""; 0]);
    mirror.pass(Duration::from_secs(1));
    assert_eq!(mirror.prefetch().await.len(), 4, "both tags have the same image");
    mirror.upstream.fail(Outage::Away);
    for tag in ["a", "b"] {
        assert_eq!(mirror.get(&manifest_path(tag)).await.status, StatusCode::OK, "{tag}");
    }
}

#[tokio::test]
async fn what_is_fetched_in_advance_is_not_evicted() {
    let mirror = mirror(&["latest"]);
    let wanted = publish(&mirror, "other", &Bytes::from_static(b"layer"), "amd64");
    publish_index(&mirror, "latest", std::slice::from_ref(&wanted));
    mirror.prefetch().await;
    let pulled = publish(&mirror, "pulled", &Bytes::from_static(b"pulled"), "amd64");
    mirror.get(&manifest_path("pulled")).await;
    assert_eq!(mirror.evict(Duration::from_hours(9000)).await, 1);
    mirror.upstream.fail(Outage::Away);
    for reference in ["latest", wanted.digest.as_str()] {
        assert_eq!(mirror.get(&manifest_path(reference)).await.status, StatusCode::OK, "{reference}");
    }
    assert_eq!(mirror.get(&manifest_path(pulled.digest.as_str())).await.status, StatusCode::BAD_GATEWAY);
}

#[tokio::test]
async fn a_tag_whose_blob_is_not_published_counts_as_failed() {
    let mirror = mirror(&["long", "short"]);
    publish(&mirror, "short", &Bytes::from_static(b"layer"), "amd64");
    publish(&mirror, "long", &Bytes::from(vec![7; 20_000]), "amd64");
    let store = mirror.state.0.stored.as_ref().unwrap().store.clone();
    let quota = Quota {
        name: "all".into(),
        repositories: Arc::new(AllRepositories),
        bytes: Some(10_000),
        tags: None,
    };
    store.set_quotas(vec![quota]);
    let result = mirror.rounds().await;
    assert_eq!((result.tags, result.failed, result.is_interrupted), (1, 1, false));
    store.set_quotas(Vec::new());
    mirror.pass(INTERVAL);
    let result = mirror.rounds().await;
    assert_eq!((result.tags, result.failed, result.is_interrupted), (2, 0, false));
}

#[tokio::test]
async fn a_list_of_tags_that_is_not_sent_counts_as_failed() {
    let mirror = mirror(&["v*"]);
    let result = mirror.rounds().await;
    assert_eq!((result.tags, result.failed, result.is_interrupted), (0, 1, false));
}

#[tokio::test]
async fn a_round_goes_on_at_the_tag_at_which_a_limit_has_ended_it() {
    let mirror = mirror(&["a", "b", "c"]);
    for tag in ["a", "b", "c"] {
        publish(&mirror, tag, &Bytes::from_static(tag.as_bytes()), "amd64");
    }
    let layer = |tag: &str| format!("GET {APP} {}", Digest::sha256(tag.as_bytes()));
    mirror.upstream.limit_after(3);
    let asked = mirror.prefetch().await;
    assert_eq!((&asked[0], &asked[3..]), (&"GET library/app:a".into(), &["GET library/app:b".into()][..]));
    mirror.pass(Duration::from_hours(1));
    mirror.upstream.limit_after(3);
    let asked = mirror.prefetch().await;
    assert_eq!(asked, ["GET library/app:b".into(), layer("b"), "GET library/app:c".into(), layer("c")]);
    mirror.pass(Duration::from_hours(1));
    mirror.upstream.limit_after(None);
    assert_eq!(mirror.prefetch().await, ["HEAD library/app:c".into(), layer("c")]);
    assert_eq!(mirror.prefetch().await, [""; 0], "the round is over");
    mirror.pass(INTERVAL);
    assert_eq!(mirror.prefetch().await, ["a", "b", "c"].map(|tag| format!("HEAD library/app:{tag}")));
}

#[tokio::test]
async fn a_tag_whose_indexes_name_too_many_manifests_counts_as_failed_and_each_is_asked_for_once() {
    let mirror = mirror(&["huge", "shared"]);
    let image_of = |note: String| {
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": media_type::OCI_MANIFEST,
            "config": Descriptor::of(media_type::OCI_CONFIG, b"{}"),
            "layers": [],
            "annotations": {"note": note},
        });
        let bytes: Bytes = to_json(&manifest).into();
        mirror.upstream.tag(APP, "unnamed", &bytes, media_type::OCI_MANIFEST);
        entry(media_type::OCI_MANIFEST, &bytes, "amd64")
    };
    mirror.upstream.add_blob(APP, &Bytes::from_static(b"{}"));
    let shared: Vec<Descriptor> = (0..30).map(|at| image_of(format!("common {at}"))).collect();
    let publish_nested = |tag: &str, images: &dyn Fn(usize) -> Vec<Descriptor>| {
        let nested = (0..40).map(|at| {
            let own = image_of(format!("{tag} {at}"));
            let images: Vec<Descriptor> = images(at).into_iter().chain([own]).collect();
            entry(media_type::OCI_INDEX, &publish_index(&mirror, "unnamed", &images), "amd64")
        });
        let nested: Vec<Descriptor> = nested.collect();
        publish_index(&mirror, tag, &nested);
    };
    publish_nested("shared", &|_| shared.clone());
    publish_nested("huge", &|at| (0..30).map(|image| image_of(format!("huge {at} {image}"))).collect());
    mirror.upstream.asked();
    let result = mirror.rounds().await;
    assert_eq!((result.tags, result.failed, result.is_interrupted), (1, 1, false));
    let asked = mirror.upstream.asked();
    let manifests = asked.iter().filter(|question| question.starts_with("GET library/app:")).count();
    assert_eq!(manifests, 1000 + (1 + 40 + 40 + 30));
}

#[tokio::test]
async fn a_rule_whose_repository_is_denied_is_named_once_in_each_round() {
    let rule = |repository: &str| PrefetchRule {
        repository: repository.parse().unwrap(),
        tags: vec!["latest".into()],
        interval: INTERVAL,
    };
    let settings = UpstreamSettings {
        deny: vec!["library/secret*".into()],
        prefetch: vec![rule("secret"), rule("app")],
        ..hub_settings()
    };
    let mirror = Mirror::with(settings, Settings::default(), 64 << 20);
    publish(&mirror, "latest", &Bytes::from_static(b"layer"), "amd64");
    let denied =
        ExcludedRepository { repository: "secret".parse().unwrap(), reason: ExclusionReason::Denied };
    let result = mirror.rounds().await;
    assert_eq!((result.tags, result.failed, result.excluded), (1, 0, vec![denied.clone()]));
    assert!(mirror.rounds().await.excluded.is_empty(), "the next round is not due");
    mirror.pass(INTERVAL);
    assert_eq!(mirror.rounds().await.excluded, [denied]);
}
