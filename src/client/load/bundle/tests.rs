//! Archives with and without defects, made on the spot.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use quinistry_oci::layout::{Format, RefNames, SavedImage, Target, Writer};
use quinistry_oci::to_json;
use serde_json::json;

use super::*;

const LAYER: &[u8] = b"a layer of an image";

/// Returns the manifest of an image with a layer.
fn manifest(layer: &[u8]) -> Vec<u8> {
    let config = Descriptor::of(media_type::OCI_CONFIG, b"{}");
    let layer = Descriptor::of(media_type::OCI_LAYER_TAR, layer);
    to_json(&json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": config, "layers": [layer],
    }))
}

fn index(manifests: &[Vec<u8>]) -> Vec<u8> {
    let entries: Vec<_> =
        manifests.iter().map(|bytes| Descriptor::of(media_type::OCI_MANIFEST, bytes)).collect();
    to_json(&json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": entries}))
}

/// Writes an archive of blobs, and of images under names.
fn write(path: &Path, blobs: &[&[u8]], images: &[(Option<&str>, &str, &[u8])]) -> Layout {
    let mut writer = Writer::create(Target::Path(path.into()), Format::Archive).unwrap();
    for bytes in blobs {
        writer.add_blob(&Descriptor::of("application/octet-stream", bytes), bytes).unwrap();
    }
    let saved = images.iter().map(|(name, kind, bytes)| SavedImage {
        descriptor: Descriptor::of(kind, bytes),
        name: name.map(str::to_owned),
        docker: None,
    });
    writer.with_ref_names(RefNames::Full).finish(&saved.collect::<Vec<_>>()).unwrap();
    Layout::open_archive(path).unwrap()
}

fn faults(layout: &Layout) -> Vec<(String, BundleFaultReason)> {
    match Bundle::read(layout) {
        Err(BundleReadError::Faulty(faults)) => {
            faults.into_iter().map(|fault| (fault.image, fault.reason)).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn shared_content_is_read_once_and_belongs_to_each_repository() {
    let folder = tempfile::tempdir().unwrap();
    let (image, other) = (manifest(LAYER), manifest(b"other"));
    let both = index(&[image.clone(), other.clone()]);
    let blobs: [&[u8]; 6] = [b"{}", LAYER, b"other", &image, &other, &both];
    let images: [(_, _, &[u8]); 3] = [
        (Some("ghcr.io/a:1"), media_type::OCI_INDEX, &both),
        (Some("registry.lan:5000/b:2"), media_type::OCI_MANIFEST, &image),
        (Some("ghcr.io/a:2"), media_type::OCI_MANIFEST, &image),
    ];
    let layout = write(&folder.path().join("a.tar"), &blobs, &images);
    let bundle = Bundle::read(&layout).unwrap();
    let repositories: Vec<_> = bundle.repositories.keys().map(ToString::to_string).collect();
    assert_eq!(repositories, ["ghcr.io/a", "registry.lan_5000/b"]);
    let (image, other, both) = (Digest::sha256(&image), Digest::sha256(&other), Digest::sha256(&both));
    let parts = &bundle.repositories[&"ghcr.io/a".parse().unwrap()];
    assert_eq!(parts.manifests, [image.clone(), other.clone(), both.clone()], "children come first");
    assert_eq!(bundle.blobs[&Digest::sha256(LAYER)].repositories.len(), 2);
    assert_eq!(bundle.blob_bytes(), (2 + LAYER.len() + 5) as u64);

    let find = |name: &str| {
        let found = bundle.find(&name.parse().unwrap());
        found.map(|(repository, digest)| (repository.to_string(), digest))
    };
    assert_eq!(find("ghcr.io/a:1"), Some(("ghcr.io/a".into(), both)));
    assert_eq!(find(&format!("ghcr.io/a:9@{other}")), Some(("ghcr.io/a".into(), other.clone())));
    assert_eq!(find("registry.lan:5000/b:2"), Some(("registry.lan_5000/b".into(), image)));
    for name in ["ghcr.io/a:3", "ghcr.io/a", &format!("registry.lan:5000/b@{other}"), "ghcr.io/c:1"] {
        assert_eq!(find(name), None, "{name}");
    }
}

#[test]
fn an_index_without_some_of_its_images_is_sparse() {
    let folder = tempfile::tempdir().unwrap();
    let (image, other) = (manifest(LAYER), manifest(b"other"));
    let both = index(&[image.clone(), other]);
    let blobs: [&[u8]; 4] = [b"{}", LAYER, &image, &both];
    let root: (_, _, &[u8]) = (Some("ghcr.io/a:1"), media_type::OCI_INDEX, &both);
    let bundle = Bundle::read(&write(&folder.path().join("a.tar"), &blobs, &[root])).unwrap();
    assert!(bundle.manifests[&Digest::sha256(&both)].is_sparse);
    assert!(!bundle.manifests[&Digest::sha256(&image)].is_sparse);

    let reasons = faults(&write(&folder.path().join("b.tar"), &[&both], &[root]));
    let index = Digest::sha256(&both);
    assert_eq!(reasons, [("ghcr.io/a:1".into(), BundleFaultReason::NoImage(index))]);
}

#[test]
fn all_defects_are_found_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tar");
    let (image, lost, odd) = (manifest(LAYER), manifest(b"lost"), manifest(b"odd"));
    let blobs: [&[u8]; 5] = [b"{}", LAYER, &image, &lost, &odd];
    let images: [(_, _, &[u8]); 7] = [
        (Some("localhost:1/a:1"), media_type::OCI_MANIFEST, &image),
        (Some("LOCALHOST:1/a:1"), media_type::OCI_MANIFEST, &odd),
        (Some("latest"), media_type::OCI_MANIFEST, &image),
        (Some("ghcr.io/lost:1"), media_type::OCI_MANIFEST, &lost),
        (Some("ghcr.io/lost:2"), media_type::OCI_MANIFEST, &lost),
        (Some("ghcr.io/absent:1"), media_type::OCI_MANIFEST, b"absent"),
        (Some("ghcr.io/x:1"), "application/x", LAYER),
    ];
    let layout = write(&path, &blobs, &images);
    assert_eq!(
        faults(&layout),
        [
            ("LOCALHOST:1/a:1".to_owned(), BundleFaultReason::NameTaken(Digest::sha256(&image))),
            ("latest".into(), BundleFaultReason::NoFullName),
            ("ghcr.io/lost:1".into(), BundleFaultReason::NoBlob(Digest::sha256(b"lost"))),
            ("ghcr.io/absent:1".into(), BundleFaultReason::NoManifest(Digest::sha256(b"absent"))),
            ("ghcr.io/x:1".into(), BundleFaultReason::MediaType("application/x".into())),
        ]
    );
    drop(layout);

    let bytes = fs::read(&path).unwrap();
    let at = bytes.windows(image.len()).position(|window| window == image).unwrap();
    File::options().write(true).open(&path).unwrap().write_all_at(b" ", at as u64).unwrap();
    let reasons = faults(&Layout::open_archive(&path).unwrap());
    assert!(matches!(&reasons[0].1, BundleFaultReason::Damaged { .. }), "{reasons:?}");
}

#[test]
fn an_archive_without_images_cannot_be_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let layout = write(&folder.path().join("a.tar"), &[], &[]);
    assert!(matches!(Bundle::read(&layout), Err(BundleReadError::Empty(_))));
}

/// Returns a chain of indexes above an image, from the image to the top.
fn chain(length: usize) -> Vec<Vec<u8>> {
    let mut chain = vec![manifest(LAYER)];
    for number in 0..length {
        let kind = if number == 0 { media_type::OCI_MANIFEST } else { media_type::OCI_INDEX };
        let entry = Descriptor::of(kind, chain.last().unwrap());
        chain.push(to_json(
            &json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [entry]}),
        ));
    }
    chain
}

