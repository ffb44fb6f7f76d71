//! Hostile requests to a registry with storage: the rows of `docs/hostile-inputs.md` for which something is
//! stored, each under its number. The area's `hostile` has the rows for which nothing is stored.

mod manifests;
mod names;
mod requests;
mod uploads;

use serde_json::{Value, json};

use crate::push::registry::{MANIFEST, Repository, on_each};

const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Whatever is refused leaves no tag and no session.
fn refuses(attack: impl Fn(&Repository)) {
    on_each(|registry| {
        let repository = registry.repository("victim");
        let (digest, bytes) = repository.push_image("good", &[b"layer"]);
        attack(&repository);
        assert_eq!(repository.tags(), ["good"]);
        repository.assert_manifest("good", &digest, &bytes);
    });
}

/// None of these is taken as a manifest.
fn refuses_manifests(code: &str, manifests: impl Fn(&Repository) -> Vec<Vec<u8>>) {
    refuses(|repository| {
        for manifest in manifests(repository) {
            for media_type in [MANIFEST, "application/vnd.docker.distribution.manifest.v2+json"] {
                repository.put_manifest("bad", media_type, &manifest).assert_refused(400, code);
            }
        }
    });
}

/// A good manifest, changed.
fn changed(repository: &Repository, change: impl Fn(&mut Value)) -> Vec<u8> {
    let mut manifest: Value = serde_json::from_slice(&repository.image(&[b"layer"], &json!({}))).unwrap();
    manifest.as_object_mut().unwrap().remove("mediaType");
    change(&mut manifest);
    serde_json::to_vec(&manifest).unwrap()
}

fn text(manifest: Vec<u8>) -> String {
    String::from_utf8(manifest).unwrap()
}
