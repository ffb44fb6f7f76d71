//! The chain rule, held against what the API server says has happened. Pure: `observer` brings the events, and
//! `tests/kubernetes/e2e_observer.rs` shows that each part of the rule can be broken.
//!
//! - A generation is created, or its template changed, by the operator only when its predecessor is whole: on every node
//!   that is Ready a pod of its then-current template is Ready, and there is one at least.
//! - Generations that are too many go from the highest.
//! - A pod that runs as it should is not taken away for the sake of another generation.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How much older than the API server's the operator's picture may be: a reconcile looks for a second at most before it
/// writes, and the write takes its time.
pub const STALE: Duration = Duration::from_secs(5);

/// Something that happened.
#[derive(Clone, Debug)]
pub struct Event {
    /// The API server's resource version, by which events of all kinds are ordered.
    pub version: u64,
    /// When it was heard of, since the observer began.
    pub at: Duration,
    pub what: What,
}

#[derive(Clone, Debug)]
pub enum What {
    /// Resources by UID.
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
    /// By UID.
    PodGone(String),
    /// From here on something of a kind may be missed …
    Blind(&'static str),
    /// … until here, where all that there is of it has been seen.
    Sighted(&'static str),
}

/// UID of a resource, and one of its generations.
pub type Key = (String, i32);

/// A generation's `DaemonSet`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    pub key: Key,
    pub uid: String,
    /// All that tells one template from another.
    pub template: String,
    /// The operator wrote what the template is now.
    pub by_operator: bool,
    pub deleting: bool,
}

/// One of its pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    pub key: Key,
    pub uid: String,
    pub node: String,
    pub template: String,
    pub ready: bool,
    pub deleting: bool,
}

/// What breaks the rule, in words.
pub fn violations(mut events: Vec<Event>) -> Vec<String> {
    events.sort_by_key(|event| event.version);
    let mut picture = Picture::default();
    for event in events {
        picture.now = picture.now.max(event.at);
        picture.version = event.version;
        picture.note_who_is_whole();
        picture.take(event.what);
    }
    picture.note_who_is_whole();
    picture.judge_pending();
    picture.violations
}

#[derive(Debug)]
struct Generation {
    set: Set,
    /// How often the operator has changed it.
    changes: u32,
    /// When it was last whole, and after how many of those changes.
    whole: Option<(Duration, u32)>,
    /// When its template was last another one than now.
    other_until: Option<Duration>,
}

#[derive(Default)]
struct Picture {
    now: Duration,
    version: u64,
    resources: BTreeSet<String>,
    nodes: BTreeMap<String, bool>,
    generations: BTreeMap<Key, Generation>,
    pods: BTreeMap<String, Pod>,
    /// Pods that have been Ready.
    started: BTreeSet<String>,
    blind: BTreeSet<&'static str>,
    /// Changes that were made while not all could be seen.
    pending: Vec<(Key, String)>,
    violations: Vec<String>,
}

// === impl Picture ===

impl Picture {
    fn take(&mut self, what: What) {
        match what {
            What::Resource(uid) => drop(self.resources.insert(uid)),
            What::ResourceGone(uid) => drop(self.resources.remove(&uid)),
            What::Node { name, ready } => drop(self.nodes.insert(name, ready)),
            What::NodeGone(name) => drop(self.nodes.remove(&name)),
            What::Set(set) => self.set(set),
            What::SetGone(key) => {
                self.set_goes(&key);
                self.generations.remove(&key);
            }
            What::Pod(pod) => self.pod(pod),
            What::PodGone(uid) => {
                self.pod_goes(&uid);
                self.pods.remove(&uid);
            }
            What::Blind(kind) => drop(self.blind.insert(kind)),
            What::Sighted(kind) => {
                self.blind.remove(kind);
                if self.blind.is_empty() {
                    // What the list has brought counts, too.
                    self.note_who_is_whole();
                    self.judge_pending();
                }
            }
        }
    }

