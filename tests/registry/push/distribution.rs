//! One folder, served and written in turn by distribution's registry and by us.

use std::path::Path;

use quinistry::oci::Digest;
use quinistry::registry::Settings;
use quinistry::store::{Access, Filesystem, Store};
use serde_json::{Value, json};

use crate::push::registry::{INDEX, MANIFEST, Registry, Repository, sha512};
use crate::support::distribution::{Distribution, Version};
use crate::support::http::Peer;

/// Pushes as distribution wants it, which takes no blob in one request.
fn push(repository: &Repository, tag: &str, layer: &[u8], more: &Value) -> (Digest, Vec<u8>) {
    let blob = |bytes: &[u8]| {
        let digest = Digest::sha256(bytes);
        let begun = repository.ask("POST", "blobs/uploads/", &[("Content-Length", "0")], b"");
        let at = begun.header("location").unwrap();
        // Theirs is absolute, and has a state in its query.
        let at = at.find("/v2/").map_or(at, |path| &at[path..]);
        let separator = if at.contains('?') { '&' } else { '?' };
        let end = repository.peer.ask("PUT", &format!("{at}{separator}digest={digest}"), &[], bytes);
        assert_eq!(end.status, 201, "{end:?}");
        json!({"mediaType": "application/octet-stream", "digest": digest, "size": bytes.len()})
    };
    let mut manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": blob(b"{}"), "layers": [blob(layer)],
    });
    manifest.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let bytes = serde_json::to_vec(&manifest).unwrap();
    let answer = repository.put_manifest(tag, MANIFEST, &bytes);
    assert_eq!(answer.status, 201, "{answer:?}");
    (Digest::sha256(&bytes), bytes)
}

fn ours<T>(folder: &Path, work: impl FnOnce(&Repository) -> T) -> T {
    let storage = Filesystem::open(folder, Access::Write).unwrap();
    let registry = Registry::on(Store::open(storage, false).unwrap(), Settings::default(), None);
    work(&registry.repository("shared/one"))
}

fn theirs<T>(version: Version, folder: &Path, work: impl FnOnce(&Repository) -> T) -> Option<T> {
    let registry = Distribution::on(version, folder)?;
    let peer = Peer(registry.host.parse().unwrap());
    Some(work(&Repository { peer, name: "shared/one".into() }))
}

fn tags(repository: &Repository) -> Vec<String> {
    let mut tags = repository.tags();
    tags.sort();
    tags
}

fn delete(repository: &Repository, rest: &str) {
    let answer = repository.ask("DELETE", rest, &[], b"");
    assert_eq!(answer.status, 202, "{answer:?}");
}

fn referrers(repository: &Repository, subject: &Digest) -> Value {
    repository.get(&format!("referrers/{subject}")).json()["manifests"].clone()
}

fn about((digest, bytes): &(Digest, Vec<u8>)) -> Value {
    json!({"subject": {"mediaType": MANIFEST, "digest": digest, "size": bytes.len()}})
}

