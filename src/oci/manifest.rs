//! Manifests as they are pushed: the parts that a registry must know, and the forms that it must refuse.
//! Pure.
//!
//! The bytes are the manifest; what is read here is never written back. Sources: image-spec `manifest.md` and
//! `image-index.md`, distribution-spec section Pushing Manifests, CVE-2021-41190.

mod mentions;

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::image::null_as_default;
use super::{Descriptor, Digest, media_type, strict};

/// Content of a manifest, as far as a registry needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Its type: one of four.
    pub media_type: &'static str,
    /// The type can be told from the bytes alone.
    pub typed: bool,
    /// The bytes have a member `mediaType`, so that they can be pushed as that type alone.
    pub declares_type: bool,
    /// Blobs that must be in the same repository.
    pub blobs: Vec<Descriptor>,
    /// Layers that are by design elsewhere, and may be here all the same.
    pub foreign: Vec<Descriptor>,
    /// Entries of an index, which must be in the same repository: manifests, or blobs, as caches of builders
    /// do.
    pub manifests: Vec<Descriptor>,
    /// Manifest to which this manifest refers, which need not exist.
    pub subject: Option<Digest>,
    /// Artifact type under which the manifest is listed among the referrers of its subject.
    pub artifact_type: Option<String>,
    /// Free-form remarks.
    pub annotations: BTreeMap<String, String>,
}

/// Reasons why bytes are not a manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// No JSON, or JSON in which two readers could see two things.
    #[error("manifest is not valid JSON: {0}")]
    Json(serde_json::Error),
    /// JSON, but not of a manifest.
    #[error("manifest is not of the form of {of}: {error}")]
    Form {
        /// Media type of the manifest.
        of: &'static str,
        /// Description of the defect.
        error: serde_json::Error,
    },
    /// `schemaVersion` is not 2.
    #[error("manifest's schemaVersion is not 2; what Docker made before version 1.10 is not supported")]
    Schema,
    /// The header and the document say different types.
    #[error("manifest was sent as {sent:?}, and its mediaType is {own:?}")]
    Contradiction {
        /// Type by the header.
        sent: String,
        /// Type by the document.
        own: String,
    },
    /// Neither the header nor the document names a type that is known.
    #[error("manifest's type is {0:?}; an OCI image manifest or index is wanted, or Docker's of schema 2")]
    Type(String),
    /// The document could be read as an image and as an index.
    #[error(
        "manifest has 'manifests' beside 'config' or 'layers': it could be read as an index and as an image"
    )]
    Ambiguous,
    /// A size that no file has.
    #[error("descriptor of {0} has a size beyond 2^63-1")]
    Size(Digest),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ManifestHeader {
    schema_version: u32,
    media_type: Option<String>,
    #[serde(default)]
    manifests: Present,
    #[serde(default)]
    config: Present,
    #[serde(default)]
    layers: Present,
}

/// Presence of a member, with any value.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Present {
    #[default]
    No,
    /// The member is null, which says nothing: encoders write null for an empty list.
    Null,
    Yes,
}

impl Present {
    fn is_there(self) -> bool {
        self != Self::No
    }
}

