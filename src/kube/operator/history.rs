//! History of each resource, in memory: it saves work, and is rebuilt after a restart. Used by the driver.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::observed::{Refusal, Rejection};
use super::plan::{Missing, MissingSince};
use super::resource::ResourceIdentity;
use crate::api::locks::lock;
use crate::crd::QuinistryStatus;

/// Time for which the first refusal holds that may pass by itself.
const FIRST_PAUSE: Duration = Duration::from_secs(4);

/// Number of times that the same content is applied to one set without a pause: a manual edit is undone at
/// once.
const APPLIES_WITHOUT_PAUSE: u32 = 5;

/// Longest pause when another writer keeps undoing an apply.
const MAX_PAUSE: Duration = Duration::from_mins(5);

/// Time without an apply after which the count starts again.
const APPLY_COUNT_EXPIRY: Duration = Duration::from_mins(10);

/// Histories of all resources, by UID.
#[derive(Debug, Default)]
pub(super) struct Histories(Mutex<HashMap<String, ResourceHistory>>);

#[derive(Debug, Default)]
struct ResourceHistory {
    /// Last status, and the version of the resource that it was written upon: the cache may lag behind.
    reported: Option<(Option<String>, QuinistryStatus)>,
    /// Last query of Events: pods that were missing, refusals found, and time.
    refused: Option<(Missing, Vec<Refusal>, Instant)>,
    /// Times since which nodes lack generations.
    missing_since: Option<MissingSince>,
    /// Time at which status was last written.
    written: Option<Instant>,
    /// Version of the resource after that write.
    version: Option<String>,
    /// Last refused apply.
    rejected: Option<RejectedApply>,
    /// Last apply by name of the set: hash, number of repetitions without a change, and time.
    applied: BTreeMap<String, (String, u32, Instant)>,
    /// Holder of the claim that was last reported, if another operator has it.
    holder: Option<String>,
    failures: u32,
}

/// A refused apply.
#[derive(Debug)]
struct RejectedApply {
    rejection: Rejection,
    at: Instant,
    /// Time for which the refusal holds.
    limit: Duration,
    /// `metadata.generation` of the specification that was refused.
    generation: i64,
}

// === impl Histories ===

impl Histories {
    /// Records a failure, and returns the number of failures in a row.
    pub(super) fn record_failure(&self, resource: &ResourceIdentity) -> u32 {
        self.with(resource, |history| {
            history.failures = history.failures.saturating_add(1);
            history.version = None;
            history.failures
        })
    }

    pub(super) fn reset_failures(&self, resource: &ResourceIdentity) {
        self.with(resource, |history| history.failures = 0);
    }

    /// Records that another operator holds the claim; returns `false` if that is known already.
    pub(super) fn record_holder(&self, resource: &ResourceIdentity, holder: &str) -> bool {
        self.with(resource, |history| history.holder.replace(holder.into()).as_deref() != Some(holder))
    }

    /// Returns the status that was written upon the present version, which the cache may not show yet.
    pub(super) fn reported(&self, resource: &ResourceIdentity) -> Option<QuinistryStatus> {
        let version = resource.version.clone();
        self.with(resource, |history| match &history.reported {
            Some((upon, status)) if *upon == version => Some(status.clone()),
            _ => None,
        })
    }

    /// Returns true if this operator has reported any status of the resource.
    pub(super) fn has_reported(&self, resource: &ResourceIdentity) -> bool {
        self.with(resource, |history| history.reported.is_some())
    }

    pub(super) fn record_report(&self, resource: &ResourceIdentity, status: QuinistryStatus) {
        let version = resource.version.clone();
        self.with(resource, |history| history.reported = Some((version, status)));
    }

    /// Records a write of status, and the resulting version.
    pub(super) fn record_write(&self, resource: &ResourceIdentity, version: Option<String>) {
        self.with(resource, |history| {
            history.written = Some(Instant::now());
            history.version = version;
        });
    }

    /// Returns the newest known version of a resource: the cache may not show this operator's own last write.
    /// After a conflict the cache's version counts, since the database may have been restored.
    pub(super) fn version(&self, resource: &ResourceIdentity) -> Option<String> {
        let seen = resource.version.clone();
        let number = |version: &Option<String>| version.as_ref().and_then(|text| text.parse::<u64>().ok());
        self.with(resource, |history| {
            if number(&history.version) > number(&seen) { history.version.clone() } else { seen }
        })
    }

    /// Returns the time since the last write of status.
    pub(super) fn since_last_write(&self, resource: &ResourceIdentity) -> Option<Duration> {
        self.with(resource, |history| history.written.map(|at| at.elapsed()))
    }

    /// Returns the refusals of the last query of Events about these generations, if that is younger than
    /// `limit`, and the time for which it still is.
    pub(super) fn recent_refusals(
        &self,
        resource: &ResourceIdentity,
        missing: &Missing,
        limit: Duration,
    ) -> Option<(Vec<Refusal>, Duration)> {
        self.with(resource, |history| match &history.refused {
            Some((of, refusals, at)) if of.generations == missing.generations => {
                limit.checked_sub(at.elapsed()).map(|left| (refusals.clone(), left))
            }
            _ => None,
        })
    }

