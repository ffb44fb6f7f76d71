//! Labels, readiness and restarts of pods.

use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;

/// Label of pods and `DaemonSets` with the number of their generation.
pub const GENERATION: &str = "quinistry/generation";

/// Selects the pods of a generation.
pub fn of_generation(generation: i32) -> ListParams {
    ListParams::default().labels(&format!("{GENERATION}={generation}"))
}

/// Returns true if the pod is Ready and not being deleted.
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    pod.metadata.deletion_timestamp.is_none()
        && conditions.into_iter().any(|one| one.type_ == "Ready" && one.status == "True")
}

/// Returns the number of restarts of the pod's containers.
pub fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    statuses.map(|one| one.restart_count).sum()
}
