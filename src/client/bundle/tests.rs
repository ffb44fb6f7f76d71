//! Names and manifests of surveys, without a registry.

use bytes::Bytes;
use quinistry_oci::{media_type, to_json};
use serde_json::{Value, json};

use super::*;

fn survey(images: &[(&str, &[u8])]) -> Survey {
    let image = |(reference, bytes): &(&str, &[u8])| SurveyedImage {
        reference: reference.parse().unwrap(),
        root: Descriptor::of(media_type::OCI_MANIFEST, bytes),
    };
    Survey { images: images.iter().map(image).collect(), ..Survey::default() }
}

fn names(survey: &Survey) -> Vec<(String, Digest)> {
    let saved = survey.saved_images().into_iter();
    saved.map(|image| (image.name.unwrap(), image.descriptor.digest)).collect()
}

#[test]
fn a_reference_with_tag_and_digest_gives_two_names() {
    let digest = Digest::sha256(b"x");
    let pinned = format!("example.com/a:1@{digest}");
    let other = format!("example.com/b@{digest}");
    let survey =
        survey(&[(&pinned, b"x"), ("example.com/a:1", b"x"), (&other, b"x"), ("example.com/c", b"y")]);
    assert_eq!(
        names(&survey),
        [
            ("example.com/a:1".into(), digest.clone()),
            (format!("example.com/a@{digest}"), digest.clone()),
            (other.clone(), digest),
            ("example.com/c:latest".into(), Digest::sha256(b"y")),
        ]
    );
    assert_eq!(survey.tag_conflicts(), []);
}

#[test]
fn a_tag_names_the_image_that_was_looked_up() {
    let digests = [b"x", b"y"].map(|bytes| Digest::sha256(bytes));
    let pinned = format!("example.com/a:1@{}", digests[0]);
    let survey = survey(&[(&pinned, b"x"), ("example.com/a:1", b"y")]);
    let [x, y] = digests;
    assert_eq!(
        names(&survey),
        [("example.com/a:1".into(), y.clone()), (format!("example.com/a@{x}"), x.clone())]
    );
    let conflict = TagConflict { name: "example.com/a:1".into(), named: y, unnamed: x };
    assert_eq!(survey.tag_conflicts(), [conflict]);
}

fn manifest(document: &Value) -> Manifest {
    let bytes = Bytes::from(to_json(document));
    Manifest::new(Digest::sha256(&bytes), "", bytes).unwrap()
}

#[test]
fn manifests_that_a_registry_refuses_are_found() {
    let config = Descriptor::of("x", b"{}");
    let odd = json!({"schemaVersion": 2, "mediaType": "application/x", "config": config, "layers": []});
    let (odd, good) =
        (manifest(&odd), manifest(&json!({"schemaVersion": 2, "config": config, "layers": []})));
    let docker = Descriptor { media_type: media_type::DOCKER_MANIFEST.into(), ..good.descriptor.clone() };
    let children = [odd.descriptor.clone(), docker, Descriptor::of(media_type::OCI_MANIFEST, b"left out")];
    let root = manifest(&json!({"schemaVersion": 2, "manifests": children}));
    let descriptor = root.descriptor.clone();
    let found = unservable(&descriptor, &[odd.clone(), good, root]);
    let found: Vec<_> = found.map(|(digest, _)| digest).collect();
    assert_eq!(found, [odd.descriptor.digest]);
}

#[test]
fn a_bundle_has_as_many_parts_as_can_be_read() {
    let blob = |number: usize| Descriptor::of("x", number.to_string().as_bytes());
    let found = |parts: usize| FoundImage {
        root: Some(blob(0)),
        blobs: vec![blob(0); parts],
        ..FoundImage::default()
    };
    let mut survey = Survey::default();
    survey.add("example.com/a:1".parse().unwrap(), found(MAX_BUNDLE_PARTS));
    assert!(survey.missing.is_empty());
    survey.add("example.com/b:1".parse().unwrap(), found(1));
    let missing = survey.missing.pop().unwrap();
    assert_eq!(missing.image.to_string(), "example.com/b:1");
    assert!(matches!(missing.reason, MissingReason::TooManyParts));
}
