//! `quinistry fsck`: names the damage of a storage, and repairs what has exactly one answer.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;

use super::exit::Exit;
use super::output::{self, OutputArgs, ReaderGone};
use super::progress::Counter;
use super::serve::opened_bucket;
use super::serve::plan::FolderAccess;
use super::storage::folder_or_bucket::FolderOrBucket;
use super::storage::open_folder;
use super::storage::source::StorageSource;
use super::{gc, sanitize};
use crate::escape::Escaped;
use crate::oci::Digest;
use crate::shutdown::Signals;
use crate::store::fsck::{
    DEFAULT_TABLE_BYTES, Finding, FindingKind, FsckObserver, FsckOptions, FsckProgress, FsckSummary,
    Severity, examine,
};
use crate::store::{Access, ReadOnlyStorage, Storage};

/// Default of `--upload-age`: a week, as of `serve --upload-timeout`.
const DEFAULT_UPLOAD_AGE_MINUTES: u64 = 7 * 24 * 60;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    source: StorageSource,

    /// Read all bytes, and compare them with their digests
    #[arg(long)]
    hash: bool,

    /// Repair what has exactly one answer: never bytes, never tags. Stop the registry of a folder first
    #[arg(long)]
    repair: bool,

    /// Count uploads as left that have received no bytes for this long; the default is a week
    #[arg(long, value_name = "MINUTES", default_value_t = DEFAULT_UPLOAD_AGE_MINUTES)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=5_256_000))]
    upload_age: u64,

    #[command(flatten)]
    output: OutputArgs,
}

/// Result of an examination.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct FsckReport {
    storage: String,
    hash: bool,
    repair: bool,
    repositories: u64,
    manifests: u64,
    tags: u64,
    contents: u64,
    bytes: u64,
    hashed_bytes: u64,
    errors: u64,
    warnings: u64,
    notes: u64,
    repaired: u64,
    findings: Vec<Row>,
}

/// Finding in the result.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    kind: &'static str,
    severity: &'static str,
    key: String,
    repository: Option<String>,
    tags: Vec<String>,
    digest: Option<Digest>,
    detail: String,
    meaning: &'static str,
    remedy: &'static str,
    repaired: bool,
}

/// Observer that prints findings as they come, or keeps them for a document.
struct Printer {
    output: OutputArgs,
    counter: Counter,
    rows: Vec<Row>,
    /// First error of printing: the examination goes on, and the command ends with the error.
    failed: Option<anyhow::Error>,
}

// === impl Args ===

impl Args {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        match self.examine() {
            Ok(None) => Ok(Exit::Usage.into()),
            Ok(Some(report)) => {
                self.output.print(&report)?;
                let is_clean = report.errors + report.warnings == 0;
                Ok(if is_clean { Exit::Success } else { Exit::Failure }.into())
            }
            Err(error) if error.is::<ReaderGone>() => Err(error),
            Err(error) => {
                output::complain(&format!("quinistry: {}", Escaped(&format!("{error:#}"))));
                Ok(Exit::Usage.into())
            }
        }
    }

    /// Examines the storage. Returns `None` if the configuration names no valid one, which was printed.
    fn examine(&self) -> anyhow::Result<Option<FsckReport>> {
        let Some(place) = self.source.find("fsck")? else { return Ok(None) };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let output = self.output;
        let shown = place.to_string();
        let options = FsckOptions {
            hash: self.hash,
            repair: self.repair,
            upload_age: Duration::from_mins(self.upload_age),
            table_bytes: DEFAULT_TABLE_BYTES,
            folder: place.folder().map(Path::to_path_buf),
        };
        let (hash, repair) = (self.hash, self.repair);
        let examined = runtime.block_on(async move {
            let mut signals = Signals::listen().context("failed to listen for signals")?;
            // Calls of a bucket wait for requests on this runtime.
            let examination = tokio::task::spawn_blocking(move || examine_place(&place, &options, output));
            tokio::select! {
                examined = examination => examined.context("failed to examine")?,
                () = signals.next() => anyhow::bail!("interrupted; findings up to here are not all"),
            }
        });
        runtime.shutdown_background();
        let (summary, rows) = examined.with_context(|| format!("failed to examine {shown}"))?;
        Ok(Some(FsckReport::new(&shown, hash, repair, &summary, rows)))
    }
}

/// Opens and examines a storage.
fn examine_place(
    place: &FolderOrBucket,
    options: &FsckOptions,
    output: OutputArgs,
) -> anyhow::Result<(FsckSummary, Vec<Row>)> {
    let storage: Box<dyn Storage> = match place {
        FolderOrBucket::Folder(folder) => {
            gc::ensure_store(folder)?;
            if options.repair {
                gc::warn_of_other_machines(folder);
            }
            let access = if options.repair { Access::Write } else { Access::Read };
            Box::new(open_folder(folder, access)?)
        }
        FolderOrBucket::Bucket(bucket) if options.repair => {
            tracing::info!(storage = %bucket, "replicas may run while the storage is repaired");
            Box::new(opened_bucket::open(bucket, FolderAccess::Write)?.bucket)
        }
        FolderOrBucket::Bucket(bucket) => {
            Box::new(ReadOnlyStorage::new(opened_bucket::open(bucket, FolderAccess::Read)?.bucket))
        }
    };
    let counter = Counter::new(output.is_quiet());
    let mut printer = Printer { output, counter, rows: Vec::new(), failed: None };
    let summary = examine(&*storage, options, &mut printer)?;
    match printer.failed {
        Some(error) => Err(error),
        None => Ok((summary, printer.rows)),
    }
}

