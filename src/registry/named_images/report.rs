//! Report on the named images: counts, those that are lacking, and whether the store is ready. Pure.

use quinistry_oci::Digest;
use serde::Serialize;

/// Greatest number of lacking images that a report lists.
pub(super) const MAX_LACKING: usize = 100;

/// Report on the named images of a store, as `GET /readyz?verbose` has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Report {
    /// True if the store serves what it can have.
    pub(crate) ready: bool,
    /// Digest of the file of names that is in use, so that an observer knows which names the report is about.
    pub(crate) names: Option<Digest>,
    /// Number of named and kept images.
    pub(crate) images: usize,
    /// Number of images that are here.
    pub(crate) complete: usize,
    /// Number of images that are being copied from a peer.
    pub(crate) copying: usize,
    /// Number of images that are not here, and that no peer sends.
    pub(crate) absent: usize,
    /// Images that are not here, in the order of their repositories.
    pub(crate) lacking: Vec<LackingImage>,
}

/// Image that is not in the storage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct LackingImage {
    pub(crate) repository: String,
    pub(crate) digest: Digest,
    /// `copying` or `absent`.
    pub(crate) state: &'static str,
    /// Reason of the last failed attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
}
