//! Removal of what no name needs, by cycles of collection.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use quinistry_store::{Cycle, Tagged};

use super::super::pruning::remove_tags;
use super::super::roots::{NamedRoots, NamedRules};
use super::*;
use crate::peers::ContentKey;
use crate::tests::gc_without_waits;

const REPOSITORY: &str = "a/b";

fn key(manifest: &[u8]) -> ContentKey {
    (REPOSITORY.parse().unwrap(), Digest::sha256(manifest))
}

/// Gives a manifest a tag in the storage, as a load does.
fn tag(store: &Store, manifest: &[u8], tag: &str) {
    let (bytes, digest) = (Bytes::copy_from_slice(manifest), Digest::sha256(manifest));
    let parsed = quinistry_oci::Manifest::parse(manifest, None).unwrap();
    let tags = [tag.parse().unwrap()];
    store.put_manifest(&key(manifest).0, &bytes, &parsed, Tagged { digest: &digest, tags: &tags }).unwrap();
}

/// Sets a flag when it is dropped, also by a panic.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Collects until nothing is condemned, and looks after each cycle.
fn collect(store: &Store, roots: &NamedRoots, look: impl Fn()) {
    for _ in 0..4 {
        let lead = store.lead().unwrap();
        remove_tags(store, &lead, roots).unwrap();
        let cycle =
            store.collect_online(&gc_without_waits(), &NamedRules(Some(roots.clone())), &lead).unwrap();
        assert!(matches!(cycle, Cycle::Done(_)), "{cycle:?}");
        look();
    }
}

/// Returns a store with two images and an index over both, of which the images share the configuration.
async fn store() -> (Copies, [Vec<u8>; 3]) {
    let (one, other) = (image(LAYER), image(b"other layer"));
    let index = index(&[&one, &other]);
    let service = Service::of(&[&[&one, &other, &index, CONFIG, LAYER, b"other layer"]]);
    let copies = Copies::new(&service);
    copies.name(&[(REPOSITORY, &index)]).await;
    assert!(copies.copy().await);
    for (manifest, name) in [(&one, "one"), (&other, "other"), (&index, "both")] {
        tag(&copies.stored.store, manifest, name);
    }
    (copies, [one, other, index])
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_name_needs_goes_and_what_one_needs_is_served_at_each_moment() {
    let (copies, [one, other, index]) = store().await;
    let store = copies.stored.store.clone();
    let later = SystemTime::now() + Duration::from_hours(2);
    let roots = NamedRoots::new([key(&one)].iter(), later);
    let is_whole = || {
        let blob = store.blob(&key(&one).0, &Digest::sha256(LAYER)).unwrap();
        assert_eq!(blob.to_bytes().unwrap(), LAYER);
        assert!(copies.has_manifest(REPOSITORY, &one) && copies.has_blob(REPOSITORY, CONFIG));
    };
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Clients pull all the time.
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                is_whole();
            }
        });
        let _over = SetOnDrop(&is_over);
        collect(&store, &roots, is_whole);
    });
    assert!(!copies.has_manifest(REPOSITORY, &other) && !copies.has_manifest(REPOSITORY, &index));
    assert!(!copies.has_blob(REPOSITORY, b"other layer"));
    let elsewhere = "c/d".parse().unwrap();
    assert_eq!(store.mount(&elsewhere, &Digest::sha256(b"other layer"), None).unwrap(), None);
    let page = Page { size: 10, last: String::new() };
    let (tags, _) = store.tags(&key(&one).0, &page).unwrap();
    assert_eq!(tags.iter().map(quinistry_oci::Tag::as_str).collect::<Vec<_>>(), ["one"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_pushed_after_the_names_have_decided_stays_with_its_tag() {
    let (copies, all) = store().await;
    let roots = NamedRoots::new([key(b"named")].iter(), UNIX_EPOCH);
    collect(&copies.stored.store, &roots, || {});
    assert!(all.iter().all(|manifest| copies.has_manifest(REPOSITORY, manifest)));
    let page = Page { size: 10, last: String::new() };
    let (tags, _) = copies.stored.store.tags(&key(b"").0, &page).unwrap();
    assert_eq!(tags.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_is_named_keeps_its_children_and_a_digest_of_another_algorithm_all() {
    let (copies, all) = store().await;
    let later = SystemTime::now() + Duration::from_hours(2);
    collect(&copies.stored.store, &NamedRoots::new([key(&all[2])].iter(), later), || {});
    assert!(all.iter().all(|manifest| copies.has_manifest(REPOSITORY, manifest)));
    let sha512 = Digest::of(quinistry_oci::Algorithm::Sha512, b"unknown");
    collect(&copies.stored.store, &NamedRoots::new([(key(b"").0, sha512)].iter(), later), || {});
    assert!(all.iter().all(|manifest| copies.has_manifest(REPOSITORY, manifest)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_names_that_is_missing_or_damaged_stops_the_removal() {
    let manifest = image(LAYER);
    let copies = Copies::new(&Service::of(&[&[&manifest, CONFIG, LAYER]]));
    let repository = key(b"").0;
    let keeps_all = || copies.named.rules().keeps_all(&repository);
    assert!(keeps_all(), "the file was not read yet");
    // A change of long ago.
    let record = json!({ "names": null, "images": [], "dropped": [], "changes": [1000] });
    copies.stored.store.keep_named_images_record(record.to_string().as_bytes()).unwrap();
    copies.name(&[(REPOSITORY, &manifest)]).await;
    assert!(!keeps_all());
    let file = copies.folder.path().join("names.json");
    let names = std::fs::read(&file).unwrap();
    let until = async |wanted: bool| {
        while keeps_all() != wanted {
            copies.named.look(&copies.stored).await;
            tokio::task::yield_now().await;
        }
    };
    for damage in [None, Some("{"), Some(r#"{"names":[]}"#)] {
        match damage {
            None => std::fs::remove_file(&file).unwrap(),
            Some(text) => std::fs::write(&file, text).unwrap(),
        }
        until(true).await;
        std::fs::write(&file, &names).unwrap();
        until(false).await;
    }
}
