//! The `Bundle` of loaded images: the object by which a cluster gives them their tags. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Value, json};

use super::super::kubernetes_name::is_dns_label;
use crate::api::names::API_VERSION;
use crate::client::BundledImage;
use crate::crd::MAX_BUNDLE_NAMES;
use crate::oci::{ImageReference, Reference};

/// Length of the longest name, in bytes: names of objects become values of labels.
const MAX_NAME_BYTES: usize = 63;

/// Error of more names than a `Bundle` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a Bundle takes {MAX_BUNDLE_NAMES} names, and this archive has {0}; split it: bundle the images in two archives, and load each \
     with --bundle"
)]
pub(in crate::cli) struct TooManyNames(usize);

/// Number of hexadecimal digits of a digest in a derived tag: enough that no two images share one.
const DERIVED_TAG_DIGITS: usize = 32;

/// Name for a file whose own name has no letter and no digit.
const DEFAULT_NAME: &str = "bundle";

/// Parses the name of a `Bundle`; empty for the name of the file.
pub(super) fn name(typed: &str) -> Result<String, &'static str> {
    if typed.is_empty() || (is_dns_label(typed) && typed.len() <= MAX_NAME_BYTES) {
        Ok(typed.into())
    } else {
        Err("want at most 63 of a to z, 0 to 9 and '-', which is neither first nor last")
    }
}

/// Derives the name of a `Bundle` from the path of its archive.
pub(in crate::cli) fn name_of(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let stem = stem.strip_suffix(".tar").unwrap_or(&stem);
    let parts = stem.split(|one: char| !one.is_ascii_alphanumeric()).filter(|part| !part.is_empty());
    let mut name = parts.collect::<Vec<_>>().join("-");
    name.truncate(MAX_NAME_BYTES);
    let name = name.trim_end_matches('-');
    if name.is_empty() { DEFAULT_NAME.into() } else { name.into() }
}

/// Returns the `Bundle` of images, in the order of their names. An image that no tag names has a derived one: a cluster
/// serves only the repositories that names are in, and its stores copy only images that have names.
pub(in crate::cli) fn bundle_object(
    name: &str,
    namespace: Option<&str>,
    images: &[BundledImage],
) -> Result<Value, TooManyNames> {
    let mut by_name: BTreeMap<String, &BundledImage> =
        images.iter().filter_map(|image| Some((tagged_name(&image.name)?, image))).collect();
    let covered: BTreeSet<_> =
        by_name.values().map(|image| (&image.repository, &image.root.digest)).collect();
    let unnamed = images.iter().filter(|image| !covered.contains(&(&image.repository, &image.root.digest)));
    let derived: Vec<_> = unnamed.map(|image| (derived_name(image), image)).collect();
    by_name.extend(derived);
    if by_name.len() > MAX_BUNDLE_NAMES {
        return Err(TooManyNames(by_name.len()));
    }
    let names: Vec<_> =
        by_name.iter().map(|(name, image)| json!({"name": name, "digest": image.root.digest})).collect();
    let mut object = json!({
        "apiVersion": API_VERSION,
        "kind": "Bundle",
        "metadata": {"name": name},
        "spec": {"names": names},
    });
    if let Some(namespace) = namespace {
        object["metadata"]["namespace"] = namespace.into();
    }
    Ok(object)
}

/// Returns the name of an image with a tag derived from its digest.
fn derived_name(BundledImage { name, root, .. }: &BundledImage) -> String {
    let digits: String = root.digest.hex().chars().take(DERIVED_TAG_DIGITS).collect();
    format!("{}/{}:digest-{digits}", name.host(), name.repository())
}

/// Returns the name of an image with its tag and without a digest, if it has a tag.
fn tagged_name(name: &ImageReference) -> Option<String> {
    let tag = match (name.tag(), name.reference()) {
        (Some(tag), _) => tag.clone(),
        (None, Reference::Tag(tag)) => tag,
        (None, Reference::Digest(_)) => return None,
    };
    Some(format!("{}/{}:{tag}", name.host(), name.repository()))
}

