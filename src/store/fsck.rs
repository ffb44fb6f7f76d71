//! Examination of a storage: each kind of damage is named, and repaired where it has exactly one answer.
//!
//! All keys are visited in their order, a page at a time, and their kinds are told by `layout::kinds`. That
//! order has the bytes before the repositories, and of each repository its blobs, manifests, tags, referrers
//! and uploads, so that what a key refers to is known when the key is visited. Memory holds a window of the
//! bytes (`contents`), and of one repository at a time the links.
//!
//! Nothing is changed without [`FsckOptions::repair`], so that an examination may run beside a registry. A
//! change by that registry looks like damage for a moment: everything that seems to be missing is looked up
//! once more before it is reported.

mod contents;
mod finding;
mod folder;
mod hashing;
mod links;
mod manifests;
mod own;
mod reading;
mod repository;
mod rows;
mod sessions;
mod tags;
mod walk;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use self::contents::Contents;
use self::repository::Repository;
use crate::{Storage, StoreError};

pub use self::finding::{Finding, FindingKind, Severity};

/// Memory for the table of stored bytes unless options say another: that of ten million blobs.
pub const DEFAULT_TABLE_BYTES: usize = 256 * 1024 * 1024;

/// Options of an examination.
#[derive(Clone, Debug)]
pub struct FsckOptions {
    /// Read all bytes, and compare them with their digests.
    pub hash: bool,
    /// Repair what has exactly one answer. Bytes and tags are never changed.
    pub repair: bool,
    /// Time without bytes after which an upload session counts as left.
    pub upload_age: Duration,
    /// Memory for the table of stored bytes. A storage with more content is passed over several times.
    pub table_bytes: usize,
    /// Folder of the storage, if it is one: entries that are not files are looked for there.
    pub folder: Option<PathBuf>,
}

/// Receiver of findings and progress.
pub trait FsckObserver {
    /// Receives a finding.
    fn found(&mut self, finding: &Finding);

    /// Receives the progress, many times a second.
    fn progressed(&mut self, progress: &FsckProgress) {
        let _ = progress;
    }
}

/// Progress of an examination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FsckProgress {
    /// Number of keys that were visited, in all passes.
    pub keys: u64,
    /// Number of bytes that were hashed.
    pub hashed_bytes: u64,
    /// Number of findings.
    pub findings: u64,
}

/// Result of an examination.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FsckSummary {
    /// Number of repositories.
    pub repositories: u64,
    /// Number of manifests in all repositories.
    pub manifests: u64,
    /// Number of tags in all repositories.
    pub tags: u64,
    /// Number of blobs and manifests whose bytes are stored.
    pub contents: u64,
    /// Length of all stored bytes.
    pub content_bytes: u64,
    /// Number of bytes that were hashed.
    pub hashed_bytes: u64,
    /// Number of findings of each kind, and how many of them were repaired.
    pub findings: BTreeMap<FindingKind, (u64, u64)>,
}

/// Examination under way.
struct Fsck<'a> {
    storage: &'a dyn Storage,
    options: &'a FsckOptions,
    observer: &'a mut dyn FsckObserver,
    summary: FsckSummary,
    progress: FsckProgress,
    contents: Contents,
    is_first_pass: bool,
    is_shared: bool,
    now: SystemTime,
    /// Repositories with a register that were not visited yet.
    registers: BTreeSet<String>,
    has_all_registers: bool,
    /// Repository whose keys are visited.
    repository: Option<Repository>,
    /// Invalid repository that was reported last.
    invalid_repository: Option<String>,
    /// Paths that were reported as unreadable.
    unreadable: BTreeSet<String>,
}

/// Examines a storage. Fails if the storage cannot be read as a whole, or if a repair fails.
pub fn examine(
    storage: &dyn Storage,
    options: &FsckOptions,
    observer: &mut dyn FsckObserver,
) -> Result<FsckSummary, StoreError> {
    let mut fsck = Fsck {
        storage,
        options,
        observer,
        summary: FsckSummary::default(),
        progress: FsckProgress::default(),
        contents: Contents::new(options.table_bytes),
        is_first_pass: true,
        is_shared: storage.abilities().is_shared,
        now: storage.now(),
        registers: BTreeSet::new(),
        has_all_registers: false,
        repository: None,
        invalid_repository: None,
        unreadable: BTreeSet::new(),
    };
    if let Some(folder) = &options.folder {
        fsck.survey(folder)?;
    }
    fsck.pass()?;
    fsck.report_registers();
    while fsck.contents.next_window() {
        fsck.is_first_pass = false;
        fsck.pass()?;
    }
    fsck.summary.hashed_bytes = fsck.progress.hashed_bytes;
    Ok(fsck.summary)
}

// === impl FsckSummary ===

impl FsckSummary {
    /// Returns the number of findings of a severity that were not repaired.
    #[must_use]
    pub fn left(&self, severity: Severity) -> u64 {
        let of_severity = self.findings.iter().filter(|(kind, _)| kind.severity() == severity);
        of_severity.map(|(_, (found, repaired))| found - repaired).sum()
    }

    /// Returns the number of findings that were repaired.
    #[must_use]
    pub fn repaired(&self) -> u64 {
        self.findings.values().map(|(_, repaired)| repaired).sum()
    }

    /// Returns true if nothing is left that affects clients: notes do not count.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.left(Severity::Error) + self.left(Severity::Warning) == 0
    }
}

// === impl Fsck ===

impl Fsck<'_> {
    /// Reports a finding that does not depend on the table of bytes: in the first pass alone.
    fn report(&mut self, finding: &Finding) {
        if self.is_first_pass {
            self.report_of_bytes(finding);
        }
    }

    /// Reports a finding that depends on the table of bytes, in the pass whose window has them.
    fn report_of_bytes(&mut self, finding: &Finding) {
        let counts = self.summary.findings.entry(finding.kind).or_default();
        counts.0 += 1;
        counts.1 += u64::from(finding.is_repaired);
        self.progress.findings += 1;
        self.observer.found(finding);
    }

    /// Returns true if damage is repaired that does not depend on the table of bytes.
    fn repairs(&self) -> bool {
        self.options.repair && self.is_first_pass
    }
}
