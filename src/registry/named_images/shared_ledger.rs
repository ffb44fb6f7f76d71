//! The ledger, as tasks and requests share it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::ledger::Ledger;
use crate::upstreams::clock::Clock;

/// Ledger with the clock by which its times are. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct SharedLedger {
    ledger: Arc<Mutex<Ledger>>,
    clock: Clock,
}

impl SharedLedger {
    pub(super) fn new(clock: Clock) -> Self {
        Self { ledger: Arc::new(Mutex::new(Ledger::new(clock.now()))), clock }
    }

    /// Does a short piece of work with the ledger and the present time.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Ledger, Instant) -> T) -> T {
        let mut ledger: MutexGuard<'_, Ledger> = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        work(&mut ledger, self.clock.now())
    }

    pub(super) fn note_answer(&self) {
        self.with(Ledger::note_answer);
    }
}
