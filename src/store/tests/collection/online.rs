//! Cycles of online collection on memory that behaves as a bucket, and on a folder.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use quinistry_oci::{Algorithm, Digest, Manifest, Reference, RepositoryName};
use serde_json::json;

use super::super::shared::storage::SharedMemory;
use super::super::{manifest, name, push_blob, put, resolve_tag};
use crate::layout::{RepositoryKeys, alias, blob};
use crate::{
    Cycle, CycleReport, GcOptions, KeepAll, Lead, LocalClock, LooseRevision, RevisionRules, Storage, Store,
    StoreError, StoreOptions, Tagged,
};

/// Repository of most tests.
pub(super) const NAME: &str = "team/app";

/// Grace of the tests, and the least age.
pub(super) const GRACE: Duration = Duration::from_hours(1);

/// Rules by which manifests without a tag go.
pub(super) struct KeepTagged;

impl RevisionRules for KeepTagged {
    fn kept(&self, _: &RepositoryName, _: &[LooseRevision]) -> std::collections::HashSet<Digest> {
        std::collections::HashSet::new()
    }

    fn keeps_referrers(&self, _: &RepositoryName) -> bool {
        false
    }
}

/// Storage whose time a test moves, with the local clocks of all replicas.
#[derive(Clone)]
pub(in crate::tests) struct Scene {
    pub(in crate::tests) storage: SharedMemory,
    now: Arc<Mutex<Duration>>,
}

impl Scene {
    pub(in crate::tests) fn new() -> Self {
        let storage = SharedMemory::new();
        storage.stop_clock();
        Self { storage, now: Arc::new(Mutex::new(Duration::from_hours(24))) }
    }

    pub(in crate::tests) fn advance(&self, by: Duration) {
        self.storage.advance(by);
        *self.now.lock().unwrap() += by;
    }

    pub(in crate::tests) fn clock(&self) -> LocalClock {
        let now = self.now.clone();
        LocalClock::of(move || *now.lock().unwrap())
    }

    /// Opens a replica whose waits move all clocks.
    pub(in crate::tests) fn replica(&self) -> Store {
        let moved = self.clone();
        self.replica_waiting(move |by| moved.advance(by))
    }

    /// Opens a replica with a way to wait.
    pub(in crate::tests) fn replica_waiting(&self, wait: impl Fn(Duration) + Send + Sync + 'static) -> Store {
        self.replica_on(self.storage.view(), wait)
    }

    pub(in crate::tests) fn replica_on(
        &self,
        storage: SharedMemory,
        wait: impl Fn(Duration) + Send + Sync + 'static,
    ) -> Store {
        let lifetime = Duration::from_mins(1);
        Store::open_collected(storage, StoreOptions::default(), self.clock(), lifetime, wait).unwrap()
    }

    /// Makes a replica the leader, after the term of any other has ended.
    pub(in crate::tests) fn lead(&self, store: &Store) -> Lead {
        self.advance(Duration::from_secs(40));
        store.renew_lead().unwrap();
        store.lead().expect("no other replica leads")
    }

    /// Runs a cycle after the grace of the last one has passed.
    pub(in crate::tests) fn cycle(&self, store: &Store) -> CycleReport {
        self.advance(GRACE);
        self.cycle_by(store, &options(), &KeepTagged).unwrap()
    }

    pub(in crate::tests) fn cycle_by(
        &self,
        store: &Store,
        options: &GcOptions,
        rules: &dyn RevisionRules,
    ) -> Result<CycleReport, StoreError> {
        let lead = self.lead(store);
        match store.collect_online(options, rules, &lead)? {
            Cycle::Done(report) => Ok(report),
            other => panic!("{other:?}"),
        }
    }
}

pub(super) fn options() -> GcOptions {
    GcOptions {
        grace: GRACE,
        min_age: GRACE / 2,
        rate: NonZeroU32::new(1_000_000).unwrap(),
        ..GcOptions::default()
    }
}

