//! Settings of collection.

use std::num::NonZeroU32;
use std::time::Duration;

use quinistry_store::{DamagedManifests, GcOptions, Writers};

use super::bounds::{TRASH_BESIDE_OTHERS, min_age, min_grace, shortened};
use super::window::DailyWindow;

/// Most subjects that one cycle condemns: their hashes are in the memory of each replica, 16 bytes each.
const MAX_CONDEMNED: usize = 250_000;

/// Collection of garbage while the registry serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CollectionSettings {
    /// Programs that write to the storage.
    pub writers: Writers,
    /// Time between the begins of two cycles.
    pub interval: Duration,
    /// Least time between two cycles, for which an answer about a blob holds.
    pub grace: Duration,
    /// Requests to the storage per second.
    pub rate: NonZeroU32,
    /// Time of the day in which cycles begin; `None` for the whole day.
    pub window: Option<DailyWindow>,
    /// Memory of a cycle, in bytes.
    pub memory: u64,
    /// Time for which removed bytes can be put back; `None` frees them at once.
    pub trash: Option<Duration>,
    /// Treatment of manifests whose parts cannot be read.
    pub damaged: DamagedManifests,
    /// True if manifests without a tag go also where no policy of retention says how long they stay.
    pub removes_untagged: bool,
    /// True if cycles report only.
    pub dry_run: bool,
}

impl CollectionSettings {
    /// Returns the default settings for a storage with these writers.
    #[must_use]
    pub const fn of(writers: Writers) -> Self {
        let (grace, trash) = match writers {
            Writers::Ours => (Duration::from_hours(12), None),
            Writers::Foreign => (Duration::from_hours(24), Some(TRASH_BESIDE_OTHERS)),
        };
        Self {
            writers,
            interval: Duration::from_hours(12),
            grace,
            rate: NonZeroU32::new(100).expect("100 is not 0"),
            window: None,
            memory: 128 << 20,
            trash,
            damaged: DamagedManifests::Stop,
            removes_untagged: false,
            dry_run: false,
        }
    }

    /// Returns the settings of a registry without a configuration, which has no means to set times: those of a test, or
    /// else the default ones.
    #[must_use]
    pub fn without_configuration() -> Self {
        let settings = Self::of(Writers::Ours);
        match shortened() {
            Some(time) => Self { interval: time, grace: time, ..settings },
            None => settings,
        }
    }

    /// Returns the least time of grace for a storage with these writers.
    #[must_use]
    pub fn min_grace(writers: Writers) -> Duration {
        min_grace(writers)
    }

    /// Returns the options of a cycle.
    #[must_use]
    pub fn options(&self) -> GcOptions {
        GcOptions {
            interval: self.interval,
            grace: self.grace,
            min_age: min_age(),
            rate: self.rate,
            memory: self.memory,
            writers: self.writers,
            trash: self.trash,
            damaged: self.damaged,
            max_condemned: MAX_CONDEMNED,
            dry_run: self.dry_run,
        }
    }
}
