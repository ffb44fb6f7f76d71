//! Archives of images as storages of a store.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use quinistry_oci::layout::{Format, RefNames, SavedImage, Target, Writer};
use quinistry_oci::{Algorithm, Descriptor, Digest, Reference, media_type, to_json};
use serde_json::json;

use super::*;
use crate::tests::name;
use crate::{Store, StoreError};

const LAYER: &[u8] = b"the bytes of a layer";

/// Returns a manifest of one layer.
fn manifest() -> Vec<u8> {
    to_json(&json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
        "config": Descriptor::of(media_type::OCI_CONFIG, b"{}"),
        "layers": [Descriptor::of(media_type::OCI_LAYER_TAR, LAYER)],
    }))
}

/// Writes an archive of an index with one image that is there, and one that was left out, under several names.
fn write(path: &Path, names: &[Option<&str>]) -> Descriptor {
    let mut writer = Writer::create(Target::Path(path.into()), Format::Archive).unwrap();
    writer.add_blob(&Descriptor::of(media_type::OCI_CONFIG, b"{}"), b"{}").unwrap();
    writer.add_blob(&Descriptor::of(media_type::OCI_LAYER_TAR, LAYER), LAYER).unwrap();
    let image = Descriptor::of(media_type::OCI_MANIFEST, &manifest());
    writer.add_blob(&image, &manifest()).unwrap();
    let absent = Descriptor::of(media_type::OCI_MANIFEST, b"absent");
    let index = to_json(&json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [image, absent],
    }));
    let root = Descriptor::of(media_type::OCI_INDEX, &index);
    writer.add_blob(&root, &index).unwrap();
    let saved = names.iter().map(|name| SavedImage {
        descriptor: root.clone(),
        name: name.map(str::to_owned),
        docker: None,
    });
    writer.with_ref_names(RefNames::Full).finish(&saved.collect::<Vec<_>>()).unwrap();
    root
}

fn open(path: &Path) -> Result<BundleStorage, BundleError> {
    BundleStorage::open(&Layout::open(path).unwrap())
}

fn store(path: &Path) -> Store {
    Store::open(open(path).unwrap(), false).unwrap()
}

#[test]
fn every_image_is_served_under_its_own_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tar");
    let names = ["ghcr.io/acme/shop:1.4.0", "ghcr.io/acme/shop:1.4", "localhost:5000/x:1"];
    let root = write(&path, &names.map(Some));
    let before = fs::read(&path).unwrap();
    let store = store(&path);
    for (repository, tag) in
        [("ghcr.io/acme/shop", "1.4.0"), ("ghcr.io/acme/shop", "1.4"), ("localhost_5000/x", "1")]
    {
        let repository = name(repository);
        let found = store.manifest(&repository, &Reference::Tag(tag.parse().unwrap())).unwrap();
        assert_eq!((found.digest, found.media_type), (root.digest.clone(), media_type::OCI_INDEX));
        let image = Reference::Digest(Digest::sha256(&manifest()));
        assert_eq!(store.manifest(&repository, &image).unwrap().content.to_bytes().unwrap(), manifest());
        let layer = store.blob(&repository, &Digest::sha256(LAYER)).unwrap();
        assert_eq!(layer.to_bytes().unwrap(), LAYER);
    }
    let absent = Reference::Digest(Digest::sha256(b"absent"));
    assert!(matches!(store.manifest(&name("ghcr.io/acme/shop"), &absent), Err(StoreError::ManifestUnknown)));
    assert!(store.blob(&name("ghcr.io/acme"), &Digest::sha256(LAYER)).is_err());
    let refused = crate::tests::push_blob(&store, "ghcr.io/acme/shop", b"more");
    assert!(matches!(refused, Err(StoreError::Storage(StorageError::ReadOnly))));
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn images_without_a_full_name_are_not_served() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tar");
    let root = write(&path, &[None, Some("latest"), Some("[::1]:5000/x:1"), Some("example.com/x:1")]);
    let bundle = open(&path).unwrap();
    let unserved: Vec<_> = bundle.unserved().iter().map(|image| image.name.clone()).collect();
    assert_eq!(unserved, [root.digest.as_str(), "latest", "[::1]:5000/x:1"]);
    assert!(!bundle.is_empty());
    write(&path, &[None]);
    assert!(open(&path).unwrap().is_empty());
}

#[test]
fn damaged_content_is_not_served() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tar");
    write(&path, &[Some("example.com/x:1")]);
    let bytes = fs::read(&path).unwrap();
    let damage = |content: &[u8]| {
        let at = bytes.windows(content.len()).position(|window| window == content).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        file.write_all_at(b"#", at as u64 + 1).unwrap();
    };
    damage(LAYER);
    let store = store(&path);
    assert!(store.blob(&name("example.com/x"), &Digest::sha256(LAYER)).is_err());
    damage(&manifest());
    let reason = format!("manifest {} is damaged", Digest::sha256(&manifest()));
    assert_eq!(reasons(&path), [("example.com/x:1".into(), reason)]);
}

