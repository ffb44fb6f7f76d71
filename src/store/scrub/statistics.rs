//! Numbers about the scrub.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::Store;

/// Numbers about the scrub of this process since the store was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrubStatistics {
    /// Blobs and manifests that were checked.
    pub checked: u64,
    /// Bytes that were read.
    pub read_bytes: u64,
    /// Contents that were found damaged by two reads.
    pub damaged: u64,
    /// Contents whose first read was wrong, and the second right.
    pub misread: u64,
    /// Links without bytes.
    pub missing: u64,
    /// Contents that were replaced from another source.
    pub healed: u64,
    /// Checks that the storage failed.
    pub failed: u64,
    /// Part of the present round that is done, in parts of 257.
    pub position: u64,
}

/// Counts of the scrub.
#[derive(Debug, Default)]
pub(crate) struct ScrubCounts {
    pub(super) checked: Count,
    pub(super) read_bytes: Count,
    pub(super) damaged: Count,
    pub(super) misread: Count,
    pub(super) missing: Count,
    pub(super) healed: Count,
    pub(super) failed: Count,
    pub(super) position: Count,
}

#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self, number: u64) {
        self.0.fetch_add(number, Ordering::Relaxed);
    }

    pub(super) fn set(&self, number: u64) {
        self.0.store(number, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Store {
    /// Returns numbers about the scrub, from memory alone.
    #[must_use]
    pub fn scrub_statistics(&self) -> ScrubStatistics {
        let ScrubCounts { checked, read_bytes, damaged, misread, missing, healed, failed, position } =
            &self.0.scrub_counts;
        ScrubStatistics {
            checked: checked.get(),
            read_bytes: read_bytes.get(),
            damaged: damaged.get(),
            misread: misread.get(),
            missing: missing.get(),
            healed: healed.get(),
            failed: failed.get(),
            position: position.get(),
        }
    }
}