// === impl Printer ===

impl FsckObserver for Printer {
    fn found(&mut self, finding: &Finding) {
        let row = Row::from(finding);
        if self.output.is_json() {
            self.rows.push(row);
        } else if self.failed.is_none() && (finding.counts() || !self.output.is_quiet()) {
            let text = if self.output.is_quiet() { sanitize(&row.key) + "\n" } else { row.text() };
            self.failed = self.counter.suspend(|| output::print(text)).err();
        }
    }

    fn progressed(&mut self, progress: &FsckProgress) {
        let FsckProgress { keys, hashed_bytes, findings } = *progress;
        self.counter.set(|| {
            let hashed = super::format_bytes(hashed_bytes);
            format!("{keys} keys examined, {hashed} hashed, {findings} found")
        });
    }
}

// === impl Row ===

impl From<&Finding> for Row {
    fn from(finding: &Finding) -> Self {
        let kind: FindingKind = finding.kind;
        Self {
            kind: kind.name(),
            severity: kind.severity().name(),
            key: finding.key.clone(),
            repository: finding.repository.clone(),
            tags: finding.tags.clone(),
            digest: finding.digest.clone(),
            detail: finding.detail.clone(),
            meaning: kind.meaning(),
            remedy: kind.remedy(),
            repaired: finding.is_repaired,
        }
    }
}

impl Row {
    /// Returns up to three lines: the place of the damage, what is affected, and what to do.
    fn text(&self) -> String {
        let mut text = format!("{} {} {}\n", self.severity, self.kind, sanitize(&self.key));
        let affected = self.affected();
        if !affected.is_empty() {
            writeln!(text, "   {affected}").expect("writing to a string does not fail");
        }
        let (meaning, remedy) = (self.meaning, if self.repaired { "repaired" } else { self.remedy });
        writeln!(text, "    {meaning}: {remedy}").expect("writing to a string does not fail");
        text
    }

    /// Returns repository, tags, digest and detail, each with a space before it.
    fn affected(&self) -> String {
        let mut text = String::new();
        if let Some(repository) = &self.repository {
            text += " ";
            text += &sanitize(repository);
            for tag in &self.tags {
                text += " :";
                text += &sanitize(tag);
            }
        }
        if let Some(digest) = &self.digest {
            write!(text, " {digest}").expect("writing to a string does not fail");
        }
        if !self.detail.is_empty() {
            write!(text, " ({})", sanitize(&self.detail)).expect("writing to a string does not fail");
        }
        text
    }
}

// === impl FsckReport ===

impl FsckReport {
    fn new(storage: &str, hash: bool, repair: bool, summary: &FsckSummary, findings: Vec<Row>) -> Self {
        Self {
            storage: sanitize(storage),
            hash,
            repair,
            repositories: summary.repositories,
            manifests: summary.manifests,
            tags: summary.tags,
            contents: summary.contents,
            bytes: summary.content_bytes,
            hashed_bytes: summary.hashed_bytes,
            errors: summary.left(Severity::Error),
            warnings: summary.left(Severity::Warning),
            notes: summary.left(Severity::Note),
            repaired: summary.repaired(),
            findings,
        }
    }
}

impl output::Report for FsckReport {
    /// Returns the summary: the findings were printed as they came.
    fn text(&self) -> String {
        let count =
            |number: u64, noun: &str| super::count(usize::try_from(number).unwrap_or(usize::MAX), noun);
        let repositories = if self.repositories == 1 {
            "1 repository".into()
        } else {
            format!("{} repositories", self.repositories)
        };
        format!(
            "{repositories}, {}, {}, {} of {}{}: {}, {}, {}, {} repaired\n",
            count(self.manifests, "manifest"),
            count(self.tags, "tag"),
            count(self.contents, "blob"),
            super::format_bytes(self.bytes),
            if self.hash { " (hashed)" } else { "" },
            count(self.errors, "error"),
            count(self.warnings, "warning"),
            count(self.notes, "note"),
            self.repaired,
        )
    }

    /// Returns nothing: the keys were printed as they came.
    fn essence(&self) -> String {
        String::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storage_is_a_bucket_or_else_a_folder() {
        let place = |text: &str| text.parse::<FolderOrBucket>().unwrap();
        for url in ["s3://images/team", "gs://images", "az://account/images"] {
            assert_eq!(place(url).to_string(), url);
            assert_eq!(place(url).folder(), None);
        }
        assert_eq!(place("/srv/r").folder(), Some(Path::new("/srv/r")));
        assert!("s3://key:secret@images".parse::<FolderOrBucket>().is_err());
    }

    #[test]
    fn a_finding_shows_place_meaning_and_remedy_without_control_characters() {
        let row = Row {
            kind: "link-torn",
            severity: "error",
            key: "a\u{1b}b".into(),
            repository: Some("r\n".into()),
            tags: vec!["v1".into()],
            digest: None,
            detail: "holds \u{7}".into(),
            meaning: "gone",
            remedy: "push",
            repaired: false,
        };
        let text = row.text();
        assert!(text.starts_with("error link-torn a"), "{text}");
        assert!(text.ends_with("gone: push\n") && text.contains(":v1"), "{text}");
        assert_eq!(text.lines().count(), 3);
        assert!(!text.contains(['\u{1b}', '\u{7}']), "{text:?}");
        let bare = Row { repaired: true, repository: None, tags: Vec::new(), detail: String::new(), ..row };
        assert!(bare.text().ends_with("b\n    gone: repaired\n"), "{:?}", bare.text());
    }
}
