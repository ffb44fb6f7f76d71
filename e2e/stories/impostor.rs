//! Pods of another namespace with all labels and annotations of ours: one that serves another image under the
//! name of generation 1, and one of a generation that does not exist. They raise no alarm, and do not keep
//! the resource from growing or shrinking.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use super::support::pods::{GENERATION, is_ready, of_generation};
use super::support::stage::condition;
use super::support::{Stage, Story, When, wait};

const DEADLINE: Duration = Duration::from_mins(4);
const NAME: &str = "heir";

pub fn story() -> Story {
    Story { name: "impostor", when: When::Together, operator: true, play: |stage| Box::pin(play(stage)) }
}

async fn play(stage: Arc<Stage>) -> Result<()> {
    let namespaces = Api::<Namespace>::all(stage.world.client.clone());
    let other_namespace = serde_json::from_value(json!({"metadata": {
        "generateName": "e2e-impostor-elsewhere-", "labels": {"quinistry.dev/story": "impostor"},
    }}))?;
    let other_namespace = namespaces.create(&PostParams::default(), &other_namespace).await?.name_any();
    let result = check(&stage, &other_namespace).await;
    namespaces.delete(&other_namespace, &DeleteParams::default()).await?;
    result
}

async fn check(stage: &Stage, other_namespace: &str) -> Result<()> {
    stage.apply(&stage.resource(NAME, 2)).await?;
    stage.until_ready(NAME, DEADLINE).await?;
    let pods = Api::<Pod>::namespaced(stage.world.client.clone(), other_namespace);
    let original = stage.pods().list(&of_generation(1)).await?.items.into_iter().next().context("a pod")?;
    for generation in [1, 9] {
        pods.create(&PostParams::default(), &copy(&original, generation)?).await?;
    }
    let all = ListParams::default();
    wait::until_all(&pods, &all, DEADLINE, "the impostors are Ready", |all| {
        all.len() == 2 && all.iter().all(is_ready)
    })
    .await?;

    stage.apply(&stage.resource(NAME, 3)).await?;
    let grown = stage.until_ready(NAME, DEADLINE).await?;
    let status = grown.status.clone().context("a Ready resource has a status")?;
    ensure!(status.deviations.is_empty(), "deviations: {:?}", status.deviations);
    ensure!(status.generations.len() == 3, "{:?}", status.generations);
    let fixed = condition(&grown, "FixedPoint").context("a condition")?;
    ensure!(fixed.status == "True", "FixedPoint is false: {}", fixed.message);
    stage.log("grown beside the impostors");

    stage.apply(&stage.resource(NAME, 1)).await?;
    wait::until_all(&stage.daemon_sets(), &all, DEADLINE, "one generation is left", |sets| {
        sets.iter().map(ResourceExt::name_any).eq([NAME.to_owned()])
    })
    .await?;
    stage.until_ready(NAME, DEADLINE).await?;
    let left = pods.list(&all).await?.items.len();
    ensure!(left == 2, "the operator deleted foreign pods: {left} are left");
    stage.log("shrunk beside the impostors");
    Ok(())
}

/// Returns a copy of a pod with every label and annotation that can be copied. The copy serves the other form
/// of the image, which has another digest.
fn copy(original: &Pod, generation: i32) -> Result<Pod> {
    let spec = original.spec.as_ref().context("a pod has a specification")?;
    let container = spec.containers.first().context("a pod has a container")?;
    let mut labels = original.labels().clone();
    labels.insert(GENERATION.into(), generation.to_string());
    Ok(serde_json::from_value(json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": format!("impostor-{generation}"), "labels": labels, "annotations": original.annotations(),
        },
        "spec": {
            "nodeName": spec.node_name,
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 1,
            "tolerations": [{"operator": "Exists"}],
            "containers": [{
                "name": container.name,
                "image": container.image,
                "imagePullPolicy": "IfNotPresent",
                "args": ["serve", "--layer", "gzip"],
                "readinessProbe": {"httpGet": {"port": 8080, "path": "/v2/"}, "periodSeconds": 1},
            }],
        },
    }))?)
}
