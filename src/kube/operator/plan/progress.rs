//! Progress of the chain against its deadline, and the nodes that it has waited for too long. Pure.
//!
//! Progress is a change of the wanted generations, or a pod that became Ready. The creation of a pod is no
//! progress: pods that are created again and again would extend the deadline forever.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::jiff::Timestamp;

use super::generation::GenerationView;
use super::{Action, ChainView};
use crate::operator::observed::{ObservedNode, ObservedPod};
use crate::sorted::Sorted as _;

/// Time in seconds that a pod must have been Ready before its node no longer counts as missing it: a pod in a
/// crash loop is Ready now and then.
const STEADY_AFTER_SECONDS: i64 = 60;

/// Times since which no steady pod exists, by generation and node.
pub(in crate::operator) type MissingSince = BTreeMap<(i32, String), Timestamp>;

/// Progress of the chain against its deadline.
#[derive(Debug, Default)]
pub(super) struct RolloutProgress {
    /// True if the deadline has passed.
    pub(super) late: bool,
    /// Nodes that were waited for longer than allowed, by generation.
    pub(super) overdue: BTreeSet<(i32, String)>,
    /// Input for the next plan.
    pub(super) missing_since: MissingSince,
    /// Time in seconds until the next deadline.
    pub(super) due: Option<i64>,
}

// === impl RolloutProgress ===

impl RolloutProgress {
    pub(super) fn of(chain: &ChainView<'_>, actions: &[Action]) -> Self {
        let allowed = i64::from(chain.quinistry.spec.rollout.progress_deadline_seconds);
        let passed = |since: Timestamp| chain.now.as_second() - since.as_second() > allowed;
        let last = last(chain);
        // An action that is about to be carried out is progress, no matter how long nothing was wanted
        // before. Replacing a pod is not.
        let acts = |action: &Action| !matches!(action, Action::Replace { .. } | Action::Label { .. });
        if actions.iter().any(acts) {
            return Self { missing_since: missing_since(chain, last), ..Self::default() };
        }
        let missing_since = missing_since(chain, last);
        let waited: Vec<_> = missing_since
            .iter()
            .filter(|((number, node), _)| {
                let view = chain.views.iter().find(|view| view.number == *number);
                let node = chain.nodes.get(node);
                view.zip(node).is_some_and(|(view, node)| view.lacks(node))
            })
            .collect();
        let overdue: BTreeSet<_> = waited
            .iter()
            .filter(|(_, since)| passed(last.map_or(**since, |last| last.max(**since))))
            .map(|(key, _)| (*key).clone())
            .into_set();
        let starts: Vec<Timestamp> = if waited.is_empty() {
            last.into_iter().collect()
        } else {
            waited.iter().map(|(_, since)| last.map_or(**since, |last| last.max(**since))).collect()
        };
        let left = starts.iter().map(|since| since.as_second() + allowed + 1 - chain.now.as_second());
        let due = left.filter(|left| *left > 0).min();
        let late = if waited.is_empty() { last.is_some_and(passed) } else { !overdue.is_empty() };
        Self { late, overdue, missing_since, due }
    }

    pub(super) fn is_overdue(&self, generation: i32, node: &str) -> bool {
        !self.overdue.is_empty() && self.overdue.contains(&(generation, node.to_owned()))
    }
}

/// Returns the time of the last progress. A node's clock may be wrong in both directions, so that its times
/// are clamped to those of the API server.
fn last(chain: &ChainView<'_>) -> Option<Timestamp> {
    let created = chain.quinistry.identity.created;
    let sets = chain.observed.daemon_sets.iter().map(|set| set.created.max(set.changed));
    let came = |pod: &ObservedPod| match pod.ready {
        // After a restart the time of Ready is no progress: the pod was Ready before.
        Some(since) if pod.start.restarts == 0 => Some(since.max(pod.created).min(chain.now)),
        Some(_) => Some(pod.created),
        None => None,
    };
    let current = chain
        .views
        .iter()
        .flat_map(|view| view.pods.iter().filter(|pod| !pod.deleting && view.is_of_current_template(pod)));
    created.into_iter().chain(sets).chain(current.filter_map(|pod| came(pod))).max()
}

fn missing_since(chain: &ChainView<'_>, last: Option<Timestamp>) -> MissingSince {
    let mut all = MissingSince::new();
    let known = chain.observed.missing_since.as_ref();
    for view in chain.views.iter().filter(|view| view.exists()) {
        for node in &view.nodes {
            let lacks = view.lacks(node);
            // A pod that was missing counts as missing until it is steady.
            let young = || {
                let ready = view.pod_on(node).and_then(|pod| pod.ready);
                ready.is_some_and(|ready| chain.now.as_second() - ready.as_second() < STEADY_AFTER_SECONDS)
            };
            if !lacks && known.is_none_or(MissingSince::is_empty) {
                continue;
            }
            let key = (view.number, node.name.clone());
            let before = known.map(|known| known.get(&key).copied());
            let unsteady = matches!(before, Some(Some(_))) && young();
            if !(lacks || unsteady) {
                continue;
            }
            let since = match before {
                Some(Some(since)) => since,
                Some(None) => chain.now,
                // The operator has just started.
                None => estimate(view, node).or(last).unwrap_or(chain.now),
            };
            all.insert(key, since);
        }
    }
    all
}

/// Returns the time at which the newest pod on a node was created.
fn estimate(view: &GenerationView<'_>, node: &ObservedNode) -> Option<Timestamp> {
    view.on(&node.name).iter().map(|pod| pod.created).max()
}
