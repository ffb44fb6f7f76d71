//! Limit of a rollout: the number of pods that it may take away at once, and the nodes that it does not wait
//! for. Pure.

use k8s_openapi::api::apps::v1 as apps;
use k8s_openapi::jiff::Timestamp;

use super::ChainView;
use super::index::PodIndex;
use crate::operator::build::{self, BuildInput};
use crate::operator::observed::{ObservedDaemonSet, ObservedNode, ObservedPod};

/// Time in seconds after which a rollout no longer waits for a node that is not ready.
const NODE_GONE_AFTER_SECONDS: i64 = 60;

// === impl ChainView ===

impl ChainView<'_> {
    /// Returns `maxUnavailable` for the `DaemonSet` controller. The controller counts nodes without a pod
    /// against the limit, and would wait forever for nodes that are given up.
    pub(super) fn max_unavailable(&self, number: i32) -> i32 {
        let allowed = self.quinistry.max_unavailable.rounded_up(self.selected.len());
        allowed.saturating_add(i32::try_from(self.nodes_not_waited_for(number)).unwrap_or(i32::MAX))
    }

    /// Counts the selected nodes that a rollout of a generation does not wait for. When such a node returns,
    /// its pods count at once, and the rollout may then take away that many more than allowed. A node without
    /// a pod therefore counts only after it was gone for a while, and a node with a pod that may recover only
    /// after the progress deadline.
    fn nodes_not_waited_for(&self, number: i32) -> usize {
        let tolerated = self.tolerated();
        if tolerated == 0 && self.ready.len() == self.selected.len() {
            return 0;
        }
        let pods = PodIndex::new(self.observed.pods_of(number));
        let deadline =
            i64::from(self.quinistry.spec.rollout.progress_deadline_seconds).max(NODE_GONE_AFTER_SECONDS);
        let age = |since: Timestamp| self.now.as_second() - since.as_second();
        let staying = |node: &ObservedNode| pods.on(&node.name).iter().find(|pod| !pod.deleting);
        let given_up = |node: &&&ObservedNode| {
            let unready = staying(node).is_none_or(|pod| pod.ready.is_none());
            if node.ready {
                // The node has no carrier.
                return !self.nodes.counts(&node.name) && unready;
            }
            let gone = age(node.since.max(node.seen));
            gone >= NODE_GONE_AFTER_SECONDS && (staying(node).is_none() || unready && gone >= deadline)
        };
        let stuck = |node: &&&ObservedNode| {
            staying(node).is_some_and(|pod| {
                pod.ready.is_none() && (pod.failed.is_some() || age(pod.created) >= NODE_GONE_AFTER_SECONDS)
            })
        };
        let absent = self.selected.iter().filter(given_up).count();
        absent + self.ready.iter().filter(stuck).count().min(tolerated)
    }

    /// Returns the number of selected nodes that may lack a generation; never all.
    pub(super) fn tolerated(&self) -> usize {
        self.quinistry.tolerated.rounded_down(self.selected.len())
    }

    /// Returns the wanted set with the live limit, if the live set differs in the limit alone.
    pub(super) fn with_limit_of(
        &self,
        input: &BuildInput<'_>,
        live: &ObservedDaemonSet,
    ) -> Option<apps::DaemonSet> {
        let max_unavailable = limit(live).filter(|live| *live != input.max_unavailable)?;
        let same = build::daemon_set(self.quinistry, &BuildInput { max_unavailable, ..input.clone() });
        (live.applied.as_deref() == Some(build::applied(&same))).then_some(same)
    }

    /// Returns true if no pod of the set is to be replaced, so that the limit has no effect. Writing it
    /// anyway would change all generations twice whenever a node comes and goes, and Ready would be lost in
    /// between.
    pub(super) fn is_at_rest(&self, input: &BuildInput<'_>, same: &apps::DaemonSet) -> bool {
        let template = build::template(same);
        let stale = |pod: &ObservedPod| {
            !pod.deleting && self.is_on_a_ready_node(pod) && pod.template.as_deref() != Some(template)
        };
        !self.observed.pods_of(input.generation).any(stale)
    }
}

/// Returns the limit that a `DaemonSet` has now.
pub(super) fn limit(live: &ObservedDaemonSet) -> Option<i32> {
    let limit = live.spec["updateStrategy"]["rollingUpdate"]["maxUnavailable"].as_i64()?;
    i32::try_from(limit).ok()
}
