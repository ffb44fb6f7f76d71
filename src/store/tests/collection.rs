//! Tests of collection over manifests that another program accepted, and this one would refuse.

mod cut_off;
pub(super) mod late_intents;
pub(super) mod online;
mod refusals;
mod repositories;
mod times;
mod touches;

use std::time::Duration;

use super::*;
use crate::layout::RepositoryKeys;
use crate::{Collection, DamagedManifest, DamagedManifests};

/// Puts any bytes where another program would put a manifest.
fn place(store: &Store, repository: &str, bytes: &[u8], tag: Option<&str>) -> Digest {
    let digest = Digest::sha256(bytes);
    let (repository, link) = (name(repository), digest.as_str().as_bytes());
    let place = RepositoryKeys(&repository);
    let mut entries = vec![(blob(&digest), bytes), (place.revision_link(&digest), link)];
    entries.extend(tag.map(|tag| (place.tag_link(&tag.parse().unwrap()), link)));
    store.storage().write(&[&entries]).unwrap();
    digest
}

/// Documents with one layer, or with a child, that Go's decoders take.
fn odd(layer: &Digest, child: &Digest) -> Vec<String> {
    let layer = format!("{{\"mediaType\":\"a/b\",\"digest\":\"{layer}\",\"size\":5}}");
    let config = layer.replace(Digest::sha256(b"layer").as_str(), Digest::sha256(b"{}").as_str());
    let config = config.replace(":5", ":2");
    let image = |more: &str| format!("{{\"schemaVersion\":2,\"config\":{layer},\"layers\":[{layer}]{more}}}");
    let deep = format!(",\"x\":{}{}", "[".repeat(500), "]".repeat(500));
    vec![
        image(",\"mediaType\":\"\""),
        image(",\"mediaType\":\"a\",\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\""),
        image(",\"annotations\":{\"a\":\"1\",\"a\":\"2\"}"),
        image(",\"manifests\":null"),
        image(",\"mediaType\":\"application/vnd.oci.artifact.manifest.v1+json\""),
        image(&deep),
        image("").replace("\"mediaType\":\"a/b\",", ""),
        image("").replace("\"size\":5", "\"size\":5.0"),
        image("").replace("\"size\":5", "\"size\":-1"),
        image("").replace(":2,", ":\"2\","),
        image("").replace("sha256:", "sha256\\u003a"),
        format!("{{\"schemaVersion\":2,\"config\":{config},\"Layers\":[{layer}]}}"),
        image("").replace("\"layers\":[", "\"layers\":[],\"layers\":["),
        image(&format!(",\"manifests\":[{{\"digest\":\"{child}\"}}]")),
        format!("{{\"schemaVersion\":1,\"layers\":[{layer}]}}"),
        format!("no JSON at all, but {layer}"),
    ]
}

#[test]
fn a_manifest_that_is_not_understood_stays_with_all_that_it_mentions_and_stops_nothing() {
    let (layer, child) = (Digest::sha256(b"layer"), Digest::sha256(&manifest(b"layer", "child")));
    for document in odd(&layer, &child) {
        for untagged in [false, true] {
            let folder = folder();
            let store = open(folder.path());
            for bytes in [&b"{}"[..], b"layer", b"garbage"] {
                push_blob(&store, "a/b", bytes).unwrap();
            }
            push_blob(&store, "other", b"more garbage").unwrap();
            put(&store, "a/b", &manifest(b"layer", "child"), &[]).unwrap();
            let digest = place(&store, "a/b", document.as_bytes(), Some("v1"));
            let wanted = Collection {
                grace: Duration::ZERO,
                untagged,
                dry_run: false,
                damaged: DamagedManifests::Stop,
            };
            let collected = store.collect(&wanted).unwrap_or_else(|error| panic!("{document}: {error}"));
            for gone in [&b"garbage"[..], b"more garbage"] {
                assert!(collected.blobs.iter().any(|(blob, _)| *blob == Digest::sha256(gone)), "{document}");
            }
            for told in &collected.not_understood {
                assert_eq!((&told.repository, &told.digest), (&name("a/b"), &digest), "{document}");
                assert_eq!(told.tags, tags(&["v1"]), "{document}");
            }
            let store = open_again(store, folder.path());
            assert_eq!(resolve_tag(&store, "a/b", "v1"), Some(digest), "{document}");
            assert!(store.blob(&name("a/b"), &layer).is_ok(), "{document}");
            let mentions_child = document.contains(child.as_str());
            let kept = store.manifest(&name("a/b"), &Reference::Digest(child.clone())).is_ok();
            assert_eq!(kept, mentions_child || !untagged, "{document}");
        }
    }
}

