//! Lists of tags: complete, sorted and without repetition at any length of a page.

use std::time::SystemTime;

use quinistry::oci::Digest;

use crate::client::{Client, Way};
use crate::stores::Replica;
use crate::support::distribution::{Distribution, Version};
use crate::support::images::{Image, Packing};
use crate::support::stub_store::{Shape, StubStore};
use crate::support::versitygw::{Versitygw, section};

/// Names whose keys sort otherwise than they do, in the order of the API.
const TRICKY: [&str; 6] = ["V2", "_x", "v1", "v1-rc", "v1.0", "v10"];

#[test]
fn row_213_tags_are_listed_once_and_in_order_by_whichever_program_they_were_written() {
    let Some(store) = Versitygw::start() else { return };
    let section = section(store.address, "");
    let image = Image::new("amd64", &["one"], Packing::Plain);
    let Some(distribution) = Distribution::on_storage(Version::Third, &section) else { return };
    let client = Client::at(&distribution.host, "app");
    client.push(Way::Put, "v1", &image);
    for tag in ["v1.0", "V2"] {
        assert_eq!(client.put_manifest(tag, &image.manifest).status, 201);
    }
    drop(distribution);
    let replicas = [Replica::start(&section), Replica::start(&section)];
    let client = Client::new(&replicas.each_ref().map(Replica::peer), "app");
    for tag in ["v1-rc", "v10", "_x"] {
        assert_eq!(client.put_manifest(tag, &image.manifest).status, 201);
    }
    for n in [1, 2, 999] {
        assert_eq!(client.tags(n), TRICKY, "n={n}");
    }
    let page = client.ask("GET", "tags/list?n=2&last=v1", &[], b"").json();
    assert_eq!(page["tags"], serde_json::json!(["v1-rc", "v1.0"]));
}

#[test]
fn many_thousand_tags_are_listed_once_and_in_order() {
    list_tags(10_000);
}

#[test]
#[ignore = "a command of its own: a hundred pages of a hundred thousand tags"]
fn a_hundred_thousand_tags_are_listed_once_and_in_order() {
    list_tags(100_000);
}

fn list_tags(count: u32) {
    let stub = StubStore::start(Shape::S3);
    let digest = Digest::sha256(b"{}");
    let mut names: Vec<String> = (0..count)
        .map(|number| {
            // A permutation, so that names come in no order.
            let mixed = number.wrapping_mul(0x9e37_79b1);
            format!("{}{mixed:08x}", ["v", "v1.", "V", "_", "v1-"][number as usize % 5])
        })
        .collect();
    let base = "docker/registry/v2/repositories/app/_manifests";
    let now = SystemTime::now();
    stub.mem().plant(&format!("{base}/revisions/sha256/{}/link", digest.hex()), digest.to_string(), now);
    for name in &names {
        let index = format!("{base}/tags/{name}/index/sha256/{}/link", digest.hex());
        stub.mem().plant(&index, digest.to_string(), now);
        stub.mem().plant(&format!("{base}/tags/{name}/current/link"), digest.to_string(), now);
    }
    names.sort();
    let replica = Replica::start(&stub.section(""));
    let client = Client::new(&[replica.peer()], "app");
    assert!(client.tags(999) == names, "a tag is missing, comes twice or stands at a wrong place");
}
