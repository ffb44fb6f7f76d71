//! Parts of a manifest, as events name them. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::weight::{ALLOCATION_BYTES, text_weight};

/// Memory of an annotation beside its texts, in bytes. Half of a map's room may be unused.
const ANNOTATION_BYTES: usize = 2 * size_of::<(String, String)>();

/// Descriptor of a part, with the members that distribution sends on (image-spec, `descriptor.md`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ReferenceDescriptor {
    pub(crate) media_type: String,
    pub(crate) digest: String,
    pub(crate) size: u64,
    pub(crate) urls: Option<Vec<String>>,
    pub(crate) annotations: Option<BTreeMap<String, String>>,
    /// Content itself, in base64.
    pub(crate) data: Option<String>,
    pub(crate) platform: Option<ReferencePlatform>,
    pub(crate) artifact_type: Option<String>,
}

/// Platform of an entry of an index (image-spec, `image-index.md`), in the order in which distribution writes
/// it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct ReferencePlatform {
    architecture: String,
    os: String,
    #[serde(rename = "os.version", skip_serializing_if = "Option::is_none")]
    os_version: Option<String>,
    #[serde(rename = "os.features", skip_serializing_if = "Option::is_none")]
    os_features: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    variant: Option<String>,
}

/// Members of a manifest that refer to parts.
#[derive(Debug, Deserialize)]
struct Parts {
    config: Option<ReferenceDescriptor>,
    layers: Option<Vec<ReferenceDescriptor>>,
    manifests: Option<Vec<ReferenceDescriptor>>,
}

/// Returns the parts of a manifest: configuration and layers of an image, or the entries of an index. The
/// subject is not among them, as in distribution. A document without any has none.
pub(crate) fn references(manifest: &[u8]) -> Vec<ReferenceDescriptor> {
    let Ok(parts) = serde_json::from_slice::<Parts>(manifest) else { return Vec::new() };
    let lists = [parts.layers, parts.manifests];
    parts.config.into_iter().chain(lists.into_iter().flatten().flatten()).collect()
}

// === impl ReferenceDescriptor ===

impl ReferenceDescriptor {
    /// Returns the memory that the descriptor takes, in bytes.
    pub(crate) fn weight(&self) -> usize {
        let Self { media_type, digest, size: _, urls, annotations, data, platform, artifact_type } = self;
        let texts = |list: &Option<Vec<String>>| {
            list.as_ref().map_or(0, |list| {
                let room = list.capacity() * size_of::<String>() + ALLOCATION_BYTES;
                room + list.iter().map(|text| text_weight(text)).sum::<usize>()
            })
        };
        let text = |text: &Option<String>| text.as_deref().map_or(0, text_weight);
        let annotation =
            |(key, value): (&String, &String)| ANNOTATION_BYTES + text_weight(key) + text_weight(value);
        size_of::<Self>()
            + text_weight(media_type)
            + text_weight(digest)
            + texts(urls)
            + annotations.iter().flatten().map(annotation).sum::<usize>()
            + text(data)
            + text(artifact_type)
            + platform.as_ref().map_or(0, |platform| {
                let ReferencePlatform { architecture, os, os_version, os_features, variant } = platform;
                text_weight(architecture)
                    + text_weight(os)
                    + text(os_version)
                    + texts(os_features)
                    + text(variant)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digests(manifest: &str) -> Vec<String> {
        references(manifest.as_bytes()).into_iter().map(|reference| reference.digest).collect()
    }

    #[test]
    fn parts_come_in_the_order_of_distribution() {
        let image = r#"{"layers": [{"digest": "b"}, {"digest": "c", "urls": null}], "config": {"digest": "a"},
            "subject": {"digest": "s"}}"#;
        assert_eq!(digests(image), ["a", "b", "c"]);
        let index =
            r#"{"manifests": [{"digest": "x", "platform": {"os": "linux"}}], "subject": {"digest": "s"}}"#;
        assert_eq!(digests(index), ["x"]);
        for none in ["", "[]", "{}", r#"{"layers": null}"#, r#"{"layers": 1}"#] {
            assert!(digests(none).is_empty(), "{none}");
        }
    }

    #[test]
    fn the_weight_counts_what_short_texts_take() {
        const COUNT: usize = 1000;
        let many = |item: &str| vec![item; COUNT].join(",");
        let names: Vec<String> = (0..COUNT).map(|number| format!(r#""{number}": "a""#)).collect();
        for (manifest, least) in [
            (format!(r#"{{"layers": [{}]}}"#, many("{}")), size_of::<ReferenceDescriptor>()),
            (format!(r#"{{"config": {{"urls": [{}]}}}}"#, many(r#""""#)), size_of::<String>()),
            (format!(r#"{{"config": {{"urls": [{}]}}}}"#, many(r#""a""#)), size_of::<String>() + 16),
            (
                format!(r#"{{"config": {{"annotations": {{{}}}}}}}"#, names.join(",")),
                2 * size_of::<String>() + 2 * 16,
            ),
        ] {
            let weight: usize = references(manifest.as_bytes()).iter().map(ReferenceDescriptor::weight).sum();
            assert!(weight >= COUNT * least, "{weight} {}", &manifest[..40]);
        }
    }

    #[test]
    fn the_weight_counts_every_text_of_a_client() {
        let long = "x".repeat(10_000);
        for member in [
            format!(r#""mediaType": "{long}""#),
            format!(r#""digest": "{long}""#),
            format!(r#""urls": ["{long}"]"#),
            format!(r#""annotations": {{"{long}": ""}}"#),
            format!(r#""annotations": {{"a": "{long}"}}"#),
            format!(r#""data": "{long}""#),
            format!(r#""artifactType": "{long}""#),
            format!(r#""platform": {{"os.features": ["{long}"]}}"#),
            format!(r#""platform": {{"variant": "{long}"}}"#),
        ] {
            let found = references(format!(r#"{{"layers": [{{{member}}}]}}"#).as_bytes());
            assert!(found[0].weight() > long.len(), "{}", &member[..20]);
        }
    }
}
