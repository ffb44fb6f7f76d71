//! Names of surveys, without a registry.

use quinistry_oci::media_type;

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
