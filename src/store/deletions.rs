//! Record of the deletions that the registry makes by itself, for administrators who must account for them.
//!
//! Each deletion is a log line at once, and an event for the observer of the store. Its record goes to a
//! bounded batch in memory, and from there to an object of JSON lines in the storage: one object for many
//! deletions.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use jiff::Timestamp;
use quinistry_oci::{Digest, RepositoryName, Tag, WithCauses, to_json};
use serde::Serialize;

use super::layout::{Key, audit_of, dated};
use super::storage::Created;
use super::{Store, StoreError};

/// Records that are written to the storage without waiting for a flush.
const BATCH_RECORDS: usize = 1_000;

/// Most records in memory while the storage refuses them: some three megabytes. The oldest go first.
const MAX_WAITING_RECORDS: usize = 10_000;

/// Writer of the records on a storage that one process has for itself.
const LOCAL: &str = "local";

/// Part of the registry that deletes by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DeletionActor {
    /// Retention, which deletes tags.
    Retention,
    /// Collection, which deletes content that is not in use.
    Collection,
    /// Scrub, which deletes damaged bytes.
    Scrub,
    /// Pulling through, which deletes tags that an upstream has removed, and copies that are not used any more.
    Upstream,
}

/// Subject of a deletion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "kind")]
pub enum DeletedSubject {
    /// Tag of a repository.
    Tag {
        /// Repository.
        repository: RepositoryName,
        /// Tag.
        tag: Tag,
        /// Digest that the tag referred to.
        digest: Digest,
    },
    /// Manifest of a repository.
    Manifest {
        /// Repository.
        repository: RepositoryName,
        /// Digest of the manifest.
        digest: Digest,
    },
    /// Link that makes bytes a blob of a repository.
    Blob {
        /// Repository.
        repository: RepositoryName,
        /// Digest of the blob.
        digest: Digest,
    },
    /// Bytes of content.
    Bytes {
        /// SHA-256 of the bytes.
        digest: Digest,
        /// Number of bytes.
        length: u64,
    },
}

/// Deletion by the registry itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deletion {
    /// Part of the registry that deleted.
    pub actor: DeletionActor,
    /// Subject of the deletion.
    pub subject: DeletedSubject,
    /// Policy that asked for the deletion, with its hash, if a policy did.
    pub policy: Option<String>,
    /// Reason of the deletion.
    pub reason: String,
}

/// Observer of deletions by the registry itself. Must not wait.
pub trait DeletionObserver: fmt::Debug + Send + Sync {
    /// Notes a deletion that was made at `time`.
    fn deleted(&self, deletion: &Deletion, time: SystemTime);
}

/// Records that wait for the storage, and the observer.
#[derive(Debug, Default)]
pub(super) struct Deletions {
    waiting: Mutex<VecDeque<Record>>,
    /// Number of the last object that this process wrote. Locked while objects are written, so that records
    /// are in the order of their deletions.
    last_object: Mutex<u64>,
    observer: Mutex<Option<Arc<dyn DeletionObserver>>>,
}

/// Line of an object of records.
#[derive(Clone, Debug, Serialize)]
struct Record {
    /// Time of the deletion, RFC 3339.
    time: String,
    actor: DeletionActor,
    subject: DeletedSubject,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<String>,
    reason: String,
}

// === impl DeletionActor ===

impl DeletionActor {
    /// Returns the name in logs and records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Retention => "retention",
            Self::Collection => "collection",
            Self::Scrub => "scrub",
            Self::Upstream => "upstream",
        }
    }
}

impl fmt::Display for DeletionActor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// === impl DeletedSubject ===

impl DeletedSubject {
    /// Returns the repository that lost the subject; `None` for bytes, which several can have.
    #[must_use]
    pub const fn repository(&self) -> Option<&RepositoryName> {
        match self {
            Self::Tag { repository, .. }
            | Self::Manifest { repository, .. }
            | Self::Blob { repository, .. } => Some(repository),
            Self::Bytes { .. } => None,
        }
    }

    /// Returns the digest of the subject.
    #[must_use]
    pub const fn digest(&self) -> &Digest {
        match self {
            Self::Tag { digest, .. }
            | Self::Manifest { digest, .. }
            | Self::Blob { digest, .. }
            | Self::Bytes { digest, .. } => digest,
        }
    }
}

// === impl Deletions ===

impl Deletions {
    fn waiting(&self) -> MutexGuard<'_, VecDeque<Record>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Deletion {
    fn log(&self) {
        let Self { actor, subject, policy, reason } = self;
        let policy = policy.as_deref();
        match subject {
            DeletedSubject::Tag { repository, tag, digest } => {
                tracing::info!(%actor, %repository, %tag, %digest, policy, reason, "tag deleted");
            }
            DeletedSubject::Manifest { repository, digest } => {
                tracing::info!(%actor, %repository, %digest, policy, reason, "manifest deleted");
            }
            DeletedSubject::Blob { repository, digest } => {
                tracing::info!(%actor, %repository, %digest, policy, reason, "blob removed from repository");
            }
            DeletedSubject::Bytes { digest, length } => {
                tracing::info!(%actor, %digest, length, policy, reason, "bytes deleted");
            }
        }
    }
}