#[test]
fn without_a_tag_it_stays_too() {
    let folder = folder();
    let store = open(folder.path());
    push_blob(&store, "a", b"layer").unwrap();
    let document = odd(&Digest::sha256(b"layer"), &Digest::sha256(b"")).swap_remove(2);
    let digest = place(&store, "a", document.as_bytes(), None);
    let collected = store
        .collect(&Collection {
            grace: Duration::ZERO,
            untagged: true,
            dry_run: false,
            damaged: DamagedManifests::Stop,
        })
        .unwrap();
    assert_eq!((collected.manifests.len(), collected.blobs.len(), collected.kept), (0, 0, 2));
    assert_eq!(collected.not_understood.len(), 1);
    assert!(store.manifest(&name("a"), &Reference::Digest(digest)).is_ok());
}

#[test]
fn a_damaged_manifest_is_named_by_repository_and_tag() {
    let folder = folder();
    let store = open(folder.path());
    push_blob(&store, "a/b", b"{}").unwrap();
    push_blob(&store, "a/b", b"layer").unwrap();
    let digest = put(&store, "a/b", &manifest(b"layer", "x"), &["v1", "v2"]).unwrap();
    drop(store);
    damage(folder.path(), &digest, b"torn");
    let wanted =
        Collection { grace: Duration::ZERO, untagged: true, dry_run: false, damaged: DamagedManifests::Stop };
    let error = open(folder.path()).collect(&wanted).unwrap_err().to_string();
    assert!(error.contains(&format!("a/b@{digest} (v1, v2)")), "{error}");
}

#[test]
fn beside_a_damaged_manifest_other_repositories_are_collected_and_all_bytes_stay() {
    let folder = folder();
    let store = open(folder.path());
    for repository in ["a/b", "other"] {
        for bytes in [&b"{}"[..], b"layer", b"garbage"] {
            push_blob(&store, repository, bytes).unwrap();
        }
    }
    let damaged = put(&store, "a/b", &manifest(b"layer", "x"), &["v1", "v2"]).unwrap();
    let untagged = put(&store, "a/b", &manifest(b"layer", "y"), &[]).unwrap();
    let elsewhere = put(&store, "other", &manifest(b"layer", "z"), &[]).unwrap();
    drop(store);
    damage(folder.path(), &damaged, b"torn");
    let store = open(folder.path());
    let damaged_manifests = DamagedManifests::KeepRepository;
    let wanted =
        Collection { grace: Duration::ZERO, untagged: true, dry_run: false, damaged: damaged_manifests };
    let collected = store.collect(&wanted).unwrap();
    let told = DamagedManifest { repository: name("a/b"), digest: damaged, tags: tags(&["v1", "v2"]) };
    assert_eq!(collected.damaged, [told]);
    assert_eq!(collected.manifests, [(name("other"), elsewhere)]);
    assert!(collected.links.iter().all(|(repository, _)| *repository == name("other")));
    assert_eq!(collected.links.len(), 3);
    assert!(collected.blobs.is_empty(), "{:?}", collected.blobs);
    let store = open_again(store, folder.path());
    assert!(store.manifest(&name("a/b"), &Reference::Digest(untagged)).is_ok());
    assert!(store.blob(&name("a/b"), &Digest::sha256(b"garbage")).is_ok());
    // Pushed again, the manifest is no longer damaged, and the rest is collected.
    put(&store, "a/b", &manifest(b"layer", "x"), &["v1"]).unwrap();
    let collected = store.collect(&wanted).unwrap();
    assert!(collected.damaged.is_empty());
    assert!(collected.blobs.iter().any(|(blob, _)| *blob == Digest::sha256(b"garbage")));
}
