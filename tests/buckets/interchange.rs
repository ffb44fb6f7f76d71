//! One bucket in turn under distribution's registries and this program: each serves what the other has written.

use std::thread;
use std::time::{Duration, Instant};

use crate::client::{Client, Way};
use crate::stores::Replica;
use crate::support::distribution::{Distribution, Version};
use crate::support::images::{Image, Packing};
use crate::support::versitygw::{Versitygw, section};

fn image(text: &str) -> Image {
    Image::new("amd64", &[text, "shared layer"], Packing::Gzip)
}

/// Distribution writes, this program reads, writes and deletes, distribution reads all of it and collects, and
/// this program reads once more.
fn there_and_back(version: Version, root: &str) {
    let Some(store) = Versitygw::start() else { return };
    let section = section(store.address, root);
    let (old, moved, gone, new) = (image("old"), image("moved"), image("gone"), image("new"));

    let Some(first) = Distribution::on_storage(version, &section) else { return };
    let client = Client::at(&first.host, "team/app");
    client.push(Way::Patch, "old", &old);
    client.push(Way::Put, "moving", &old);
    client.push(Way::Chunks(100), "gone", &gone);
    drop(first);

    let ours = Replica::start(&section);
    let client = Client::new(&[ours.peer()], "team/app");
    assert_eq!(client.catalog(10), ["quinistry", "team/app"]);
    assert_eq!(client.tags(10), ["gone", "moving", "old"]);
    client.assert_image("old", &old);
    client.assert_image(gone.digest().as_str(), &gone);
    client.push(Way::Patch, "new", &new);
    client.push(Way::Put, "moving", &moved);
    client.delete(&format!("manifests/{}", gone.digest()));
    assert_eq!(client.tags(10), ["moving", "new", "old"]);
    let other = Client::new(&[ours.peer()], "team/other");
    other.push(Way::Put, "latest", &image("other"));
    drop(ours);

    let after = Distribution::on_storage(Version::Third, &section).unwrap();
    let client = Client::at(&after.host, "team/app");
    assert_eq!(client.catalog(10), ["team/app", "team/other"]);
    assert_eq!(client.tags(10), ["moving", "new", "old"]);
    for (tag, image) in [("old", &old), ("moving", &moved), ("new", &new)] {
        client.assert_image(tag, image);
    }
    assert_eq!(client.head(&format!("manifests/{}", gone.digest())).status, 404);
    Client::at(&after.host, "team/late").push(Way::Put, "latest", &image("late"));
    drop(after);

    // Everything that the collection finds was deleted before, and nothing of ours is among it.
    let ours_before = store.keys("").into_iter().filter(|key| key.contains("/_quinistry/"));
    let ours_before: Vec<String> = ours_before.collect();
    let report = Distribution::collect_storage(Version::Third, &section, &["--dry-run"]).unwrap();
    for image in [&old, &moved, &new] {
        for (blob, _) in image.blobs() {
            assert!(!report.contains(&format!("eligible for deletion: {}", blob.digest)), "{report}");
        }
    }
    assert!(!report.contains("_quinistry"), "{report}");
    Distribution::collect_storage(Version::Third, &section, &[]).unwrap();
    let ours_after = store.keys("").into_iter().filter(|key| key.contains("/_quinistry/"));
    assert_eq!(ours_after.collect::<Vec<_>>(), ours_before);

    let ours = Replica::start(&section);
    let client = Client::new(&[ours.peer()], "team/app");
    for (tag, image) in [("old", &old), ("moving", &moved), ("new", &new)] {
        client.assert_image(tag, image);
    }
    Client::new(&[ours.peer()], "team/other").assert_image("latest", &image("other"));
    Client::new(&[ours.peer()], "team/late").assert_image("latest", &image("late"));
    wait_until_listed(&client, "team/late");
    assert_eq!(client.catalog(10), ["quinistry", "team/app", "team/late", "team/other"]);
}

/// Waits until the catalog has a repository that the other program has made. A replica looks for those when it has
/// served for a while.
fn wait_until_listed(client: &Client, repository: &str) {
    let begin = Instant::now();
    while !client.catalog(10).iter().any(|name| name == repository) {
        assert!(begin.elapsed() < Duration::from_mins(3), "{repository} is not listed");
        thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_bucket_of_distribution_2_goes_there_and_back() {
    there_and_back(Version::Second, "");
}

#[test]
fn a_bucket_of_distribution_3_goes_there_and_back() {
    there_and_back(Version::Third, "");
}

#[test]
fn a_folder_in_a_bucket_of_distribution_2_goes_there_and_back() {
    there_and_back(Version::Second, "/team/a/");
}

#[test]
fn a_folder_in_a_bucket_of_distribution_3_goes_there_and_back() {
    there_and_back(Version::Third, "/team/a/");
}