impl Store {
    /// Has `observer` see each deletion from now on, in place of the former observer.
    pub fn observe_deletions(&self, observer: Arc<dyn DeletionObserver>) {
        *self.0.deletions.observer.lock().unwrap_or_else(PoisonError::into_inner) = Some(observer);
    }

    /// Records a deletion by the registry itself: logs it, tells the observer, and keeps the record for
    /// [`flush_deletions`](Self::flush_deletions). Many records are flushed at once, and then the call
    /// blocks.
    pub fn record_deletion(&self, deletion: Deletion) {
        deletion.log();
        self.note_deletion(deletion);
    }

    /// Records a deletion as [`record_deletion`](Self::record_deletion) does, without a log line.
    pub(crate) fn note_deletion(&self, deletion: Deletion) {
        let time = self.storage().now();
        let observer = self.0.deletions.observer.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(observer) = observer {
            observer.deleted(&deletion, time);
        }
        if !self.is_persistent() {
            // Records would outlive neither the process nor its log, and fill the memory for content.
            return;
        }
        let Deletion { actor, subject, policy, reason } = deletion;
        let time = Timestamp::try_from(time).unwrap_or_default().to_string();
        let is_full = {
            let mut waiting = self.0.deletions.waiting();
            waiting.push_back(Record { time, actor, subject, policy, reason });
            // A storage that refuses records is asked again at each further batch, and not at each record.
            waiting.len().is_multiple_of(BATCH_RECORDS)
        };
        if !is_full {
            return;
        }
        if let Err(error) = self.flush_deletions() {
            let mut waiting = self.0.deletions.waiting();
            let excess = waiting.len().saturating_sub(MAX_WAITING_RECORDS - BATCH_RECORDS);
            waiting.drain(..excess);
            drop(waiting);
            tracing::warn!(error = %WithCauses(&error), dropped = excess, "cannot write records of deletions");
        }
    }

    /// Writes the records of deletions to the storage, as one object of JSON lines for each day. After an
    /// error the records stay in memory. Blocks.
    pub fn flush_deletions(&self) -> Result<(), StoreError> {
        let mut last = self.0.deletions.last_object.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let batch: Vec<Record> = {
                let mut waiting = self.0.deletions.waiting();
                let Some(first) = waiting.front() else { return Ok(()) };
                let is_same_day = |record: &&Record| date(record) == date(first);
                let count = waiting.iter().take(BATCH_RECORDS).take_while(is_same_day).count();
                waiting.drain(..count).collect()
            };
            let mut lines = Vec::new();
            for record in &batch {
                lines.extend(to_json(record));
                lines.push(b'\n');
            }
            if let Err(error) = self.create_numbered(&audit_of(date(&batch[0])), ".jsonl", &mut last, &lines)
            {
                let mut waiting = self.0.deletions.waiting();
                for record in batch.into_iter().rev() {
                    waiting.push_front(record);
                }
                return Err(error);
            }
        }
    }

    /// Creates an object under the next free number of this process in a folder of a day.
    pub(crate) fn create_numbered(
        &self,
        folder: &Key,
        ending: &str,
        last: &mut u64,
        bytes: &[u8],
    ) -> Result<(), StoreError> {
        let writer = self.0.shared.as_ref().map_or(LOCAL, |shared| shared.replica().id());
        if *last == 0 && !self.is_shared() {
            // Former processes of a folder have written under the same name.
            *last = self.last_number(folder, ending)?;
        }
        loop {
            let key = dated(folder, writer, *last + 1, ending);
            let created = self.storage().create(&key, bytes)?;
            *last += 1;
            match created {
                Created::New => return Ok(()),
                // An earlier attempt, whose answer was lost: no two objects have the same times and subjects.
                Created::Exists(existing) if existing == bytes => return Ok(()),
                Created::Exists(_) => {}
            }
        }
    }

    /// Returns the greatest number of an object that a process wrote into the folder of a day.
    fn last_number(&self, folder: &Key, ending: &str) -> Result<u64, StoreError> {
        let names = self.storage().list(folder)?.unwrap_or_default();
        let number = |name: &String| name.strip_suffix(ending)?.rsplit_once('-')?.1.parse().ok();
        Ok(names.iter().filter_map(number).max().unwrap_or(0))
    }
}

/// Returns the date of a record, which its time begins with.
fn date(record: &Record) -> &str {
    record.time.split_once('T').map_or(&record.time, |(date, _)| date)
}

#[cfg(test)]
mod tests;
