//! A container of Azure Blob Storage, in Azurite: two replicas of this program, and distribution's registry.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use quinistry::oci::Descriptor;

use crate::client::{Client, Way};
use crate::migrate::goes_there_and_back;
use crate::stores::{Replica, ReplicaSettings, refusal};
use crate::support::azurite::Azurite;
use crate::support::distribution::{Distribution, Version};
use crate::support::images::{Image, Packing};

fn image(text: &str) -> Image {
    Image::new("amd64", &[text, "shared layer"], Packing::Gzip)
}

#[test]
fn replicas_on_a_container_push_pull_and_delete() {
    let Some(store) = Azurite::start() else { return };
    let section = store.section("");
    let replicas = [Replica::start(&section), Replica::start(&section)];
    let client = Client::new(&replicas.each_ref().map(Replica::peer), "team/app");
    for (tag, way) in [("v1", Way::Put), ("v1-rc", Way::Patch), ("v1.0", Way::Chunks(70))] {
        client.push(way, tag, &image(tag));
    }
    assert_eq!(client.tags(1), ["v1", "v1-rc", "v1.0"]);
    client.delete(&format!("manifests/{}", image("v1-rc").digest()));
    assert_eq!(client.tags(2), ["v1", "v1.0"]);
    client.assert_image("v1", &image("v1"));
    client.assert_image("v1.0", &image("v1.0"));
    let large: Vec<u8> = b"0123456789abcdef".repeat((13 << 20) / 16);
    for way in [Way::Put, Way::Patch, Way::Chunks(3 << 20)] {
        client.push_blob(way, &large);
        let blob = Descriptor::of("a/b", &large);
        assert!(client.blob(&blob) == large, "{way:?}");
        client.delete(&format!("blobs/{}", blob.digest));
    }
}

#[test]
fn a_container_of_distribution_3_goes_there_and_back() {
    let Some(store) = Azurite::start() else { return };
    let section = store.section("/a");
    let Some(distribution) = Distribution::on_storage(Version::Third, &section) else { return };
    Client::at(&distribution.host, "app").push(Way::Put, "old", &image("old"));
    drop(distribution);
    let replica = Replica::start(&section);
    let client = Client::new(&[replica.peer()], "app");
    client.assert_image("old", &image("old"));
    client.push(Way::Patch, "new", &image("new"));
    drop(replica);
    let distribution = Distribution::on_storage(Version::Third, &section).unwrap();
    let client = Client::at(&distribution.host, "app");
    client.assert_image("old", &image("old"));
    client.assert_image("new", &image("new"));
}

/// The replica collects as often as its short grace permits, which the variables admit.
#[test]
fn a_container_is_collected_and_takes_the_collected_content_again() {
    let Some(store) = Azurite::start() else { return };
    let often = ReplicaSettings {
        sections: "quinistry: {gc: {writers: ours, interval: 1s, grace: 10s, rate: 1000}}\n",
        variables: &[("QUINISTRY_GC_MIN_GRACE", "1"), ("QUINISTRY_GC_VIEW_LIFETIME", "4")],
        ..ReplicaSettings::default()
    };
    let replica = Replica::with(&store.section(""), often);
    let client = Client::new(&[replica.peer()], "app");
    client.push(Way::Put, "v1", &image("v1"));
    let garbage = client.push_blob(Way::Put, b"garbage");
    let is_content = |key: &String| key.contains("/blobs/") && key.contains(garbage.hex());
    let deadline = Instant::now() + Duration::from_mins(2);
    while store.keys().iter().any(is_content) {
        assert!(Instant::now() < deadline, "garbage stays: {}", replica.server.log());
        thread::yield_now();
    }
    drop(replica);
    let replica = Replica::start(&store.section(""));
    let client = Client::new(&[replica.peer()], "app");
    client.assert_image("v1", &image("v1"));
    client.push_blob(Way::Put, b"garbage");
    assert_eq!(client.blob(&Descriptor::of("a/b", b"garbage")), b"garbage");
}

/// Older registries wrote keys with a slash at their begin. The keys of a newer one are renamed, since the 2.8 that
/// Debian has is built without Azure.
#[test]
fn a_container_whose_keys_begin_with_a_slash_is_served_where_that_is_set() {
    let Some(store) = Azurite::start() else { return };
    let section = store.section("");
    let Some(distribution) = Distribution::on_storage(Version::Third, &section) else { return };
    Client::at(&distribution.host, "app").push(Way::Put, "old", &image("old"));
    drop(distribution);
    for key in store.keys() {
        store.rename(&key, &format!("/{key}"));
    }

    let said = refusal(&section, ReplicaSettings::default());
    assert!(said.contains("quinistry.azure.legacyroot: true"), "{said}");
    let legacy = ReplicaSettings { sections: LEGACY_ROOT, ..ReplicaSettings::default() };
    let replica = Replica::with(&section, legacy);
    let client = Client::new(&[replica.peer()], "app");
    client.assert_image("old", &image("old"));
    client.push(Way::Patch, "new", &image("new"));
    assert_eq!(client.tags(10), ["new", "old"]);
    drop(replica);
    let keys = store.keys();
    assert!(keys.iter().all(|key| key.starts_with('/')), "{keys:#?}");

    for key in keys {
        store.rename(&key, &key[1..]);
    }
    let distribution = Distribution::on_storage(Version::Third, &section).unwrap();
    let client = Client::at(&distribution.host, "app");
    client.assert_image("old", &image("old"));
    client.assert_image("new", &image("new"));
}

/// Section of the configuration for keys that begin with a slash.
const LEGACY_ROOT: &str = "quinistry: {azure: {legacyroot: true}}\n";

#[test]
fn a_folder_goes_to_a_container_and_back() {
    let Some(store) = Azurite::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.yml");
    fs::write(&file, format!("version: 0.1\nstorage: {{{}}}\n", store.section("/a"))).unwrap();
    goes_there_and_back(file.to_str().unwrap(), &[]);
}
