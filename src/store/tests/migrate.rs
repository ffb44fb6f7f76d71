//! Tests of migrations from one storage to another.

mod stepped;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::time::{Duration, SystemTime};

use quinistry_oci::Algorithm;

use self::stepped::Stepped;
use super::*;
use crate::layout::{self, RepositoryKeys};
use crate::storage::{Storage, StorageError};
use crate::{Memory, Migrated, Migration, Origin, PushedTimes, TargetRole, migrate, running_replicas};

const ROOM: u64 = 1 << 30;

const WANTED: Migration = Migration {
    verifies: false,
    overwrites: true,
    removes: false,
    is_dry_run: false,
    jobs: NonZeroUsize::new(4).unwrap(),
    tags_since: None,
};

/// One repository after the other, so that the order of requests is the same each time.
const ALONE: Migration = Migration { jobs: NonZeroUsize::MIN, ..WANTED };

fn copy(from: &dyn Storage, to: &dyn Storage, wanted: &Migration) -> Migrated {
    migrate(from, to, wanted, &()).unwrap()
}

/// Copies, and asserts that all could be copied.
#[track_caller]
fn copy_all(from: &dyn Storage, to: &dyn Storage) -> Migrated {
    let report = copy(from, to, &WANTED);
    assert_eq!(report.faults, []);
    report
}

/// Pushes an index of manifests.
fn push_index(store: &Store, repository: &str, children: &[&Digest], names: &[&str]) -> Digest {
    let size = |digest: &Digest| {
        let found = store.manifest(&name(repository), &Reference::Digest(digest.clone()));
        found.map_or(300, |found| found.content.len())
    };
    let child = |digest: &&Digest| json!({"mediaType": media_type::OCI_MANIFEST, "digest": digest, "size": size(digest)});
    let children: Vec<Value> = children.iter().map(child).collect();
    let index = json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": children});
    put(store, repository, &to_json(&index).into(), names).unwrap()
}

/// Creates a manifest that refers to another one.
fn referrer(subject: &Digest) -> Bytes {
    let subject = json!({"mediaType": media_type::OCI_MANIFEST, "digest": subject, "size": 300});
    let manifest = json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [], "subject": subject,
        "artifactType": "application/note",
    });
    to_json(&manifest).into()
}

/// Pushes an image of one layer.
fn push(store: &Store, repository: &str, note: &str, names: &[&str]) -> Digest {
    let layer = format!("layer of {note}");
    push_blob(store, repository, b"{}").unwrap();
    push_blob(store, repository, layer.as_bytes()).unwrap();
    let bytes = manifest(layer.as_bytes(), note);
    let parsed = Manifest::parse(&bytes, None).unwrap();
    let digest = Digest::sha256(&bytes);
    let tagged = Tagged { digest: &digest, tags: &tags(names) };
    store.put_manifest(&name(repository), &bytes, &parsed, tagged).unwrap();
    digest
}

/// Fills a storage with all that a registry keeps: images, an index, a referrer, a manifest and a blob by SHA-512, names
/// in each other, and an upload that goes on.
fn fill(storage: impl Storage) {
    let store = Store::open(storage, false).unwrap();
    let one = push(&store, "a", "one", &["v1", "latest"]);
    let two = push(&store, "a", "two", &["v2"]);
    push_index(&store, "a", &[&one, &two], &["all"]);
    put(&store, "a", &referrer(&one), &[]).unwrap();
    for repository in ["a/0", "a/b", "a-b"] {
        push(&store, repository, repository, &["v1"]);
    }
    let long = manifest(b"layer of one", "by sha512");
    put_as(&store, "a", &Digest::of(Algorithm::Sha512, &long), &long, &["long"]).unwrap();
    let bytes = b"blob by sha512";
    let digest = Digest::of(Algorithm::Sha512, bytes);
    let mut receiver = store.receive(&digest, None).unwrap();
    receiver.append(bytes).unwrap();
    store.commit(&name("a"), &mut receiver, &digest).unwrap();
}