fn written_in_turn(version: Version) {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let Some(first) =
        theirs(version, folder, |repository| push(repository, "theirs", b"layer 1", &json!({})))
    else {
        return;
    };
    let second = ours(folder, |repository| {
        repository.assert_manifest("theirs", &first.0, &first.1);
        repository.assert_blob(&Digest::sha256(b"layer 1"), b"layer 1");
        push(repository, "ours", b"layer 2", &json!({}))
    });
    // An artifact that distribution stores and knows nothing of.
    let third = theirs(version, folder, |repository| {
        repository.assert_manifest("ours", &second.0, &second.1);
        repository.assert_blob(&Digest::sha256(b"layer 2"), b"layer 2");
        assert_eq!(tags(repository), ["ours", "theirs"]);
        let third = push(repository, "signature", b"layer 3", &about(&second));
        delete(repository, &format!("manifests/{}", first.0));
        third
    });
    let third = third.unwrap();
    let fourth = ours(folder, |repository| {
        assert_eq!(tags(repository), ["ours", "signature"]);
        repository.get("manifests/theirs").assert_refused(404, "MANIFEST_UNKNOWN");
        repository.assert_manifest("signature", &third.0, &third.1);
        assert_eq!(referrers(repository, &second.0)[0]["digest"], json!(third.0));
        // And what they delete refers to nothing any more.
        delete(repository, "manifests/ours");
        let fourth = push(repository, "gone", b"layer 4", &json!({}));
        delete(repository, &format!("manifests/{}", fourth.0));
        delete(repository, &format!("blobs/{}", Digest::sha256(b"layer 1")));
        fourth
    });
    theirs(version, folder, |repository| {
        assert_eq!(tags(repository), ["signature"]);
        for gone in ["manifests/gone".into(), format!("manifests/{}", fourth.0)] {
            assert_eq!(repository.ask("GET", &gone, &[("Accept", MANIFEST)], b"").status, 404);
        }
        let blob = format!("blobs/{}", Digest::sha256(b"layer 1"));
        assert_eq!(repository.ask("HEAD", &blob, &[], b"").status, 404);
        delete(repository, &format!("manifests/{}", third.0));
        delete(repository, &format!("blobs/{}", Digest::sha256(b"layer 4")));
    });
    ours(folder, |repository| {
        assert_eq!(repository.tags(), [""; 0]);
        assert_eq!(referrers(repository, &second.0), json!([]));
        repository.assert_manifest(second.0.as_str(), &second.0, &second.1);
        let blob = format!("blobs/{}", Digest::sha256(b"layer 4"));
        repository.get(&blob).assert_refused(404, "BLOB_UNKNOWN");
    });
}

#[test]
fn version_2_and_we_write_a_folder_in_turn_and_each_serves_what_the_other_wrote() {
    written_in_turn(Version::Second);
}

#[test]
fn version_3_and_we_write_a_folder_in_turn_and_each_serves_what_the_other_wrote() {
    written_in_turn(Version::Third);
}

/// They need not give what was pushed by another hash than theirs; all else they must.
fn sha512_beside_theirs(version: Version) {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (plain, long) = ours(folder, |repository| {
        let bytes = repository.image(&[b"long"], &json!({}));
        let long = sha512(&bytes);
        assert_eq!(repository.put_manifest(&format!("{long}?tag=long"), MANIFEST, &bytes).status, 201);
        let path = format!("blobs/uploads/?digest={}", sha512(b"blob"));
        assert_eq!(repository.ask("POST", &path, &[], b"blob").status, 201);
        (repository.push_image("plain", &[b"plain"]), (long, bytes))
    });
    let looked = theirs(version, folder, |repository| {
        assert_eq!(tags(repository), ["long", "plain"]);
        repository.assert_manifest("plain", &plain.0, &plain.1);
        repository.assert_blob(&Digest::sha256(b"blob"), b"blob");
        repository.ask("GET", "manifests/long", &[("Accept", MANIFEST)], b"");
        let other = push(repository, "other", b"other", &json!({}));
        repository.assert_manifest("other", &other.0, &other.1);
        delete(repository, &format!("manifests/{}", plain.0));
        assert_eq!(tags(repository), ["long", "other"]);
    });
    if looked.is_none() {
        return;
    }
    ours(folder, |repository| {
        assert_eq!(tags(repository), ["long", "other"]);
        repository.assert_manifest("long", &long.0, &long.1);
        repository.assert_blob(&Digest::sha256(b"long"), b"long");
        delete(repository, &format!("manifests/{}", long.0));
        delete(repository, &format!("blobs/{}", sha512(b"blob")));
    });
    theirs(version, folder, |repository| {
        assert_eq!(tags(repository), ["other"]);
        let gone =
            [format!("manifests/{}", Digest::sha256(&long.1)), format!("blobs/{}", Digest::sha256(b"blob"))];
        assert_eq!(gone.map(|path| repository.get(&path).status), [404, 404]);
    });
}

#[test]
fn what_we_take_by_sha512_leaves_the_service_of_version_2_whole() {
    sha512_beside_theirs(Version::Second);
}

