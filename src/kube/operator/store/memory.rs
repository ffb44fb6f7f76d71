//! Memory of what was written for stores: it saves writes, and is rebuilt after a restart.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::live::{LiveObject, LiveObjects};
use super::objects::StoreKind;
use super::plan::StoreProblem;
use super::replacement::Replacement;
use crate::api::locks::lock;
use crate::operator::resource::ResourceIdentity;

/// Number of times that a node's pod is replaced for the same template without a pause. The second time is for a pod
/// that was made while the template changed.
const REPLACEMENTS_WITHOUT_PAUSE: u32 = 2;

/// First pause before such a pod is replaced again. Each further one is twice as long.
const FIRST_REPLACEMENT_PAUSE: Duration = Duration::from_mins(10);

/// Longest pause before such a pod is replaced again.
const MAX_REPLACEMENT_PAUSE: Duration = Duration::from_hours(24);

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
    /// Replacements of pods, by node.
    replaced: BTreeMap<String, Replaced>,
}

/// Replacements of one node's pods by those of one template.
#[derive(Debug)]
struct Replaced {
    /// Hash of the template, without the nodes.
    template: String,
    /// UID of the last pod that was replaced.
    pod: String,
    times: u32,
    at: Instant,
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

    /// Records that a pod was replaced.
    pub(super) fn record_replaced(&self, resource: &ResourceIdentity, pod: &Replacement, now: Instant) {
        self.with(resource, |memory| {
            let last = memory.replaced.get(&pod.node).filter(|last| last.template == pod.template);
            // The watch may show a pod again that was deleted a moment ago.
            if last.is_some_and(|last| last.pod == pod.uid) {
                return;
            }
            let times = last.map_or(1, |last| last.times.saturating_add(1));
            let (template, uid) = (pod.template.clone(), pod.uid.clone());
            memory.replaced.insert(pod.node.clone(), Replaced { template, pod: uid, times, at: now });
        });
    }

    /// Returns the nodes whose pods are not replaced now, since that was in vain: their successors had the hash of
    /// another template, too.
    pub(super) fn contested(&self, resource: &ResourceIdentity, now: Instant) -> BTreeSet<String> {
        self.with(resource, |memory| {
            let contested = memory.replaced.iter().filter(|(_, replaced)| replaced.is_contested(now));
            contested.map(|(node, _)| node.clone()).collect()
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

// === impl Replaced ===

impl Replaced {
    fn is_contested(&self, now: Instant) -> bool {
        let Some(vain) = self.times.checked_sub(REPLACEMENTS_WITHOUT_PAUSE) else { return false };
        let pause = FIRST_REPLACEMENT_PAUSE.saturating_mul(1 << vain.min(8)).min(MAX_REPLACEMENT_PAUSE);
        now.saturating_duration_since(self.at) < pause
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_that_was_replaced_in_vain_is_left_alone_for_growing_times() {
        let metadata = json!({"name": "larder", "namespace": "pantry", "uid": "u"});
        let resource = ResourceIdentity::of(&serde_json::from_value(metadata).unwrap()).unwrap();
        let (memory, mut now) = (Memory::default(), Instant::now());
        let replace = |uid: &str, template: &str, now| {
            let [name, uid, node, template] = ["larder-store-x", uid, "a", template].map(String::from);
            memory.record_replaced(&resource, &Replacement { name, uid, node, template }, now);
        };
        let is_contested = |now| memory.contested(&resource, now).contains("a");
        replace("p0", "t", now);
        replace("p0", "t", now);
        assert!(!is_contested(now), "the same pod again is one replacement");
        let mut pauses = Vec::new();
        for pod in 1..12 {
            replace(&format!("p{pod}"), "t", now);
            let minutes =
                (0..2000).find(|minutes| !is_contested(now + Duration::from_mins(*minutes))).unwrap();
            pauses.push(minutes);
            now += Duration::from_mins(minutes);
        }
        assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 640, 1280, 1440, 1440, 1440]);
        replace("p12", "t", now);
        replace("p12", "another", now);
        assert!(!is_contested(now), "another template is another matter");
    }
}
