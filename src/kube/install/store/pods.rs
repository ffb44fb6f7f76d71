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

/// Chooses a pod that runs, if there is one: first those that are ready, then by name. The pod `former` is left out.
pub(super) fn choose(pods: &[Pod], former: Option<&str>) -> Option<StorePod> {
    let candidates = pods.iter().filter(|pod| {
        pod.status.phase == RUNNING && !pod.metadata.is_terminating() && Some(pod.metadata.name()) != former
    });
    let chosen = candidates.min_by_key(|pod| (!pod.is_ready(), pod.metadata.name()))?;
    let node = chosen.spec.node_name.clone().unwrap_or_default();
    Some(StorePod { name: chosen.metadata.name().into(), node })
}

// === impl StorePod ===

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
        let name = |pods: &[Pod], former| choose(pods, former).map(|pod| pod.name);
        assert_eq!(name(&pods, None).as_deref(), Some("c"));
        assert_eq!(name(&pods, Some("c")).as_deref(), Some("d"));
        assert_eq!(name(&pods[..2], None).as_deref(), Some("b"));
        assert_eq!(name(&pods[..2], Some("b")), None);
        assert_eq!(choose(&pods, None).unwrap().to_string(), "pod c on node n1");
    }

    #[test]
    fn a_pod_that_is_being_deleted_is_left_out() {
        let mut deleted = pod("a", "Running", "True");
        deleted.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
        assert_eq!(choose(&[deleted], None), None);
    }
}
