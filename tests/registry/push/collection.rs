//! Offline collection: what is removed, what is kept, and that no registry may serve the folder during it.

use std::time::Duration;

use quinistry::oci::Digest;
use quinistry::registry::Settings;
use quinistry::store::{Access, Collection, DamagedManifests, Filesystem, OpenError, Store};
use serde_json::json;

use crate::push::registry::{INDEX, MANIFEST, Registry, on_each, store_in, store_once_free};

fn collection(untagged: bool) -> Collection {
    Collection { grace: Duration::ZERO, untagged, dry_run: false, damaged: DamagedManifests::Stop }
}

/// A registry on a folder that may be opened again, and its folder.
fn on(folder: &std::path::Path) -> (Registry, Store) {
    let store = store_in(folder);
    (Registry::on(store.clone(), Settings::default(), None), store)
}

#[test]
fn what_no_manifest_needs_goes_and_everything_else_stays() {
    let folder = tempfile::tempdir().unwrap();
    let (registry, store) = on(folder.path());
    let (one, other) = (registry.repository("one"), registry.repository("other"));
    let (kept, kept_bytes) = one.push_image("v1", &[b"kept"]);
    let (gone, _) = one.push_image("v2", &[b"gone"]);
    let orphan = other.push_blob(b"never used");
    assert_eq!(one.ask("DELETE", &format!("manifests/{gone}"), &[], b"").status, 202);

    let dry = store.collect(&Collection { dry_run: true, ..collection(false) }).unwrap();
    let mut found: Vec<&Digest> = dry.blobs.iter().map(|(digest, _)| digest).collect();
    let layer = Digest::sha256(b"gone");
    let mut expected = vec![&gone, &layer, &orphan];
    found.sort();
    expected.sort();
    assert_eq!((found, dry.kept), (expected, 3));
    other.assert_blob(&orphan, b"never used");
    let young = store.collect(&Collection { grace: Duration::from_hours(1), ..collection(false) }).unwrap();
    assert_eq!(
        (young.blobs.len(), young.links.len(), young.manifests.len()),
        (0, 0, 0),
        "all of it is young"
    );

    assert_eq!(store.collect(&collection(false)).unwrap().blobs.len(), 3);
    other.get(&format!("blobs/{orphan}")).assert_refused(404, "BLOB_UNKNOWN");
    one.get(&format!("blobs/{layer}")).assert_refused(404, "BLOB_UNKNOWN");
    one.assert_manifest("v1", &kept, &kept_bytes);
    one.assert_blob(&Digest::sha256(b"kept"), b"kept");
    assert_eq!(store.collect(&collection(false)).unwrap().blobs.len(), 0);
}

#[test]
fn untagged_manifests_stay_if_an_index_or_a_subject_holds_them() {
    on_each(|registry| {
        let repository = registry.repository("held");
        let child = repository.image(&[b"child"], &json!({}));
        let child_digest = Digest::sha256(&child);
        assert_eq!(repository.put_manifest(child_digest.as_str(), MANIFEST, &child).status, 201);
        let index = serde_json::to_vec(&json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [
            {"mediaType": MANIFEST, "digest": child_digest, "size": child.len()},
        ]}));
        assert_eq!(repository.put_manifest("index", INDEX, &index.unwrap()).status, 201);
        let subject = json!({"mediaType": MANIFEST, "digest": child_digest, "size": child.len()});
        let signature = repository.image(&[], &json!({"subject": subject}));
        let signature_digest = Digest::sha256(&signature);
        assert_eq!(repository.put_manifest(signature_digest.as_str(), MANIFEST, &signature).status, 201);
        let (loose, _) = repository.push_image("loose", &[b"loose"]);
        assert_eq!(repository.ask("DELETE", "manifests/loose", &[], b"").status, 202);

        let store = registry.store();
        let collected = store.collect(&collection(true)).unwrap();
        assert_eq!(collected.manifests.iter().map(|(_, digest)| digest).collect::<Vec<_>>(), [&loose]);
        repository.assert_manifest(child_digest.as_str(), &child_digest, &child);
        repository.assert_manifest(signature_digest.as_str(), &signature_digest, &signature);
        repository.get(&format!("manifests/{loose}")).assert_refused(404, "MANIFEST_UNKNOWN");
    });
}

