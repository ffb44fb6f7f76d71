//! Archives of images as storages of a store.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use quinistry_oci::layout::{Format, RefNames, SavedImage, Target, Writer};
use quinistry_oci::{Reference, to_json};
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
fn images_without_a_full_name_are_left_out_and_told() {
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
    assert!(
        matches!(open(&path), Err(BundleError::Manifest { digest, .. }) if digest == Digest::sha256(&manifest()))
    );
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
