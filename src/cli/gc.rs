//! `quinistry gc`: removes from a folder what no manifest needs, while no registry serves it.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;

use crate::store::{Access, Collection, Filesystem, NotUnderstood, Store};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The folder that `serve --storage` was given, or distribution's root directory
    #[arg(value_name = "DIR")]
    folder: PathBuf,

    /// Say what would be removed, and remove nothing
    #[arg(long)]
    dry_run: bool,

    /// Leave what is younger than so many minutes: a push may be about to refer to it
    #[arg(long, value_name = "MINUTES", default_value_t = 60)]
    grace: u64,

    /// Remove manifests, too, that no tag means, nor an index, and that refer to nothing that stays
    #[arg(long)]
    delete_untagged: bool,
}

impl Args {
    pub(super) fn run(self) -> anyhow::Result<()> {
        anyhow::ensure!(self.folder.is_dir(), "there is no folder {}", self.folder.display());
        // Also for a dry run: what changes meanwhile cannot be told from what is not needed.
        let storage = Filesystem::open(&self.folder, Access::Write)?;
        let store = Store::open(storage, false).context("failed to finish what a crash had cut off")?;
        let wanted = Collection {
            grace: Duration::from_secs(self.grace.saturating_mul(60)),
            untagged: self.delete_untagged,
            dry_run: self.dry_run,
        };
        let collected = store.collect(&wanted)?;
        let mut text = String::new();
        for (repository, digest) in &collected.manifests {
            writeln!(text, "manifest {repository}@{digest}")?;
        }
        for (repository, digest) in &collected.links {
            writeln!(text, "link     {repository}@{digest}")?;
        }
        for (digest, length) in &collected.blobs {
            writeln!(text, "blob     {digest}  {}", super::human(*length))?;
        }
        for NotUnderstood { repository, digest, tags } in &collected.not_understood {
            let tags: String = tags.iter().flat_map(|tag| [" :", tag.as_str()]).collect();
            writeln!(
                text,
                "kept     {repository}@{digest}{tags}  (not understood: kept with all that it mentions)"
            )?;
        }
        let bytes = collected.blobs.iter().map(|(_, length)| length).sum();
        let would = if self.dry_run { "would be removed" } else { "removed" };
        writeln!(
            text,
            "{} manifests, {} links and {} blobs of {} {would}; {} blobs stay",
            collected.manifests.len(),
            collected.links.len(),
            collected.blobs.len(),
            super::human(bytes),
            collected.kept
        )?;
        super::print(text)
    }
}
