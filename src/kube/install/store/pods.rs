//! Choice of the pod to load through. Pure.

use std::fmt;

use crate::api::types::{Metadata as _, Pod};

/// Phase of a pod whose containers run.
const RUNNING: &str = "Running";

/// Pod of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorePod {
    /// Name of the pod.
    pub name: String,
    /// Node that the pod runs on.
    pub node: String,
}

/// Returns true for a pod whose containers run, and that is not being deleted.
fn is_running(pod: &Pod) -> bool {
    pod.status.phase == RUNNING && !pod.metadata.is_terminating()
}

/// Chooses a pod that runs, if there is one: first those that are ready, then by name. `failed` has the pods that failed,
/// the last one last: that one is left out, and of the others those come last that failed last.
pub(super) fn choose(pods: &[Pod], failed: &[String]) -> Option<StorePod> {
    let last_failure = |pod: &Pod| failed.iter().rposition(|name| name == pod.metadata.name());
    let is_last = |pod: &Pod| failed.last().is_some_and(|name| name == pod.metadata.name());
    let candidates = pods.iter().filter(|pod| is_running(pod) && !is_last(pod));
    let chosen = candidates.min_by_key(|pod| (last_failure(pod), !pod.is_ready(), pod.metadata.name()))?;
    Some(StorePod::of(chosen))
}

/// Returns all pods that run.
pub(super) fn running(pods: &[Pod]) -> Vec<StorePod> {
    pods.iter().filter(|pod| is_running(pod)).map(StorePod::of).collect()
}

// === impl StorePod ===

impl StorePod {
    fn of(pod: &Pod) -> Self {
        Self { name: pod.metadata.name().into(), node: pod.spec.node_name.clone().unwrap_or_default() }
    }
}

impl fmt::Display for StorePod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pod {} on node {}", self.name, self.node)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, phase: &str, ready: &str) -> Pod {
        let pod = json!({
            "metadata": {"name": name},
            "spec": {"nodeName": "n1"},
            "status": {"phase": phase, "conditions": [{"type": "Ready", "status": ready}]},
        });
        serde_json::from_value(pod).unwrap()
    }

    #[test]
    fn a_ready_pod_comes_first_and_an_unready_one_will_do() {
        let pods = [
            pod("a", "Pending", "False"),
            pod("b", "Running", "False"),
            pod("d", "Running", "True"),
            pod("c", "Running", "True"),
            pod("0", "Failed", "False"),
        ];
        let name = |pods: &[Pod], failed: &[&str]| {
            let failed: Vec<String> = failed.iter().map(|name| (*name).to_owned()).collect();
            choose(pods, &failed).map(|pod| pod.name)
        };
        assert_eq!(name(&pods, &[]).as_deref(), Some("c"));
        assert_eq!(name(&pods, &["c"]).as_deref(), Some("d"));
        assert_eq!(name(&pods[..2], &[]).as_deref(), Some("b"));
        assert_eq!(name(&pods[..2], &["b"]), None);
        assert_eq!(choose(&pods, &[]).unwrap().to_string(), "pod c on node n1");
        // Nodes that have vanished leave pods that seem to be ready for a while.
        assert_eq!(name(&pods, &["c", "d"]).as_deref(), Some("b"));
        assert_eq!(name(&pods, &["c", "d", "b"]).as_deref(), Some("c"));
    }

    #[test]
    fn a_pod_that_is_being_deleted_is_left_out() {
        let mut deleted = pod("a", "Running", "True");
        deleted.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
        assert_eq!(choose(std::slice::from_ref(&deleted), &[]), None);
        assert_eq!(running(&[deleted, pod("b", "Running", "False"), pod("c", "Pending", "False")]).len(), 1);
    }
}
