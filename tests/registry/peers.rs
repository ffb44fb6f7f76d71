//! A registry that streams what it lacks from peers: honest stores, and peers that lie, stall or lack content.

mod cluster;
mod lies;
mod names;
mod options;
mod stores;

use quinistry::oci::{Descriptor, Digest, ImageIndex, media_type, to_json};

use self::cluster::{Generation, REPOSITORY, Store, image, path, until};
use crate::support::images::{Image, Packing};
use crate::support::process::{command, output};
use crate::support::round_robin::RoundRobin;
use crate::support::scripted_registry::{Answer, ScriptedRegistry};
use crate::support::skip::{Need, lacks};

#[test]
fn content_of_a_store_is_answered_by_digest() {
    let (store, image) = (Store::start(&[]), image());
    store.push(&image);
    let generation = Generation::start(&[&store.address()], &[]);
    let manifest = generation.get(&path("manifests", &image.descriptor.digest));
    assert_eq!((manifest.status, &manifest.body), (200, &image.manifest));
    assert_eq!(manifest.header("content-type"), Some(media_type::OCI_MANIFEST));
    assert_eq!(manifest.header("docker-content-digest"), Some(image.descriptor.digest.as_str()));
    let head = generation.head(&path("manifests", &image.descriptor.digest));
    assert_eq!((head.status, head.header("content-length")), (200, manifest.header("content-length")));
    let (layer, bytes) = &image.layers[0];
    let answer = generation.get(&path("blobs", &layer.digest));
    assert!(answer.status == 200 && answer.body == *bytes);
    let head = generation.head(&path("blobs", &layer.digest));
    assert_eq!((head.status, head.header("content-length")), (200, answer.header("content-length")));
    // Ranges are cut out of what is hashed as a whole.
    let range = generation.peer().ask("GET", &path("blobs", &layer.digest), &[("Range", "bytes=7-9")], b"");
    assert_eq!((range.status, &range.body[..]), (206, &bytes[7..10]));
    let last = generation.peer().ask("GET", &path("blobs", &layer.digest), &[("Range", "bytes=-1")], b"");
    assert_eq!((last.status, &last.body[..]), (206, &bytes[bytes.len() - 1..]));
    generation.get(&path("blobs", &Digest::sha256(b"absent"))).assert_refused(404, "BLOB_UNKNOWN");
    // A tag needs a file of names.
    generation.get(&format!("/v2/{REPOSITORY}/manifests/1.4.0")).assert_refused(404, "MANIFEST_UNKNOWN");
}

#[test]
fn the_built_in_repository_is_served_while_all_peers_are_away() {
    let generation = Generation::start(&["http://127.0.0.1:1"], &[]);
    assert_eq!(generation.get("/v2/quinistry/manifests/latest").status, 200);
    let absent = Digest::sha256(b"absent");
    generation.get(&path("manifests", &absent)).assert_refused(404, "MANIFEST_UNKNOWN");
    generation.get(&path("blobs", &absent)).assert_refused(404, "BLOB_UNKNOWN");
}

#[test]
fn a_manifest_is_not_served_before_all_that_it_needs_is_there() {
    let (store, image) = (Store::start(&["--allow-sparse"]), image());
    let generation = Generation::start(&[&store.address()], &[]);
    store.push_manifest(&image.descriptor, &image.manifest);
    store.push_blob(&image.config.1);
    generation.get(&path("manifests", &image.descriptor.digest)).assert_refused(404, "MANIFEST_UNKNOWN");
    store.push_blob(&image.layers[0].1);
    until("the image is served", || {
        generation.head(&path("manifests", &image.descriptor.digest)).status == 200
    });
}

#[test]
fn the_parts_of_an_image_may_be_on_several_peers_and_in_the_registry_itself() {
    let image = image();
    let (one, other) = (Store::start(&["--allow-sparse"]), Store::start(&[]));
    one.push_manifest(&image.descriptor, &image.manifest);
    one.push_blob(&image.config.1);
    other.push_blob(&image.layers[0].1);
    let peers = [one.address(), other.address()];
    let generation = Generation::start(&[&peers.join(",")], &["--storage", "memory"]);
    generation.pulls(&image);
    // What is pushed here is served from here.
    let own = Store::of(generation);
    let second = Image::new("amd64", &["second"], Packing::Gzip);
    own.push_blob(&second.layers[0].1);
    own.push_blob(&second.config.1);
    own.push_manifest(&second.descriptor, &second.manifest);
    own.generation().pulls(&second);
    own.generation().pulls(&image);
}

