//! Collection while registries serve the storage and take pushes.

pub(super) mod report;
pub(crate) mod safeguard;
mod state;

use std::num::NonZeroU32;
use std::time::{Duration, SystemTime};

use self::report::CycleReport;
use super::rules::RevisionRules;
use crate::{Lead, Store, StoreError};

pub(crate) use self::state::Collector;

/// Options of a cycle.
#[derive(Clone, Debug)]
pub struct GcOptions {
    /// Time between two cycles. The caller keeps it; a cycle itself waits for the grace alone.
    pub interval: Duration,
    /// Least time between the condemnation of a subject and its removal.
    pub grace: Duration,
    /// Age below which subjects are live.
    pub min_age: Duration,
    /// Greatest number of requests to the storage per second.
    pub rate: NonZeroU32,
    /// Greatest length of the filter of live bytes.
    pub memory: u64,
    /// Programs that write to the storage.
    pub writers: Writers,
    /// Time for which removed bytes stay in the trash; `None` to remove them at once. Where other programs write,
    /// 48 hours at least.
    pub trash: Option<Duration>,
    /// Treatment of damaged manifests.
    pub damaged: DamagedManifests,
    /// Greatest number of subjects that a cycle condemns.
    pub max_condemned: usize,
    /// Mark and report only.
    pub dry_run: bool,
}

/// Programs that write to a storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writers {
    /// Processes of this program alone.
    Ours,
    /// Other programs as well, such as distribution.
    Foreign,
}

/// Treatment of damaged manifests, whose needs are unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DamagedManifests {
    /// The cycle ends with an error.
    Stop,
    /// The repository and all bytes stay as they are in this cycle.
    KeepRepository,
}

/// Outcome of a call for a cycle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cycle {
    /// The grace of the last epoch has not passed.
    Waits {
        /// Time of the storage from which a cycle may begin.
        until: SystemTime,
    },
    /// The process has lost the lead. Another one goes on.
    LostLead,
    /// The cycle is complete.
    Done(CycleReport),
}

impl Default for GcOptions {
    fn default() -> Self {
        Self {
            interval: Duration::from_hours(12),
            grace: Duration::from_hours(12),
            min_age: Duration::from_hours(1),
            rate: NonZeroU32::new(100).expect("100 is not 0"),
            memory: 128 * 1024 * 1024,
            writers: Writers::Ours,
            trash: None,
            damaged: DamagedManifests::Stop,
            max_condemned: 250_000,
            dry_run: false,
        }
    }
}

impl Store {
    /// Runs one cycle of collection, if the grace of the last epoch has passed.
    pub fn collect_online(
        &self,
        options: &GcOptions,
        rules: &dyn RevisionRules,
        lead: &Lead,
    ) -> Result<Cycle, StoreError> {
        let _ = (options, rules, lead);
        unimplemented!("follows")
    }

    /// Returns the report of the last complete cycle.
    pub fn last_collection(&self) -> Result<Option<CycleReport>, StoreError> {
        unimplemented!("follows")
    }

    /// Returns the time after which [`refresh_gc_view`](Self::refresh_gc_view) must be called again; `None` if no
    /// other process collects, or the storage can only be read.
    #[must_use]
    pub fn gc_view_interval(&self) -> Option<Duration> {
        unimplemented!("follows")
    }

    /// Reads which subjects were condemned since the last call.
    pub fn refresh_gc_view(&self) -> Result<(), StoreError> {
        unimplemented!("follows")
    }
}
