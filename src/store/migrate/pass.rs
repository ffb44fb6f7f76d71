//! State of one pass, which its threads share.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use bytes::Bytes;
use quinistry_oci::Digest;
use quinistry_oci::WithCauses;

use super::known::KnownDigests;
use super::{Migrated, Migration, MigrationObserver};
use crate::layout::Key;
use crate::storage::{Entry, Storage, StorageError};

/// One pass of a migration.
pub(super) struct Pass<'a> {
    pub(super) from: &'a dyn Storage,
    pub(super) to: &'a dyn Storage,
    pub(super) wanted: &'a Migration,
    pub(super) observer: &'a dyn MigrationObserver,
    /// Blobs of the target, whole.
    pub(super) blobs: RwLock<KnownDigests>,
    /// Blobs that cannot be copied, with the reasons.
    pub(super) damaged: Mutex<HashMap<Digest, String>>,
    report: Mutex<Migrated>,
}

// === impl Pass ===

impl<'a> Pass<'a> {
    pub(super) fn new(
        from: &'a dyn Storage,
        to: &'a dyn Storage,
        wanted: &'a Migration,
        observer: &'a dyn MigrationObserver,
    ) -> Self {
        Self {
            from,
            to,
            wanted,
            observer,
            blobs: RwLock::default(),
            damaged: Mutex::default(),
            report: Mutex::default(),
        }
    }

    pub(super) fn report(&self) -> MutexGuard<'_, Migrated> {
        // Counts alone are changed under the lock.
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn into_report(self) -> Migrated {
        let mut report = self.report.into_inner().unwrap_or_else(PoisonError::into_inner);
        report.faults.sort();
        report
    }

    /// Notes an object that cannot be copied.
    pub(super) fn add_fault(&self, subject: &dyn Display, reason: &dyn Display) {
        self.report().add_fault(subject.to_string(), reason.to_string());
    }

    /// Reads bytes of the source as a whole; `None` for absent ones, and for those that are named as faults:
    /// too long, or not readable.
    pub(super) fn read(&self, keys: &[Key], max_bytes: u64) -> Result<Vec<Option<Bytes>>, StorageError> {
        match self.from.read_all(keys, max_bytes) {
            Err(error) if !error.is_temporary() => {}
            read => return read,
        }
        // One of them cannot be read.
        let read = |key| match self.from.read(key, max_bytes) {
            Err(error) if error.is_temporary() => Err(error),
            Err(error) => {
                self.add_fault(key, &WithCauses(&error));
                Ok(None)
            }
            read => read,
        };
        keys.iter().map(read).collect()
    }

    /// Writes entries in stages, unless nothing shall be written.
    pub(super) fn write(&self, stages: &[&[Entry<'_>]]) -> Result<(), StorageError> {
        if self.wanted.is_dry_run {
            return Ok(());
        }
        match self.to.write(stages) {
            Err(error) if is_of_other_type(&error) => self.replace(stages, error),
            written => written,
        }
    }

    /// Removes what stands where entries could not be written, and writes them. Fails with `error` if there
    /// was nothing.
    fn replace(&self, stages: &[&[Entry<'_>]], error: StorageError) -> Result<(), StorageError> {
        let mut missing: Vec<Vec<Entry<'_>>> = Vec::new();
        let mut is_removed = false;
        for stage in stages {
            let mut others = Vec::new();
            for (key, bytes) in *stage {
                // Longer bytes are an error, and other ones.
                let there = self.to.read(key, bytes.len() as u64);
                if !matches!(there, Ok(Some(there)) if there == **bytes) {
                    is_removed |= self.to.remove(key)?;
                    others.push((key.clone(), *bytes));
                }
            }
            missing.push(others);
        }
        if !is_removed {
            return Err(error);
        }
        let missing: Vec<&[Entry<'_>]> = missing.iter().map(Vec::as_slice).collect();
        self.to.write(&missing)
    }
}

/// Returns true if a store does not replace an object because it is of another type: Azure does not put a
/// block blob in the place of an append blob, which older versions of distribution wrote (`InvalidBlobType`,
/// "Blob service error codes").
pub(super) fn is_of_other_type(error: &StorageError) -> bool {
    WithCauses(error).to_string().contains("InvalidBlobType")
}