#[test]
fn indexes_that_are_images_of_their_own_count_for_the_depth() {
    let folder = tempfile::tempdir().unwrap();
    let chain = chain(MAX_INDEX_DEPTH + 1);
    let blobs: Vec<&[u8]> = [b"{}", LAYER].into_iter().chain(chain.iter().map(Vec::as_slice)).collect();
    let names: Vec<_> = (0..chain.len()).map(|number| format!("ghcr.io/a:{number}")).collect();
    // From the image up: each index is read after the one below it.
    let images: Vec<(_, _, &[u8])> = chain
        .iter()
        .enumerate()
        .map(|(number, bytes)| {
            let kind = if number == 0 { media_type::OCI_MANIFEST } else { media_type::OCI_INDEX };
            (Some(names[number].as_str()), kind, bytes.as_slice())
        })
        .collect();
    let whole = write(&folder.path().join("a.tar"), &blobs, &images);
    let reason = BundleFaultReason::TooDeep(MAX_INDEX_DEPTH);
    assert_eq!(faults(&whole), [(names[MAX_INDEX_DEPTH + 1].clone(), reason.clone())]);
    let top = write(&folder.path().join("b.tar"), &blobs, &images[MAX_INDEX_DEPTH + 1..]);
    assert_eq!(faults(&top), [(names[MAX_INDEX_DEPTH + 1].clone(), reason)]);
    let most = write(&folder.path().join("c.tar"), &blobs, &images[..=MAX_INDEX_DEPTH]);
    let bundle = Bundle::read(&most).unwrap();
    assert_eq!(bundle.repositories.values().next().unwrap().manifests.len(), MAX_INDEX_DEPTH + 1);
}

