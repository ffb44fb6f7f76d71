//! Tests of migrations from one storage to another.

mod faults;
mod moments;
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

/// Fills a storage with all that a registry keeps: images, an index, a referrer, a manifest and a blob by
/// SHA-512, names in each other, and an upload that goes on.
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

/// Returns the paths of the links that a storage shows without what they lead to: tags without a manifest or
/// an entry in their index, manifests without bytes or parts, and links without bytes.
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
