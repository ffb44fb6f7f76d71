//! Result of `quinistry load`, in each form.

use serde::Serialize;

use crate::cli::output::{Report, lines};
use crate::cli::{count, format_bytes};
use crate::client::{BundledImage, LoadReport};
use crate::oci::Digest;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Loaded {
    registry: String,
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
    pub(super) fn new(registry: String, images: Vec<LoadedImage>, bytes: u64, report: LoadReport) -> Self {
        let LoadReport { uploaded, mounted, existing, sent_bytes, put } = report;
        Self { registry, images, bytes, sent_bytes, uploaded, mounted, existing, put }
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
        let there = format_bytes(self.bytes.saturating_sub(self.sent_bytes));
        let total = format!(
            "{}: {}; {there} of {} were there",
            self.registry,
            count(self.images.len(), "image"),
            format_bytes(self.bytes)
        );
        lines(images.chain([total]))
    }

    fn essence(&self) -> String {
        lines(self.images.iter().map(|image| &image.digest))
    }
}
