//! Copies of upstreams on a folder, in memory and on a shared storage: which are evicted, and which stay.

mod replicas;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use quinistry_oci::{Algorithm, Digest, Manifest, Reference, RepositoryName, Tag, media_type, to_json};
use serde_json::json;

use super::shared::SharedMemory;
use super::{folder, manifest, name, open, push_blob, put, resolve_tag, tags};
use crate::copies::{CopyLimits, EvictionInputs, UpstreamCopies};
use crate::failpoint::once::failing;
use crate::layout::copy_record;
use crate::storage::Storage as _;
use crate::{Memory, Store, StoreError, TagRules, Tagged};

const HUB: &str = "hub/app";
const KEEP: Duration = Duration::from_hours(168);

/// Stores a manifest as one that an upstream has sent, of which no part is there.
fn copy(store: &Store, repository: &str, bytes: &Bytes, names: &[&str]) -> Digest {
    let digest = Digest::sha256(bytes);
    let whole = Manifest::parse(bytes, None).unwrap();
    let sparse = Manifest { blobs: Vec::new(), manifests: Vec::new(), ..whole };
    let tagged = Tagged { digest: &digest, tags: &tags(names) };
    store.put_copy(&name(repository), bytes, &sparse, tagged).unwrap();
    digest
}

fn limits(keep: Option<Duration>, max_bytes: Option<u64>) -> [CopyLimits; 1] {
    [CopyLimits { upstream: "hub".into(), keep, max_bytes }]
}

/// Evicts copies of the repositories below `hub/`, as of some time from now.
fn evict_with(
    store: &Store,
    limits: &[CopyLimits],
    after: Duration,
    hook: &(dyn Fn(&Digest) -> bool + Sync),
) -> UpstreamCopies {
    let inputs = EvictionInputs {
        limits,
        upstream_of: &|name: &RepositoryName| name.as_str().starts_with("hub/").then_some(0),
        is_protected: &|_, tag: &Tag| tag.as_str().starts_with("stays"),
        is_in_use: &|_, digest| hook(digest),
        is_fetchable: &|_, _| true,
        coming_bytes: Some(0),
        min_idle: Duration::from_hours(1),
        now: store.now() + after,
        lead: Some(&store.lead().unwrap()),
    };
    let report = store.evict_copies(inputs).unwrap();
    assert!(!report.lost_lead);
    report.upstreams[0].clone()
}

fn evict(store: &Store, limits: &[CopyLimits], after: Duration) -> UpstreamCopies {
    evict_with(store, limits, after, &|_| false)
}

fn renew(store: &Store, used: &[&Digest]) {
    let used: Vec<_> = used.iter().map(|digest| (name(HUB), (*digest).clone())).collect();
    let renewed = store.renew_copies(&used);
    assert!(renewed.error.is_none() && renewed.renewed.len() == used.len());
}

/// Returns an index with one child.
fn index(child: &Digest) -> Bytes {
    to_json(&json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_INDEX,
        "manifests": [{"mediaType": media_type::OCI_MANIFEST, "digest": child, "size": 100}],
    }))
    .into()
}

fn has(store: &Store, repository: &str, digest: &Digest) -> bool {
    match store.manifest(&name(repository), &Reference::Digest(digest.clone())) {
        Ok(_) => true,
        Err(StoreError::ManifestUnknown | StoreError::RepositoryUnknown) => false,
        Err(error) => panic!("{digest}: {error}"),
    }
}

