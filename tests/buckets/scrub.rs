//! Damage in a bucket: found, quarantined, pushed again, and replaced from another storage.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use quinistry::oci::Digest;

use crate::client::{Client, Way};
use crate::stores::{Replica, ReplicaSettings};
use crate::support::images::{Image, Packing};
use crate::support::versitygw::{Versitygw, section};

/// Time in which a round finds the damage of a small bucket.
const PATIENCE: Duration = Duration::from_mins(5);

const LAYER: &str = "text of a layer";

fn image() -> Image {
    Image::new("amd64", &[LAYER], Packing::Plain)
}

fn layer(image: &Image) -> Digest {
    image.blobs().nth(1).unwrap().0.digest.clone()
}

/// Path of a digest's bytes beneath the root of a registry.
fn data(digest: &Digest) -> PathBuf {
    format!("docker/registry/v2/blobs/sha256/{}/{}/data", &digest.hex()[..2], digest.hex()).into()
}

/// Flips a bit of an object as a failing disk does, behind the back of the store.
fn flip(store: &Versitygw, digest: &Digest) {
    let path = store.objects().join(data(digest));
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
}

/// Waits until a condition holds.
#[track_caller]
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn quarantined(store: &Versitygw) -> usize {
    store.keys("docker/registry/v2/_quinistry/quarantine/").len()
}

#[test]
fn a_flipped_bit_is_quarantined_and_the_next_push_brings_the_content_back() {
    let Some(store) = Versitygw::start() else { return };
    let sections = "quinistry: {scrub: {interval: 1s}}\n";
    let settings = ReplicaSettings { sections, ..ReplicaSettings::default() };
    let replica = Replica::with(&section(store.address, ""), settings);
    let client = Client::new(&[replica.peer()], "team/app");
    let image = image();
    client.push(Way::Put, "v1", &image);
    let digest = layer(&image);
    flip(&store, &digest);
    until("the damage is found", || client.head(&format!("blobs/{digest}")).status == 404);
    // No answer vouches for bytes that are gone, and the log names the tag.
    let line = replica.server.log_line("content damaged");
    assert!(line.contains("team/app:v1") && line.contains(digest.as_str()), "{line}");
    assert_eq!(quarantined(&store), 1);
    assert_eq!(client.ask("GET", &format!("blobs/{digest}"), &[], b"").status, 404);
    client.push(Way::Put, "v1", &image);
    client.assert_image("v1", &image);
}

#[test]
fn damage_that_a_pull_finds_is_replaced_from_a_folder() {
    let Some(store) = Versitygw::start() else { return };
    let (image, folder) = (image(), tempfile::tempdir().unwrap());
    let digest = layer(&image);
    let copy = folder.path().join(data(&digest));
    fs::create_dir_all(copy.parent().unwrap()).unwrap();
    fs::write(&copy, &image.blobs().nth(1).unwrap().1).unwrap();
    // Only what a read found damaged is checked, and pulls are not redirected.
    let sections =
        format!("quinistry: {{scrub: {{interval: 0, healfrom: ['{}']}}}}\n", folder.path().display());
    let settings = ReplicaSettings {
        storage: ", redirect: {disable: true}",
        sections: &sections,
        ..ReplicaSettings::default()
    };
    let replica = Replica::with(&section(store.address, ""), settings);
    let client = Client::new(&[replica.peer()], "team/app");
    client.push(Way::Patch, "v1", &image);
    flip(&store, &digest);
    let mut connection = replica.peer().connect();
    let request = format!("GET /v2/team/app/blobs/{digest} HTTP/1.1\r\nHost: registry.test\r\n\r\n");
    connection.send(request.as_bytes()).unwrap();
    assert!(connection.answer(false).is_err(), "damaged bytes were sent to their end");
    let line = replica.server.log_line("damaged content replaced");
    assert!(line.contains(digest.as_str()), "{line}");
    client.assert_image("v1", &image);
    assert_eq!(quarantined(&store), 1);
}