    /// Records the result of a query of Events.
    pub(super) fn record_refusals(
        &self,
        resource: &ResourceIdentity,
        missing: Missing,
        refusals: Vec<Refusal>,
    ) {
        self.with(resource, |history| history.refused = Some((missing, refusals, Instant::now())));
    }

    /// Returns the times since which nodes lack generations; `None` before the first plan.
    pub(super) fn missing_since(&self, resource: &ResourceIdentity) -> Option<MissingSince> {
        self.with(resource, |history| history.missing_since.clone())
    }

    /// Records the times since which nodes lack generations.
    pub(super) fn record_missing_since(&self, resource: &ResourceIdentity, missing_since: MissingSince) {
        self.with(resource, |history| history.missing_since = Some(missing_since));
    }

    /// Returns the last refusal of this specification, while it holds.
    pub(super) fn rejection(&self, resource: &ResourceIdentity) -> Option<Rejection> {
        let generation = resource.generation;
        self.with(resource, |history| match &history.rejected {
            Some(last) if last.generation == generation && last.at.elapsed() < last.limit => {
                Some(last.rejection.clone())
            }
            _ => None,
        })
    }

    /// Records a refused apply. A refusal that may pass by itself holds longer each time, up to `limit`.
    pub(super) fn record_rejection(
        &self,
        resource: &ResourceIdentity,
        rejection: Rejection,
        passes: bool,
        limit: Duration,
    ) {
        let generation = resource.generation;
        self.with(resource, |history| {
            let last = history.rejected.as_ref().filter(|last| last.generation == generation);
            let longer = last.map_or(FIRST_PAUSE, |last| last.limit.saturating_mul(2)).min(limit);
            let limit = if passes { longer } else { limit };
            history.rejected = Some(RejectedApply { rejection, at: Instant::now(), limit, generation });
        });
    }

    /// Records an accepted apply.
    pub(super) fn clear_rejection(&self, resource: &ResourceIdentity) {
        self.with(resource, |history| history.rejected = None);
    }

    /// Records that content with this hash was applied to a set.
    pub(super) fn record_apply(&self, resource: &ResourceIdentity, name: &str, hash: &str) {
        self.with(resource, |history| {
            let last = history.applied.get(name);
            let again = last.filter(|(last, _, at)| last == hash && at.elapsed() < APPLY_COUNT_EXPIRY);
            let count = again.map_or(1, |(_, count, _)| count.saturating_add(1));
            history.applied.insert(name.into(), (hash.into(), count, Instant::now()));
        });
    }

    /// Returns the number of times that the same content was applied to a set, and the remaining pause, while
    /// another writer keeps undoing it.
    pub(super) fn contested(
        &self,
        resource: &ResourceIdentity,
        name: &str,
        hash: &str,
    ) -> Option<(u32, Duration)> {
        self.with(resource, |history| {
            let (last, count, at) = history.applied.get(name)?;
            let pause = FIRST_PAUSE
                .saturating_mul(1 << count.checked_sub(APPLIES_WITHOUT_PAUSE)?.min(7))
                .min(MAX_PAUSE);
            let left = pause.checked_sub(at.elapsed())?;
            (last == hash).then_some((*count, left))
        })
    }

    /// Removes the histories of all resources but these.
    pub(super) fn retain(&self, alive: &BTreeSet<&str>) {
        lock(&self.0).retain(|uid, _| alive.contains(uid.as_str()));
    }

    fn with<T>(&self, resource: &ResourceIdentity, change: impl FnOnce(&mut ResourceHistory) -> T) -> T {
        let mut all = lock(&self.0);
        change(all.entry(resource.uid.clone()).or_default())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_contested_set_is_applied_after_growing_pauses() {
        let metadata = json!({"name": "larder", "namespace": "pantry", "uid": "u"});
        let resource = ResourceIdentity::of(&serde_json::from_value(metadata).unwrap()).unwrap();
        let histories = Histories::default();
        let contested = || histories.contested(&resource, "larder", "h");
        for _ in 1..APPLIES_WITHOUT_PAUSE {
            histories.record_apply(&resource, "larder", "h");
            assert_eq!(contested(), None, "a person may edit it now and then");
        }
        let mut last = Duration::ZERO;
        for count in APPLIES_WITHOUT_PAUSE..APPLIES_WITHOUT_PAUSE + 12 {
            histories.record_apply(&resource, "larder", "h");
            let (times, pause) = contested().unwrap();
            assert!(
                times == count && (pause > last || last > MAX_PAUSE / 2) && pause <= MAX_PAUSE,
                "{pause:?}"
            );
            last = pause;
        }
        assert_eq!(
            histories.contested(&resource, "larder", "another"),
            None,
            "a change of its own is applied"
        );
        histories.record_apply(&resource, "larder", "another");
        assert_eq!(histories.contested(&resource, "larder", "another"), None);
    }
}
