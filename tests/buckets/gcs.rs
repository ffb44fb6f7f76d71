//! A bucket of Google Cloud Storage, by the stub: generations instead of `ETag`s, and Google's credentials.

use std::fs;

use quinistry::oci::Descriptor;
use serde_json::json;

use crate::client::{Client, Way};
use crate::migrate::goes_there_and_back;
use crate::stores::Replica;
use crate::support::images::{Image, Packing};
use crate::support::process::{isolated_command, output};
use crate::support::skip::missing;
use crate::support::stub_store::{Shape, StubStore};

fn image(text: &str) -> Image {
    Image::new("amd64", &[text, "shared layer"], Packing::Gzip)
}

/// Starts a replica with the credentials that a machine of Google's has.
pub(crate) fn on_machine(stub: &StubStore) -> Replica {
    Replica::on_url(&stub.google_url("a"), &[("GCE_METADATA_HOST", &stub.address.to_string())])
}

#[test]
fn replicas_on_google_storage_push_pull_and_delete() {
    let stub = StubStore::start(Shape::Gcs);
    let replicas = [on_machine(&stub), on_machine(&stub)];
    let client = Client::new(&replicas.each_ref().map(Replica::peer), "team/app");
    for (tag, way) in [("v1", Way::Put), ("v1-rc", Way::Patch), ("v1.0", Way::Chunks(70))] {
        client.push(way, tag, &image(tag));
    }
    assert_eq!(client.put_manifest("also", &image("v1").manifest).status, 201);
    assert_eq!(client.tags(1), ["also", "v1", "v1-rc", "v1.0"]);
    client.delete(&format!("manifests/{}", image("v1-rc").digest()));
    client.delete("manifests/also");
    assert_eq!(client.tags(2), ["v1", "v1.0"]);
    let large: Vec<u8> = b"0123456789abcdef".repeat((13 << 20) / 16);
    for way in [Way::Put, Way::Patch, Way::Chunks(3 << 20)] {
        client.push_blob(way, &large);
        let blob = Descriptor::of("a/b", &large);
        assert!(client.blob(&blob) == large, "{way:?}");
        client.delete(&format!("blobs/{}", blob.digest));
        assert_eq!(client.head(&format!("blobs/{}", blob.digest)).status, 404, "{way:?}");
    }
    drop(replicas);

    let restarted = on_machine(&stub);
    let client = Client::new(&[restarted.peer()], "team/app");
    assert_eq!(client.catalog(10), ["quinistry", "team/app"]);
    assert_eq!(client.tags(10), ["v1", "v1.0"]);
    for tag in ["v1", "v1.0"] {
        client.assert_image(tag, &image(tag));
    }
    let keys = stub.mem().keys();
    assert!(keys.iter().all(|key| key.starts_with("a/docker/registry/v2/")), "{keys:#?}");
}

#[test]
fn the_key_of_a_service_account_signs_the_tokens_of_a_replica() {
    let mut generate = isolated_command("openssl");
    generate.args(["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]);
    let Ok(generated) = output(&mut generate) else { return missing("openssl") };
    let key = String::from_utf8(generated.stdout).unwrap();
    let account = json!({
        "type": "service_account", "private_key": key, "private_key_id": "1", "client_email": "tests@example.com",
    });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("account.json");
    fs::write(&file, account.to_string()).unwrap();
    let stub = StubStore::start(Shape::Gcs);
    let variables = [("GOOGLE_APPLICATION_CREDENTIALS", file.to_str().unwrap())];
    let replica = Replica::on_url(&stub.google_url("a"), &variables);
    let client = Client::new(&[replica.peer()], "app");
    client.push(Way::Put, "v1", &image("v1"));
    client.assert_image("v1", &image("v1"));
}

#[test]
fn a_folder_goes_to_google_storage_and_back() {
    let stub = StubStore::start(Shape::Gcs);
    goes_there_and_back(&stub.google_url("a"), &[("GCE_METADATA_HOST", &stub.address.to_string())]);
}