/// Pushes an image with a note, and returns its digest.
pub(super) fn push(store: &Store, layer: &[u8], note: &str, tags: &[&str]) -> Result<Digest, StoreError> {
    push_blob(store, NAME, b"{}")?;
    push_blob(store, NAME, layer)?;
    put(store, NAME, &manifest(layer, note), tags)
}

/// Returns the bytes of an index of manifests.
pub(in crate::tests) fn index_of(children: &[&Bytes]) -> Bytes {
    let media_type = quinistry_oci::media_type::OCI_MANIFEST;
    let child = |bytes: &Bytes| json!({"mediaType": media_type, "digest": Digest::sha256(bytes), "size": bytes.len()});
    let children: Vec<_> = children.iter().map(|bytes| child(bytes)).collect();
    let index = json!({
        "schemaVersion": 2, "mediaType": quinistry_oci::media_type::OCI_INDEX, "manifests": children,
    });
    quinistry_oci::to_json(&index).into()
}

/// Returns the bytes of a manifest about another one.
pub(super) fn referrer_of(subject: &Digest) -> Bytes {
    let index = json!({
        "schemaVersion": 2, "mediaType": quinistry_oci::media_type::OCI_INDEX, "manifests": [],
        "subject": {"mediaType": quinistry_oci::media_type::OCI_MANIFEST, "digest": subject, "size": 1},
    });
    quinistry_oci::to_json(&index).into()
}

pub(super) fn has_bytes(store: &Store, bytes: &[u8]) -> bool {
    store.storage().head(&blob(&Digest::sha256(bytes))).unwrap().is_some()
}

pub(super) fn has_link(store: &Store, digest: &Digest) -> bool {
    store.storage().head(&RepositoryKeys(&name(NAME)).layer_link(digest)).unwrap().is_some()
}

pub(super) fn has_revision(store: &Store, digest: &Digest) -> bool {
    store.storage().head(&RepositoryKeys(&name(NAME)).revision_link(digest)).unwrap().is_some()
}