#[test]
fn content_of_one_of_three_stores_behind_one_address_is_served() {
    let (stores, image) = ([(); 3].map(|()| Store::start(&[])), image());
    let addresses = stores.each_ref().map(|store| store.generation().peer().0);
    stores[1].push(&image);
    let generation = Generation::start(&[&format!("http://{}", RoundRobin::start(&addresses).address)], &[]);
    generation.pulls(&image);
}

#[test]
fn an_index_without_some_of_its_children_is_served() {
    let (store, here, elsewhere) =
        (Store::start(&["--allow-sparse"]), image(), Image::new("s390x", &["z"], Packing::Gzip));
    let index = to_json(&ImageIndex {
        schema_version: 2,
        media_type: Some(media_type::OCI_INDEX.into()),
        manifests: vec![here.descriptor.clone(), elsewhere.descriptor.clone()],
    });
    let descriptor = Descriptor::of(media_type::OCI_INDEX, &index);
    store.push_manifest(&descriptor, &index);
    let generation = Generation::start(&[&store.address()], &[]);
    generation.get(&path("manifests", &descriptor.digest)).assert_refused(404, "MANIFEST_UNKNOWN");
    store.push(&here);
    until("the index is served", || generation.head(&path("manifests", &descriptor.digest)).status == 200);
    assert_eq!(generation.get(&path("manifests", &descriptor.digest)).body, index);
    generation.pulls(&here);
    generation.get(&path("manifests", &elsewhere.descriptor.digest)).assert_refused(404, "MANIFEST_UNKNOWN");
}

#[test]
fn a_client_pulls_an_image_by_name() {
    if lacks(&[Need::Tool("crane")]) {
        return;
    }
    let (store, image) = (Store::start(&[]), image());
    store.push(&image);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("names.yaml");
    std::fs::write(
        &file,
        format!("names:\n- name: {REPOSITORY}:1.4.0\n  digest: {}\n", image.descriptor.digest),
    )
    .unwrap();
    let generation = Generation::start(&[&store.address()], &["--names", file.to_str().unwrap()]);
    let reference = format!("{}/{REPOSITORY}:1.4.0", generation.peer().0);
    let run = |arguments: &[&str]| {
        let done = output(command("crane").env("HOME", folder.path()).args(arguments)).unwrap();
        assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    };
    assert_eq!(run(&["digest", "--insecure", &reference]).trim(), image.descriptor.digest.as_str());
    run(&["validate", "--insecure", "--remote", &reference]);
    let archive = folder.path().join("image.tar");
    run(&["pull", "--insecure", &reference, archive.to_str().unwrap()]);
    run(&["validate", "--tarball", archive.to_str().unwrap()]);
}

#[test]
fn only_reads_without_credentials_reach_a_peer() {
    let image = image();
    let peer = ScriptedRegistry::start(|_| Answer::new(404));
    let generation = Generation::start(&[&format!("http://{}", peer.host)], &[]);
    let headers =
        [("Authorization", "Basic dXNlcjpzZWNyZXQ="), ("Cookie", "a=b"), ("X-Forwarded-For", "192.0.2.1")];
    for method in ["GET", "HEAD", "PUT", "DELETE", "POST", "PATCH"] {
        for kind in ["blobs", "manifests"] {
            generation.peer().ask(method, &path(kind, &image.descriptor.digest), &headers, b"");
        }
        generation.peer().ask(method, &format!("/v2/{REPOSITORY}/blobs/uploads/"), &headers, b"");
        generation.peer().ask(method, &format!("/v2/{REPOSITORY}/tags/list"), &headers, b"");
    }
    let requests = peer.requests();
    assert!(requests.len() >= 3, "{requests:?}");
    for request in requests {
        assert!(["GET", "HEAD"].contains(&&*request.method), "{request:?}");
        assert!(
            ["authorization", "cookie", "x-forwarded-for"].iter().all(|name| request.header(name).is_none())
        );
    }
}

#[test]
fn a_question_of_a_peer_is_passed_on_to_no_other() {
    // The number of registries that a request has passed, and the one of a question of a peer.
    let (hops, of_peer) = ("quinistry-hops", "9");
    let image = image();
    let peer = ScriptedRegistry::start(|_| Answer::new(404));
    let generation = Generation::start(&[&format!("http://{}", peer.host)], &[]);
    let ask = |headers: &[(&str, &str)]| {
        for (kind, code) in [("manifests", "MANIFEST_UNKNOWN"), ("blobs", "BLOB_UNKNOWN")] {
            let path = path(kind, &image.descriptor.digest);
            generation.peer().ask("GET", &path, headers, b"").assert_refused(404, code);
        }
    };
    ask(&[]);
    let requests = peer.requests();
    assert!(!requests.is_empty());
    assert!(requests.iter().all(|request| request.header(hops) == Some(of_peer)));
    ask(&[(hops, of_peer)]);
    assert_eq!(peer.requests().len(), requests.len());
}