#[test]
fn what_we_take_by_sha512_leaves_the_service_of_version_3_whole() {
    sha512_beside_theirs(Version::Third);
}

/// Runs distribution's collection over a folder that this registry wrote: tagged content is kept,
/// unreferenced blobs are removed. With `--delete-untagged` it also removes untagged manifests, signatures
/// too; `children` is true for versions that then keep the manifests of a tagged index.
fn collected_by_theirs(version: Version, children: bool) {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (image, child, index, signature) = ours(folder, |repository| {
        let image = repository.push_image("image", &[b"layer"]);
        repository.push_image("moved", &[b"before"]);
        repository.push_image("moved", &[b"after"]);
        let child = repository.image(&[b"child"], &json!({}));
        let digest = Digest::sha256(&child);
        assert_eq!(repository.put_manifest(digest.as_str(), MANIFEST, &child).status, 201);
        let index = serde_json::to_vec(&json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [
            {"mediaType": MANIFEST, "digest": digest, "size": child.len(),
             "platform": {"architecture": "amd64", "os": "linux"}},
        ]}));
        let index = index.unwrap();
        assert_eq!(repository.put_manifest("index", INDEX, &index).status, 201);
        let signature = repository.image(&[b"signature"], &about(&image));
        let signature = (Digest::sha256(&signature), signature);
        assert_eq!(repository.put_manifest(signature.0.as_str(), MANIFEST, &signature.1).status, 201);
        repository.push_blob(b"orphan");
        // Sent by another hash, and made of blobs that were not.
        let long = repository.image(&[b"long"], &json!({}));
        assert_eq!(
            repository.put_manifest(&format!("{}?tag=long", sha512(&long)), MANIFEST, &long).status,
            201
        );
        (image, (digest, child), (Digest::sha256(&index), index), signature)
    });
    let whole = |repository: &Repository, tags: &[&str]| {
        assert_eq!(repository.tags(), tags);
        repository.assert_manifest("image", &image.0, &image.1);
        assert_eq!(repository.get("manifests/index").body, index.1);
        for layer in [&b"layer"[..], b"after", b"{}"] {
            repository.assert_blob(&Digest::sha256(layer), layer);
        }
        let orphan = format!("blobs/{}", Digest::sha256(b"orphan"));
        repository.get(&orphan).assert_refused(404, "BLOB_UNKNOWN");
    };
    if Distribution::collect(version, folder, &[]).is_none() {
        return;
    }
    ours(folder, |repository| {
        whole(repository, &["image", "index", "long", "moved"]);
        repository.assert_manifest(child.0.as_str(), &child.0, &child.1);
        repository.assert_blob(&Digest::sha256(b"long"), b"long");
        assert_eq!(repository.get("manifests/long").header("docker-content-digest").unwrap().len(), 135);
        assert_eq!(referrers(repository, &image.0)[0]["digest"], json!(signature.0));
        // A manifest without a tag that they understand stops them halfway.
        delete(repository, "manifests/long");
        let long = repository.image(&[b"long"], &json!({}));
        delete(repository, &format!("manifests/{}", Digest::sha256(&long)));
    });
    Distribution::collect(version, folder, &["--delete-untagged"]).unwrap();
    ours(folder, |repository| {
        whole(repository, &["image", "index", "moved"]);
        assert_eq!(referrers(repository, &image.0), json!([]));
        let found = repository.get(&format!("manifests/{}", child.0));
        assert_eq!(found.status, if children { 200 } else { 404 }, "{found:?}");
        // What they lost comes back like anything that was never there.
        let again = repository.image(&[b"child"], &json!({}));
        assert_eq!(repository.put_manifest(child.0.as_str(), MANIFEST, &again).status, 201);
        repository.assert_manifest(child.0.as_str(), &child.0, &child.1);
    });
}

#[test]
fn the_collection_of_version_2_leaves_what_our_tags_mean() {
    collected_by_theirs(Version::Second, false);
}

#[test]
fn the_collection_of_version_3_leaves_what_our_tags_mean() {
    collected_by_theirs(Version::Third, true);
}