fn filled() -> Memory {
    let memory = Memory::new(ROOM);
    fill(memory.clone());
    memory
}

/// Returns all objects that a migration copies.
fn objects(storage: &dyn Storage) -> BTreeMap<String, Bytes> {
    let mut all = BTreeMap::new();
    let mut after = None;
    loop {
        let page = storage.scan(&layout::root(), after.as_ref(), 1000).unwrap();
        for (key, _) in page.entries {
            let path = key.as_str();
            let is_own =
                ["/repos/", "/migrate/", "/pushed/", "/replicas/", "/format", "/lock", "/repos-complete"]
                    .iter()
                    .any(|part| path.contains(&format!("_quinistry{part}")));
            if !is_own && !path.contains("/_uploads/") && !path.ends_with("/_referrers/stamp") {
                let bytes = storage.read(&key, ROOM).unwrap().unwrap();
                all.insert(path.to_owned(), bytes);
            }
        }
        after = page.next;
        if after.is_none() {
            return all;
        }
    }
}

/// Returns the paths of the links that a storage shows without what they lead to: tags without a manifest or an entry in
/// their index, manifests without bytes or parts, and links without bytes.
fn broken(storage: &dyn Storage) -> Vec<String> {
    let all = objects(storage);
    let target = |bytes: &Bytes| std::str::from_utf8(bytes).unwrap().parse::<Digest>().unwrap();
    let mut broken = Vec::new();
    for (path, bytes) in &all {
        let Some((repository, rest)) =
            path.split_once("/_manifests/").or_else(|| path.split_once("/_layers/"))
        else {
            continue;
        };
        let link = |kind: &str, digest: &Digest| {
            format!("{repository}/{kind}/{}/{}/link", digest.algorithm().as_str(), digest.hex())
        };
        let is_whole = if rest.ends_with("/current/link") {
            let digest = target(bytes);
            let tag = path.strip_suffix("/current/link").unwrap();
            let index = format!("{tag}/index/{}/{}/link", digest.algorithm().as_str(), digest.hex());
            all.contains_key(&link("_manifests/revisions", &digest)) && all.contains_key(&index)
        } else if rest.starts_with("revisions/") {
            let manifest = all.get(blob(&target(bytes)).as_str());
            manifest.is_some_and(|manifest| {
                let manifest = Manifest::parse(manifest, None).unwrap();
                let has = |kind, digest: &Digest| all.contains_key(&link(kind, digest));
                manifest.blobs.iter().all(|part| has("_layers", &part.digest))
                    && manifest.manifests.iter().all(|part| has("_manifests/revisions", &part.digest))
            })
        } else if path.contains("/_layers/") {
            all.contains_key(blob(&target(bytes)).as_str())
        } else {
            true
        };
        if !is_whole {
            broken.push(path.clone());
        }
    }
    broken
}

fn tag_key(repository: &str, tag: &str) -> Key {
    RepositoryKeys(&name(repository)).tag_link(&tag.parse().unwrap())
}

