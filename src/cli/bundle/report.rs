//! Result of `quinistry bundle`, in each form.

use serde::Serialize;

use super::manifests::ImageField;
use crate::cli::output::{Report, lines};
use crate::cli::{count, format_bytes, remote, sanitize};
use crate::client::SurveyedImage;
use crate::oci::Digest;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Bundled {
    pub(super) path: String,
    pub(super) images: Vec<BundledImage>,
    /// Number of manifests and blobs.
    pub(super) contents: usize,
    pub(super) bytes: u64,
    pub(super) not_taken: Vec<ImageField>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct BundledImage {
    reference: String,
    digest: Digest,
    media_type: String,
    /// Reference with the digest.
    #[serde(skip)]
    pinned: String,
}

// === impl BundledImage ===

impl BundledImage {
    pub(super) fn of(image: &SurveyedImage) -> Self {
        Self {
            reference: image.reference.to_string(),
            digest: image.root.digest.clone(),
            media_type: image.root.media_type.clone(),
            pinned: remote::pinned(&image.reference, &image.root.digest),
        }
    }
}

impl Report for Bundled {
    fn text(&self) -> String {
        let images = self.images.iter().map(|image| image.pinned.clone());
        let total = format!(
            "{}: {}, {}",
            sanitize(&self.path),
            count(self.images.len(), "image"),
            format_bytes(self.bytes)
        );
        lines(images.chain([total]))
    }

    fn essence(&self) -> String {
        lines(self.images.iter().map(|image| &image.digest))
    }
}