#[test]
fn content_counts_for_each_repository_that_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let image = manifest(LAYER);
    let layer = Descriptor::of(media_type::OCI_LAYER_TAR, LAYER);
    // Its layer 5,000 times: an entry of the index that is not a manifest.
    let many = to_json(&json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_INDEX,
        "manifests": std::iter::repeat_n(&layer, 5000).collect::<Vec<_>>(),
    }));
    let blobs: [&[u8]; 4] = [b"{}", LAYER, &image, &many];
    let names: Vec<_> = (0..=MAX_BUNDLE_PARTS / 5001).map(|number| format!("ghcr.io/a/{number}:1")).collect();
    let images: Vec<(_, _, &[u8])> =
        names.iter().map(|name| (Some(name.as_str()), media_type::OCI_INDEX, many.as_slice())).collect();
    let layout = write(&folder.path().join("a.tar"), &blobs, &images);
    let last = names.last().unwrap().clone();
    assert_eq!(faults(&layout), [(last, BundleFaultReason::TooManyParts)]);
    let layout = write(&folder.path().join("b.tar"), &blobs, &images[1..]);
    assert_eq!(Bundle::read(&layout).unwrap().repositories.len(), names.len() - 1);
}

#[test]
fn images_of_the_default_folder_of_docker_hub_are_found_under_both_names() {
    let folder = tempfile::tempdir().unwrap();
    let image = manifest(LAYER);
    let names =
        ["docker.io/nginx:1", "docker.io/library/redis:1", "docker.io/acme/shop:1", "quay.io/nginx:1"];
    let images: Vec<_> =
        names.iter().map(|name| (Some(*name), media_type::OCI_MANIFEST, &image[..])).collect();
    let layout = write(&folder.path().join("a.tar"), &[b"{}", LAYER, &image], &images);
    let bundle = Bundle::read(&layout).unwrap();
    let find = |name: &str| {
        bundle.find(&name.parse().unwrap()).map(|(repository, _)| repository.as_str().to_owned())
    };
    for (name, found) in [
        ("docker.io/nginx:1", "docker.io/nginx"),
        ("docker.io/library/nginx:1", "docker.io/nginx"),
        ("docker.io/redis:1", "docker.io/library/redis"),
        ("docker.io/library/redis:1", "docker.io/library/redis"),
    ] {
        assert_eq!(find(name).as_deref(), Some(found), "{name}");
    }
    for name in
        ["docker.io/nginx:2", "docker.io/shop:1", "docker.io/library/acme/shop:1", "quay.io/library/nginx:1"]
    {
        assert_eq!(find(name), None, "{name}");
    }
}