impl<'de> Deserialize<'de> for Present {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let is_something = Option::<serde::de::IgnoredAny>::deserialize(deserializer)?.is_some();
        Ok(if is_something { Self::Yes } else { Self::Null })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ImageMembers {
    config: Descriptor,
    #[serde(default, deserialize_with = "null_as_default")]
    layers: Vec<Descriptor>,
    subject: Option<Descriptor>,
    artifact_type: Option<String>,
    #[serde(default, deserialize_with = "null_as_default")]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    #[serde(deserialize_with = "null_as_default")]
    manifests: Vec<Descriptor>,
    subject: Option<Descriptor>,
    artifact_type: Option<String>,
    #[serde(default, deserialize_with = "null_as_default")]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SchemaOne {
    fs_layers: Vec<FsLayer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FsLayer {
    blob_sum: Digest,
}

impl Manifest {
    /// The greatest length of a manifest in bytes: what all clients can pull.
    pub const MAX_LEN: usize = 4 * 1024 * 1024;

    /// Reads a manifest that was sent as `content_type`, without parameters.
    pub fn parse(bytes: &[u8], content_type: Option<&str>) -> Result<Self, ManifestError> {
        strict::check(bytes).map_err(ManifestError::Json)?;
        let head: ManifestHeader = serde_json::from_slice(bytes)
            .map_err(|error| ManifestError::Form { of: "any manifest", error })?;
        if head.schema_version != 2 {
            return Err(ManifestError::Schema);
        }
        if head.manifests.is_there() && head.is_image() {
            return Err(ManifestError::Ambiguous);
        }
        let sent = content_type.and_then(media_type::known);
        let told = head.told();
        let own = match head.own_type() {
            None => None,
            Some(own) => Some(media_type::known(own).ok_or_else(|| ManifestError::Type(own.into()))?),
        };
        let media_type = match (own, sent) {
            (Some(own), Some(sent)) if own != sent => {
                return Err(ManifestError::Contradiction { sent: sent.into(), own: own.into() });
            }
            (Some(own), _) => own,
            // A header that says nothing of manifests, as `text/html`, is no word about this one.
            (None, Some(sent)) => sent,
            (None, None) => {
                return Err(ManifestError::Type(content_type.unwrap_or_default().into()));
            }
        };
        let manifest = if media_type::is_index(media_type) {
            if head.is_image() {
                return Err(ManifestError::Ambiguous);
            }
            Self::of_index(bytes, media_type)?
        } else {
            Self::of_image(bytes, media_type)?
        };
        Ok(Self { typed: told == media_type, declares_type: own.is_some(), ..manifest })
    }

    /// Reads a manifest that an index lists as `media_type`. The type that the document declares counts: registries
    /// accept indexes whose entries contradict it.
    pub fn parse_listed(bytes: &[u8], media_type: &str) -> Result<Self, ManifestError> {
        match Self::parse(bytes, Some(media_type)) {
            Err(ManifestError::Contradiction { .. }) => Self::parse(bytes, None),
            result => result,
        }
    }

    /// Returns the type of a manifest that any program accepted before, from its bytes alone.
    #[must_use]
    pub fn type_of(bytes: &[u8]) -> Option<&'static str> {
        let head: ManifestHeader = match serde_json::from_slice(bytes) {
            Ok(head) => head,
            // Other programs take a name that stands twice, as they take a version that is no number; the
            // last one counts.
            Err(_) => ManifestHeader::of_any(&serde_json::from_slice(bytes).ok()?)?,
        };
        // Only old volumes hold schema 1, which no client can push any more.
        Some(if head.schema_version == 1 { media_type::DOCKER_SCHEMA_1 } else { head.told() })
    }

    /// Returns true if the bytes have a member `mediaType`, so that they can be pushed as that type alone.
    #[must_use]
    pub fn declares_type(bytes: &[u8]) -> bool {
        serde_json::from_slice::<ManifestHeader>(bytes).is_ok_and(|head| head.own_type().is_some())
    }

    /// Finds every digest that stands anywhere in a document which could not be parsed: all that the document
    /// may need, and perhaps more.
    #[must_use]
    pub fn mentions(bytes: &[u8]) -> BTreeSet<Digest> {
        mentions::in_document(bytes)
    }

    /// Returns true if another program may read more in the document than this one: its members count there
    /// in any case.
    #[must_use]
    pub fn has_other_spelling(bytes: &[u8]) -> bool {
        mentions::has_other_spelling(bytes)
    }

    fn of_image(bytes: &[u8], media_type: &'static str) -> Result<Self, ManifestError> {
        let image: ImageMembers = serde_json::from_slice(bytes)
            .map_err(|error| ManifestError::Form { of: "an image manifest", error })?;
        check_sizes([&image.config].into_iter().chain(&image.layers).chain(&image.subject))?;
        let config_type = image.config.media_type.clone();
        let (foreign, own): (Vec<_>, Vec<_>) =
            image.layers.into_iter().partition(|layer| media_type::is_nondistributable(&layer.media_type));
        let mut blobs = vec![image.config];
        blobs.extend(own);
        Ok(Self {
            media_type,
            typed: true,
            declares_type: false,
            blobs,
            foreign,
            manifests: Vec::new(),
            subject: image.subject.map(|subject| subject.digest),
            artifact_type: image.artifact_type.filter(|own| !own.is_empty()).or(Some(config_type)),
            annotations: image.annotations,
        })
    }

    fn of_index(bytes: &[u8], media_type: &'static str) -> Result<Self, ManifestError> {
        let index: Index =
            serde_json::from_slice(bytes).map_err(|error| ManifestError::Form { of: "an index", error })?;
        check_sizes(index.manifests.iter().chain(&index.subject))?;
        Ok(Self {
            media_type,
            typed: true,
            declares_type: false,
            blobs: Vec::new(),
            foreign: Vec::new(),
            manifests: index.manifests,
            subject: index.subject.map(|subject| subject.digest),
            artifact_type: index.artifact_type.filter(|own| !own.is_empty()),
            annotations: index.annotations,
        })
    }

    /// Reads the needs of a manifest of Docker's old schema 1, which only old volumes hold.
    pub fn of_schema_1(bytes: &[u8]) -> Result<Self, ManifestError> {
        let old: SchemaOne = serde_json::from_slice(bytes)
            .map_err(|error| ManifestError::Form { of: "a manifest of schema 1", error })?;
        let layer = |layer: FsLayer| Descriptor { digest: layer.blob_sum, ..Descriptor::of("", b"") };
        Ok(Self {
            media_type: media_type::DOCKER_SCHEMA_1,
            typed: true,
            declares_type: false,
            blobs: old.fs_layers.into_iter().map(layer).collect(),
            foreign: Vec::new(),
            manifests: Vec::new(),
            subject: None,
            artifact_type: None,
            annotations: BTreeMap::new(),
        })
    }

    /// Returns the descriptor by which the manifest is listed among the referrers of its subject, under the
    /// digest that it was pushed with.
    #[must_use]
    pub fn descriptor(&self, digest: &Digest, size: u64) -> Descriptor {
        Descriptor {
            annotations: self.annotations.clone(),
            artifact_type: self.artifact_type.clone(),
            digest: digest.clone(),
            media_type: self.media_type.into(),
            platform: None,
            size,
            urls: Vec::new(),
        }
    }
}

/// Checks sizes, also of optional parts: clients read all of a manifest, and their numbers end at 2^63-1.
fn check_sizes<'a>(mut descriptors: impl Iterator<Item = &'a Descriptor>) -> Result<(), ManifestError> {
    match descriptors.find(|descriptor| i64::try_from(descriptor.size).is_err()) {
        Some(descriptor) => Err(ManifestError::Size(descriptor.digest.clone())),
        None => Ok(()),
    }
}

