//! Relation of a target to the source of its content.
//!
//! A target that was empty when its first migration began is a copy of one source until a last pass has
//! ended: its tags follow those of the source. Any other target has content of its own, which a migration
//! must not replace or remove.

use std::time::Duration;

use quinistry_oci::to_json;
use serde::{Deserialize, Serialize};

use crate::layout::{Key, migration_origin, replicas, repositories};
use crate::storage::{SCAN_PAGE_SIZE, Storage, StorageError};

/// Age of a heartbeat below which its replica counts as running: four heartbeats.
const MAX_RUNNING_AGE: Duration = Duration::from_mins(2);

/// Longest note that is read, in bytes.
const MAX_NOTE_BYTES: u64 = 64 * 1024;

/// Relation of a target to a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetRole {
    /// The target is a copy of the source, and nothing else.
    Copy,
    /// The target is a copy of this other source.
    CopyOfOther(String),
    /// The target has content of its own, or of several sources, or its migration has ended.
    Independent,
}

/// Note in a target of the source that it is a copy of.
#[derive(Debug, Serialize, Deserialize)]
pub struct Origin {
    /// Name of the source.
    from: String,
    /// The last pass has ended.
    #[serde(default)]
    is_complete: bool,
}

// === impl Origin ===

impl Origin {
    /// Returns the relation of a target to a source. An empty target is a copy from now on, which is noted
    /// there unless `is_dry_run`.
    pub fn claim(to: &dyn Storage, from: &str, is_dry_run: bool) -> Result<TargetRole, StorageError> {
        if let Some(bytes) = to.read(&migration_origin(), MAX_NOTE_BYTES)? {
            return Ok(match serde_json::from_slice::<Self>(&bytes) {
                Ok(origin) if origin.is_complete => TargetRole::Independent,
                Ok(origin) if origin.from == from => TargetRole::Copy,
                Ok(origin) => TargetRole::CopyOfOther(origin.from),
                Err(_) => TargetRole::Independent,
            });
        }
        let is_empty = to.scan(&repositories(), None, 1)?.entries.is_empty();
        if !is_empty {
            return Ok(TargetRole::Independent);
        }
        if !is_dry_run {
            Self { from: from.to_owned(), is_complete: false }.write(to)?;
        }
        Ok(TargetRole::Copy)
    }

    /// Notes that the last pass has ended, so that the target has a life of its own.
    pub fn complete(to: &dyn Storage, from: &str) -> Result<(), StorageError> {
        Self { from: from.to_owned(), is_complete: true }.write(to)
    }

    fn write(&self, to: &dyn Storage) -> Result<(), StorageError> {
        to.write(&[&[(migration_origin(), &to_json(self))]])
    }
}

/// Returns the number of registries that have told a shared storage a moment ago that they run and may write.
pub fn running_replicas(storage: &dyn Storage) -> Result<usize, StorageError> {
    let mut running = 0;
    let mut after: Option<Key> = None;
    loop {
        let page = storage.scan(&replicas(), after.as_ref(), SCAN_PAGE_SIZE)?;
        let now = storage.now();
        let is_young = |modified| now.duration_since(modified).map_or(true, |age| age < MAX_RUNNING_AGE);
        running += page.entries.iter().filter(|(_, meta)| is_young(meta.modified)).count();
        after = page.next;
        if after.is_none() {
            return Ok(running);
        }
    }
}
