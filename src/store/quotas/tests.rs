//! Tests of quotas.

mod replicas;

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::thread;

use bytes::Bytes;
use quinistry_oci::{Manifest, media_type, to_json};

use super::*;
use crate::retention::{NoPulls, RetentionInputs};
use crate::tests::shared::storage::SharedMemory;
use crate::tests::{name, push_blob};
use crate::{Access, Filesystem, Memory, Tagged};

/// Repositories that begin with a text.
#[derive(Debug)]
struct Beginning(&'static str);

impl RepositoryMatcher for Beginning {
    fn matches(&self, repository: &RepositoryName) -> bool {
        repository.as_str().starts_with(self.0)
    }
}

fn quota(beginning: &'static str, bytes: Option<u64>, tags: Option<u64>) -> Quota {
    Quota { name: format!("{beginning}**"), repositories: Arc::new(Beginning(beginning)), bytes, tags }
}

fn folder_store(folder: &std::path::Path) -> Store {
    Store::open(Filesystem::open(folder, Access::Write).unwrap(), false).unwrap()
}

/// Opens stores on a folder, in memory, and on a shared storage.
fn stores_of_each_kind(folder: &std::path::Path) -> [Store; 3] {
    [
        folder_store(folder),
        Store::open(Memory::new(1 << 20), false).unwrap(),
        Store::open(SharedMemory::new(), false).unwrap(),
    ]
}

/// Returns the bytes of an index without children.
fn index(note: &str) -> Bytes {
    let index = serde_json::json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [], "annotations": {"note": note},
    });
    to_json(&index).into()
}

fn put(store: &Store, repository: &str, bytes: &Bytes, tags: &[&str]) -> Result<Digest, StoreError> {
    let digest = Digest::sha256(bytes);
    let tags: Vec<Tag> = tags.iter().map(|tag| tag.parse().unwrap()).collect();
    let manifest = Manifest::parse(bytes, None).unwrap();
    store.put_manifest(&name(repository), bytes, &manifest, Tagged { digest: &digest, tags: &tags })?;
    Ok(digest)
}

/// Returns the usage of all repositories that begin with a text, from the storage alone.
fn scanned(store: &Store, beginning: &str) -> Usage {
    let names = store.folders_with(&["_manifests", "_layers"]).unwrap();
    let names = names.iter().filter(|name| name.starts_with(beginning));
    names.fold(Usage::default(), |usage, name| usage.plus(store.scan_usage(&name.parse().unwrap()).unwrap()))
}