/// Writes an archive of manifests, each under a name.
fn write_each(path: &Path, images: &[(&str, Descriptor, Vec<u8>)]) {
    let mut writer = Writer::create(Target::Path(path.into()), Format::Archive).unwrap();
    writer.add_blob(&Descriptor::of(media_type::OCI_CONFIG, b"{}"), b"{}").unwrap();
    writer.add_blob(&Descriptor::of(media_type::OCI_LAYER_TAR, LAYER), LAYER).unwrap();
    for (_, descriptor, bytes) in images.iter().filter(|image| !image.2.is_empty()) {
        writer.add_blob(descriptor, bytes).unwrap();
    }
    let saved = images.iter().map(|(name, descriptor, _)| SavedImage {
        descriptor: descriptor.clone(),
        name: Some((*name).to_owned()),
        docker: None,
    });
    writer.with_ref_names(RefNames::Full).finish(&saved.collect::<Vec<_>>()).unwrap();
}

fn image<'a>(name: &'a str, media_type: &str, bytes: Vec<u8>) -> (&'a str, Descriptor, Vec<u8>) {
    (name, Descriptor::of(media_type, &bytes), bytes)
}

/// Returns the names of images that are not served, and the reasons up to the first colon.
fn reasons(path: &Path) -> Vec<(String, String)> {
    let short = |reason: &UnservedReason| {
        let text = reason.to_string();
        text.split_once(": ").map_or(text.clone(), |(short, _)| short.to_owned())
    };
    open(path).unwrap().unserved().iter().map(|image| (image.name.clone(), short(&image.reason))).collect()
}

/// Returns an index of these manifests.
fn index(manifests: &[Descriptor]) -> Vec<u8> {
    to_json(&json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": manifests}))
}

#[test]
fn an_image_that_cannot_be_served_does_not_keep_others_from_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tar");
    let of_another_type = json!({
        "schemaVersion": 2, "mediaType": "application/x", "config": Descriptor::of("x", b"{}"), "layers": [],
    });
    let odd = image("example.com/odd:1", media_type::OCI_MANIFEST, to_json(&of_another_type));
    let twice = r#"{"schemaVersion":2,"manifests":[],"annotations":{"a":"b","a":"c"}}"#.as_bytes().to_vec();
    let twice = image("example.com/twice:1", media_type::OCI_INDEX, twice);
    let parent = image("example.com/parent:1", media_type::OCI_INDEX, index(std::slice::from_ref(&odd.1)));
    let lost = ("example.com/lost:1", Descriptor::of(media_type::OCI_MANIFEST, b"lost"), Vec::new());
    let long = vec![b' '; 16 * 1024 * 1024 + 1];
    let long = image("example.com/long:1", media_type::OCI_MANIFEST, long);
    let good = image("example.com/good:1", media_type::OCI_MANIFEST, manifest());
    write_each(&path, &[odd.clone(), twice.clone(), parent, lost.clone(), long.clone(), good]);
    assert_eq!(
        reasons(&path),
        [
            ("example.com/odd:1".into(), format!("manifest {} cannot be served", odd.1.digest)),
            ("example.com/twice:1".into(), format!("manifest {} cannot be served", twice.1.digest)),
            ("example.com/parent:1".into(), format!("manifest {} cannot be served", odd.1.digest)),
            (
                "example.com/lost:1".into(),
                format!("its manifest {} is not in the archive; write the archive again", lost.1.digest)
            ),
            ("example.com/long:1".into(), format!("manifest {} has more than 16777216 bytes", long.1.digest)),
        ]
    );
    let store = store(&path);
    let tag = Reference::Tag("1".parse().unwrap());
    assert!(store.manifest(&name("example.com/good"), &tag).is_ok());
    assert!(store.manifest(&name("example.com/parent"), &tag).is_err());
}

#[test]
fn a_manifest_is_served_as_the_type_that_it_declares() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tar");
    let listed = Descriptor::of(media_type::DOCKER_MANIFEST, &manifest());
    let child = image("example.com/x:2", media_type::OCI_MANIFEST, manifest());
    let parent = image("example.com/x:1", media_type::OCI_INDEX, index(&[listed]));
    write_each(&path, &[parent, child.clone()]);
    assert_eq!(reasons(&path), []);
    let found = store(&path).manifest(&name("example.com/x"), &Reference::Digest(child.1.digest)).unwrap();
    assert_eq!(found.media_type, media_type::OCI_MANIFEST);
}

