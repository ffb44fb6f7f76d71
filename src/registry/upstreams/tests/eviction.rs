//! Eviction of copies through the router: what goes, what is fetched again, and what stays.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::StatusCode;
use quinistry_oci::{Digest, Manifest, RepositoryName, media_type};
use quinistry_store::{Access, Cycle, Filesystem, KeepAll, Store, Tagged};

use super::scripted::{Outage, Scripted};
use super::{Mirror, blob_path, hub_settings, image, manifest_path};
use crate::Settings;
use crate::tests::gc_without_waits;
use crate::upstreams::eviction::record_uses;
use crate::upstreams::{CopySelection, PrefetchRule, StoredUpstreams, UpstreamSettings};

const APP: &str = "library/app";
const KEEP: Duration = Duration::from_hours(168);

impl Mirror {
    pub(super) fn store(&self) -> &Store {
        &self.state.0.stored.as_ref().unwrap().store
    }

    /// Evicts copies as of some time from now. Returns the number of those that went.
    pub(super) async fn evict(&self, after: Duration) -> usize {
        let stored = self.state.0.stored.clone().unwrap();
        record_uses(&stored).await;
        let upstreams = self.state.0.settings.current().upstreams.clone().unwrap();
        let evict = move || {
            let now = stored.store.now() + after;
            upstreams.evict(&stored, &stored.store.lead().unwrap(), (now, None)).unwrap()
        };
        tokio::task::spawn_blocking(evict).await.unwrap().upstreams[0].evicted
    }

    fn evicted(&self) -> u64 {
        let stored = self.state.0.stored.as_ref().unwrap();
        stored.upstream_metrics.of("scripted").evicted.get()
    }
}

/// Gives the upstream an image with a layer. Returns the manifest and its digest.
fn publish(mirror: &Mirror, tag: &str, layer: &Bytes) -> (Bytes, Digest) {
    let bytes = image(layer);
    for blob in [layer, &Bytes::from_static(b"{}")] {
        mirror.upstream.add_blob(APP, blob);
    }
    let digest = mirror.upstream.tag(APP, tag, &bytes, media_type::OCI_MANIFEST);
    (bytes, digest)
}

/// Pulls an image with its layer, as an engine does.
async fn pull(mirror: &Mirror, tag: &str, (manifest, layer): (&Bytes, &Bytes)) {
    let answer = mirror.get(&manifest_path(tag)).await;
    assert_eq!((answer.status, &answer.body), (StatusCode::OK, manifest), "{tag}");
    for blob in [layer, &Bytes::from_static(b"{}")] {
        let answer = mirror.get(&blob_path(&Digest::sha256(blob))).await;
        assert_eq!((answer.status, &answer.body), (StatusCode::OK, blob), "{tag}");
    }
    mirror.settle().await;
}

