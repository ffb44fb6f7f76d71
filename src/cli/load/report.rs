//! Result of `quinistry load`, in each form.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

use crate::cli::output::{Report, lines};
use crate::cli::{count, format_bytes, sanitize};
use crate::client::{BundledImage, LoadReport};
use crate::install::store::{Store, StorePod};
use crate::oci::Digest;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Loaded {
    registry: Option<String>,
    store: Option<LoadedStore>,
    /// `Bundle` of the images, if it is part of the result.
    bundle: Option<Value>,
    images: Vec<LoadedImage>,
    /// Length of all blobs.
    bytes: u64,
    /// Length of the blobs that were sent.
    sent_bytes: u64,
    uploaded: usize,
    mounted: usize,
    existing: usize,
    /// Number of manifests and tags that were put.
    put: usize,
}

/// Numbers of a load, as text.
#[derive(Clone, Copy, Debug)]
pub(in crate::cli) struct LoadTotal {
    /// Number of images.
    pub images: usize,
    /// Length of all blobs.
    pub bytes: u64,
    /// Length of the blobs that were sent.
    pub sent_bytes: u64,
}

/// Registry or store that was loaded into.
#[derive(Debug)]
pub(in crate::cli) enum LoadDestination {
    Registry(String),
    Store(LoadedStore),
}

/// Store that was loaded into, and the pod that took the bytes.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct LoadedStore {
    namespace: String,
    name: String,
    pod: String,
    node: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LoadedImage {
    reference: String,
    target: String,
    digest: Digest,
    media_type: String,
}

// === impl Loaded ===

impl Loaded {
    pub(super) fn new(
        destination: LoadDestination,
        images: Vec<LoadedImage>,
        bytes: u64,
        report: LoadReport,
    ) -> Self {
        let LoadReport { uploaded, mounted, existing, sent_bytes, put } = report;
        let (registry, store) = match destination {
            LoadDestination::Registry(host) => (Some(host), None),
            LoadDestination::Store(store) => (None, Some(store)),
        };
        Self { registry, store, bundle: None, images, bytes, sent_bytes, uploaded, mounted, existing, put }
    }

    /// Makes a `Bundle` part of the result.
    pub(super) fn with_bundle(self, bundle: Option<Value>) -> Self {
        Self { bundle, ..self }
    }
}

// === impl LoadDestination ===

impl LoadDestination {
    pub(in crate::cli) fn store(store: &Store, pod: StorePod) -> Self {
        let StorePod { name: pod, node } = pod;
        Self::Store(LoadedStore { namespace: store.namespace().into(), name: store.name().into(), pod, node })
    }
}

impl fmt::Display for LoadDestination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry(host) => host.fmt(f),
            Self::Store(store) => store.fmt(f),
        }
    }
}

// === impl LoadTotal ===

impl fmt::Display for LoadTotal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let there = format_bytes(self.bytes.saturating_sub(self.sent_bytes));
        write!(f, "{}; {there} of {} were there", count(self.images, "image"), format_bytes(self.bytes))
    }
}

// === impl LoadedStore ===

impl fmt::Display for LoadedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { namespace, name, pod, node } = self;
        write!(f, "store of {namespace}/{name} (pod {pod} on node {node})")
    }
}

// === impl LoadedImage ===

impl LoadedImage {
    pub(super) fn of(image: &BundledImage, registry: &str) -> Self {
        let BundledImage { name, root, repository } = image;
        let tag = name.tag().map(|tag| format!(":{tag}")).unwrap_or_default();
        Self {
            reference: name.to_string(),
            target: format!("{registry}/{repository}{tag}@{}", root.digest),
            digest: root.digest.clone(),
            media_type: root.media_type.clone(),
        }
    }
}

impl Report for Loaded {
    fn text(&self) -> String {
        let images = self.images.iter().map(|image| image.target.clone());
        let (bytes, sent_bytes) = (self.bytes, self.sent_bytes);
        let total = LoadTotal { images: self.images.len(), bytes, sent_bytes };
        let destination = match (&self.registry, &self.store) {
            (Some(registry), _) => registry.clone(),
            (None, Some(store)) => sanitize(&store.to_string()),
            (None, None) => unreachable!("a load has a destination"),
        };
        lines(images.chain([format!("{destination}: {total}")]))
    }

    fn essence(&self) -> String {
        lines(self.images.iter().map(|image| &image.digest))
    }
}
