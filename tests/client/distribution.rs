//! The client against distribution's registry, an implementation that is independent of this one.

use std::sync::Arc;

use quinistry::client::{ClientError, Selection};
use quinistry::layout::{Format, Layout, SavedImage, Target, Writer};
use quinistry::oci::{Descriptor, ImageManifest, media_type, to_json};

use crate::support::client::{client, image, layout_of, push, reference};
use crate::support::distribution::{Distribution, Version};
use crate::support::http::Peer;
use crate::support::images::{Image, Packing, index_of, tar_of};
use crate::support::memory_registry::{MemoryRegistry, Referrers};

#[tokio::test]
async fn an_image_survives_the_round_trip_through_distribution() {
    let Some(registry) = Distribution::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let layout = layout_of(&image(), folder.path());
    let client = client();
    let target = reference(&registry.host, "a/b:v1");
    let report = push(&client, &layout, &target).await.unwrap();
    assert_eq!((report.uploaded, report.mounted, report.existing), (3, 0, 0));
    let report = push(&client, &layout, &target).await.unwrap();
    assert_eq!((report.uploaded, report.mounted, report.existing), (0, 0, 3), "nothing is sent twice");
    let report = push(&client, &layout, &reference(&registry.host, "c")).await.unwrap();
    assert_eq!((report.uploaded, report.mounted, report.existing), (0, 3, 0), "blobs are mounted");

    assert_eq!(client.tags(&target).await.unwrap(), ["v1"]);
    assert_eq!(client.repositories(&registry.host).await.unwrap(), ["a/b", "c"]);
    let report = client.verify(&target, &Selection::All, &()).await.unwrap();
    assert_eq!((&report.root.digest, report.blobs), (image().digest(), 3));

    for format in [Format::Archive, Format::OciLayout] {
        let path = folder.path().join(format!("{format:?}"));
        let mut writer = Writer::create(Target::Path(path.clone()), format).unwrap();
        let saved = client.pull(&target, &Selection::All, &mut writer, &()).await.unwrap();
        writer.finish(&[saved]).unwrap();
        let pulled = Layout::open(&path).unwrap();
        assert_eq!(pulled.roots()[0].descriptor.digest, *image().digest());
        let report = push(&client, &pulled, &reference(&registry.host, "d")).await.unwrap();
        assert_eq!(report.digest, *image().digest());
    }
}

#[tokio::test]
async fn an_index_is_pushed_whole_and_pulled_in_part_or_whole() {
    let Some(registry) = Distribution::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let images = [Image::new("amd64", &["a"], Packing::Gzip), Image::new("s390x", &["s"], Packing::Plain)];
    let (root, bytes) = index_of(&[&images[0], &images[1]]);
    let path = folder.path().join("index.tar");
    let mut writer = Writer::create(Target::Path(path.clone()), Format::Archive).unwrap();
    for image in &images {
        image.write_to(&mut writer, None);
    }
    writer.add_blob(&root, &bytes).unwrap();
    let saved = SavedImage { descriptor: root.clone(), name: None, docker: None };
    writer.finish(&[saved]).unwrap();

    let (client, target) = (client(), reference(&registry.host, "multi:v1"));
    push(&client, &Layout::open(&path).unwrap(), &target).await.unwrap();
    let report = client.verify(&target, &Selection::All, &()).await.unwrap();
    assert_eq!((report.images.len(), report.blobs), (2, 4));
    for (selection, digest) in [("all", &root.digest), ("linux/s390x", images[1].digest())] {
        let path = folder.path().join("pulled.tar");
        let mut writer = Writer::create(Target::Path(path.clone()), Format::Archive).unwrap();
        let saved = client.pull(&target, &selection.parse().unwrap(), &mut writer, &()).await.unwrap();
        writer.finish(&[saved]).unwrap();
        assert_eq!(Layout::open(&path).unwrap().roots()[0].descriptor.digest, *digest);
    }
    let selected = client.select(&target, &"linux/arm64".parse().unwrap()).await.unwrap_err();
    let ClientError::Platform(error) = selected else { panic!("{selected}") };
    assert_eq!(error.to_string(), "no image for linux/arm64; there are: linux/amd64, linux/s390x");
}

#[tokio::test]
async fn a_layer_that_unpacks_to_something_else_is_found() {
    let Some(registry) = Distribution::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut lying = image();
    let other = Image::of_tars("amd64", &[tar_of("x", b"x"), tar_of("y", b"y")], Packing::Gzip);
    lying.layers.clone_from(&other.layers);
    let document = serde_json::from_slice::<ImageManifest>(&other.manifest).unwrap();
    lying.manifest = to_json(&ImageManifest { config: lying.config.0.clone(), ..document });
    lying.descriptor = Descriptor::of(media_type::OCI_MANIFEST, &lying.manifest);
    let layout = layout_of(&lying, folder.path());
    let target = reference(&registry.host, "a");
    push(&client(), &layout, &target).await.unwrap();
    let error = client().verify(&target, &Selection::All, &()).await.unwrap_err();
    assert!(matches!(error, ClientError::DiffId { .. }), "{error}");
}

#[tokio::test]
async fn distribution_which_lists_no_referrers_has_lists_that_the_client_keeps() {
    let folder = tempfile::tempdir().unwrap();
    let Some(registry) = Distribution::on(Version::Second, folder.path()) else { return };
    let from = MemoryRegistry::start(Referrers::Listed);
    let (image, signatures) = from.change(|contents| {
        let image = contents.add_artifact("image", None);
        contents.tags.insert("1".into(), image.digest.to_string());
        (
            image.digest.clone(),
            ["one", "two", "three"].map(|name| contents.add_artifact(name, Some(&image)).digest),
        )
    });
    let client = client();
    let target = reference(&registry.host, "x:1");
    let listed = async || {
        let found = client.referrers(&target, &image).await.unwrap();
        found.into_iter().map(|referrer| referrer.digest).collect::<Vec<_>>()
    };
    let copy = async |name: &str| {
        let names = (reference(&from.host, name), reference(&registry.host, name));
        client.copy(&names.0, &names.1, true, Arc::new(())).await.unwrap()
    };
    let [one, two, three] = &signatures;
    copy(&format!("x@{one}")).await;
    copy(&format!("x@{two}")).await;
    assert_eq!(listed().await, [one.clone(), two.clone()]);
    client.delete(&target.with_digest(one.clone())).await.unwrap();
    assert_eq!(listed().await, std::slice::from_ref(two));

    // Deleted by a client that does not know the list: distribution does not take the list with it again.
    let peer = Peer(registry.host.parse().unwrap());
    assert_eq!(peer.ask("DELETE", &format!("/v2/x/manifests/{two}"), &[], b"").status, 202);
    copy(&format!("x@{three}")).await;
    assert_eq!(listed().await, std::slice::from_ref(three));
    let report = copy("x:1").await;
    assert_eq!((report.push.referrers.len(), report.missing.len()), (3, 0));
    assert_eq!(listed().await.len(), 3);
}
