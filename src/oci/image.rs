//! Descriptor, manifest, index and configuration, as far as this program reads or writes them.
//!
//! Written by hand, and not taken from the `oci-spec` crate, because a fixed point needs one spelling: that
//! crate keeps annotations in a `HashMap`, so its JSON differs from run to run. Fields stand in alphabetical
//! order, which serde keeps. Unknown fields are ignored on reading; documents that must survive unchanged are
//! kept as the bytes they came in, never re-serialised.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Digest;

/// Points at content: its type, its hash and its length in bytes. image-spec `descriptor.md`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Free-form remarks.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The type of an artifact, when the descriptor points at one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The hash of the content.
    pub digest: Digest,
    /// The type of the content.
    pub media_type: String,
    /// Where the content runs; in an index only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// The length of the content in bytes.
    pub size: u64,
    /// Other places of the content; registries take them for layers only.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
}

impl Descriptor {
    /// Describes `bytes` as `media_type`, by SHA-256.
    #[must_use]
    pub fn of(media_type: &str, bytes: &[u8]) -> Self {
        Self {
            annotations: BTreeMap::new(),
            artifact_type: None,
            digest: Digest::sha256(bytes),
            media_type: media_type.into(),
            platform: None,
            size: bytes.len() as u64,
            urls: Vec::new(),
        }
    }
}

/// Operating system and processor. image-spec `image-index.md`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// In Go's words: `amd64`, `arm64`, …
    #[serde(default)]
    pub architecture: String,
    /// In Go's words: `linux`, …
    #[serde(default)]
    pub os: String,
    /// For example `v7` of `arm`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// Version of the operating system, for example `10.0.17763.1879` of `windows`.
    #[serde(default, rename = "os.version", skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// Features that the operating system must have.
    #[serde(
        default,
        rename = "os.features",
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub os_features: Vec<String>,
}

/// One image. image-spec `manifest.md`; Docker's schema 2 reads the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageManifest {
    /// Free-form remarks.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The configuration.
    pub config: Descriptor,
    /// The layers, lowest first.
    #[serde(default, deserialize_with = "null_as_default")]
    pub layers: Vec<Descriptor>,
    /// This document's own type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// Always 2.
    pub schema_version: u32,
}

/// A list of images. image-spec `image-index.md`; Docker's manifest list reads the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageIndex {
    /// The images.
    #[serde(default, deserialize_with = "null_as_default")]
    pub manifests: Vec<Descriptor>,
    /// This document's own type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// Always 2.
    pub schema_version: u32,
}

/// Configuration of an image: how it is run, and its layers. image-spec `config.md`.
///
/// Written only; configurations of other images are read as a [`ConfigSummary`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ImageConfiguration {
    /// In Go's words.
    pub architecture: String,
    /// Execution parameters.
    pub config: ImageConfig,
    /// RFC 3339.
    pub created: String,
    /// One entry per layer, for display.
    pub history: Vec<History>,
    /// In Go's words.
    pub os: String,
    /// The layers, uncompressed.
    pub rootfs: RootFs,
}

/// The execution parameters of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ImageConfig {
    /// Default arguments.
    pub cmd: Vec<String>,
    /// The executable.
    pub entrypoint: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// `port/protocol`.
    pub exposed_ports: BTreeMap<String, BTreeMap<String, String>>,
    /// Free-form remarks, which docker shows where it does not show annotations.
    pub labels: BTreeMap<String, String>,
    /// Signal that stops the process.
    pub stop_signal: String,
    /// `uid:gid`.
    pub user: String,
    /// Directory in which the process starts.
    pub working_dir: String,
}

/// One step of an image's making.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct History {
    /// RFC 3339.
    pub created: String,
    /// Command or other description of the step.
    pub created_by: String,
}

/// Layers of the file system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// The digests of the uncompressed layers, lowest first.
    #[serde(default, deserialize_with = "null_as_default")]
    pub diff_ids: Vec<Digest>,
    /// Always `layers`.
    #[serde(default, rename = "type")]
    pub kind: String,
}

/// Part of an image's configuration that a program needs which only carries the image.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ConfigSummary {
    /// In Go's words; empty in artifacts that are no images.
    #[serde(default)]
    pub architecture: String,
    /// In Go's words; empty in artifacts that are no images.
    #[serde(default)]
    pub os: String,
    /// Absent in artifacts that are no images.
    #[serde(default)]
    pub rootfs: Option<RootFs>,
}

/// The one JSON spelling of a document of this module: compact, in field order.
#[must_use]
pub fn to_json<T: Serialize>(document: &T) -> Vec<u8> {
    serde_json::to_vec(document)
        .expect("documents of strings, numbers and string-keyed maps always serialise")
}

/// Go writes an empty map or slice as `null` where its author forgot `omitempty`.
pub fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