#[test]
fn a_copy_that_was_not_used_goes_with_its_tags_and_pushed_content_stays() {
    let folder = folder();
    for store in [open(folder.path()), Store::open(Memory::new(1 << 20), false).unwrap()] {
        for repository in [HUB, "team/app"] {
            push_blob(&store, repository, b"{}").unwrap();
            push_blob(&store, repository, b"layer").unwrap();
        }
        let pushed = put(&store, HUB, &manifest(b"layer", "pushed"), &["pushed"]).unwrap();
        let elsewhere = put(&store, "team/app", &manifest(b"layer", "old"), &["old"]).unwrap();
        let old = copy(&store, HUB, &manifest(b"layer", "old"), &["old", "older"]);
        // The upstream sends what a client has pushed before.
        assert_eq!(copy(&store, HUB, &manifest(b"layer", "pushed"), &["pulled"]), pushed);
        let outside = copy(&store, "quay/app", &manifest(b"layer", "old"), &["old"]);

        let both = limits(Some(KEEP), None);
        let minute = Duration::from_mins(1);
        assert_eq!(evict(&store, &both, KEEP / 2), UpstreamCopies { found: 1, evicted: 0 });
        assert_eq!(evict(&store, &both, KEEP + minute), UpstreamCopies { found: 1, evicted: 1 });
        assert!(!has(&store, HUB, &old));
        assert_eq!(["old", "older"].map(|tag| resolve_tag(&store, HUB, tag)), [None, None]);
        assert_eq!(
            ["pushed", "pulled"].map(|tag| resolve_tag(&store, HUB, tag).unwrap()),
            [&pushed; 2].map(Clone::clone)
        );
        assert!(has(&store, "team/app", &elsewhere) && has(&store, "quay/app", &outside));
        assert_eq!(store.blob(&name("team/app"), &Digest::sha256(b"layer")).unwrap().len(), 5);
        assert_eq!(evict(&store, &both, KEEP + minute), UpstreamCopies::default());
        // What was evicted can be fetched again.
        assert_eq!(copy(&store, HUB, &manifest(b"layer", "old"), &["old"]), old);
        assert!(has(&store, HUB, &old));
    }
}

#[test]
fn a_use_renews_a_copy_and_what_its_index_leads_to() {
    let store = Store::open(Memory::new(1 << 20), false).unwrap();
    let other = copy(&store, HUB, &manifest(b"layer", "other"), &["other"]);
    let child = copy(&store, HUB, &manifest(b"layer", "child"), &[]);
    let index = copy(&store, HUB, &index(&child), &["latest"]);
    let stays = copy(&store, HUB, &manifest(b"layer", "stays"), &["stays"]);
    let long_ago = SystemTime::now() - 2 * KEEP;
    for digest in [&other, &child, &index, &stays] {
        assert!(store.storage().set_modified(&copy_record(&name(HUB), digest), long_ago).unwrap());
    }
    renew(&store, &[&index, &Digest::sha256(b"absent")]);
    assert_eq!(evict(&store, &limits(Some(KEEP), None), Duration::ZERO).evicted, 1);
    let found = [&other, &child, &index, &stays].map(|digest| has(&store, HUB, digest));
    assert_eq!(found, [false, true, true, true]);
    assert_eq!(evict(&store, &limits(None, None), 9 * KEEP).evicted, 0, "copies do not expire");
}

#[test]
fn the_size_counts_the_blobs_that_are_stored() {
    let store = Store::open(Memory::new(1 << 20), false).unwrap();
    let layer = vec![7; 10_000];
    let one = copy(&store, HUB, &manifest(&layer, "one"), &["one"]);
    let other = copy(&store, HUB, &manifest(&layer, "other"), &["other"]);
    store.storage().set_modified(&copy_record(&name(HUB), &one), store.now() - KEEP / 2).unwrap();
    let max = limits(Some(KEEP), Some(10_000));
    assert_eq!(evict(&store, &max, KEEP / 3).evicted, 0);
    push_blob(&store, HUB, &layer).unwrap();
    // Only the last copy frees the layer.
    let summary = store.summarize_copies(1, &|name| name.as_str().starts_with("hub/").then_some(0)).unwrap();
    let manifests = (manifest(&layer, "one").len() + manifest(&layer, "other").len()) as u64;
    assert_eq!((summary[0].repositories, summary[0].copies), (1, 2));
    assert_eq!(summary[0].bytes, 10_000 + manifests, "the layer counts once");
    assert!(summary[0].oldest_use.is_some_and(|oldest| oldest < store.now() - KEEP / 3));
    assert_eq!(evict(&store, &max, KEEP / 3).evicted, 2);
    assert!(!has(&store, HUB, &one) && !has(&store, HUB, &other));
}

