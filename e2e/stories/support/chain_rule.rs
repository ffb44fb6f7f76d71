//! The chain rule, checked against the events of the API server. This module is pure: `observer` records the
//! events, and `tests/kubernetes/e2e_observer.rs` shows that a violation of each part of the rule is found.
//!
//! - The operator creates a generation, or changes its template, only when the predecessor is complete: every
//!   Ready node has a Ready pod of the predecessor's current template, and there is at least one such pod.
//! - The operator deletes surplus generations from the highest downwards.
//! - The operator deletes no healthy pod for the sake of another generation.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Tolerated age of the operator's view of the cluster: a reconcile reads for at most a second before it writes, and
/// a write may take as long as the operator is surely the leader, six seconds.
pub const STALE: Duration = Duration::from_secs(7);

/// A change that the observer recorded.
#[derive(Clone, Debug)]
pub struct Event {
    /// Resource version from the API server; it orders the events of all kinds.
    pub version: u64,
    /// Time since the start of the observer at which the event arrived.
    pub at: Duration,
    pub what: What,
}

#[derive(Clone, Debug)]
pub enum What {
    /// Quinistry resource, by UID.
    Resource(String),
    ResourceGone(String),
    Node {
        name: String,
        ready: bool,
    },
    NodeGone(String),
    Set(Set),
    SetGone(Key),
    Pod(Pod),
    /// Pod, by UID.
    PodGone(String),
    /// Events of a kind may be missing from here on …
    Blind(&'static str),
    /// … until here, where all objects of the kind have been listed.
    Sighted(&'static str),
}

/// UID of a resource, and the number of one of its generations.
pub type Key = (String, i32);

/// A generation's `DaemonSet`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    pub key: Key,
    pub uid: String,
    /// Template hash and image, which tell one template from another.
    pub template: String,
    /// True if the operator wrote the current template.
    pub by_operator: bool,
    pub deleting: bool,
}

/// Pod of a generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    pub key: Key,
    pub uid: String,
    pub node: String,
    pub template: String,
    pub ready: bool,
    pub deleting: bool,
}

/// Returns the violations of the rule, one sentence each.
pub fn violations(mut events: Vec<Event>) -> Vec<String> {
    events.sort_by_key(|event| event.version);
    let mut cluster = ObservedCluster::default();
    for event in events {
        cluster.now = cluster.now.max(event.at);
        cluster.version = event.version;
        cluster.record_complete_generations();
        cluster.apply(event.what);
    }
    cluster.record_complete_generations();
    cluster.judge_pending();
    cluster.violations
}

#[derive(Debug)]
struct GenerationHistory {
    set: Set,
    /// Number of changes by the operator.
    changes: u32,
    /// Time when the generation was last complete, and the number of changes until then.
    complete: Option<(Duration, u32)>,
    /// Time until which the template was a different one.
    other_template_until: Option<Duration>,
}

#[derive(Default)]
struct ObservedCluster {
    now: Duration,
    version: u64,
    resources: BTreeSet<String>,
    nodes: BTreeMap<String, bool>,
    generations: BTreeMap<Key, GenerationHistory>,
    pods: BTreeMap<String, Pod>,
    /// Pods that have been Ready.
    started: BTreeSet<String>,
    blind: BTreeSet<&'static str>,
    /// Changes made while the observer did not see all kinds, with the generation before each.
    pending: Vec<(Key, String)>,
    violations: Vec<String>,
}

// === impl ObservedCluster ===

impl ObservedCluster {
    fn apply(&mut self, what: What) {
        match what {
            What::Resource(uid) => drop(self.resources.insert(uid)),
            What::ResourceGone(uid) => drop(self.resources.remove(&uid)),
            What::Node { name, ready } => drop(self.nodes.insert(name, ready)),
            What::NodeGone(name) => drop(self.nodes.remove(&name)),
            What::Set(set) => self.observe_set(set),
            What::SetGone(key) => {
                self.check_deletion_order(&key);
                self.generations.remove(&key);
            }
            What::Pod(pod) => self.observe_pod(pod),
            What::PodGone(uid) => {
                self.check_pod_deletion(&uid);
                self.pods.remove(&uid);
            }
            What::Blind(kind) => drop(self.blind.insert(kind)),
            What::Sighted(kind) => {
                self.blind.remove(kind);
                if self.blind.is_empty() {
                    // The objects that the list has brought count, too.
                    self.record_complete_generations();
                    self.judge_pending();
                }
            }
        }
    }

    fn observe_set(&mut self, set: Set) {
        let key = set.key.clone();
        let before = self.generations.get(&key).filter(|one| one.set.uid == set.uid);
        if set.deleting && before.is_none_or(|one| !one.set.deleting) {
            self.check_deletion_order(&key);
        }
        let before = self.generations.remove(&key).filter(|one| one.set.uid == set.uid);
        let what = match &before {
            None => "created",
            Some(one) if one.set.template != set.template => "changed",
            Some(_) => "",
        };
        let mut one = before.unwrap_or(GenerationHistory {
            set: set.clone(),
            changes: 0,
            complete: None,
            other_template_until: None,
        });
        if !what.is_empty() {
            if what == "changed" {
                one.other_template_until = Some(self.now);
            }
            if set.by_operator {
                one.changes += 1;
                self.check_predecessor(&key, what);
            }
        }
        one.set = set;
        self.generations.insert(key, one);
    }

