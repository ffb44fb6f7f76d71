//! Names of images from a file, as a ConfigMap that is mounted has them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use quinistry::oci::Digest;
use serde_json::json;
use tempfile::TempDir;

use super::cluster::{Generation, REPOSITORY, Store, image, path, until};
use crate::support::images::{Image, Packing};

/// Folder with names, which change as a kubelet changes a ConfigMap: by the swap of a link.
struct ConfigMap {
    folder: TempDir,
    versions: usize,
}

impl ConfigMap {
    fn new(text: &str) -> Self {
        let mut new = Self { folder: tempfile::tempdir().unwrap(), versions: 0 };
        symlink("..data/names.json", new.file()).unwrap();
        new.replace(text);
        new
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("names.json")
    }

    fn replace(&mut self, text: &str) {
        self.versions += 1;
        let version = format!("..{}", self.versions);
        fs::create_dir(self.folder.path().join(&version)).unwrap();
        fs::write(self.folder.path().join(&version).join("names.json"), text).unwrap();
        let new = self.folder.path().join("..data_tmp");
        symlink(Path::new(&version), &new).unwrap();
        fs::rename(new, self.folder.path().join("..data")).unwrap();
    }
}

fn names(names: &[(&str, &Digest)]) -> String {
    let names: Vec<_> =
        names.iter().map(|(name, digest)| json!({ "name": name, "digest": digest })).collect();
    json!({ "names": names }).to_string()
}

#[test]
fn names_give_tags_repositories_and_lists() {
    let (store, image) = (Store::start(&[]), image());
    store.push(&image);
    let digest = &image.descriptor.digest;
    let absent = Digest::sha256(b"absent");
    let text = names(&[
        ("ghcr.io/acme/shop:1.4.0", digest),
        ("ghcr.io/acme/shop:1.3.0", &absent),
        ("docker.io/library/postgres:17.2", &absent),
        ("shop:1.4.0", digest),
        ("registry.lan:5000/shop:1.4.0", digest),
    ]);
    let map = ConfigMap::new(&text);
    let generation = Generation::start(&[&store.address()], &["--names", map.file().to_str().unwrap()]);
    let by_tag = generation.get(&format!("/v2/{REPOSITORY}/manifests/1.4.0"));
    assert_eq!((by_tag.status, &by_tag.body), (200, &image.manifest));
    assert_eq!(by_tag.header("docker-content-digest"), Some(digest.as_str()));
    generation.pulls(&image);
    // A mirror is asked below the path of the registry that the client means.
    for (kind, reference) in [("manifests", "1.4.0"), ("manifests", digest.as_str())] {
        let answer = generation.get(&format!("/v2/acme/shop/{kind}/{reference}?ns=ghcr.io"));
        assert_eq!((answer.status, &answer.body), (200, &image.manifest));
        assert_eq!(answer.header("oci-namespace"), Some("ghcr.io"));
    }
    let layer = &image.layers[0];
    let blob = generation.get(&format!("/v2/acme/shop/blobs/{}?ns=ghcr.io", layer.0.digest));
    assert_eq!((blob.status, &blob.body), (200, &layer.1));
    let other = generation.get("/v2/acme/shop/manifests/1.4.0?ns=quay.io");
    other.assert_refused(404, "NAME_UNKNOWN");
    // A name without a host is not one of another registry, and the port of a host is part of its name.
    for path in ["shop/tags/list", "shop/tags/list?ns=registry.lan:5000", "registry.lan_5000/shop/tags/list"]
    {
        let tags = generation.get(&format!("/v2/{path}")).json();
        assert_eq!(tags["tags"], json!(["1.4.0"]), "{path}");
    }
    generation.get("/v2/shop/tags/list?ns=quay.io").assert_refused(404, "NAME_UNKNOWN");
    // A name whose content is nowhere.
    generation.get(&format!("/v2/{REPOSITORY}/manifests/1.3.0")).assert_refused(404, "MANIFEST_UNKNOWN");
    generation.get(&format!("/v2/{REPOSITORY}/manifests/1.2.0")).assert_refused(404, "MANIFEST_UNKNOWN");
    // Repositories without a name do not exist, whatever the peers have.
    for place in [format!("manifests/{digest}"), format!("blobs/{}", layer.0.digest), "tags/list".into()] {
        generation.get(&format!("/v2/acme/shop/{place}")).assert_refused(404, "NAME_UNKNOWN");
    }
    let tags = generation.get(&format!("/v2/{REPOSITORY}/tags/list")).json();
    assert_eq!(tags, json!({ "name": REPOSITORY, "tags": ["1.3.0", "1.4.0"] }));
    let page = generation.get(&format!("/v2/{REPOSITORY}/tags/list?n=1&last=1.3.0")).json();
    assert_eq!(page["tags"], json!(["1.4.0"]));
    let catalog = generation.get("/v2/_catalog").json();
    assert_eq!(
        catalog["repositories"],
        json!(["docker.io/library/postgres", REPOSITORY, "quinistry", "registry.lan_5000/shop", "shop"])
    );
    let first = generation.get("/v2/_catalog?n=2");
    assert_eq!(first.json()["repositories"], json!(["docker.io/library/postgres", REPOSITORY]));
    assert!(first.header("link").unwrap().contains("last=ghcr.io%2Facme%2Fshop"));
    let rest = generation.get(&format!("/v2/_catalog?last={REPOSITORY}")).json();
    assert_eq!(rest["repositories"], json!(["quinistry", "registry.lan_5000/shop", "shop"]));
}

