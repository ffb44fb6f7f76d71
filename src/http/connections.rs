//! Number of the connections that are open.

use std::sync::atomic::{AtomicU64, Ordering};

static OPEN: AtomicU64 = AtomicU64::new(0);

/// Connection that is counted while this value lives.
#[derive(Debug)]
pub(crate) struct OpenConnection(());

impl OpenConnection {
    /// Counts a connection.
    pub(crate) fn begin() -> Self {
        OPEN.fetch_add(1, Ordering::Relaxed);
        Self(())
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Returns the number of open connections of all listeners of the process.
#[must_use]
pub fn open() -> u64 {
    OPEN.load(Ordering::Relaxed)
}
