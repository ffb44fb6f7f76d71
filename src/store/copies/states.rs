//! Record of the states of connections to upstreams, which the process that leads writes for others to read.

use bytes::Bytes;

use crate::layout::upstream_states;
use crate::{Store, StoreError};

/// Longest record that is read, in bytes: a configuration has few upstreams.
const MAX_RECORD_BYTES: u64 = 1024 * 1024;

impl Store {
    /// Writes the record of the states. A crash may undo it.
    pub fn record_upstream_states(&self, record: &[u8]) -> Result<(), StoreError> {
        Ok(self.storage().write_lazily(&upstream_states(), record)?)
    }

    /// Returns the record of the states that was written last.
    pub fn upstream_states(&self) -> Result<Option<Bytes>, StoreError> {
        self.read_note(&upstream_states(), MAX_RECORD_BYTES)
    }
}
