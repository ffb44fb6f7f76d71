//! The stores of the tests under distribution's registries alone: where these fail, the store or its start is
//! wrong, and not this program.

use crate::client::{Client, Way};
use crate::support::azurite::Azurite;
use crate::support::distribution::{Distribution, Version};
use crate::support::images::{Image, Packing};
use crate::support::versitygw::{Versitygw, section};

fn push_and_pull(version: Version, section: &str) {
    let Some(registry) = Distribution::on_storage(version, section) else { return };
    let client = Client::at(&registry.host, "team/app");
    let image = Image::new("amd64", &["one", "two"], Packing::Gzip);
    client.push(Way::Patch, "patched", &image);
    client.push(Way::Put, "put", &image);
    for tag in ["patched", "put"] {
        client.assert_image(tag, &image);
    }
    assert_eq!(client.tags(100), ["patched", "put"]);
}

#[test]
fn distribution_2_works_on_versitygw() {
    let Some(store) = Versitygw::start() else { return };
    push_and_pull(Version::Second, &section(store.address, ""));
}

#[test]
fn distribution_3_works_on_versitygw() {
    let Some(store) = Versitygw::start() else { return };
    push_and_pull(Version::Third, &section(store.address, "/a"));
}

#[test]
fn distribution_3_works_on_azurite() {
    let Some(store) = Azurite::start() else { return };
    push_and_pull(Version::Third, &store.section(""));
}