fn layer(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

#[tokio::test]
async fn a_copy_that_no_client_used_goes_and_the_next_pull_fetches_another_one() {
    let mirror = Mirror::new();
    let (old, used) = (layer("old layer"), layer("used layer"));
    let (old_image, old_digest) = publish(&mirror, "old", &old);
    let (used_image, _) = publish(&mirror, "used", &used);
    pull(&mirror, "old", (&old_image, &old)).await;
    pull(&mirror, "used", (&used_image, &used)).await;
    assert_eq!(mirror.evict(KEEP / 2).await, 0);
    assert_eq!(mirror.evict(KEEP + Duration::from_mins(1)).await, 2);
    assert_eq!(mirror.evicted(), 2);
    mirror.upstream.asked();
    pull(&mirror, "old", (&old_image, &old)).await;
    let asked = mirror.upstream.asked();
    assert_eq!(asked, ["GET library/app:old"], "the blobs are stored until the next collection");
    mirror.upstream.fail(Outage::Away);
    assert_eq!(mirror.get(&manifest_path(old_digest.as_str())).await.body, old_image);
    assert_eq!(mirror.get(&manifest_path("used")).await.status, StatusCode::BAD_GATEWAY);
}

#[tokio::test]
async fn a_head_is_a_use() {
    let mirror = Mirror::new();
    let layer = layer("layer");
    let (bytes, _) = publish(&mirror, "latest", &layer);
    pull(&mirror, "latest", (&bytes, &layer)).await;
    let stored = mirror.state.0.stored.clone().unwrap();
    record_uses(&stored).await;
    mirror.pass(Duration::from_mins(5));
    let upstreams = mirror.state.0.settings.current().upstreams.clone().unwrap();
    mirror.head(&manifest_path("latest")).await;
    let evict = || {
        let (stored, upstreams) = (stored.clone(), upstreams.clone());
        let evict = move || {
            let now = stored.store.now() + 2 * KEEP;
            upstreams.evict(&stored, &stored.store.lead().unwrap(), (now, None)).unwrap().evicted()
        };
        async { tokio::task::spawn_blocking(evict).await.unwrap() }
    };
    assert_eq!(evict().await, 0, "the use is in memory");
    record_uses(&stored).await;
    assert_eq!(evict().await, 1, "the use is in the storage, and was long ago");
}

#[tokio::test]
async fn copies_of_an_upstream_that_is_away_stay() {
    let mirror = Mirror::new();
    let layer = layer("layer");
    let (bytes, _) = publish(&mirror, "latest", &layer);
    pull(&mirror, "latest", (&bytes, &layer)).await;
    mirror.upstream.fail(Outage::Away);
    for tag in ["a", "b", "c"] {
        mirror.get(&manifest_path(tag)).await;
    }
    assert_eq!(mirror.evict(2 * KEEP).await, 0);
    mirror.upstream.fail(None);
    mirror.pass(Duration::from_mins(1));
    assert_eq!(mirror.get(&manifest_path("a")).await.status, StatusCode::NOT_FOUND);
    assert_eq!(mirror.evict(2 * KEEP).await, 1);
}

#[tokio::test]
async fn copies_go_only_if_the_upstream_has_answered_since_the_last_eviction() {
    let former = Mirror::new();
    let layer = layer("layer");
    let (bytes, digest) = publish(&former, "latest", &layer);
    pull(&former, "latest", (&bytes, &layer)).await;
    let mirror = former.restarted();
    mirror.upstream.asked();
    for outage in [Outage::Away, Outage::Refused, Outage::Invalid, Outage::Silent, Outage::Limited(None)] {
        mirror.upstream.fail(outage);
        assert_eq!(mirror.evict(2 * KEEP).await, 0, "{outage:?}");
        assert_eq!(mirror.upstream.asked(), [format!("HEAD library/app:{digest}")], "{outage:?}");
    }
    assert_eq!(mirror.evict(2 * KEEP).await, 0);
    assert_eq!(mirror.upstream.asked(), [""; 0], "nothing is asked in a pause");
    mirror.upstream.fail(None);
    mirror.pass(Duration::from_hours(1));
    assert_eq!(mirror.evict(KEEP / 2).await, 0);
    assert_eq!(mirror.upstream.asked(), [""; 0], "no copy is about to go");
    assert_eq!(mirror.evict(2 * KEEP).await, 1);
    assert_eq!(mirror.upstream.asked(), [format!("HEAD library/app:{digest}")]);
}

#[tokio::test]
async fn an_administrator_removes_what_he_names_and_else_what_is_not_kept() {
    let rule = PrefetchRule {
        repository: APP.parse().unwrap(),
        tags: vec!["12*".into()],
        interval: Duration::from_hours(6),
    };
    let forever = UpstreamSettings { keep: None, ..hub_settings() };
    let prefetched = UpstreamSettings { prefetch: vec![rule], ..hub_settings() };
    for (settings, left) in [(forever, ["12.1", "latest"].as_slice()), (prefetched, &["12.1"])] {
        let mirror = Mirror::with(settings.clone(), Settings::default(), 1 << 20);
        for tag in ["12.1", "latest"] {
            let layer = Bytes::from(tag);
            let (bytes, _) = publish(&mirror, tag, &layer);
            pull(&mirror, tag, (&bytes, &layer)).await;
        }
        let stored = StoredUpstreams::new(&[settings]).unwrap();
        let tags = || {
            let page = quinistry_store::Page { size: 10, last: String::new() };
            let tags = mirror.store().tags(&"docker.io/library/app".parse().unwrap(), &page);
            tags.map(|(tags, _)| tags.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        let mut selection = CopySelection::default();
        stored.evict(mirror.store(), &selection).unwrap();
        assert_eq!(tags().unwrap(), left);
        selection.repositories = stored.resolve(&["docker.io/app".parse().unwrap()]).unwrap();
        assert_eq!(stored.evict(mirror.store(), &selection).unwrap().evicted(), left.len());
    }
}

#[tokio::test]
async fn copies_without_limits_stay_for_ever_and_a_size_evicts_the_least_recently_used() {
    let forever =
        Mirror::with(UpstreamSettings { keep: None, ..hub_settings() }, Settings::default(), 1 << 20);
    let small = UpstreamSettings { keep: None, max_bytes: Some(1000), ..hub_settings() };
    let small = Mirror::with(small, Settings::default(), 1 << 20);
    for (mirror, expected) in [(forever, 0), (small, 1)] {
        for tag in ["first", "second"] {
            let layer = Bytes::from(tag.repeat(60));
            let (bytes, _) = publish(&mirror, tag, &layer);
            pull(&mirror, tag, (&bytes, &layer)).await;
            // The times of records are those of the storage, and must differ.
            let before = mirror.store().now();
            while mirror.store().now() <= before {}
        }
        assert_eq!(mirror.evict(Duration::ZERO).await, 0, "both are being read");
        assert_eq!(mirror.evict(9 * KEEP).await, expected);
        mirror.upstream.fail(Outage::Away);
        assert_eq!(mirror.get(&manifest_path("second")).await.status, StatusCode::OK);
    }
}

/// Pushes the image of the upstream into a repository of this registry, as a client would.
fn push(store: &Store, manifest: &Bytes, blobs: &[&Bytes]) -> RepositoryName {
    let name: RepositoryName = "team/app".parse().unwrap();
    for blob in blobs {
        let digest = Digest::sha256(blob);
        let mut receiver = store.receive(&digest, None).unwrap();
        receiver.append(blob).unwrap();
        store.commit(&name, &mut receiver, &digest).unwrap();
    }
    let parsed = Manifest::parse(manifest, None).unwrap();
    let tags = ["v1".parse().unwrap()];
    let digest = Digest::sha256(manifest);
    store.put_manifest(&name, manifest, &parsed, Tagged { digest: &digest, tags: &tags }).unwrap();
    name
}

/// Has all copies look as if they were used long ago, but for those that are being stored.
fn age_stored_copies(storage: &Path) {
    let root = storage.join("docker/registry/v2");
    let manifests = root.join("repositories/docker.io/library/app/_manifests/revisions/sha256");
    for repository in fs::read_dir(root.join("_quinistry/upstreams")).into_iter().flatten() {
        for record in fs::read_dir(repository.unwrap().path()).unwrap().map(Result::unwrap) {
            if manifests.join(record.file_name()).join("link").exists()
                && let Ok(record) = fs::File::open(record.path())
            {
                record.set_modified(SystemTime::now() - 2 * KEEP).unwrap();
            }
        }
    }
}

/// Collects until nothing is condemned.
fn collect(store: &Store) {
    for _ in 0..3 {
        let cycle = store.collect_online(&gc_without_waits(), &KeepAll, &store.lead().unwrap()).unwrap();
        assert!(matches!(cycle, Cycle::Done(_)), "{cycle:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn row_165_eviction_beside_pulls_pushes_and_collection_breaks_none_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(Filesystem::open(folder.path(), Access::Write).unwrap(), false).unwrap();
    let mirror = Mirror::on(store, hub_settings(), Settings::default(), Scripted::new());
    let layer = Bytes::from(vec![7; 200_000]);
    let (bytes, _) = publish(&mirror, "latest", &layer);
    let evictions = async {
        let mut evicted = 0;
        for round in 0.. {
            age_stored_copies(folder.path());
            evicted += mirror.evict(Duration::ZERO).await;
            if round >= 60 && evicted >= 3 {
                break;
            }
        }
    };
    let pushes = async {
        for _ in 0..10 {
            let (store, bytes, layer) = (mirror.store().clone(), bytes.clone(), layer.clone());
            let push = move || push(&store, &bytes, &[&layer, &Bytes::from_static(b"{}")]);
            tokio::task::spawn_blocking(push).await.unwrap();
        }
    };
    let pulls_forever = async {
        loop {
            pull(&mirror, "latest", (&bytes, &layer)).await;
            // Content in a cache is served without a wait, and the others would never have their turn.
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = async { tokio::join!(evictions, pushes); } => {}
        () = pulls_forever => {}
    }
    // A fetch that the last pull has begun goes on without it, and a copy of it would be too young to go.
    assert_eq!(mirror.get(&manifest_path("latest")).await.status, StatusCode::OK);
    mirror.settle().await;
    age_stored_copies(folder.path());
    mirror.evict(Duration::ZERO).await;
    let store = mirror.store().clone();
    tokio::task::spawn_blocking(move || collect(&store)).await.unwrap();
    // The pushed image is whole, bytes and all.
    let path = format!("/v2/team/app/manifests/{}", Digest::sha256(&bytes));
    assert_eq!(mirror.get(&path).await.body, bytes);
    let path = format!("/v2/team/app/blobs/{}", Digest::sha256(&layer));
    assert_eq!(mirror.get(&path).await.body, layer);
    mirror.upstream.asked();
    pull(&mirror, "latest", (&bytes, &layer)).await;
    assert_eq!(mirror.upstream.asked()[0], "GET library/app:latest");
}
