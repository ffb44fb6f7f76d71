//! Renewal: records of uses. Those of a shared storage are requests, of which some are under way side by side.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::SystemTime;

use quinistry_oci::{Algorithm, Digest, RepositoryName};

use super::new_record;
use crate::layout::copy_record;
use crate::{Store, StoreError, waiting};

/// Failures in a row after which no further use is recorded: the storage fails as a whole.
const MAX_FAILURES_IN_A_ROW: usize = 8;

/// Uses of a shared storage that are recorded at once. Requests of clients come first, so that these are few.
const RENEWALS_AT_ONCE: usize = 8;

/// Result of recording uses.
#[derive(Debug, Default)]
pub struct RenewedCopies {
    /// Copies whose uses are recorded.
    pub renewed: Vec<(RepositoryName, Digest)>,
    /// First failure. Uses that failed can be recorded later.
    pub error: Option<StoreError>,
}

/// Progress of recording uses, which all threads share.
#[derive(Debug, Default)]
struct Progress {
    renewed: RenewedCopies,
    failures_in_a_row: usize,
}

impl Progress {
    fn note(&mut self, copy: &(RepositoryName, Digest), outcome: Result<(), StoreError>) {
        match outcome {
            Ok(()) => {
                self.renewed.renewed.push(copy.clone());
                self.failures_in_a_row = 0;
            }
            Err(error) => {
                self.renewed.error.get_or_insert(error);
                self.failures_in_a_row += 1;
            }
        }
    }
}

impl Store {
    /// Notes that copies are in use. Manifests that are not copies are passed over. A crash may undo it.
    #[must_use]
    pub fn renew_copies(&self, copies: &[(RepositoryName, Digest)]) -> RenewedCopies {
        let (now, next, progress) =
            (self.storage().now(), AtomicUsize::new(0), Mutex::new(Progress::default()));
        let lock = || progress.lock().unwrap_or_else(PoisonError::into_inner);
        let renew = || {
            while lock().failures_in_a_row < MAX_FAILURES_IN_A_ROW
                && let Some(copy) = copies.get(next.fetch_add(1, Ordering::Relaxed))
            {
                let outcome = self.renew_copy(&copy.0, &copy.1, now);
                lock().note(copy, outcome);
            }
        };
        // The time of a file is set at once.
        if self.is_shared() && !waiting::is_scheduled() {
            thread::scope(|scope| {
                for _ in 0..RENEWALS_AT_ONCE.min(copies.len()) {
                    scope.spawn(renew);
                }
            });
        } else {
            renew();
        }
        progress.into_inner().unwrap_or_else(PoisonError::into_inner).renewed
    }

    fn renew_copy(&self, name: &RepositoryName, digest: &Digest, now: SystemTime) -> Result<(), StoreError> {
        let canonical = match digest.algorithm() {
            Algorithm::Sha256 => Some(digest.clone()),
            Algorithm::Sha512 => self.revision(name, digest)?,
        };
        let Some(canonical) = canonical else { return Ok(()) };
        let record = copy_record(name, &canonical);
        if !self.storage().set_modified(&record, now)?
            && self.is_shared()
            && self.storage().head(&record)?.is_some()
        {
            // Object stores keep times of their own.
            self.storage().write_lazily(&record, &new_record())?;
        }
        Ok(())
    }
}
