//! Migration of a registry from one storage to another one, of any kind.
//!
//! One pass copies what the target lacks: blobs, aliases, then for each repository links, manifests, the rows
//! of referrers and the tags, in this order. A manifest is made part of a repository once all of its parts
//! that the source has are there, and a tag once its manifest is: whatever the target shows is as complete as
//! in the source, wherever a pass is cut off. The target itself is the state from which the next pass goes
//! on: both storages are listed side by side, in the order of keys. The source is only read; a later
//! pass brings what was written to it during this one.
//!
//! Bytes are hashed while they are copied. An object that is damaged is named and not copied, and neither is
//! a manifest or tag that needs it.
//!
//! Calls block. Called by the command line.

mod blobs;
mod known;
mod listing;
mod origin;
mod parts;
mod pass;
mod pushed;
mod records;
mod removal;
mod repository;
mod tags;
mod workers;

use std::num::NonZeroUsize;
use std::time::SystemTime;

use super::storage::{Storage, StorageError};

pub use self::origin::{Origin, TargetRole, running_replicas};
pub use self::pushed::PushedTimes;

/// Greatest number of faults that a report names; the others are counted.
const MAX_NAMED_FAULTS: usize = 1000;

/// Options of one pass of a migration.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
pub struct Migration {
    /// Also read what the target has, and replace what differs.
    pub verifies: bool,
    /// Replace tags of the target that refer to other manifests. If not, these tags are faults.
    pub overwrites: bool,
    /// Remove tags, manifests and links from the target that the source does not have.
    pub removes: bool,
    /// Report only, and write nothing.
    pub is_dry_run: bool,
    /// Number of blobs and of repositories that are copied at the same time.
    pub jobs: NonZeroUsize,
    /// Time of the source, before which tags are known to be equal on both sides: an earlier pass has read
    /// them.
    pub tags_since: Option<SystemTime>,
}

/// Receiver of the progress of a pass.
pub trait MigrationObserver: Sync {
    /// Receives the number of bytes of content that were copied since the last call.
    fn copied(&self, bytes: u64);

    /// Receives the number of objects that were looked at since the last call.
    fn looked_at(&self, objects: u64);
}

impl MigrationObserver for () {
    fn copied(&self, _: u64) {}

    fn looked_at(&self, _: u64) {}
}

/// Result of a pass: what was copied, or would be in a dry run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Migrated {
    /// Number of blobs and manifests whose bytes were copied.
    pub blobs: u64,
    /// Number of these bytes.
    pub bytes: u64,
    /// Number of aliases and of links to blobs.
    pub links: u64,
    /// Number of manifests that were made part of a repository.
    pub manifests: u64,
    /// Number of tags that were written.
    pub tags: u64,
    /// Number of rows of referrers, entries of tags' indexes and records.
    pub others: u64,
    /// Number of tags, manifests, links, rows and entries that were removed from the target.
    pub removed: u64,
    /// Number of objects that the target had already.
    pub unchanged: u64,
    /// Number of links to bytes that the source does not have, which are not copied.
    pub dangling: u64,
    /// Number of objects that could not be copied.
    pub fault_count: u64,
    /// The first of these objects.
    pub faults: Vec<MigrationFault>,
}

/// Object that could not be copied.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MigrationFault {
    /// Key, manifest or tag. May hold text of the source as it is.
    pub subject: String,
    /// Reason.
    pub reason: String,
}

// === impl Migrated ===

impl Migrated {
    /// Returns the number of objects that were copied or removed.
    #[must_use]
    pub const fn changes(&self) -> u64 {
        self.blobs + self.links + self.manifests + self.tags + self.others + self.removed
    }

    /// Adds a later pass, whose faults and objects without a change take the place of the earlier ones.
    pub fn add(&mut self, later: Self) {
        *self = Self {
            blobs: self.blobs + later.blobs,
            bytes: self.bytes + later.bytes,
            links: self.links + later.links,
            manifests: self.manifests + later.manifests,
            tags: self.tags + later.tags,
            others: self.others + later.others,
            removed: self.removed + later.removed,
            ..later
        };
    }

    fn add_fault(&mut self, subject: String, reason: String) {
        self.fault_count += 1;
        if self.faults.len() < MAX_NAMED_FAULTS {
            self.faults.push(MigrationFault { subject, reason });
        }
    }
}

/// Copies from one storage to another what that one lacks. Fails if the target cannot be written, or if the
/// source does not answer: a later call goes on. Objects that cannot be copied are in the report.
pub fn migrate(
    from: &dyn Storage,
    to: &dyn Storage,
    wanted: &Migration,
    observer: &dyn MigrationObserver,
) -> Result<Migrated, StorageError> {
    let pass = pass::Pass::new(from, to, wanted, observer);
    blobs::copy_all(&pass)?;
    blobs::copy_aliases(&pass)?;
    repository::copy_all(&pass)?;
    records::copy_all(&pass)?;
    if !wanted.is_dry_run {
        to.flush_all()?;
    }
    Ok(pass.into_report())
}