#[test]
fn a_manifest_that_cannot_be_read_stops_everything() {
    let folder = tempfile::tempdir().unwrap();
    let digest = {
        let (registry, _store) = on(folder.path());
        registry.repository("a").push_blob(b"orphan");
        registry.repository("a").push_image("v1", &[b"layer"]).0
    };
    let data =
        folder.path().join("docker/registry/v2/blobs/sha256").join(&digest.hex()[..2]).join(digest.hex());
    std::fs::write(data.join("data"), b"torn").unwrap();
    let store = store_once_free(folder.path());
    let error = store.collect(&collection(false)).unwrap_err();
    assert!(error.to_string().contains(digest.as_str()), "{error}");
    let registry = Registry::on(store, Settings::default(), None);
    let repository = registry.repository("a");
    repository.assert_blob(&Digest::sha256(b"orphan"), b"orphan");
    // It is as good as absent, and pushing it again mends it.
    repository.get("manifests/v1").assert_refused(404, "MANIFEST_UNKNOWN");
    let (again, bytes) = repository.push_image("v1", &[b"layer"]);
    repository.assert_manifest("v1", &again, &bytes);
}

#[test]
fn two_do_not_write_to_one_folder() {
    let folder = tempfile::tempdir().unwrap();
    let first = Filesystem::open(folder.path(), Access::Write).unwrap();
    assert!(matches!(Filesystem::open(folder.path(), Access::Write), Err(OpenError::InUse(_))));
    Filesystem::open(folder.path(), Access::Read).unwrap();
    drop(first);
    Filesystem::open(folder.path(), Access::Write).unwrap();
}

#[test]
fn what_an_index_lists_and_what_is_by_design_elsewhere_is_needed_if_it_is_here() {
    on_each(|registry| {
        let repository = registry.repository("cache");
        let (layer, foreign) = (repository.push_blob(b"cached layer"), repository.push_blob(b"foreign"));
        let index = serde_json::to_vec(&json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [
            {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": layer, "size": 12},
        ]}));
        assert_eq!(repository.put_manifest("cache", INDEX, &index.unwrap()).status, 201);
        let image = repository.image(&[], &json!({"layers": [
            {"mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "digest": foreign, "size": 7},
        ]}));
        assert_eq!(repository.put_manifest("windows", MANIFEST, &image).status, 201);
        let collected = registry.store().collect(&collection(true)).unwrap();
        assert_eq!((collected.blobs, collected.links), (vec![], vec![]));
        repository.assert_blob(&layer, b"cached layer");
        repository.assert_blob(&foreign, b"foreign");
    });
}

#[test]
fn what_is_not_understood_stops_everything() {
    let folder = tempfile::tempdir().unwrap();
    let (registry, store) = on(folder.path());
    let repository = registry.repository("a");
    let orphan = repository.push_blob(b"orphan");
    let (digest, _) = repository.push_image("v1", &[b"layer"]);
    let root = folder.path().join("docker/registry/v2/repositories");
    let stops = |word: &str| {
        for untagged in [false, true] {
            let error = store.collect(&collection(untagged)).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
        repository.assert_blob(&orphan, b"orphan");
    };
    // A repository of another program, with a name that cannot be asked for here.
    std::fs::create_dir_all(root.join("Team/app/_manifests/revisions")).unwrap();
    stops("Team/app");
    std::fs::remove_dir_all(root.join("Team")).unwrap();
    // A link that a crash of another program left empty.
    let link = root.join("a/_manifests/revisions/sha256").join(digest.hex()).join("link");
    let kept = std::fs::read(&link).unwrap();
    std::fs::write(&link, b"").unwrap();
    stops("link");
    std::fs::write(&link, kept).unwrap();
    assert_eq!(store.collect(&collection(true)).unwrap().blobs.len(), 1);
}

#[test]
fn sessions_that_nobody_goes_on_with_end_also_where_nothing_was_ever_pushed() {
    on_each(|registry| {
        let at = registry.repository("nothing/yet").begin();
        assert_eq!(registry.store().expire_uploads(Duration::from_hours(1)).unwrap(), 0);
        assert_eq!(registry.peer.get(&at).status, 204);
        assert_eq!(registry.store().expire_uploads(Duration::ZERO).unwrap(), 1);
        registry.peer.get(&at).assert_refused(404, "BLOB_UPLOAD_UNKNOWN");
        assert_eq!(registry.store().expire_uploads(Duration::ZERO).unwrap(), 0);
    });
}
