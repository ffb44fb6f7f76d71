//! Roots in a bucket, as distribution builds its keys from them.

use crate::client::{Client, Way};
use crate::stores::Replica;
use crate::support::distribution::{Distribution, Version};
use crate::support::images::{Image, Packing};
use crate::support::stub_store::{Shape, StubStore};

fn image(text: &str) -> Image {
    Image::new("amd64", &[text], Packing::Gzip)
}

#[test]
fn distribution_and_this_program_find_each_others_images_beneath_any_root() {
    for (root, folder) in [("", "docker/"), ("/a/", "a/docker/"), ("//a/b//", "a/b/docker/")] {
        let store = StubStore::start(Shape::S3);
        let section = store.section(root);
        let (theirs, ours) = (image("theirs"), image("ours"));

        let Some(distribution) = Distribution::on_storage(Version::Third, &section) else { return };
        Client::at(&distribution.host, "app").push(Way::Patch, "theirs", &theirs);
        drop(distribution);
        let keys = store.mem().keys();
        assert!(keys.iter().all(|key| key.starts_with(folder)), "{root:?}: {keys:?}");

        let replica = Replica::start(&section);
        let client = Client::new(&[replica.peer()], "app");
        client.assert_image("theirs", &theirs);
        client.push(Way::Put, "ours", &ours);
        assert_eq!(client.tags(10), ["ours", "theirs"], "{root:?}");
        drop(replica);

        let distribution = Distribution::on_storage(Version::Third, &section).unwrap();
        Client::at(&distribution.host, "app").assert_image("ours", &ours);
    }
}
