//! Last pulls with those that the leader has not folded yet.
//!
//! The leader folds the records of pulls before it collects. Without collection they stay as they are, and the snapshots
//! alone would show a tag that is pulled each day as never pulled. The commands of retention therefore read both.

use std::time::SystemTime;

use quinistry_oci::RepositoryName;

use super::snapshot::{Snapshot, pulls_in};
use crate::layout::pull_logs;
use crate::retention::{PullHistory, PullRecords};
use crate::{Pulls, Store, StoreError};

/// Last pulls of all repositories that are recorded in the storage.
#[derive(Debug)]
pub struct CurrentPulls {
    store: Store,
    waiting: Snapshot,
    /// Time until which pulls may have been lost, because a record of them cannot be read.
    unknown_until: Option<SystemTime>,
}

impl Store {
    /// Reads the pulls that no leader has folded yet. Pulls of other processes are recorded up to 15 minutes late.
    pub fn current_pulls(&self) -> Result<CurrentPulls, StoreError> {
        let mut logs = Vec::new();
        // Before the snapshots: a leader writes these, and then removes what it has folded.
        self.scan(&pull_logs(), |key, _| {
            logs.push(key);
            Ok(())
        })?;
        let mut current = CurrentPulls { store: self.clone(), waiting: Snapshot::new(), unknown_until: None };
        for key in logs {
            let bytes = self.storage().read(&key, super::snapshot::MAX_LOG_BYTES);
            let bytes = match bytes {
                // Folded in between.
                Ok(None) => continue,
                Err(crate::StorageError::TooLong { .. }) => None,
                bytes => bytes?,
            };
            let pulls = bytes.map_or_else(|| vec![None], |bytes| pulls_in(&key, &bytes));
            for pull in pulls {
                match pull {
                    Some(pull) => current.waiting.entry(pull.repository.clone()).or_default().add(pull),
                    None => current.unknown_until = Some(self.storage().now()),
                }
            }
        }
        Ok(current)
    }
}

impl PullRecords for CurrentPulls {
    fn of(&self, repository: &RepositoryName) -> Result<Box<dyn PullHistory>, StoreError> {
        let mut pulls: Pulls = self.store.last_pulls(repository)?;
        pulls.add(self.waiting.get(repository), self.unknown_until);
        Ok(Box::new(pulls))
    }
}