#[test]
fn the_size_is_known_without_reading_each_manifest_again() {
    const COPIES: usize = 20;
    let view = SharedMemory::new().view();
    let store = Store::open(view.clone(), false).unwrap();
    store.renew_lead().unwrap();
    push_blob(&store, HUB, b"layer").unwrap();
    let copies: Vec<Digest> =
        (0..COPIES).map(|number| copy(&store, HUB, &manifest(b"layer", &number.to_string()), &[])).collect();
    let bytes =
        5 + (0..COPIES).map(|number| manifest(b"layer", &number.to_string()).len() as u64).sum::<u64>();
    let requests = |max_bytes: u64, evicted: usize| {
        view.take_requests();
        assert_eq!(evict(&store, &limits(None, Some(max_bytes)), KEEP / 2).evicted, evicted);
        view.take_requests().all
    };
    let first = requests(bytes, 0);
    let second = requests(bytes, 0);
    // The bytes of each manifest, and its length.
    assert!(first - second >= 2 * COPIES, "{first} {second}");
    requests(bytes - 1, 1);
    assert_eq!(copies.iter().filter(|digest| has(&store, HUB, digest)).count(), COPIES - 1);
}

#[test]
fn a_length_that_a_manifest_makes_up_evicts_nothing() {
    let store = Store::open(Memory::new(1 << 20), false).unwrap();
    push_blob(&store, HUB, b"{}").unwrap();
    let liar: Bytes = to_json(&json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
        "config": {"mediaType": media_type::OCI_CONFIG, "digest": Digest::sha256(b"{}"), "size": 1_u64 << 62},
        "layers": [],
    }))
    .into();
    let honest = copy(&store, HUB, &manifest(b"layer", "honest"), &["honest"]);
    let liar = copy(&store, HUB, &liar, &["liar"]);
    let max = limits(Some(KEEP), Some(10_000));
    assert_eq!(evict(&store, &max, KEEP / 2), UpstreamCopies { found: 2, evicted: 0 });
    assert!(has(&store, HUB, &honest) && has(&store, HUB, &liar));
    let summary = store.summarize_copies(1, &|name| name.as_str().starts_with("hub/").then_some(0)).unwrap();
    assert!(summary[0].bytes < 10_000);
}

#[test]
fn row_165_a_copy_that_is_used_or_fetched_between_judgement_and_removal_stays() {
    let folder = folder();
    let store = open(folder.path());
    let bytes = manifest(b"layer", "one");
    let digest = copy(&store, HUB, &bytes, &["one"]);
    let all = limits(Some(KEEP), None);
    assert_eq!(evict_with(&store, &all, 2 * KEEP, &|used| *used == digest).evicted, 0);
    let renew = |_: &Digest| {
        renew(&store, &[&digest]);
        false
    };
    // The use is recorded after the record was compared, and then the copy goes and is fetched again.
    assert_eq!(evict_with(&store, &all, 2 * KEEP, &renew).evicted, 1);
    assert!(store.storage().head(&copy_record(&name(HUB), &digest)).unwrap().is_some());
    assert_eq!(copy(&store, HUB, &bytes, &["one"]), digest);
    assert_eq!(resolve_tag(&store, HUB, "one"), Some(digest.clone()));
    assert_eq!(evict(&store, &all, 2 * KEEP).evicted, 1, "the copy has a record");
    // The record of what was never stored goes later.
    store.storage().write(&[&[(copy_record(&name(HUB), &digest), b"x")]]).unwrap();
    assert_eq!(evict(&store, &all, Duration::from_hours(2)), UpstreamCopies { found: 1, evicted: 0 });
    assert_eq!(evict(&store, &all, 2 * KEEP), UpstreamCopies { found: 1, evicted: 0 });
    assert_eq!(evict(&store, &all, 2 * KEEP), UpstreamCopies::default());
}