/// Returns the digest that the link of a tag holds.
fn resolve_link(storage: &dyn Storage, repository: &str, tag: &str) -> Digest {
    let bytes = storage.read(&tag_key(repository, tag), 1000).unwrap().unwrap();
    std::str::from_utf8(&bytes).unwrap().parse().unwrap()
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

#[test]
fn a_folder_goes_to_a_bucket_and_back_with_all_objects_and_the_times_of_tags() {
    let (first, last) = (folder(), folder());
    let from = Filesystem::open(first.path(), Access::Write).unwrap();
    fill(from.clone());
    let bucket = Stepped::new(Memory::new(ROOM));
    let to = Filesystem::open(last.path(), Access::Write).unwrap();
    let key = tag_key("a", "v1");
    assert!(from.set_modified(&key, at(1_000_000)).unwrap());

    let report = copy_all(&from, &bucket);
    // Five images, an index, a referrer, and a manifest with two links.
    assert_eq!((report.manifests, report.tags), (9, 8), "{report:?}");
    assert_eq!(objects(&bucket), objects(&from));
    copy_all(&bucket, &to);
    assert_eq!(objects(&to), objects(&from));
    assert_eq!(to.head(&key).unwrap().unwrap().modified, at(1_000_000));
    for (tag, key) in [("v2", tag_key("a", "v2")), ("v1", tag_key("a/b", "v1"))] {
        let [before, after] =
            [&from as &dyn Storage, &to].map(|storage| storage.head(&key).unwrap().unwrap().modified);
        let passed = before.duration_since(after).unwrap();
        assert!(passed < Duration::from_millis(1), "{tag}: {passed:?}");
    }
    for storage in [&from as &dyn Storage, &bucket, &to] {
        assert_eq!(broken(storage), [""; 0]);
    }
    for (source, target) in [(&from as &dyn Storage, &bucket as &dyn Storage), (&bucket, &to)] {
        let report = copy_all(source, target);
        assert_eq!(report.changes(), 0, "{report:?}");
    }
}

#[test]
fn a_copy_is_served_as_the_source_was() {
    let to = Memory::new(ROOM);
    copy_all(&filled(), &to);
    let store = Store::open(to, false).unwrap();
    let page = crate::Page { size: 100, last: String::new() };
    assert_eq!(store.repositories(&page).unwrap().0, ["a", "a-b", "a/0", "a/b"].map(name));
    assert_eq!(store.tags(&name("a"), &page).unwrap().0, tags(&["all", "latest", "long", "v1", "v2"]));
    let bytes = store.blob(&name("a"), &Digest::of(Algorithm::Sha512, b"blob by sha512")).unwrap();
    assert_eq!(bytes.to_bytes().unwrap(), "blob by sha512");
    let one = resolve_tag(&store, "a", "v1").unwrap();
    let page = crate::Page { size: 100, last: String::new() };
    let referrers = store.referrers(&name("a"), &one, &[], &page, 1 << 20).unwrap();
    assert_eq!(referrers.0.len(), 1);
}

#[test]
fn a_copy_that_is_cut_off_at_any_write_shows_nothing_incomplete_and_goes_on() {
    let from = filled();
    let wanted = objects(&from);
    let whole = Stepped::new(Memory::new(ROOM));
    copy(&from, &whole, &ALONE);
    let writes = whole.writes();
    assert!(writes > 50, "{writes} writes");
    for number in 0..writes {
        let to = Stepped::new(Memory::new(ROOM));
        to.fail_after(number);
        let error = migrate(&from, &to, &ALONE, &()).unwrap_err();
        assert!(matches!(error, StorageError::Full), "{error}");
        assert_eq!(broken(&to.memory), [""; 0], "after {number} writes");
        let again = Stepped::new(to.memory);
        copy_all(&from, &again);
        assert_eq!(objects(&again.memory), wanted, "after {number} writes");
        assert!(again.writes() <= writes - number + 8, "{} writes after {number}", again.writes());
    }
}

#[test]
fn a_push_at_any_moment_of_a_copy_leaves_the_copy_whole() {
    for number in 0.. {
        let memory = filled();
        let from = Stepped::new(memory.clone());
        let late = memory.clone();
        from.before_read(number, move || {
            let store = Store::open(late.clone(), false).unwrap();
            let one = push(&store, "a", "late", &["v1", "late"]);
            push_index(&store, "a", &[&one], &["late-index"]);
            push(&store, "z", "new", &["v1"]);
        });
        let to = Memory::new(ROOM);
        let report = copy(&from, &to, &ALONE);
        assert_eq!(report.faults, [], "before read {number}");
        assert_eq!(broken(&to), [""; 0], "before read {number}");
        if from.has_hook() {
            assert!(number > 30, "{number} reads");
            return;
        }
        copy_all(&memory, &to);
        assert_eq!(objects(&to), objects(&memory), "before read {number}");
    }
}

#[test]
fn a_removal_at_any_moment_of_a_copy_is_made_up_for_by_the_last_pass() {
    let removing = Migration { removes: true, ..ALONE };
    for number in 0.. {
        let memory = filled();
        let from = Stepped::new(memory.clone());
        let late = memory.clone();
        from.before_read(number, move || {
            let store = Store::open(late.clone(), false).unwrap();
            let both = resolve_tag(&store, "a", "all").unwrap();
            store.delete_manifest(&name("a"), &both).unwrap();
            store.delete_tag(&name("a/b"), &"v1".parse().unwrap()).unwrap();
        });
        let to = Memory::new(ROOM);
        copy(&from, &to, &ALONE);
        if from.has_hook() {
            return;
        }
        let report = copy(&memory, &to, &removing);
        assert_eq!(report.faults, [], "before read {number}");
        let mut wanted = objects(&memory);
        wanted.retain(|path, _| path.contains("/repositories/"));
        let mut found = objects(&to);
        found.retain(|path, _| path.contains("/repositories/"));
        assert_eq!(found, wanted, "before read {number}");
    }
}

#[test]
fn a_repository_that_is_gone_is_removed_from_the_copy_and_its_list() {
    for is_bucket in [false, true] {
        let (from, folder) = (filled(), folder());
        let bucket = Stepped::new(Memory::new(ROOM));
        let files = Filesystem::open(folder.path(), Access::Write).unwrap();
        let to: &dyn Storage = if is_bucket { &bucket } else { &files };
        copy_all(&from, to);
        for repository in ["a/b", "a"] {
            let place = RepositoryKeys(&name(repository)).manifests();
            from.clear(&place).unwrap();
            from.clear(&RepositoryKeys(&name(repository)).all_layers()).unwrap();
            from.clear(&RepositoryKeys(&name(repository)).all_referrers()).unwrap();
        }
        let report = copy(&from, to, &Migration { removes: true, ..WANTED });
        assert!(report.removed > 20, "{report:?}");
        let store = if is_bucket {
            Store::open(bucket.clone(), false).unwrap()
        } else {
            Store::open(files.clone(), false).unwrap()
        };
        let page = crate::Page { size: 100, last: String::new() };
        assert_eq!(store.repositories(&page).unwrap().0, ["a-b", "a/0"].map(name));
    }
}

#[test]
fn a_damaged_blob_is_named_with_all_that_needs_it_and_the_rest_is_copied() {
    let from = filled();
    let damaged = Digest::sha256(b"layer of two");
    from.write(&[&[(blob(&damaged), b"layer of tWo")]]).unwrap();
    let to = Memory::new(ROOM);
    let report = copy(&from, &to, &WANTED);
    let text: Vec<String> =
        report.faults.iter().map(|fault| format!("{} {}", fault.subject, fault.reason)).collect();
    assert_eq!(report.fault_count, 5, "{text:#?}");
    assert!(text[4].starts_with(blob(&damaged).as_str()) || text[0].contains("a:all"), "{text:#?}");
    for part in ["is damaged: its bytes have the digest sha256:", "a:all refers to", "a:v2 refers to"] {
        assert!(text.iter().any(|line| line.contains(part)), "{part}: {text:#?}");
    }
    assert_eq!(broken(&to), [""; 0]);
    let store = Store::open(to.clone(), false).unwrap();
    assert!(resolve_tag(&store, "a", "v1").is_some());
    assert_eq!(resolve_tag(&store, "a", "all"), None);
    drop(store);

    push_blob(&Store::open(from.clone(), false).unwrap(), "a", b"layer of two").unwrap();
    copy_all(&from, &to);
    assert_eq!(objects(&to), objects(&from));
}

#[test]
fn damage_in_the_target_is_found_by_reading_it_and_by_another_length() {
    let (from, to) = (filled(), Memory::new(ROOM));
    copy_all(&from, &to);
    let blobs = [b"layer of one", b"layer of two"].map(|bytes| blob(&Digest::sha256(bytes)));
    to.write(&[&[(blobs[0].clone(), b"layer of oNe"), (blobs[1].clone(), b"layer")]]).unwrap();
    assert_eq!(copy_all(&from, &to).blobs, 1);
    let report = copy(&from, &to, &Migration { verifies: true, ..WANTED });
    assert_eq!((report.blobs, report.faults), (1, vec![]));
    assert_eq!(objects(&to), objects(&from));
}

#[test]
fn objects_of_another_type_are_removed_before_their_keys_are_written() {
    let (from, to) = (filled(), Stepped::new(Memory::new(ROOM)));
    copy_all(&from, &to);
    let moved = push(&Store::open(from.clone(), false).unwrap(), "a", "moved", &["v1"]);
    to.memory.write(&[&[(blob(&Digest::sha256(b"layer of two")), b"torn")]]).unwrap();
    to.refuse_replacements();
    let report = copy_all(&from, &to);
    assert_eq!((report.tags, resolve_link(&to, "a", "v1")), (1, moved));
    assert_eq!(objects(&to), objects(&from));
}

#[test]
fn links_without_bytes_are_left_out_and_no_fault() {
    let from = filled();
    from.remove(&blob(&Digest::sha256(b"blob by sha512"))).unwrap();
    let to = Memory::new(ROOM);
    let report = copy_all(&from, &to);
    assert_eq!(report.dangling, 3, "an alias and two links");
    assert_eq!(broken(&to), [""; 0]);
}

#[test]
fn a_tag_without_a_manifest_and_a_torn_link_are_faults() {
    let from = filled();
    let digest = Digest::sha256(b"nothing");
    let torn = RepositoryKeys(&name("a")).layer_link(&digest);
    from.write(&[&[(tag_key("a", "v2"), digest.as_str().as_bytes()), (torn.clone(), b"sha256:")]]).unwrap();
    let report = copy(&from, &Memory::new(ROOM), &WANTED);
    let faults: Vec<_> = report.faults.iter().map(|fault| fault.subject.as_str()).collect();
    assert_eq!(faults, ["a:v2", torn.as_str()]);
}

#[test]
fn an_index_whose_manifests_the_source_lacks_is_copied_as_it_is() {
    let from = Memory::new(ROOM);
    let store = Store::open(from.clone(), true).unwrap();
    push_index(&store, "a", &[&Digest::sha256(b"elsewhere")], &["sparse"]);
    let to = Memory::new(ROOM);
    copy_all(&from, &to);
    assert_eq!(objects(&to), objects(&from));
}

#[test]
fn indexes_in_more_indexes_than_anyone_builds_are_a_fault_and_not_a_crash() {
    let from = Memory::new(ROOM);
    let store = Store::open(from.clone(), false).unwrap();
    let mut inner = push(&store, "a", "inner", &[]);
    for _ in 0..200 {
        inner = push_index(&store, "a", &[&inner], &[]);
    }
    push_index(&store, "a", &[&inner], &["deep"]);
    let to = Memory::new(ROOM);
    assert!(copy(&from, &to, &WANTED).fault_count > 0);
    assert_eq!(broken(&to), [""; 0]);
}

#[test]
fn a_dry_run_counts_all_and_writes_nothing() {
    let (from, to) = (filled(), Stepped::new(Memory::new(ROOM)));
    let report = copy(&from, &to, &Migration { is_dry_run: true, ..WANTED });
    assert_eq!(to.writes(), 0);
    let Migrated { blobs, bytes, links, manifests, tags, others, .. } = copy_all(&from, &to);
    assert_eq!(
        (blobs, bytes, links, manifests, tags, others),
        (report.blobs, report.bytes, report.links, report.manifests, report.tags, report.others)
    );
}

#[test]
fn a_tag_that_differs_is_replaced_in_a_copy_alone() {
    let (from, to) = (filled(), Memory::new(ROOM));
    copy_all(&from, &to);
    let here = push(&Store::open(to.clone(), false).unwrap(), "a", "pushed to the target", &["v1"]);
    let kept = copy(&from, &to, &Migration { overwrites: false, ..WANTED });
    assert_eq!(kept.faults.iter().map(|fault| fault.subject.as_str()).collect::<Vec<_>>(), ["a:v1"]);
    assert_eq!(resolve_tag(&Store::open(to.clone(), false).unwrap(), "a", "v1"), Some(here));
    assert_eq!(copy_all(&from, &to).tags, 1);
    assert_eq!(to.read(&tag_key("a", "v1"), 100).unwrap(), from.read(&tag_key("a", "v1"), 100).unwrap());
}

#[test]
fn times_of_tags_in_a_bucket_hold_until_the_tag_is_pushed_there() {
    let (from, to) = (filled(), Stepped::new(Memory::new(ROOM)));
    let key = tag_key("a", "v1");
    from.set_modified(&key, at(1_000_000)).unwrap();
    copy_all(&from, &to);
    let pushed = |tag: &str| {
        let key = tag_key("a", tag);
        let digest = resolve_link(&to, "a", tag);
        let modified = to.head(&key).unwrap().unwrap().modified;
        let times = PushedTimes::read(&to, &name("a")).unwrap();
        (times.of(&tag.parse().unwrap(), &digest, modified), modified)
    };
    assert_eq!(pushed("v1").0, at(1_000_000));
    let writes = to.writes();
    copy_all(&from, &to);
    assert_eq!(to.writes(), writes, "times that are noted are not noted again");
    push(&Store::open(to.clone(), false).unwrap(), "a", "other", &["v1"]);
    let (time, modified) = pushed("v1");
    assert_eq!(time, modified);
}

#[test]
fn a_target_is_a_copy_from_its_first_migration_to_its_last() {
    let to = Memory::new(ROOM);
    assert_eq!(Origin::claim(&to, "/one", true).unwrap(), TargetRole::Copy);
    assert_eq!(to.space().unwrap().used_bytes, Some(0), "a dry run writes nothing");
    assert_eq!(Origin::claim(&to, "/one", false).unwrap(), TargetRole::Copy);
    copy_all(&filled(), &to);
    assert_eq!(Origin::claim(&to, "/one", false).unwrap(), TargetRole::Copy);
    assert_eq!(Origin::claim(&to, "/two", false).unwrap(), TargetRole::CopyOfOther("/one".into()));
    Origin::complete(&to, "/one").unwrap();
    assert_eq!(Origin::claim(&to, "/one", false).unwrap(), TargetRole::Independent);
    assert_eq!(Origin::claim(&filled(), "/one", false).unwrap(), TargetRole::Independent);
}

#[test]
fn a_registry_on_a_shared_storage_is_seen() {
    let storage = Stepped::new(Memory::new(ROOM));
    assert_eq!(running_replicas(&storage).unwrap(), 0);
    let store = Store::open(storage.clone(), false).unwrap();
    assert_eq!(running_replicas(&storage).unwrap(), 1);
    drop(store);
    let beat = storage.scan(&layout::replicas(), None, 1).unwrap().entries[0].0.clone();
    storage.memory.set_modified(&beat, SystemTime::now() - Duration::from_mins(3)).unwrap();
    assert_eq!(running_replicas(&storage).unwrap(), 0);
}

#[test]
fn ten_thousand_objects_are_copied_and_not_read_again() {
    let from = Memory::new(ROOM);
    let place = name("many");
    let mut tag_links = Vec::new();
    let store = Store::open(from.clone(), false).unwrap();
    let digest = push(&store, "many", "one", &[]);
    for number in 0..10_000_u32 {
        let bytes = number.to_be_bytes();
        let blob_digest = Digest::sha256(&bytes);
        let link = RepositoryKeys(&place).layer_link(&blob_digest);
        from.write(&[&[(blob(&blob_digest), &bytes), (link, blob_digest.as_str().as_bytes())]]).unwrap();
        tag_links.push(tag_key("many", &format!("t{number}")));
    }
    let entries: Vec<_> = tag_links.into_iter().map(|key| (key, digest.as_str().as_bytes())).collect();
    from.write(&[&entries]).unwrap();
    let to = Memory::new(ROOM);
    let report = copy_all(&from, &to);
    assert_eq!((report.blobs, report.links, report.tags), (10_003, 10_002, 10_000));
    assert_eq!(copy_all(&from, &to).changes(), 0);
}
