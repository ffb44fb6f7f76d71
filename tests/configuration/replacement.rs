//! One folder and one file: distribution 2.8, this program, distribution 2.8. Nothing is lost, and nothing is
//! changed.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::program::{Given, Place, Program};
use super::questions::{Content, push_blob};
use crate::support::http::Peer;
use crate::support::images::{Image, Packing};

/// The file of the image `registry:2`, on a folder and an address of the test.
const DEFAULT_FILE: &str = "version: 0.1
log:
  fields:
    service: registry
storage:
  cache:
    blobdescriptor: inmemory
  filesystem:
    rootdirectory: {root}
http:
  addr: '{addr}'
  headers:
    X-Content-Type-Options: [nosniff]
health:
  storagedriver:
    enabled: true
    interval: 10s
    threshold: 3
";

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Files below a folder with their content.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(next) = open.pop() {
        for entry in next.read_dir().unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                all.insert(
                    path.strip_prefix(folder).unwrap().display().to_string(),
                    fs::read(&path).unwrap(),
                );
            }
        }
    }
    all
}

/// Asserts that an image is served whole.
fn assert_served(peer: Peer, name: &str, tag: &str, image: &Image) {
    let manifest = peer.ask("GET", &format!("/v2/{name}/manifests/{tag}"), &[("Accept", MANIFEST)], b"");
    assert_eq!((manifest.status, &manifest.body), (200, &image.manifest), "{name}:{tag}");
    for (descriptor, bytes) in image.blobs() {
        let blob = peer.get(&format!("/v2/{name}/blobs/{}", descriptor.digest));
        assert_eq!((blob.status, &blob.body), (200, bytes), "{name}: {}", descriptor.digest);
    }
}

fn push(peer: Peer, name: &str, tag: &str, image: &Image) {
    for (descriptor, bytes) in image.blobs() {
        push_blob(peer, "", name, &descriptor.digest, bytes);
    }
    let path = format!("/v2/{name}/manifests/{tag}");
    let answer = peer.ask("PUT", &path, &[("Content-Type", MANIFEST)], &image.manifest);
    assert_eq!(answer.status, 201, "{answer:?}");
}

#[test]
fn a_registry_is_replaced_in_place_and_put_back() {
    let (place, content) = (Place::new(), Content::new());
    let new = Image::new("amd64", &["pushed in between"], Packing::Gzip);
    let given = Given { file: Some(DEFAULT_FILE), ..Given::default() };
    for (round, program) in [Program::Second, Program::Third].into_iter().enumerate() {
        let Some(before) = place.serve(program, given) else { return };
        content.push(before.peer);
        before.stop();
        let pushed = files(&place.root());

        let ours = place.serve_ours(given);
        assert_served(ours.peer, "app", "1", &content.app);
        assert_served(ours.peer, "team/tool", "latest", &content.tool);
        assert!(!ours.log().contains("WARN"), "the default file is understood: {}", ours.log());
        push(ours.peer, "app", &format!("new{round}"), &new);
        assert!(ours.stop().success());
        let after = files(&place.root());
        for (path, bytes) in &pushed {
            assert_eq!(after.get(path), Some(bytes), "{path} is as it was");
        }

        let back = place.serve(program, given).expect("it was there before");
        assert_served(back.peer, "app", "2", &content.app);
        assert_served(back.peer, "team/tool", "latest", &content.tool);
        assert_served(back.peer, "app", &format!("new{round}"), &new);
    }
}