#[test]
fn a_use_of_another_replica_keeps_a_copy() {
    for storage in [SharedMemory::new(), SharedMemory::with_content_tags()] {
        let [one, other] = [storage.view(), storage.view()].map(|view| Store::open(view, false).unwrap());
        one.renew_lead().unwrap();
        let used = copy(&other, HUB, &manifest(b"layer", "used"), &["used"]);
        let unused = copy(&other, HUB, &manifest(b"layer", "unused"), &["unused"]);
        storage.age("/_quinistry/upstreams/", 2 * KEEP);
        let bystander = Digest::sha256(b"pushed");
        renew(&other, &[&used, &bystander]);
        assert_eq!(evict(&one, &limits(Some(KEEP), None), Duration::ZERO).evicted, 1);
        assert!(has(&one, HUB, &used) && !has(&one, HUB, &unused));
        assert_eq!(resolve_tag(&other, HUB, "unused"), None);
        assert!(one.storage().head(&copy_record(&name(HUB), &bystander)).unwrap().is_none());
    }
}

#[test]
fn the_children_of_an_index_stay_if_it_is_used_after_it_was_judged() {
    let store = Store::open(Memory::new(1 << 20), false).unwrap();
    let child = copy(&store, HUB, &manifest(b"layer", "child"), &[]);
    let index = copy(&store, HUB, &index(&child), &["latest"]);
    let all = limits(Some(KEEP), None);
    assert_eq!(evict_with(&store, &all, 2 * KEEP, &|used| *used == index).evicted, 0);
    assert!(has(&store, HUB, &child) && has(&store, HUB, &index));
    assert_eq!(evict(&store, &all, 2 * KEEP).evicted, 2);
}

/// Rules by which the tag `stable` keeps its first manifest.
#[derive(Debug)]
struct Stable;

impl TagRules for Stable {
    fn is_immutable(&self, _: &RepositoryName, tag: &Tag) -> bool {
        tag.as_str() == "stable"
    }

    fn is_protected(&self, _: &RepositoryName, _: &Tag) -> bool {
        false
    }
}

#[test]
fn tags_that_rules_keep_stay_with_what_they_lead_to_and_do_not_spare_others() {
    let store = Store::open(Memory::new(1 << 20), false).unwrap();
    let child = copy(&store, HUB, &manifest(b"layer", "child"), &[]);
    let index = copy(&store, HUB, &index(&child), &["stable"]);
    // A tag may name its manifest by another hash.
    let long = manifest(b"layer", "sha512");
    let by_long = Digest::of(Algorithm::Sha512, &long);
    let whole = Manifest::parse(&long, None).unwrap();
    let sparse = Manifest { blobs: Vec::new(), manifests: Vec::new(), ..whole };
    let tagged = Tagged { digest: &by_long, tags: &tags(&["stays"]) };
    store.put_copy(&name(HUB), &long, &sparse, tagged).unwrap();
    let other = copy(&store, HUB, &manifest(b"layer", "other"), &["other"]);
    store.set_tag_rules(Some(Arc::new(Stable)));
    let bytes = (manifest(b"layer", "child").len() + long.len()) as u64;
    assert_eq!(evict(&store, &limits(Some(KEEP), Some(bytes)), KEEP / 2).evicted, 1);
    assert!(!has(&store, HUB, &other));
    assert_eq!(evict(&store, &limits(Some(KEEP), None), 2 * KEEP).evicted, 0);
    let stay = [&child, &index, &Digest::sha256(&long)];
    assert_eq!(stay.map(|digest| has(&store, HUB, digest)), [true; 3]);
}

#[test]
fn copies_of_an_upstream_that_does_not_answer_stay() {
    let store = Store::open(Memory::new(1 << 20), false).unwrap();
    let one = copy(&store, HUB, &manifest(b"layer", "one"), &[]);
    let other = copy(&store, "quay/app", &manifest(b"layer", "two"), &[]);
    let two = [limits(Some(KEEP), None), limits(Some(KEEP), None)].concat();
    let report = store
        .evict_copies(EvictionInputs {
            limits: &two,
            upstream_of: &|name| Some(usize::from(name.as_str().starts_with("quay/"))),
            is_protected: &|_, _| false,
            is_in_use: &|_, _| false,
            is_fetchable: &|name, digest| {
                assert!(*digest == one || *digest == other);
                name.as_str().starts_with("quay/")
            },
            coming_bytes: Some(0),
            min_idle: Duration::from_hours(1),
            now: store.now() + 2 * KEEP,
            lead: None,
        })
        .unwrap();
    assert_eq!(report.upstreams.iter().map(|copies| copies.evicted).collect::<Vec<_>>(), [0, 1]);
    assert!(has(&store, HUB, &one) && !has(&store, "quay/app", &other));
}