    fn set(&mut self, set: Set) {
        let key = set.key.clone();
        let before = self.generations.get(&key).filter(|one| one.set.uid == set.uid);
        if set.deleting && before.is_none_or(|one| !one.set.deleting) {
            self.set_goes(&key);
        }
        let before = self.generations.remove(&key).filter(|one| one.set.uid == set.uid);
        let what = match &before {
            None => "created",
            Some(one) if one.set.template != set.template => "changed",
            Some(_) => "",
        };
        let mut one =
            before.unwrap_or(Generation { set: set.clone(), changes: 0, whole: None, other_until: None });
        if !what.is_empty() {
            if what == "changed" {
                one.other_until = Some(self.now);
            }
            if set.by_operator {
                one.changes += 1;
                self.may_be_changed(&key, what);
            }
        }
        one.set = set;
        self.generations.insert(key, one);
    }

    /// The first part of the rule.
    fn may_be_changed(&mut self, key: &Key, what: &str) {
        let (resource, number) = key;
        if *number <= 1 {
            return;
        }
        let before = (resource.clone(), number - 1);
        let Err(why) = self.was_whole(&before) else { return };
        let words = format!("{}: generation {number} was {what}, but {why}", self.place());
        if self.blind.is_empty() {
            self.violations.push(words);
        } else {
            self.pending.push((before, words));
        }
    }

    /// Whether a generation was whole after the operator's last change of it, and not long ago. A change that somebody
    /// else made is one that the operator need not have seen yet.
    fn was_whole(&self, key: &Key) -> Result<(), String> {
        let number = key.1;
        let Some(one) = self.generations.get(key) else {
            return Err(format!("there is no generation {number}"));
        };
        match one.whole {
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

    /// What nobody saw is given the benefit of the doubt, if it is as it should be now.
    fn judge_pending(&mut self) {
        for (before, words) in std::mem::take(&mut self.pending) {
            if self.was_whole(&before).is_err() {
                self.violations.push(words);
            }
        }
    }

    fn note_who_is_whole(&mut self) {
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
                one.whole = Some((self.now, one.changes));
            }
        }
    }

    /// The second part of the rule. When a resource goes, all of it goes, in any order.
    fn set_goes(&mut self, key: &Key) {
        let gone = self.generations.get(key).is_none_or(|one| one.set.deleting);
        if gone || !self.resources.contains(&key.0) || !self.blind.is_empty() {
            return;
        }
        let higher = |other: &Key| other.0 == key.0 && other.1 > key.1;
        let sets = self.generations.iter().filter(|(other, one)| higher(other) && !one.set.deleting);
        let pods =
            self.pods.values().filter(|pod| higher(&pod.key) && self.nodes.get(&pod.node) == Some(&true));
        let left: BTreeSet<i32> = sets.map(|(other, _)| other.1).chain(pods.map(|pod| pod.key.1)).collect();
        if !left.is_empty() {
            let words = format!("{}: generation {} went, and {left:?} were still there", self.place(), key.1);
            self.violations.push(words);
        }
    }

    fn pod(&mut self, pod: Pod) {
        if pod.deleting && self.pods.get(&pod.uid).is_some_and(|before| !before.deleting) {
            self.pod_goes(&pod.uid);
        }
        if pod.ready {
            self.started.insert(pod.uid.clone());
        }
        self.pods.insert(pod.uid.clone(), pod);
    }

    /// The third part of the rule.
    fn pod_goes(&mut self, uid: &str) {
        let Some(pod) = self.pods.get(uid).filter(|pod| !pod.deleting && self.started.contains(uid)) else {
            return;
        };
        let Some(one) = self.generations.get(&pod.key) else { return };
        let stays = self.resources.contains(&pod.key.0) && self.nodes.get(&pod.node) == Some(&true);
        // Whoever deletes pods of an older template may not have seen yet that theirs is the newest again.
        let changed = one.other_until.is_some_and(|until| until + STALE >= self.now);
        let current = one.set.template == pod.template && !one.set.deleting && !changed;
        if stays && current && self.blind.is_empty() {
            let words = format!(
                "{}: a pod of generation {} on {} was taken away, and nothing was wrong with it",
                self.place(),
                pod.key.1,
                pod.node
            );
            self.violations.push(words);
        }
    }

    fn place(&self) -> String {
        format!("after {:.1} s, at version {}", self.now.as_secs_f32(), self.version)
    }
}
