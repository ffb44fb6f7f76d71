//! Memory of what was written for stores: it saves writes, and is rebuilt after a restart.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::live::{LiveObject, LiveObjects};
use super::objects::StoreKind;
use super::plan::StoreProblem;
use crate::api::locks::lock;
use crate::operator::resource::ResourceIdentity;

/// Memory of all resources, by UID.
#[derive(Debug, Default)]
pub(super) struct Memory(Mutex<HashMap<String, ResourceMemory>>);

#[derive(Debug, Default)]
struct ResourceMemory {
    /// `metadata.generation` of the specification without stores for which the objects of earlier ones were
    /// looked for.
    cleaned: Option<i64>,
    /// UID and generation of the objects after this operator's last apply, with all that admission made of it.
    accepted: BTreeMap<StoreKind, (String, i64)>,
    /// Last refused write: hash of the content, problem, and time.
    refused: BTreeMap<StoreKind, (String, StoreProblem, Instant)>,
}

// === impl Memory ===

impl Memory {
    /// Returns true if the objects of earlier stores were looked for since the specification has changed.
    pub(super) fn is_clean(&self, resource: &ResourceIdentity) -> bool {
        self.with(resource, |memory| memory.cleaned == Some(resource.generation))
    }

    /// Records that no object of earlier stores is left.
    pub(super) fn record_clean(&self, resource: &ResourceIdentity) {
        self.with(resource, |memory| {
            *memory = ResourceMemory { cleaned: Some(resource.generation), ..ResourceMemory::default() };
        });
    }

    /// Marks the objects that are unchanged since they were applied.
    pub(super) fn mark_accepted(&self, resource: &ResourceIdentity, objects: &mut LiveObjects) {
        self.with(resource, |memory| {
            memory.cleaned = None;
            for (kind, object) in objects {
                let last = memory.accepted.get(kind);
                object.is_accepted = last.is_some_and(|(uid, generation)| {
                    // A Service has no generation, which would tell of an edit.
                    *generation > 0 && *uid == object.uid && *generation == object.generation
                });
            }
        });
    }

    /// Records an accepted write.
    pub(super) fn record_accepted(&self, resource: &ResourceIdentity, kind: StoreKind, object: &LiveObject) {
        self.with(resource, |memory| {
            memory.refused.remove(&kind);
            memory.accepted.insert(kind, (object.uid.clone(), object.generation));
        });
    }

    /// Records a refused write of content with this hash.
    pub(super) fn record_refused(
        &self,
        resource: &ResourceIdentity,
        kind: StoreKind,
        hash: &str,
        problem: StoreProblem,
    ) {
        self.with(resource, |memory| memory.refused.insert(kind, (hash.into(), problem, Instant::now())));
    }

    /// Returns the problem of a write that was refused within `limit`.
    pub(super) fn refused(
        &self,
        resource: &ResourceIdentity,
        kind: StoreKind,
        hash: &str,
        limit: Duration,
    ) -> Option<StoreProblem> {
        self.with(resource, |memory| match memory.refused.get(&kind) {
            Some((of, problem, at)) if of == hash && at.elapsed() < limit => Some(problem.clone()),
            _ => None,
        })
    }

    /// Removes the memory of all resources but these.
    pub(super) fn retain(&self, alive: &BTreeSet<&str>) {
        lock(&self.0).retain(|uid, _| alive.contains(uid.as_str()));
    }

    fn with<T>(&self, resource: &ResourceIdentity, change: impl FnOnce(&mut ResourceMemory) -> T) -> T {
        change(lock(&self.0).entry(resource.uid.clone()).or_default())
    }
}
