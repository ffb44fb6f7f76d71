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

/// Subjects of one repository. Bytes are in none, since several can have them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, from = "StoredRepositoryReport")]
pub struct RepositoryReport {
    /// Manifests of the repository.
    pub revisions: SubjectReport,
    /// Links of the repository to blobs.
    pub links: SubjectReport,
}

/// Subjects of one kind in a repository.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SubjectReport {
    /// Number of subjects that the next cycle removes, unless they are used.
    pub condemned: u64,
    /// Age of the oldest condemned subject, in seconds.
    pub oldest_seconds: Option<u64>,
    /// Number of subjects that were removed.
    pub doomed: u64,
    /// Number of condemned subjects that stay, by cause.
    pub revived: BTreeMap<String, u64>,
}

/// Report of a repository as this version or an earlier one has written it.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct StoredRepositoryReport {
    revisions: SubjectReport,
    links: SubjectReport,
    condemned_revisions: u64,
    condemned_links: u64,
    doomed_revisions: u64,
    doomed_links: u64,
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

// === impl RepositoryReport ===

impl From<StoredRepositoryReport> for RepositoryReport {
    fn from(stored: StoredRepositoryReport) -> Self {
        let StoredRepositoryReport { mut revisions, mut links, .. } = stored;
        revisions.condemned += stored.condemned_revisions;
        revisions.doomed += stored.doomed_revisions;
        links.condemned += stored.condemned_links;
        links.doomed += stored.doomed_links;
        Self { revisions, links }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_of_an_earlier_version_is_read() {
        let text = r#"{"epoch":3,"byRepository":{"app":{"condemnedRevisions":1,"condemnedLinks":2,"doomedRevisions":3,
            "doomedLinks":4,"revived":5}}}"#;
        let report: CycleReport = serde_json::from_str(text).unwrap();
        let app = &report.by_repository["app"];
        let numbers = [app.revisions.condemned, app.links.condemned, app.revisions.doomed, app.links.doomed];
        assert_eq!((report.epoch, numbers), (3, [1, 2, 3, 4]));
        let again: CycleReport = serde_json::from_slice(&quinistry_oci::to_json(&report)).unwrap();
        assert_eq!(again, report);
    }
}