    /// Checks the first part of the rule.
    fn check_predecessor(&mut self, key: &Key, change: &str) {
        let (resource, number) = key;
        if *number <= 1 {
            return;
        }
        let before = (resource.clone(), number - 1);
        let Err(why) = self.check_complete(&before) else { return };
        let violation = format!("{}: generation {number} was {change}, but {why}", self.position());
        if self.blind.is_empty() {
            self.violations.push(violation);
        } else {
            self.pending.push((before, violation));
        }
    }

    /// Checks that a generation was complete after the operator's last change of it, and recently. Changes by
    /// other writers do not count, since the operator may not have seen them yet.
    fn check_complete(&self, key: &Key) -> Result<(), String> {
        let number = key.1;
        let Some(one) = self.generations.get(key) else {
            return Err(format!("there is no generation {number}"));
        };
        match one.complete {
            Some((at, changes)) if changes == one.changes && at + STALE >= self.now => Ok(()),
            Some((_, changes)) if changes < one.changes => {
                Err(format!("generation {number} was not whole since its own change"))
            }
            Some((at, _)) => {
                Err(format!("generation {number} was last whole {:?} before", self.now.saturating_sub(at)))
            }
            None => Err(format!("generation {number} was never whole")),
        }
    }

    /// Judges the pending changes. A change that the observer missed is accepted if the predecessor is
    /// complete now.
    fn judge_pending(&mut self) {
        for (before, violation) in std::mem::take(&mut self.pending) {
            if self.check_complete(&before).is_err() {
                self.violations.push(violation);
            }
        }
    }

    fn record_complete_generations(&mut self) {
        let ready: Vec<&String> =
            self.nodes.iter().filter(|(_, ready)| **ready).map(|(name, _)| name).collect();
        if ready.is_empty() {
            return;
        }
        for one in self.generations.values_mut().filter(|one| !one.set.deleting) {
            let counts = |pod: &&Pod| {
                pod.key == one.set.key && pod.template == one.set.template && pod.ready && !pod.deleting
            };
            let nodes: BTreeSet<&String> = self.pods.values().filter(counts).map(|pod| &pod.node).collect();
            if ready.iter().all(|name| nodes.contains(*name)) {
                one.complete = Some((self.now, one.changes));
            }
        }
    }

    /// Checks the second part of the rule. When the resource itself is deleted, its generations may go in any
    /// order.
    fn check_deletion_order(&mut self, key: &Key) {
        let gone = self.generations.get(key).is_none_or(|one| one.set.deleting);
        if gone || !self.resources.contains(&key.0) || !self.blind.is_empty() {
            return;
        }
        let higher = |other: &Key| other.0 == key.0 && other.1 > key.1;
        let sets = self.generations.iter().filter(|(other, one)| higher(other) && !one.set.deleting);
        let pods =
            self.pods.values().filter(|pod| higher(&pod.key) && self.nodes.get(&pod.node) == Some(&true));
        let remaining: BTreeSet<i32> =
            sets.map(|(other, _)| other.1).chain(pods.map(|pod| pod.key.1)).collect();
        if !remaining.is_empty() {
            let violation =
                format!("{}: generation {} went, and {remaining:?} were still there", self.position(), key.1);
            self.violations.push(violation);
        }
    }

    fn observe_pod(&mut self, pod: Pod) {
        if pod.deleting && self.pods.get(&pod.uid).is_some_and(|before| !before.deleting) {
            self.check_pod_deletion(&pod.uid);
        }
        if pod.ready {
            self.started.insert(pod.uid.clone());
        }
        self.pods.insert(pod.uid.clone(), pod);
    }

    /// Checks the third part of the rule.
    fn check_pod_deletion(&mut self, uid: &str) {
        let Some(pod) = self.pods.get(uid).filter(|pod| !pod.deleting && self.started.contains(uid)) else {
            return;
        };
        let Some(one) = self.generations.get(&pod.key) else { return };
        let stays = self.resources.contains(&pod.key.0) && self.nodes.get(&pod.node) == Some(&true);
        // A controller that deletes pods of an older template may not know yet that this template is current
        // again.
        let changed = one.other_template_until.is_some_and(|until| until + STALE >= self.now);
        let current = one.set.template == pod.template && !one.set.deleting && !changed;
        if stays && current && self.blind.is_empty() {
            let violation = format!(
                "{}: a pod of generation {} on {} was taken away without need",
                self.position(),
                pod.key.1,
                pod.node
            );
            self.violations.push(violation);
        }
    }

    fn position(&self) -> String {
        format!("after {:.1} s, at version {}", self.now.as_secs_f32(), self.version)
    }
}
