//! Collection of a folder that no registry serves, and its result.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;

use crate::cli::output::{self, Report};
use crate::cli::storage::open_folder;
use crate::cli::{count, format_bytes};
use crate::oci::{Digest, RepositoryName};
use crate::store::{
    Access, Collected, Collection, DamagedManifest, FilesystemKind, Locking, NotUnderstood, Store,
};

/// Result of a collection.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct GcReport {
    dry_run: bool,
    manifests: Vec<RemovedLink>,
    links: Vec<RemovedLink>,
    blobs: Vec<FreedBlob>,
    bytes: u64,
    kept: usize,
    /// Manifests that cannot be parsed, kept with all digests that they mention.
    not_understood: Vec<Unread>,
    /// Manifests whose bytes are damaged; their repositories stay as they are, and so do all bytes.
    damaged: Vec<Unread>,
    /// Age below which content stays, in minutes.
    #[serde(skip)]
    grace_minutes: u64,
    /// Manifests without a tag stay.
    #[serde(skip)]
    keeps_untagged: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Unread {
    repository: String,
    digest: Digest,
    tags: Vec<String>,
}

/// Link that is removed from a repository.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct RemovedLink {
    repository: String,
    digest: Digest,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct FreedBlob {
    digest: Digest,
    size: u64,
}

/// Folder below the root in which every registry of this layout keeps its data from the first start on.
const STORE_FOLDER: &str = "docker/registry/v2";

/// Removes from a storage folder what no manifest needs.
pub(in crate::cli) fn collect(folder: &Path, wanted: &Collection) -> anyhow::Result<GcReport> {
    ensure_store(folder)?;
    // Opened for a dry run too: content that another program changes at the same time looks like content
    // that is not needed.
    warn_of_other_machines(folder);
    let storage = open_folder(folder, Access::Write)?;
    let store = Store::open(storage, false).context("failed to finish what a crash had cut off")?;
    Ok(GcReport::new(wanted, store.collect(wanted)?))
}

/// Warns where the lock of the folder may not keep a registry on another machine from writing.
pub(in crate::cli) fn warn_of_other_machines(folder: &Path) {
    if let Ok(FilesystemKind { name, locking: Locking::Unsound | Locking::Unknown }) =
        FilesystemKind::of_folder(folder)
    {
        tracing::warn!(
            folder = %folder.display(),
            kind = name,
            "the lock of the folder may hold on this machine alone: stop the registries of all machines first"
        );
    }
}

/// Fails unless a registry has kept its content in the folder: a wrong path must not become a store.
pub(in crate::cli) fn ensure_store(folder: &Path) -> anyhow::Result<()> {
    let shown = folder.display();
    anyhow::ensure!(folder.is_dir(), "there is no folder {shown}");
    if folder.join(STORE_FOLDER).is_dir() {
        return Ok(());
    }
    let inside = folder.canonicalize().unwrap_or_else(|_| folder.into());
    let above = inside.ancestors().skip(1).find(|above| above.join(STORE_FOLDER).is_dir());
    let hint = above
        .filter(|above| inside.starts_with(above.join("docker")))
        .map(|above| format!("; did you mean {}?", above.display()))
        .unwrap_or_default();
    anyhow::bail!(
        "{shown} is not the storage of a registry (no {STORE_FOLDER} in it); nothing was changed{hint}"
    )
}

// === impl GcReport ===

impl GcReport {
    fn new(wanted: &Collection, collected: Collected) -> Self {
        let removed_link = |(repository, digest): (RepositoryName, Digest)| RemovedLink {
            repository: repository.to_string(),
            digest,
        };
        Self {
            dry_run: wanted.dry_run,
            grace_minutes: wanted.grace.as_secs() / 60,
            keeps_untagged: !wanted.untagged,
            bytes: collected.blobs.iter().map(|(_, length)| length).sum(),
            manifests: collected.manifests.into_iter().map(removed_link).collect(),
            links: collected.links.into_iter().map(removed_link).collect(),
            blobs: collected.blobs.into_iter().map(|(digest, size)| FreedBlob { digest, size }).collect(),
            kept: collected.kept,
            not_understood: collected.not_understood.into_iter().map(Unread::from).collect(),
            damaged: collected.damaged.into_iter().map(Unread::from).collect(),
        }
    }
}

impl From<NotUnderstood> for Unread {
    fn from(NotUnderstood { repository, digest, tags }: NotUnderstood) -> Self {
        let tags = tags.iter().map(ToString::to_string).collect();
        Self { repository: repository.to_string(), digest, tags }
    }
}

impl From<DamagedManifest> for Unread {
    fn from(DamagedManifest { repository, digest, tags }: DamagedManifest) -> Self {
        let tags = tags.iter().map(ToString::to_string).collect();
        Self { repository: repository.to_string(), digest, tags }
    }
}

impl Report for GcReport {
    fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |line: std::fmt::Arguments<'_>| {
            writeln!(text, "{line}").expect("writing to a string does not fail");
        };
        for RemovedLink { repository, digest } in &self.manifests {
            line(format_args!("manifest {repository}@{digest}"));
        }
        for RemovedLink { repository, digest } in &self.links {
            line(format_args!("link     {repository}@{digest}"));
        }
        for FreedBlob { digest, size } in &self.blobs {
            line(format_args!("blob     {digest}  {}", format_bytes(*size)));
        }
        for Unread { repository, digest, tags } in &self.not_understood {
            let tags = tags.iter().fold(String::new(), |text, tag| text + " :" + tag);
            line(format_args!(
                "kept     {repository}@{digest}{tags}  (not understood: kept with all that it mentions)"
            ));
        }
        for Unread { repository, digest, tags } in &self.damaged {
            let tags = tags.iter().fold(String::new(), |text, tag| text + " :" + tag);
            line(format_args!(
                "kept     {repository}@{digest}{tags}  (damaged: its repository and all bytes stay; push it again, or \
                 delete it)"
            ));
        }
        line(format_args!(
            "{}, {} and {} of {} {}; {} {}",
            count(self.manifests.len(), "manifest"),
            count(self.links.len(), "link"),
            count(self.blobs.len(), "blob"),
            format_bytes(self.bytes),
            if self.dry_run { "would be removed" } else { "removed" },
            count(self.kept, "blob"),
            if self.kept == 1 { "stays" } else { "stay" }
        ));
        if self.manifests.is_empty() && self.blobs.is_empty() {
            if self.grace_minutes > 0 {
                line(format_args!("content younger than {} minutes stays; see --grace", self.grace_minutes));
            }
            if self.keeps_untagged {
                line(format_args!("manifests without a tag stay; see --delete-untagged"));
            }
        }
        text
    }

    /// Returns the digests whose bytes are freed.
    fn essence(&self) -> String {
        output::lines(self.blobs.iter().map(|blob| &blob.digest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collection_that_removes_nothing_says_what_it_spares() {
        let text = |grace_minutes, keeps_untagged| {
            let report = GcReport {
                dry_run: true,
                manifests: Vec::new(),
                links: Vec::new(),
                blobs: Vec::new(),
                bytes: 0,
                kept: 1,
                not_understood: Vec::new(),
                damaged: Vec::new(),
                grace_minutes,
                keeps_untagged,
            };
            report.text()
        };
        let sum = "0 manifests, 0 links and 0 blobs of 0 B would be removed; 1 blob stays\n";
        let (young, untagged) = (
            "content younger than 60 minutes stays; see --grace\n",
            "manifests without a tag stay; see --delete-untagged\n",
        );
        assert_eq!(text(60, true), [sum, young, untagged].concat());
        assert_eq!(text(0, false), sum);
    }
}