/// Joins documents to one stream of YAML. All bytes of the last one stay.
pub(super) fn stream(documents: &[String]) -> String {
    let mut text = String::new();
    for document in documents {
        // A document that begins with a marker has its own.
        if !text.is_empty() && !document.starts_with("---") {
            text.push_str("---\n");
        }
        text.push_str(document);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::install::yaml;
    use crate::oci::Descriptor;

    fn image(name: &str, content: &[u8]) -> BundledImage {
        let name: ImageReference = name.parse().unwrap();
        let repository = name.repository_with_host().unwrap();
        BundledImage { name, root: Descriptor::of("x", content), repository }
    }

    #[test]
    fn names_of_files_become_labels() {
        for (path, name) in [
            ("/tmp/shop.tar", "shop"),
            ("Shop_1.4.0.tar", "shop-1-4-0"),
            ("shop.tar.gz", "shop"),
            ("..--.tar", "bundle"),
            ("é", "bundle"),
            ("shop", "shop"),
        ] {
            assert_eq!(name_of(Path::new(path)), name, "{path}");
        }
        let long = name_of(Path::new(&format!("{}-b.tar", "a".repeat(62))));
        assert_eq!(long, "a".repeat(62));
        assert!(name("shop-1").is_ok() && name("").is_ok());
        for wrong in ["Shop", "-a", "a.b", &"a".repeat(64)] {
            assert!(name(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_bundle_has_the_tags_in_order_and_derived_ones_for_images_without_a_tag() {
        let digest = Descriptor::of("x", b"1").digest;
        let images = [
            image("registry.lan:5000/tools", b"2"),
            image("ghcr.io/acme/shop:1.4.0", b"1"),
            image(&format!("ghcr.io/acme/shop@{digest}"), b"1"),
            image(&format!("ghcr.io/acme/other@{digest}"), b"1"),
        ];
        let object = bundle_object("shop", Some("pantry"), &images).unwrap();
        let derived = &digest.as_str()["sha256:".len()..][..32];
        let tools = Descriptor::of("x", b"2").digest;
        let text = format!(
            "apiVersion: quinistry.dev/v1alpha1\nkind: Bundle\nmetadata:\n  name: shop\n  namespace: pantry\nspec:\n  \
             names:\n  - digest: {digest}\n    name: ghcr.io/acme/other:digest-{derived}\n  - digest: {digest}\n    name: \
             ghcr.io/acme/shop:1.4.0\n  - digest: {tools}\n    name: \
             registry.lan:5000/tools:latest\n"
        );
        assert_eq!(yaml::document(&object).replace('"', ""), text);
        assert!(bundle_object("shop", None, &images).unwrap()["metadata"]["namespace"].is_null());
    }

    #[test]
    fn an_archive_of_more_names_than_the_api_server_takes_is_refused() {
        let mut images: Vec<_> =
            (0..256).map(|number| image(&format!("ghcr.io/acme/shop:{number}"), b"1")).collect();
        assert!(bundle_object("shop", None, &images).is_ok());
        images.push(image("ghcr.io/acme/shop:256", b"1"));
        let error = bundle_object("shop", None, &images).unwrap_err().to_string();
        assert!(error.contains("256") && error.contains("257") && error.contains("split"), "{error}");
    }

    #[test]
    fn documents_are_divided_once() {
        let stream =
            |texts: &[&str]| stream(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
        assert_eq!(stream(&["a: 1\n"]), "a: 1\n");
        assert_eq!(stream(&["a: 1\n", "b: 2\n"]), "a: 1\n---\nb: 2\n");
        assert_eq!(stream(&["a: 1\n", "---\nb: 2\n"]), "a: 1\n---\nb: 2\n");
    }
}