#[test]
fn a_failure_of_one_copy_does_not_keep_the_others() {
    let folder = folder();
    let store = open(folder.path());
    for tag in ["a", "b", "c"] {
        copy(&store, HUB, &manifest(b"layer", tag), &[tag]);
    }
    let all = limits(Some(KEEP), None);
    let (is_reached, evicted) = failing("remove", 1, 5, || evict(&store, &all, 2 * KEEP));
    assert!(is_reached && evicted.found == 3 && evicted.evicted >= 2, "{evicted:?}");
    evict(&store, &all, 2 * KEEP);
    assert_eq!(["a", "b", "c"].map(|tag| resolve_tag(&store, HUB, tag)), [const { None }; 3]);
}

#[test]
fn a_failure_of_one_use_does_not_keep_others_from_being_recorded() {
    let folder = folder();
    let store = open(folder.path());
    let used = ["a", "b", "c"].map(|tag| copy(&store, HUB, &manifest(b"layer", tag), &[tag]));
    let waiting: Vec<_> = used.iter().map(|digest| (name(HUB), digest.clone())).collect();
    let (is_reached, renewed) = failing("open", 1, 5, || store.renew_copies(&waiting));
    assert!(is_reached && renewed.error.is_some());
    assert_eq!(renewed.renewed.iter().map(|(_, digest)| digest).collect::<Vec<_>>(), [&used[1], &used[2]]);
}

#[test]
fn copies_expire_on_a_storage_that_does_not_tell_its_room() {
    let folder = folder();
    let store = open(folder.path());
    for passage in 1..=2 {
        copy(&store, HUB, &manifest(b"layer", "one"), &["one"]);
        let evict = || evict(&store, &limits(Some(KEEP), None), 2 * KEEP);
        assert_eq!(failing("space", passage, 5, evict), (true, UpstreamCopies { found: 1, evicted: 1 }));
    }
}

#[test]
fn a_copy_that_is_evicted_while_it_is_fetched_again_has_a_record() {
    let bytes = manifest(b"layer", "one");
    for round in 0..12 {
        let storage = SharedMemory::new();
        let [one, other] = [storage.view(), storage.view()].map(|view| Store::open(view, false).unwrap());
        one.renew_lead().unwrap();
        let digest = copy(&other, HUB, &bytes, &["one"]);
        storage.age("/_quinistry/upstreams/", 2 * KEEP);
        let view = storage.view();
        let fetching = Store::open(view.clone(), false).unwrap();
        view.before_round(round, move || {
            evict(&one, &limits(Some(KEEP), None), Duration::ZERO);
        });
        copy(&fetching, HUB, &bytes, &["one"]);
        view.forget_hook();
        let has_record = storage.head(&copy_record(&name(HUB), &digest)).unwrap().is_some();
        assert!(has_record || !has(&fetching, HUB, &digest), "{round}");
    }
}

#[test]
fn a_copy_that_a_client_pushes_later_is_no_copy_any_more() {
    let folder = folder();
    let shared = Store::open(SharedMemory::new(), false).unwrap();
    shared.renew_lead().unwrap();
    for store in [open(folder.path()), shared] {
        for blob in [&b"{}"[..], b"layer"] {
            push_blob(&store, HUB, blob).unwrap();
        }
        // A repository without copies, of which the store knows that from then on.
        put(&store, HUB, &manifest(b"layer", "first"), &["first"]).unwrap();
        let bytes = manifest(b"layer", "one");
        let digest = copy(&store, HUB, &bytes, &["one"]);
        let other = copy(&store, HUB, &manifest(b"layer", "other"), &["other"]);
        put(&store, HUB, &bytes, &["pushed"]).unwrap();
        let all = limits(Some(KEEP), None);
        assert_eq!(evict(&store, &all, 2 * KEEP), UpstreamCopies { found: 1, evicted: 1 });
        assert!(has(&store, HUB, &digest) && !has(&store, HUB, &other));
    }
}
