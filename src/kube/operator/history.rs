//! What the operator remembers of each resource: it spares work, and is found out again after a restart. Used by the
//! driver.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::observed::{Refusal, Rejection};
use super::plan::{Lacking, Missing};
use super::resource::Identity;
use crate::api::locks::lock;
use crate::crd::QuinistryStatus;

/// Initial time for which a refusal holds that may pass by itself.
const FIRST: Duration = Duration::from_secs(4);

/// Number of times that the same content is applied to one set without a pause: a manual edit is overruled at
/// once.
const FAIR: u32 = 5;

/// The longest pause when another writer undoes what is applied.
const LONGEST: Duration = Duration::from_mins(5);

/// Time without an apply after which the count begins from the start.
const CALM: Duration = Duration::from_mins(10);

/// Of all resources, by UID.
#[derive(Debug, Default)]
pub(super) struct Memories(Mutex<HashMap<String, Memory>>);

#[derive(Debug, Default)]
struct Memory {
    /// The last status written, and the version of the resource that it was written upon: the cache may lag behind.
    reported: Option<(Option<String>, QuinistryStatus)>,
    /// Why pods were missing when Events were last asked, of which generations, and when that was.
    refused: Option<(Missing, Vec<Refusal>, Instant)>,
    /// Times since which nodes lack generations.
    lacking: Option<Lacking>,
    /// When status was last written.
    written: Option<Instant>,
    /// The version that came of it.
    version: Option<String>,
    /// The last apply that was refused.
    rejected: Option<Rejected>,
    /// Last apply by name of the set: hash, number of repetitions without a change, and time.
    applied: BTreeMap<String, (String, u32, Instant)>,
    /// The other operator that looks after it, as was said last.
    holder: Option<String>,
    failures: u32,
}

/// An apply that was refused.
#[derive(Debug)]
struct Rejected {
    rejection: Rejection,
    at: Instant,
    /// Time for which the refusal holds.
    limit: Duration,
    /// The generation of the specification that it is of.
    generation: i64,
}

// === impl Memories ===

impl Memories {
    /// How often in a row it failed, this time included.
    pub(super) fn failed(&self, resource: &Identity) -> u32 {
        self.of(resource, |memory| {
            memory.failures = memory.failures.saturating_add(1);
            memory.version = None;
            memory.failures
        })
    }

    pub(super) fn succeeded(&self, resource: &Identity) {
        self.of(resource, |memory| memory.failures = 0);
    }

    /// Records that another operator looks after the resource; returns `false` if that was known already.
    pub(super) fn stands_by(&self, resource: &Identity, holder: &str) -> bool {
        self.of(resource, |memory| memory.holder.replace(holder.into()).as_deref() != Some(holder))
    }

    /// The status that was written upon this very version, which the cache may not show yet.
    pub(super) fn reported(&self, resource: &Identity) -> Option<QuinistryStatus> {
        let version = resource.version.clone();
        self.of(resource, |memory| match &memory.reported {
            Some((upon, status)) if *upon == version => Some(status.clone()),
            _ => None,
        })
    }

    /// Whether anything was reported since this operator has begun.
    pub(super) fn has_reported(&self, resource: &Identity) -> bool {
        self.of(resource, |memory| memory.reported.is_some())
    }

    pub(super) fn report(&self, resource: &Identity, status: QuinistryStatus) {
        let version = resource.version.clone();
        self.of(resource, |memory| memory.reported = Some((version, status)));
    }

    /// Status was written, and this version came of it.
    pub(super) fn wrote(&self, resource: &Identity, version: Option<String>) {
        self.of(resource, |memory| {
            memory.written = Some(Instant::now());
            memory.version = version;
        });
    }

    /// Returns the newest known version of a resource: the cache may not show what this operator itself has
    /// written. A conflict may tell that the database was set back; then the cache knows better.
    pub(super) fn version(&self, resource: &Identity) -> Option<String> {
        let seen = resource.version.clone();
        let number = |version: &Option<String>| version.as_ref().and_then(|text| text.parse::<u64>().ok());
        self.of(
            resource,
            |memory| {
                if number(&memory.version) > number(&seen) { memory.version.clone() } else { seen }
            },
        )
    }

    /// How long ago status was written, if ever.
    pub(super) fn written(&self, resource: &Identity) -> Option<Duration> {
        self.of(resource, |memory| memory.written.map(|at| at.elapsed()))
    }

