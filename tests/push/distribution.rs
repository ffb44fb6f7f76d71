//! One folder, served and written in turn by distribution's registry and by us.

use std::path::Path;

use quinistry::oci::Digest;
use quinistry::registry::Options;
use quinistry::store::{Access, Filesystem, Store};
use serde_json::{Value, json};

use crate::registry::{MANIFEST, Registry, Repository};
use crate::support::distribution::Distribution;
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
    let registry = Registry::on(Store::open(storage, false).unwrap(), Options::default(), None);
    work(&registry.repository("shared/one"))
}

fn theirs<T>(folder: &Path, work: impl FnOnce(&Repository) -> T) -> Option<T> {
    let registry = Distribution::on(folder)?;
    let peer = Peer(registry.host.parse().unwrap());
    Some(work(&Repository { peer, name: "shared/one".into() }))
}

fn tags(repository: &Repository) -> Vec<String> {
    let mut tags = repository.tags();
    tags.sort();
    tags
}

#[test]
fn a_folder_is_written_in_turn_and_each_serves_what_the_other_wrote() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let Some(first) = theirs(folder, |repository| push(repository, "theirs", b"layer 1", &json!({}))) else {
        return;
    };
    let second = ours(folder, |repository| {
        repository.assert_manifest("theirs", &first.0, &first.1);
        repository.assert_blob(&Digest::sha256(b"layer 1"), b"layer 1");
        push(repository, "ours", b"layer 2", &json!({}))
    });
    // An artifact that distribution stores and knows nothing of.
    let subject = json!({"subject": {"mediaType": MANIFEST, "digest": second.0, "size": second.1.len()}});
    let third = theirs(folder, |repository| {
        repository.assert_manifest("ours", &second.0, &second.1);
        repository.assert_blob(&Digest::sha256(b"layer 2"), b"layer 2");
        assert_eq!(tags(repository), ["ours", "theirs"]);
        let third = push(repository, "signature", b"layer 3", &subject);
        assert_eq!(repository.ask("DELETE", &format!("manifests/{}", first.0), &[], b"").status, 202);
        third
    });
    let third = third.unwrap();
    ours(folder, |repository| {
        assert_eq!(tags(repository), ["ours", "signature"]);
        repository.get("manifests/theirs").assert_refused(404, "MANIFEST_UNKNOWN");
        repository.assert_manifest("signature", &third.0, &third.1);
        let referrers = repository.get(&format!("referrers/{}", second.0)).json();
        assert_eq!(referrers["manifests"][0]["digest"], json!(third.0));
        // And what they delete refers to nothing any more.
        assert_eq!(repository.ask("DELETE", "manifests/ours", &[], b"").status, 202);
    });
    theirs(folder, |repository| {
        assert_eq!(tags(repository), ["signature"]);
        assert_eq!(repository.ask("DELETE", &format!("manifests/{}", third.0), &[], b"").status, 202);
    });
    ours(folder, |repository| {
        assert_eq!(repository.tags(), [""; 0]);
        let referrers = repository.get(&format!("referrers/{}", second.0)).json();
        assert_eq!(referrers["manifests"], json!([]));
        repository.assert_manifest(second.0.as_str(), &second.0, &second.1);
    });
}