/// Returns all keys of content and repositories.
pub(super) fn content_keys(storage: &dyn Storage) -> Vec<String> {
    let mut keys = Vec::new();
    let mut after = None;
    loop {
        let page = storage.scan(&crate::layout::root(), after.as_ref(), 1000).unwrap();
        keys.extend(page.entries.into_iter().map(|(key, _)| key.to_string()));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    keys.retain(|key| !key.contains("/_quinistry/") || key.contains("/aliases/"));
    keys
}

/// Fills a store with garbage of each kind beside an image that is used. Returns the keys that must stay.
pub(super) fn fill(store: &Store) -> Vec<String> {
    push(store, b"kept", "kept", &["v1"]).unwrap();
    let child = manifest(b"kept", "child");
    put(store, NAME, &child, &[]).unwrap();
    put(store, NAME, &index_of(&[&child]), &["all"]).unwrap();
    let keys = content_keys(store.storage());
    // A manifest whose tag was moved, a blob without a manifest, a referrer of garbage, bytes without a link,
    // and a blob with a second name.
    push(store, b"garbage", "old", &["moved"]).unwrap();
    put(store, NAME, &manifest(b"kept", "kept"), &["moved"]).unwrap();
    push_blob(store, NAME, b"alone").unwrap();
    push_blob(store, "other", b"of another").unwrap();
    let subject = Digest::sha256(&manifest(b"garbage", "old"));
    put(store, NAME, &referrer_of(&subject), &[]).unwrap();
    let loose = Digest::sha256(b"loose");
    store.storage().write(&[&[(blob(&loose), b"loose")]]).unwrap();
    let named = Digest::of(Algorithm::Sha512, b"named");
    let mut receiver = store.receive(&named, None).unwrap();
    receiver.append(b"named").unwrap();
    store.commit(&name(NAME), &mut receiver, &named).unwrap();
    assert!(store.storage().head(&alias(&named)).unwrap().is_some());
    keys
}

/// Keys that a push writes and a collection leaves: the index of a tag names what it refers to.
fn with_index_of_moved(mut keys: Vec<String>) -> Vec<String> {
    let kept = Digest::sha256(&manifest(b"kept", "kept"));
    let tag = "moved".parse().unwrap();
    let repository = name(NAME);
    let place = RepositoryKeys(&repository);
    keys.extend([place.tag_link(&tag).to_string(), place.tag_index(&tag, &kept).to_string()]);
    keys.sort();
    keys
}

#[test]
fn garbage_is_gone_after_two_cycles_and_nothing_else() {
    let scene = Scene::new();
    let store = scene.replica();
    let keys = with_index_of_moved(fill(&store));
    let first = scene.cycle(&store);
    assert_eq!((first.epoch, first.swept_epoch), (1, None));
    assert_eq!(first.revisions.condemned, 2, "{first:?}");
    assert_eq!(first.links.condemned, 4, "{first:?}");
    // The manifest and the referrer, the layer, three blobs, and the bytes without a link.
    assert_eq!(first.blobs.condemned, 7, "{first:?}");
    assert!(has_bytes(&store, b"garbage"), "removed before the grace has passed");
    let second = scene.cycle(&store);
    assert_eq!(second.swept_epoch, Some(1));
    assert_eq!((second.revisions.doomed, second.links.doomed, second.blobs.doomed), (2, 4, 7), "{second:?}");
    let condemned =
        |report: &CycleReport| report.revisions.condemned + report.links.condemned + report.blobs.condemned;
    assert_eq!(condemned(&second), 0, "{second:?}");
    assert_eq!(content_keys(&scene.storage), keys);
    assert_eq!(store.last_collection().unwrap(), Some(second));
    // What stays is served.
    assert!(resolve_tag(&store, NAME, "v1").is_some() && resolve_tag(&store, NAME, "moved").is_some());
    let third = scene.cycle(&store);
    assert_eq!(condemned(&third) + third.blobs.doomed, 0);
    assert_eq!(content_keys(&scene.storage), keys);
}

#[test]
fn a_folder_is_collected_while_it_is_open_and_after_a_restart() {
    for restarts in [false, true] {
        let folder = super::super::folder();
        let open = || {
            let storage = crate::Filesystem::open(folder.path(), crate::Access::Write).unwrap();
            let clock = LocalClock::of(|| Duration::ZERO);
            Store::open_collected(storage, StoreOptions::default(), clock, Duration::from_mins(1), |_| {})
                .unwrap()
        };
        let store = open();
        let keys = with_index_of_moved(fill(&store));
        let options = GcOptions { grace: Duration::ZERO, min_age: Duration::ZERO, ..options() };
        let cycle = |store: &Store| match store.collect_online(&options, &KeepTagged, &store.lead().unwrap())
        {
            Ok(Cycle::Done(report)) => report,
            other => panic!("{other:?}"),
        };
        assert_eq!(cycle(&store).blobs.condemned, 7);
        let store = if restarts {
            drop(store);
            open()
        } else {
            store
        };
        // A HEAD between the cycles holds a layer, with its link.
        let digest = Digest::sha256(b"alone");
        let held = store.holding_blob(&name(NAME), &digest, || store.blob(&name(NAME), &digest)).unwrap();
        assert_eq!(held.to_bytes().unwrap(), "alone");
        let second = cycle(&store);
        assert_eq!(
            (second.revisions.doomed, second.links.doomed, second.blobs.doomed),
            (2, 3, 6),
            "{second:?}"
        );
        assert!(has_bytes(&store, b"alone") && has_link(&store, &digest));
        assert!(matches!(store.blob(&name(NAME), &Digest::sha256(b"garbage")), Err(StoreError::BlobUnknown)));
        cycle(&store);
        cycle(&store);
        let mut left = content_keys(store.storage());
        left.retain(|key| !key.ends_with("_referrers/stamp"));
        let mut keys = keys;
        keys.retain(|key| !key.ends_with("_referrers/stamp"));
        assert_eq!(left, keys);
    }
}

#[test]
fn by_default_every_manifest_stays_with_its_parts() {
    let scene = Scene::new();
    let store = scene.replica();
    push(&store, b"layer", "untagged", &[]).unwrap();
    push_blob(&store, NAME, b"alone").unwrap();
    scene.advance(GRACE);
    scene.cycle_by(&store, &options(), &KeepAll).unwrap();
    scene.advance(GRACE);
    let report = scene.cycle_by(&store, &options(), &KeepAll).unwrap();
    assert_eq!((report.revisions.doomed, report.links.doomed, report.blobs.doomed), (0, 1, 1));
    assert!(has_bytes(&store, b"layer") && !has_bytes(&store, b"alone"));
}

#[test]
fn young_content_stays() {
    let scene = Scene::new();
    let store = scene.replica();
    push_blob(&store, NAME, b"young").unwrap();
    scene.advance(GRACE / 4);
    let report = scene.cycle_by(&store, &options(), &KeepTagged).unwrap();
    assert_eq!(report.links.condemned + report.blobs.condemned, 0);
    let report = scene.cycle(&store);
    assert_eq!((report.links.condemned, report.blobs.condemned), (1, 1));
}

#[test]
fn a_cycle_waits_for_the_grace_of_the_last_one() {
    let scene = Scene::new();
    let store = scene.replica();
    scene.cycle(&store);
    let lead = scene.lead(&store);
    let waits = store.collect_online(&options(), &KeepTagged, &lead).unwrap();
    let sealed = store.storage().now() - Duration::from_secs(40);
    assert_eq!(waits, Cycle::Waits { until: sealed + GRACE });
}

#[test]
fn a_dry_run_changes_nothing_and_tells_what_a_cycle_would_do() {
    let scene = Scene::new();
    let store = scene.replica();
    fill(&store);
    let dry = GcOptions { dry_run: true, ..options() };
    scene.advance(GRACE);
    let before = scene.storage.bytes().scan(&crate::layout::root(), None, 1000).unwrap().entries.len();
    let told = scene.cycle_by(&store, &dry, &KeepTagged).unwrap();
    let after = scene.storage.bytes().scan(&crate::layout::root(), None, 1000).unwrap().entries.len();
    // The lead of the first call is one more key.
    assert_eq!(after, before + 1);
    let first = scene.cycle(&store);
    assert_eq!(
        (told.revisions.condemned, told.links.condemned),
        (first.revisions.condemned, first.links.condemned)
    );
    assert_eq!(told.blobs.condemned, first.blobs.condemned);
    scene.advance(GRACE);
    let told = scene.cycle_by(&store, &dry, &KeepTagged).unwrap();
    let second = scene.cycle(&store);
    assert_eq!((told.revisions.doomed, told.blobs.doomed), (second.revisions.doomed, second.blobs.doomed));
}

#[test]
fn one_epoch_takes_a_number_of_subjects_and_the_next_ones_the_others() {
    let scene = Scene::new();
    let store = scene.replica();
    let keys = with_index_of_moved(fill(&store));
    let few = GcOptions { max_condemned: 3, ..options() };
    let mut cycles = 0;
    while content_keys(&scene.storage) != keys {
        scene.advance(GRACE);
        let report = scene.cycle_by(&store, &few, &KeepTagged).unwrap();
        let condemned = report.revisions.condemned + report.links.condemned + report.blobs.condemned;
        assert!(condemned <= 3, "{report:?}");
        cycles += 1;
        assert!(cycles < 20, "{:?}", content_keys(&scene.storage));
    }
    assert!(cycles > 3);
    assert!(resolve_tag(&store, NAME, "v1").is_some());
}

#[test]
fn a_manifest_is_never_condemned_before_an_index_that_refers_to_it() {
    // With place for one, the index goes first, in any order of their digests.
    for number in 0..8 {
        let scene = Scene::new();
        let store = scene.replica();
        let child = manifest(b"layer", &format!("child {number}"));
        push(&store, b"layer", &format!("child {number}"), &[]).unwrap();
        let index = index_of(&[&child]);
        put(&store, NAME, &index, &[]).unwrap();
        let few = GcOptions { max_condemned: 1, ..options() };
        scene.advance(GRACE);
        let report = scene.cycle_by(&store, &few, &KeepTagged).unwrap();
        assert_eq!((report.revisions.condemned, report.links.condemned), (1, 0));
        scene.advance(GRACE);
        scene.cycle_by(&store, &few, &KeepTagged).unwrap();
        assert!(!has_revision(&store, &Digest::sha256(&index)), "{number}");
        assert!(has_revision(&store, &Digest::sha256(&child)), "{number}");
        assert!(has_bytes(&store, b"layer"));
    }
}

#[test]
fn a_served_storage_pays_nothing_for_collection() {
    let scene = Scene::new();
    let store = scene.replica();
    let image = push(&store, b"layer", "note", &["v1"]).unwrap();
    let (repository, layer) = (name(NAME), Digest::sha256(b"layer"));
    let act = |store: &Store| {
        store.holding_blob(&repository, &layer, || store.blob(&repository, &layer)).unwrap();
        let reference = Reference::Digest(image.clone());
        store.holding_manifest(&repository, &image, || store.manifest(&repository, &reference)).unwrap();
        push(store, b"layer", "note", &["v1"]).unwrap();
        assert!(store.mount(&repository, &layer, None).unwrap().is_some());
    };
    let counted = scene.storage.view();
    let requests = |store: &Store| {
        counted.take_requests();
        act(store);
        counted.take_requests().all
    };
    let observed = scene.replica_on(counted.clone(), |_| {});
    act(&observed);
    let without = requests(&observed);
    // The same with condemned content, of which these acts need nothing.
    push_blob(&store, NAME, b"garbage").unwrap();
    let report = scene.cycle(&store);
    assert_eq!(report.blobs.condemned, 1);
    observed.refresh_gc_view().unwrap();
    assert_eq!(requests(&observed), without);
    // A refreshment is one request.
    scene.advance(Duration::from_secs(20));
    counted.take_requests();
    observed.refresh_gc_view().unwrap();
    assert_eq!(counted.take_requests().all, 1);
}

#[test]
fn a_manifest_that_is_not_understood_keeps_all_that_it_mentions() {
    let scene = Scene::new();
    let store = scene.replica();
    push(&store, b"layer", "child", &[]).unwrap();
    let child = Digest::sha256(&manifest(b"layer", "child"));
    let text = format!("no JSON, but {child} and {}", Digest::sha256(b"mentioned"));
    push_blob(&store, NAME, b"mentioned").unwrap();
    let digest = Digest::sha256(text.as_bytes());
    let repository = name(NAME);
    let link = RepositoryKeys(&repository).revision_link(&digest);
    let entries = [(blob(&digest), text.as_bytes()), (link, digest.as_str().as_bytes())];
    store.storage().write(&[&entries]).unwrap();
    scene.cycle(&store);
    let report = scene.cycle(&store);
    assert_eq!(report.blobs.doomed, 0);
    assert_eq!(report.unknown.len(), 1);
    assert!(has_bytes(&store, b"layer") && has_bytes(&store, b"mentioned") && has_revision(&store, &child));
}

#[test]
fn referrers_stay_with_their_subject_and_go_with_it_unless_rules_keep_them() {
    struct KeepReferrers;
    impl RevisionRules for KeepReferrers {
        fn kept(&self, _: &RepositoryName, loose: &[LooseRevision]) -> std::collections::HashSet<Digest> {
            // A referrer of a subject that is there is not loose.
            assert_eq!(loose.len(), 1, "{loose:?}");
            std::collections::HashSet::new()
        }

        fn keeps_referrers(&self, _: &RepositoryName) -> bool {
            true
        }
    }
    for keeps in [false, true] {
        let scene = Scene::new();
        let store = scene.replica();
        let tagged = push(&store, b"layer", "tagged", &["v1"]).unwrap();
        let loose = push(&store, b"layer", "loose", &[]).unwrap();
        let of_tagged = put(&store, NAME, &referrer_of(&tagged), &[]).unwrap();
        let of_loose = put(&store, NAME, &referrer_of(&loose), &[]).unwrap();
        let rules: &dyn RevisionRules = if keeps { &KeepReferrers } else { &KeepTagged };
        for _ in 0..2 {
            scene.advance(GRACE);
            scene.cycle_by(&store, &options(), rules).unwrap();
        }
        let there = [&tagged, &loose, &of_tagged, &of_loose].map(|digest| has_revision(&store, digest));
        assert_eq!(there, [true, false, true, keeps]);
        let row = RepositoryKeys(&name(NAME)).referrer(&loose, &of_loose);
        assert_eq!(store.storage().head(&row).unwrap().is_some(), keeps);
    }
}

#[test]
fn content_with_a_sha512_is_one_subject_with_all_of_its_names() {
    let scene = Scene::new();
    let store = scene.replica();
    push_blob(&store, NAME, b"{}").unwrap();
    push_blob(&store, NAME, b"layer").unwrap();
    let repository = name(NAME);
    let bytes = manifest(b"layer", "long name");
    let long = Digest::of(Algorithm::Sha512, &bytes);
    let parsed = Manifest::parse(&bytes, None).unwrap();
    let tags = ["v1".parse().unwrap()];
    store.put_manifest(&repository, &bytes, &parsed, Tagged { digest: &long, tags: &tags }).unwrap();
    let named = Digest::of(Algorithm::Sha512, b"named");
    let mut receiver = store.receive(&named, None).unwrap();
    receiver.append(b"named").unwrap();
    store.commit(&repository, &mut receiver, &named).unwrap();
    scene.cycle(&store);
    scene.cycle(&store);
    assert!(has_bytes(&store, b"layer") && !has_bytes(&store, b"named"));
    assert!(content_keys(&scene.storage).iter().all(|key| !key.contains(named.hex())));
    store.delete_tag(&repository, &tags[0]).unwrap();
    scene.cycle(&store);
    // A HEAD by the long name holds the manifest.
    let reference = Reference::Digest(long.clone());
    store.holding_manifest(&repository, &long, || store.manifest(&repository, &reference)).unwrap();
    scene.cycle(&store);
    assert!(store.manifest(&repository, &reference).is_ok() && has_bytes(&store, b"layer"));
    scene.cycle(&store);
    scene.cycle(&store);
    assert!(content_keys(&scene.storage).iter().all(|key| !key.contains(long.hex())));
    assert!(!has_bytes(&store, b"layer"));
}

#[test]
fn content_of_many_pages_is_found_and_freed_whole() {
    const COUNT: u64 = 2500;
    let scene = Scene::new();
    let store = scene.replica();
    for i in 0..COUNT {
        push_blob(&store, NAME, &i.to_be_bytes()).unwrap();
    }
    let kept = push(&store, b"layer", "kept", &["v1"]).unwrap();
    scene.advance(GRACE);
    let found = scene.cycle(&store).blobs.found;
    assert_eq!(found, COUNT + 3);
    let report = scene.cycle(&store);
    assert_eq!((report.blobs.found, report.blobs.doomed), (3, COUNT));
    assert_eq!(resolve_tag(&store, NAME, "v1"), Some(kept));
}