#[test]
fn a_changed_file_counts_and_a_damaged_one_keeps_the_former_names() {
    let (store, old, new) = (Store::start(&[]), image(), Image::new("amd64", &["new"], Packing::Gzip));
    for image in [&old, &new] {
        store.push(image);
    }
    let named = |image: &Image| names(&[("ghcr.io/acme/shop:1", &image.descriptor.digest)]);
    let mut map = ConfigMap::new(&named(&old));
    let generation = Generation::start(&[&store.address()], &["--names", map.file().to_str().unwrap()]);
    let tag = format!("/v2/{REPOSITORY}/manifests/1");
    assert_eq!(generation.get(&tag).body, old.manifest);
    map.replace(&named(&new));
    until("the new name counts", || generation.get(&tag).body == new.manifest);
    map.replace("{\"names\": [");
    let refused = "cannot read names, keeping the former ones";
    until("the damage is noticed", || {
        assert_eq!(generation.get(&tag).body, new.manifest);
        generation.server().log().contains(refused)
    });
    map.replace(&named(&old));
    until("the repaired file counts", || generation.get(&tag).body == old.manifest);
    assert_eq!(generation.server().log().matches(refused).count(), 1, "{}", generation.server().log());
}

#[test]
fn a_registry_without_its_file_serves_its_own_image_and_finds_the_file_later() {
    let (store, image) = (Store::start(&[]), image());
    store.push(&image);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("names.json");
    let generation = Generation::start(&[&store.address()], &["--names", file.to_str().unwrap()]);
    assert_eq!(generation.get("/v2/quinistry/manifests/latest").status, 200);
    generation.get(&path("manifests", &image.descriptor.digest)).assert_refused(404, "NAME_UNKNOWN");
    fs::write(&file, names(&[("ghcr.io/acme/shop:1", &image.descriptor.digest)])).unwrap();
    until("the names count", || generation.get(&format!("/v2/{REPOSITORY}/manifests/1")).status == 200);
}

#[test]
fn a_store_with_names_answers_tags_from_them_alone_and_keeps_its_other_repositories() {
    let (peer, image) = (Store::start(&[]), image());
    peer.push(&image);
    let map = ConfigMap::new(&names(&[("ghcr.io/acme/shop:1", &image.descriptor.digest)]));
    let file = map.file();
    let arguments = ["--storage", "memory", "--names", file.to_str().unwrap()];
    let store = Generation::start(&[&peer.address()], &arguments);
    let headers = [("Content-Type", quinistry::oci::media_type::OCI_INDEX)];
    let index =
        br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
    for repository in [REPOSITORY, "own"] {
        let path = format!("/v2/{repository}/manifests/pushed");
        assert_eq!(store.peer().ask("PUT", &path, &headers, index).status, 201);
    }
    assert_eq!(store.get(&format!("/v2/{REPOSITORY}/manifests/1")).body, image.manifest);
    store.get(&format!("/v2/{REPOSITORY}/manifests/pushed")).assert_refused(404, "MANIFEST_UNKNOWN");
    assert_eq!(store.get(&format!("/v2/{REPOSITORY}/tags/list")).json()["tags"], json!(["1"]));
    assert_eq!(store.get("/v2/own/manifests/pushed").body, index);
    assert_eq!(store.get("/v2/own/tags/list").json()["tags"], json!(["pushed"]));
    let catalog = store.get("/v2/_catalog").json();
    assert_eq!(catalog["repositories"], json!([REPOSITORY, "own", "quinistry"]));
}
