//! Report of a cycle.

use std::collections::BTreeMap;

use quinistry_oci::{Digest, RepositoryName, Tag};
use serde::{Deserialize, Serialize};

/// Greatest number of repositories that a report names, and of manifests whose needs are unknown: it is read as a whole,
/// and shall stay short where a million repositories have garbage.
pub(super) const MAX_REPORTED: usize = 10_000;

/// Report of a cycle of collection. Times are seconds since 1970 by the clock of the storage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CycleReport {
    /// Number of the epoch whose subjects the cycle condemned.
    pub epoch: u64,
    /// Number of the epoch whose subjects the cycle removed; `None` in the first cycle.
    pub swept_epoch: Option<u64>,
    /// Time at which the mark began.
    pub begun: u64,
    /// Time at which the cycle ended.
    pub ended: u64,
    /// Nothing was condemned or removed.
    pub is_dry_run: bool,
    /// Number of repositories.
    pub repositories: u64,
    /// Manifests of repositories.
    pub revisions: KindReport,
    /// Links of repositories to blobs.
    pub links: KindReport,
    /// Bytes of blobs and manifests.
    pub blobs: KindReport,
    /// Repositories of which something was condemned or removed, at most 10,000 of them.
    pub by_repository: BTreeMap<String, RepositoryReport>,
    /// Manifests whose needs are unknown or not understood, which stay with all that they may need; at most 10,000 of
    /// them, damaged ones before others.
    pub unknown: Vec<UnknownNeeds>,
    /// Blobs that were put back from the trash.
    pub restored: u64,
    /// More was to be condemned than one epoch takes: the next cycle may follow as soon as the grace has
    /// passed.
    pub has_more: bool,
}

/// Subjects of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KindReport {
    /// Number of subjects that the storage has after the cycle.
    pub found: u64,
    /// Number of subjects that the next cycle removes, unless they are used.
    pub condemned: u64,
    /// Bytes of the condemned subjects.
    pub condemned_bytes: u64,
    /// Age of the oldest condemned subject, in seconds.
    pub oldest_seconds: Option<u64>,
    /// Number of subjects that were removed.
    pub doomed: u64,
    /// Bytes of the removed subjects.
    pub doomed_bytes: u64,
    /// Number of condemned subjects that stay, by cause.
    pub revived: BTreeMap<String, u64>,
}

/// Subjects of one repository.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RepositoryReport {
    /// Number of condemned manifests.
    pub condemned_revisions: u64,
    /// Number of condemned links.
    pub condemned_links: u64,
    /// Number of removed manifests.
    pub doomed_revisions: u64,
    /// Number of removed links.
    pub doomed_links: u64,
    /// Number of condemned manifests and links that stay.
    pub revived: u64,
}

/// Manifest whose needs are not known exactly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UnknownNeeds {
    /// Repository of the manifest.
    pub repository: RepositoryName,
    /// SHA-256 of the manifest.
    pub digest: Digest,
    /// Tags that lead to the manifest, if it is damaged. Empty in reports of earlier versions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Tag>,
    /// The bytes are damaged, so that the whole repository and all bytes stay.
    pub is_damaged: bool,
}