    /// What Events have said of these generations, if that is younger than `limit`; and for how long it still is.
    pub(super) fn refused(
        &self,
        resource: &Identity,
        missing: &Missing,
        limit: Duration,
    ) -> Option<(Vec<Refusal>, Duration)> {
        self.of(resource, |memory| match &memory.refused {
            Some((of, refusals, at)) if of.generations == missing.generations => {
                limit.checked_sub(at.elapsed()).map(|left| (refusals.clone(), left))
            }
            _ => None,
        })
    }

    /// Events were asked.
    pub(super) fn refuse(&self, resource: &Identity, missing: Missing, refusals: Vec<Refusal>) {
        self.of(resource, |memory| memory.refused = Some((missing, refusals, Instant::now())));
    }

    /// Returns the times since which nodes lack generations; `None` before the first plan.
    pub(super) fn lacking(&self, resource: &Identity) -> Option<Lacking> {
        self.of(resource, |memory| memory.lacking.clone())
    }

    /// Records that nodes lack generations.
    pub(super) fn lack(&self, resource: &Identity, lacking: Lacking) {
        self.of(resource, |memory| memory.lacking = Some(lacking));
    }

    /// Returns the refusal that still holds, of this very specification.
    pub(super) fn rejection(&self, resource: &Identity) -> Option<Rejection> {
        let generation = resource.generation;
        self.of(resource, |memory| match &memory.rejected {
            Some(last) if last.generation == generation && last.at.elapsed() < last.limit => {
                Some(last.rejection.clone())
            }
            _ => None,
        })
    }

    /// Records that an apply was refused. A refusal that may pass by itself is tried again later and later,
    /// but within `limit`.
    pub(super) fn reject(&self, resource: &Identity, rejection: Rejection, passes: bool, limit: Duration) {
        let generation = resource.generation;
        self.of(resource, |memory| {
            let last = memory.rejected.as_ref().filter(|last| last.generation == generation);
            let longer = last.map_or(FIRST, |last| last.limit.saturating_mul(2)).min(limit);
            let limit = if passes { longer } else { limit };
            memory.rejected = Some(Rejected { rejection, at: Instant::now(), limit, generation });
        });
    }

    /// Records that an apply was accepted.
    pub(super) fn accept(&self, resource: &Identity) {
        self.of(resource, |memory| memory.rejected = None);
    }

    /// Records that a set was applied, with this hash.
    pub(super) fn apply(&self, resource: &Identity, name: &str, hash: &str) {
        self.of(resource, |memory| {
            let last = memory.applied.get(name);
            let again = last.filter(|(last, _, at)| last == hash && at.elapsed() < CALM);
            let count = again.map_or(1, |(_, count, _)| count.saturating_add(1));
            memory.applied.insert(name.into(), (hash.into(), count, Instant::now()));
        });
    }

    /// Returns the number of times that the same content was applied to a set, and the remaining pause, while
    /// another writer undoes it.
    pub(super) fn contested(&self, resource: &Identity, name: &str, hash: &str) -> Option<(u32, Duration)> {
        self.of(resource, |memory| {
            let (last, count, at) = memory.applied.get(name)?;
            let pause = FIRST.saturating_mul(1 << count.checked_sub(FAIR)?.min(7)).min(LONGEST);
            let left = pause.checked_sub(at.elapsed())?;
            (last == hash).then_some((*count, left))
        })
    }

    /// Forgets resources that are no more.
    pub(super) fn keep(&self, alive: &BTreeSet<&str>) {
        lock(&self.0).retain(|uid, _| alive.contains(uid.as_str()));
    }

    fn of<T>(&self, resource: &Identity, with: impl FnOnce(&mut Memory) -> T) -> T {
        let mut all = lock(&self.0);
        with(all.entry(resource.uid.clone()).or_default())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_another_writer_undoes_is_applied_later_and_later() {
        let metadata = json!({"name": "larder", "namespace": "pantry", "uid": "u"});
        let resource = Identity::of(&serde_json::from_value(metadata).unwrap()).unwrap();
        let memories = Memories::default();
        let contested = || memories.contested(&resource, "larder", "h");
        for _ in 1..FAIR {
            memories.apply(&resource, "larder", "h");
            assert_eq!(contested(), None, "a person may edit it now and then");
        }
        let mut last = Duration::ZERO;
        for count in FAIR..FAIR + 12 {
            memories.apply(&resource, "larder", "h");
            let (times, pause) = contested().unwrap();
            assert!(times == count && (pause > last || last > LONGEST / 2) && pause <= LONGEST, "{pause:?}");
            last = pause;
        }
        assert_eq!(
            memories.contested(&resource, "larder", "another"),
            None,
            "a change of its own is applied"
        );
        memories.apply(&resource, "larder", "another");
        assert_eq!(memories.contested(&resource, "larder", "another"), None);
    }
}