fn is_refused(result: Result<Digest, StoreError>) -> bool {
    match result {
        Ok(_) => false,
        Err(StoreError::QuotaExceeded(_)) => true,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn content_is_charged_once_and_freed_when_it_goes() {
    let folder = tempfile::tempdir().unwrap();
    for store in &stores_of_each_kind(folder.path()) {
        // There before the quota.
        push_blob(store, "a/old", &[0; 100]).unwrap();
        put(store, "a/old", &index("old"), &["v1"]).unwrap();
        let manifest = index("old").len() as u64;
        store.set_quotas(vec![
            quota("a/", Some(400 + 2 * manifest), Some(3)),
            quota("a/old", Some(10_000), None),
        ]);
        let used = || store.quota_usage()[0].1.unwrap();

        push_blob(store, "a/app", &[1; 300]).unwrap();
        assert_eq!(used(), Usage { bytes: 400 + manifest, tags: 1 });
        push_blob(store, "a/app", &[1; 300]).unwrap();
        assert_eq!(used().bytes, 400 + manifest);
        put(store, "a/app", &index("new"), &["v1", "v2"]).unwrap();
        put(store, "a/app", &index("new"), &["v1", "v2"]).unwrap();
        assert_eq!(used(), Usage { bytes: 400 + 2 * manifest, tags: 3 });
        assert_eq!(store.quota_usage()[1].1, Some(Usage { bytes: 100 + manifest, tags: 1 }));

        // Full: nothing new enters, by no way, and what is there can be pushed again.
        assert!(is_refused(push_blob(store, "a/app", &[2; 1])));
        assert!(is_refused(put(store, "a/app", &index("x"), &[])));
        assert!(is_refused(put(store, "a/app", &index("new"), &["v3"])));
        let mounted = store.mount(&name("a/app"), &Digest::sha256(&[0; 100]), Some(&name("a/old")));
        assert!(matches!(mounted, Err(StoreError::QuotaExceeded(_))), "{mounted:?}");
        assert!(store.check_quota(&name("a/app"), None).is_err());
        assert!(store.check_quota(&name("a/new"), Some(1)).is_err());
        push_blob(store, "a/app", &[1; 300]).unwrap();
        put(store, "a/app", &index("new"), &["v1"]).unwrap();
        push_blob(store, "b/app", &[2; 1000]).unwrap();
        store.check_quota(&name("b/app"), Some(u64::MAX)).unwrap();

        store.delete_tag(&name("a/app"), &"v1".parse().unwrap()).unwrap();
        put(store, "a/app", &index("new"), &["v3"]).unwrap();
        store.delete_manifest(&name("a/app"), &Digest::sha256(&index("new"))).unwrap();
        store.delete_blob(&name("a/app"), &Digest::sha256(&[1; 300])).unwrap();
        assert_eq!(used(), Usage { bytes: 100 + manifest, tags: 1 });
        store.check_quota(&name("a/app"), Some(300 + manifest)).unwrap();
        assert!(store.check_quota(&name("a/app"), Some(301 + manifest)).is_err());
        assert!(
            store.mount(&name("a/app"), &Digest::sha256(&[0; 100]), Some(&name("a/old"))).unwrap().is_some()
        );
        assert_eq!(used().bytes, 200 + manifest);
        assert_eq!(used(), scanned(store, "a/"));
    }
}

#[test]
fn tags_that_retention_removes_are_free_for_others() {
    let folder = tempfile::tempdir().unwrap();
    for store in &stores_of_each_kind(folder.path()) {
        store.set_quotas(vec![quota("a/", None, Some(2))]);
        put(store, "a/app", &index("old"), &["v1", "v2"]).unwrap();
        assert!(is_refused(put(store, "a/app", &index("new"), &["v3"])));
        let inputs = RetentionInputs { pulls: &NoPulls, is_protected: &|_, _| false };
        for (judged, link) in store.retention_facts(&name("a/app"), &inputs).unwrap().tags {
            assert!(store.remove_judged_tag(&name("a/app"), &judged.tag, &link).unwrap());
            assert!(!store.remove_judged_tag(&name("a/app"), &judged.tag, &link).unwrap());
        }
        assert_eq!(store.quota_usage()[0].1.unwrap(), scanned(store, "a/"));
        put(store, "a/app", &index("new"), &["v3", "v4"]).unwrap();
    }
}

#[test]
fn a_quota_holds_exactly_whatever_clients_do_at_once() {
    const LIMIT: u64 = 6_000;
    const TAGS: u64 = 6;
    let folder = tempfile::tempdir().unwrap();
    let is_memory = [false, true];
    for (seed, is_memory) in is_memory.into_iter().cycle().take(6).enumerate() {
        let store = if is_memory {
            Store::open(Memory::new(1 << 24), false).unwrap()
        } else {
            folder_store(&folder.path().join(seed.to_string()))
        };
        push_blob(&store, "a/zero", &[9; 50]).unwrap();
        store.set_quotas(vec![quota("a/", Some(LIMIT), Some(TAGS))]);
        let refusals = AtomicU64::new(0);
        thread::scope(|scope| {
            for worker in 0..6_u64 {
                let (store, refusals) = (&store, &refusals);
                scope.spawn(move || {
                    let mut random = (seed as u64) << 32 | worker << 16 | 1;
                    let mut next = move |below: u64| {
                        // xorshift64
                        random ^= random << 13;
                        random ^= random >> 7;
                        random ^= random << 17;
                        random % below
                    };
                    for _ in 0..80 {
                        let repository = ["a/x", "a/y"][usize::try_from(next(2)).unwrap()];
                        let content = vec![u8::try_from(next(5)).unwrap(); 700];
                        let note = format!("{}", next(5));
                        let tag = format!("v{}", next(8));
                        let result = match next(8) {
                            0..=2 => push_blob(store, repository, &content).map(drop),
                            3 | 4 => put(store, repository, &index(&note), &[&tag]).map(drop),
                            5 => store.delete_blob(&name(repository), &Digest::sha256(&content)),
                            6 => store
                                .delete_manifest(&name(repository), &Digest::sha256(&index(&note)))
                                .map(drop),
                            _ => store.delete_tag(&name(repository), &tag.parse().unwrap()),
                        };
                        match result {
                            Ok(()) | Err(StoreError::BlobUnknown | StoreError::ManifestUnknown) => {}
                            Err(StoreError::QuotaExceeded(_)) => {
                                refusals.fetch_add(1, Ordering::Relaxed);
                            }
                            Err(error) => panic!("{error}"),
                        }
                        let used = store.quota_usage()[0].1;
                        assert!(used.is_none_or(|used| used.bytes <= LIMIT && used.tags <= TAGS), "{used:?}");
                    }
                });
            }
            // The storage itself never holds more, at any moment.
            scope.spawn(|| {
                for _ in 0..50 {
                    let state: Vec<Arc<Ledger>> = {
                        let state = lock(&store.0.quotas.state);
                        state.repositories.values().map(|repository| repository.ledger.clone()).collect()
                    };
                    let _all: Vec<_> = state.iter().map(|ledger| ledger.changes.write().unwrap()).collect();
                    let found = scanned(&store, "a/");
                    assert!(found.bytes <= LIMIT && found.tags <= TAGS, "{found:?}");
                }
            });
        });
        assert!(refusals.load(Ordering::Relaxed) > 0, "the quota was never reached");
        store.load_usage().unwrap();
        assert_eq!(store.quota_usage()[0].1, Some(scanned(&store, "a/")), "seed {seed}");
    }
}

#[test]
fn usage_is_found_again_after_a_restart_and_a_change_of_quotas() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder_store(folder.path());
    store.set_quotas(vec![quota("a/", Some(1000), None)]);
    push_blob(&store, "a/app", &[1; 600]).unwrap();
    push_blob(&store, "b/app", &[1; 600]).unwrap();
    drop(store);
    let store = folder_store(folder.path());
    store.set_quotas(vec![quota("a/", Some(1000), None)]);
    assert_eq!(store.quota_usage()[0].1, None);
    assert!(is_refused(push_blob(&store, "a/app", &[2; 600])));
    store.set_quotas(vec![quota("", Some(1300), None)]);
    assert!(is_refused(push_blob(&store, "c/app", &[2; 600])));
    push_blob(&store, "c/app", &[2; 100]).unwrap();
    store.set_quotas(Vec::new());
    push_blob(&store, "c/app", &[2; 10_000]).unwrap();
    assert_eq!(store.usage_interval(), None);
}

#[test]
fn replicas_learn_of_each_other_and_marks_correct_them() {
    let storage = SharedMemory::new();
    let [one, two] = [storage.clone(), storage.view()].map(|storage| Store::open(storage, false).unwrap());
    let now = || one.storage().now();
    for store in [&one, &two] {
        store.set_quotas(vec![quota("a/", Some(1000), None)]);
        assert!(store.usage_interval().is_some());
        store.load_usage().unwrap();
    }
    let used = |store: &Store| store.quota_usage()[0].1.unwrap().bytes;
    push_blob(&one, "a/app", &[1; 600]).unwrap();
    assert_eq!((used(&one), used(&two)), (600, 0));
    for store in [&one, &two] {
        store.exchange_usage().unwrap();
    }
    assert_eq!((used(&one), used(&two)), (600, 600));
    assert!(is_refused(push_blob(&two, "a/other", &[2; 600])));
    push_blob(&two, "a/other", &[2; 300]).unwrap();
    one.delete_blob(&name("a/app"), &Digest::sha256(&[1; 600])).unwrap();
    for store in [&two, &one, &two] {
        store.exchange_usage().unwrap();
    }
    assert_eq!((used(&one), used(&two)), (300, 300));

    // A replica that starts later scans, and one that starts after a mark reads what the mark has found.
    let late = Store::open(storage.view(), false).unwrap();
    late.set_quotas(vec![quota("a/", Some(1000), None)]);
    late.check_quota(&name("a/app"), None).unwrap();
    let marked: BTreeMap<_, _> = [
        (name("a/other"), Usage { bytes: 310, tags: 0 }),
        (name("a/unknown"), Usage { bytes: 70, tags: 2 }),
        (name("b/app"), Usage { bytes: 5000, tags: 9 }),
    ]
    .into();
    // All windows so far end before the mark.
    let time = now() + 2 * std::time::Duration::from_secs(30);
    one.set_usage_base(time, &marked).unwrap();
    let after = Store::open(storage.view(), false).unwrap();
    after.set_quotas(vec![quota("a/", Some(1000), None)]);
    after.check_quota(&name("a/app"), None).unwrap();
    for store in [&one, &two, &late, &after] {
        store.exchange_usage().unwrap();
        assert_eq!(used(store), 380);
    }
    assert!(is_refused(push_blob(&after, "a/app", &[3; 621])));
}