#[test]
fn a_tag_belongs_to_the_first_image_that_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tar");
    let first = image("localhost:5000/x:1", media_type::OCI_MANIFEST, manifest());
    // The name of the repository is the same as that of the first image.
    let second = image("localhost_5000.x/x:1", media_type::OCI_INDEX, index(&[]));
    let third = image("LOCALHOST:5000/x:1", media_type::OCI_INDEX, index(&[]));
    let same = image("Localhost:5000/x:1", media_type::OCI_MANIFEST, manifest());
    write_each(&path, &[first.clone(), second, third, same]);
    let reason = format!("its name is taken by {}", first.1.digest);
    assert_eq!(reasons(&path), [("LOCALHOST:5000/x:1".into(), reason)]);
    let tag = Reference::Tag("1".parse().unwrap());
    let store = store(&path);
    assert_eq!(store.manifest(&name("localhost_5000/x"), &tag).unwrap().digest, first.1.digest);
}

#[test]
fn content_that_cannot_be_pulled_is_not_listed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tar");
    let other = image("example.com/other:1", "application/x", b"x".to_vec());
    let digest = Digest::of(Algorithm::Sha512, LAYER);
    let layer = Descriptor { digest, ..Descriptor::of(media_type::OCI_LAYER_TAR, LAYER) };
    let manifest = to_json(&json!({
        "schemaVersion": 2, "config": Descriptor::of(media_type::OCI_CONFIG, b"{}"), "layers": [layer],
    }));
    let parent = image("example.com/part:1", media_type::OCI_MANIFEST, manifest);
    let mut part = parent.clone();
    (part.0, part.1, part.2) = ("example.com/hash:1", layer.clone(), LAYER.to_vec());
    write_each(&path, &[other, parent, part]);
    assert_eq!(
        reasons(&path),
        [
            (
                "example.com/other:1".to_owned(),
                "its media type 'application/x' is not that of an image manifest or index".to_owned()
            ),
            (
                "example.com/part:1".into(),
                format!("its part {} uses sha512; only sha256 is supported", layer.digest)
            ),
            ("example.com/hash:1".into(), "its digest uses sha512; only sha256 is supported".into()),
        ]
    );
    assert!(open(&path).unwrap().is_empty());
}

#[test]
fn a_manifest_of_many_names_is_read_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tar");
    let tags: Vec<_> = (0..1000).map(|number| format!("example.com/x:{number}")).collect();
    write(&path, &tags.iter().map(|tag| Some(tag.as_str())).collect::<Vec<_>>());
    let layout = Layout::open(&path).unwrap();
    let mut builder = Builder::new(&layout).unwrap();
    for root in layout.roots() {
        assert_eq!(builder.add(root).unwrap(), None);
    }
    assert_eq!(builder.reads, 2, "the index and its manifest");
    assert!(builder.steps <= 3 * tags.len() + 10, "{}", builder.steps);
}

#[test]
fn lists_do_not_change_and_read_nothing_beneath_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tar");
    write(&path, &["a.b/x:1", "a.b/x-y:1", "a.b/x/y:1", "a.b-c/x:1"].map(Some));
    let bundle = open(&path).unwrap();
    let list = |folder: &Key| bundle.list(folder).unwrap();
    let repositories = crate::layout::repositories();
    assert_eq!(list(&repositories).unwrap(), ["a.b", "a.b-c"]);
    let host = repositories.child("a.b");
    assert_eq!(list(&host).unwrap(), ["x", "x-y"]);
    assert_eq!(list(&host.child("x")).unwrap(), ["_layers", "_manifests", "y"]);
    assert_eq!(list(&host.child("z")), None);
    let blobs = crate::layout::blobs();
    for folder in [list(&blobs).unwrap(), list(&blobs).unwrap()].concat() {
        let digest = &list(&blobs.child(&folder)).unwrap()[0];
        assert_eq!(list(&blobs.child(&folder).child(digest)).unwrap(), ["data"]);
    }
    assert!(bundle.abilities().has_listing_versions);
    let version = bundle.listing_version(&host).unwrap();
    assert!(version.settled().is_some());
}

#[test]
fn an_archive_that_cannot_be_read_is_noticed_and_one_that_was_removed_is_read_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tar");
    write(&path, &[Some("example.com/x:1")]);
    let bundle = open(&path).unwrap();
    bundle.check().unwrap();
    let file = File::options().write(true).open(&path).unwrap();
    fs::remove_file(&path).unwrap();
    bundle.check().unwrap();
    file.set_len(512).unwrap();
    assert!(bundle.check().is_err());
}

#[test]
fn keys_are_listed_in_pages() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tar");
    write(&path, &[Some("example.com/x:1"), Some("example.com/y:1")]);
    let bundle = open(&path).unwrap();
    let all = bundle.scan(&crate::layout::root(), None, 1000).unwrap();
    assert_eq!((all.entries.len(), all.next), (bundle.objects.len(), None));
    let (mut paged, mut after) = (Vec::new(), None);
    loop {
        let page = bundle.scan(&crate::layout::root(), after.as_ref(), 3).unwrap();
        assert!(page.entries.len() <= 3);
        paged.extend(page.entries);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(paged, all.entries);
    assert_eq!(bundle.list(&crate::layout::repositories()).unwrap().unwrap(), ["example.com"]);
}
