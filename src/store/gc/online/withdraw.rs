//! Withdrawal of decisions whose removals were cut off.
//!
//! A push of doomed content waits for the end of its removal. Where a sweep was cut off by a crash, a failure or new
//! settings, that would be the end of the next cycle, if there is one at all. A process that has the storage to itself
//! knows that nothing is being removed, and takes the decision back: what is left is condemned as before, and the next
//! sweep decides again. On a shared storage a removal may still be on its way.

use crate::layout::collection::EpochKeys;
use crate::storage::StorageError;
use crate::{Store, StoreError};

impl Store {
    /// Takes back the decisions whose removals are not complete, on a storage of this process alone. Call while no
    /// cycle runs.
    pub(super) fn withdraw_decisions(&self) -> Result<(), StoreError> {
        let view = self.0.collector.view();
        let keys = EpochKeys(view.epoch);
        if self.is_shared() || view.is_empty() || self.register(&keys.swept())?.is_some() {
            return Ok(());
        }
        let decisions = self.decisions(view.epoch)?;
        for shard in decisions.begun.difference(&decisions.done) {
            // The begin goes last, so that a crash in between leaves what is withdrawn again.
            for key in [keys.doomed(shard), keys.doom(shard)] {
                match self.storage().remove(&key) {
                    // Another process that can write serves the storage.
                    Err(StorageError::ReadOnly) => return Ok(()),
                    removed => drop(removed?),
                }
            }
        }
        Ok(())
    }
}