impl ManifestHeader {
    /// Reads what can be read of an object.
    fn of_any(value: &serde_json::Value) -> Option<Self> {
        let object = value.as_object()?;
        let present = |name| match object.get(name) {
            None => Present::No,
            Some(serde_json::Value::Null) => Present::Null,
            Some(_) => Present::Yes,
        };
        Some(Self {
            schema_version: if object.get("schemaVersion").and_then(serde_json::Value::as_u64) == Some(1) {
                1
            } else {
                2
            },
            media_type: object.get("mediaType").and_then(|own| own.as_str()).map(Into::into),
            manifests: present("manifests"),
            config: present("config"),
            layers: present("layers"),
        })
    }

    /// Returns the type that the document declares; an empty text declares nothing, as distribution reads it.
    fn own_type(&self) -> Option<&str> {
        self.media_type.as_deref().filter(|own| !own.is_empty())
    }

    fn is_image(&self) -> bool {
        self.config.is_there() || self.layers.is_there()
    }

    /// The type by the document alone, as distribution tells it.
    fn told(&self) -> &'static str {
        let is_index = match self.manifests {
            Present::Yes => true,
            Present::Null => !self.is_image(),
            Present::No => false,
        };
        self.own_type().and_then(media_type::known).unwrap_or(if is_index {
            media_type::OCI_INDEX
        } else {
            media_type::OCI_MANIFEST
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn descriptor(media_type: &str, size: &str) -> String {
        format!("{{\"mediaType\":\"{media_type}\",\"digest\":\"{DIGEST}\",\"size\":{size}}}")
    }

    fn image(more: &str) -> String {
        let config = descriptor("application/x", "1");
        format!("{{\"schemaVersion\":2,\"config\":{config},\"layers\":[]{more}}}")
    }

    fn parse(text: &str, content_type: &str) -> Result<Manifest, ManifestError> {
        Manifest::parse(text.as_bytes(), Some(content_type))
    }

    #[test]
    fn the_type_is_what_header_and_document_say_together() {
        let typed = |own: &str| image(&format!(",\"mediaType\":\"{own}\""));
        let of = |text: &str, sent: &str| parse(text, sent).map(|manifest| manifest.media_type).ok();
        assert_eq!(of(&image(""), media_type::OCI_MANIFEST), Some(media_type::OCI_MANIFEST));
        assert_eq!(of(&image(""), media_type::DOCKER_MANIFEST), Some(media_type::DOCKER_MANIFEST));
        assert_eq!(of(&typed(media_type::DOCKER_MANIFEST), "text/html"), Some(media_type::DOCKER_MANIFEST));
        assert_eq!(of(&typed(media_type::OCI_MANIFEST), media_type::DOCKER_MANIFEST), None);
        assert_eq!(of(&typed("application/json"), media_type::OCI_MANIFEST), None);
        assert_eq!(of(&image(""), "text/html"), None);
        assert_eq!(of("{\"schemaVersion\":2,\"manifests\":[]}", media_type::OCI_MANIFEST), None);
        let listed = |text: &str, media_type| {
            Manifest::parse_listed(text.as_bytes(), media_type).map(|manifest| manifest.media_type).ok()
        };
        assert_eq!(listed(&image(""), media_type::DOCKER_MANIFEST), Some(media_type::DOCKER_MANIFEST));
        let oci = typed(media_type::OCI_MANIFEST);
        assert_eq!(listed(&oci, media_type::DOCKER_MANIFEST), Some(media_type::OCI_MANIFEST));
        assert_eq!(listed(&typed("application/json"), media_type::OCI_MANIFEST), None);
        assert!(!parse(&image(""), media_type::DOCKER_MANIFEST).unwrap().typed);
        assert!(parse(&image(""), media_type::OCI_MANIFEST).unwrap().typed);
        assert_eq!(Manifest::type_of(b"{\"schemaVersion\":2,\"manifests\":[]}"), Some(media_type::OCI_INDEX));
    }

    #[test]
    fn an_empty_type_says_nothing() {
        let text = image(",\"mediaType\":\"\"");
        for sent in [media_type::OCI_MANIFEST, media_type::DOCKER_MANIFEST] {
            assert_eq!(parse(&text, sent).unwrap().media_type, sent);
        }
        assert!(parse(&text, "text/html").is_err());
        let index = "{\"schemaVersion\":2,\"mediaType\":\"\",\"manifests\":[]}";
        assert_eq!(parse(index, media_type::OCI_INDEX).unwrap().media_type, media_type::OCI_INDEX);
    }

    #[test]
    fn the_type_of_what_another_program_took_is_told_as_that_tells_it() {
        let of = |text: &str| Manifest::type_of(text.as_bytes());
        assert_eq!(of(&image(",\"mediaType\":\"\"")), Some(media_type::OCI_MANIFEST));
        assert_eq!(of(&image(",\"manifests\":null")), Some(media_type::OCI_MANIFEST));
        assert_eq!(of("{\"schemaVersion\":2,\"manifests\":null}"), Some(media_type::OCI_INDEX));
        let twice = format!(",\"mediaType\":\"x\",\"mediaType\":\"{}\"", media_type::DOCKER_MANIFEST);
        assert_eq!(of(&image(&twice)), Some(media_type::DOCKER_MANIFEST));
        assert_eq!(of("{\"schemaVersion\":2.0,\"config\":{}}"), Some(media_type::OCI_MANIFEST));
        assert_eq!(of("[]"), None);
        assert_eq!(of("x"), None);
    }

    #[test]
    fn ambiguous_documents_are_refused() {
        for bad in [
            image(",\"manifests\":[]"),
            image(",\"manifests\":null"),
            "{\"schemaVersion\":2,\"manifests\":[],\"layers\":[]}".into(),
            image(",\"layers\":[]"),
            image("").replace(":2,", ":1,"),
            image("").replace(":2,", ":2.0,"),
            image("").replace(":2,", ":\"2\","),
            image("").replace("\"size\":1", "\"size\":-1"),
            image("").replace("\"size\":1", "\"size\":9223372036854775808"),
            image("").replace("\"size\":1", "\"size\":1.5"),
            image("").replace("sha256:e3", "sha256:E3"),
            image("") + "x",
            "[]".into(),
        ] {
            for sent in [media_type::OCI_MANIFEST, media_type::OCI_INDEX] {
                assert!(parse(&bad, sent).is_err(), "{bad}");
            }
        }
    }

    #[test]
    fn foreign_layers_are_optional() {
        let foreign = descriptor("application/vnd.oci.image.layer.nondistributable.v1.tar", "5");
        let text = image("").replace("\"layers\":[]", &format!("\"layers\":[{foreign}]"));
        let manifest = parse(&text, media_type::OCI_MANIFEST).unwrap();
        assert_eq!((manifest.blobs.len(), manifest.foreign.len()), (1, 1));
    }

    #[test]
    fn the_artifact_type_falls_back_to_the_configurations() {
        let of = |text: &str, sent| parse(text, sent).unwrap().artifact_type;
        assert_eq!(of(&image(""), media_type::OCI_MANIFEST).as_deref(), Some("application/x"));
        let own = image(",\"artifactType\":\"application/y\"");
        assert_eq!(of(&own, media_type::OCI_MANIFEST).as_deref(), Some("application/y"));
        assert_eq!(of("{\"schemaVersion\":2,\"manifests\":[]}", media_type::OCI_INDEX), None);
    }
}
