//! The limit of a rollout: the number of pods that it may take away at once, and the nodes that it goes on
//! without. Pure.

use k8s_openapi::api::apps::v1 as apps;
use k8s_openapi::jiff::Timestamp;

use super::ChainView;
use super::index::PodIndex;
use crate::operator::build::{self, BuildInput};
use crate::operator::observed::{ObservedDaemonSet, ObservedNode, ObservedPod};

/// Time in seconds without a node after which a rollout goes on without it.
const NODE_GONE_AFTER_SECONDS: i64 = 60;

// === impl Chain ===

impl ChainView<'_> {
    /// Returns the limit for the controller, which counts nodes without a pod against it and would wait for
    /// some of them for ever.
    pub(super) fn max_unavailable(&self, number: i32) -> i32 {
        let allowed = self.quinistry.max_unavailable.rounded_up(self.selected.len());
        allowed.saturating_add(i32::try_from(self.given_up(number)).unwrap_or(i32::MAX))
    }

    /// Counts the selected nodes that a rollout of a generation goes on without. A node that returns has its
    /// pods at once, and then as many more than allowed may be taken away. A node therefore counts only when
    /// it has been gone for a while and has no pod that could recover; if it has one, when that pod was
    /// waited for as long as for anything else.
    fn given_up(&self, number: i32) -> usize {
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
                // Without a carrier.
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

    /// Returns the live set, if it differs in the limit alone.
    pub(super) fn with_limit_of(
        &self,
        input: &BuildInput<'_>,
        live: &ObservedDaemonSet,
    ) -> Option<apps::DaemonSet> {
        let max_unavailable = limit(live).filter(|live| *live != input.max_unavailable)?;
        let same = build::daemon_set(self.quinistry, &BuildInput { max_unavailable, ..input.clone() });
        (live.applied.as_deref() == Some(build::applied(&same))).then_some(same)
    }

    /// Returns true if the set has no pod to replace, so that the limit means nothing: nodes come and go, and
    /// each time all generations would be written twice, and Ready be lost in between.
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
