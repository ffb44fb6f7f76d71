//! `DaemonSets`: written by hand, and their state.

use std::time::Duration;

use anyhow::Result;
use k8s_openapi::api::apps::v1::DaemonSet;
use serde_json::json;

use super::{Stage, wait};

/// Builds a generation as a user without the operator would write it.
pub fn by_hand(name: &str, image: &str, port: i32, digest: &str) -> DaemonSet {
    let labels = json!({"story-daemon-set": name});
    serde_json::from_value(json!({
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "automountServiceAccountToken": false,
                    "terminationGracePeriodSeconds": 5,
                    "tolerations": [{"operator": "Exists"}],
                    "containers": [{
                        "name": "quinistry",
                        "image": image,
                        "imagePullPolicy": "IfNotPresent",
                        "args": ["serve", "--expect-digest", digest],
                        "ports": [{"containerPort": 8080, "hostPort": port, "hostIP": "127.0.0.1"}],
                        "readinessProbe": {
                            "httpGet": {"host": "127.0.0.1", "port": port, "path": format!("/v2/quinistry/manifests/{digest}")},
                            "periodSeconds": 1,
                        },
                    }],
                },
            },
        },
    }))
    .expect("a DaemonSet")
}

/// Returns true if every pod has the newest template and is available, and there is at least one pod.
pub fn is_rolled_out(set: &DaemonSet) -> bool {
    let Some(status) = &set.status else { return false };
    status.desired_number_scheduled > 0
        && status.observed_generation == set.metadata.generation
        && status.updated_number_scheduled == Some(status.desired_number_scheduled)
        && status.number_available == Some(status.desired_number_scheduled)
}

/// Waits for a rollout on all nodes.
pub async fn until_rolled_out(stage: &Stage, name: &str, deadline: Duration) -> Result<DaemonSet> {
    until_rolled_out_on(stage, name, stage.world.node_count(), deadline).await
}

/// Waits until a `DaemonSet` that selects `size` nodes is rolled out on all of them.
pub async fn until_rolled_out_on(
    stage: &Stage,
    name: &str,
    size: i32,
    deadline: Duration,
) -> Result<DaemonSet> {
    wait::until(&stage.daemon_sets(), name, deadline, &format!("DaemonSet {name} is rolled out"), |set| {
        is_rolled_out(set)
            && set.status.as_ref().is_some_and(|status| status.desired_number_scheduled == size)
    })
    .await
}

/// Returns the image of a `DaemonSet`'s only container.
pub fn image(set: &DaemonSet) -> &str {
    let template = set.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    template.and_then(|pod| pod.containers.first()).and_then(|one| one.image.as_deref()).unwrap_or_default()
}
