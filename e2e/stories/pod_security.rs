//! A namespace whose Pod Security level forbids host ports: the status names the label to set, and the chain
//! continues by itself once that is set.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::json;

use super::support::{Stage, Story, When};

/// The controller retries with growing pauses, so that recovery takes as long as the failure lasted.
const DEADLINE: Duration = Duration::from_mins(4);

pub fn story() -> Story {
    Story { name: "pod_security", when: When::Together, operator: true, play: |stage| Box::pin(play(stage)) }
}

async fn play(stage: Arc<Stage>) -> Result<()> {
    enforce(&stage, "baseline").await?;
    stage.apply(&stage.resource("guard", 2)).await?;
    let message = stage.until("guard", "Degraded", "True", "PodSecurityForbidden", DEADLINE).await?;
    stage.log(&message);
    let label =
        format!("kubectl label namespace {} pod-security.kubernetes.io/enforce=privileged", stage.namespace);
    ensure!(message.contains(&label), "the message does not say what to do: {message}");
    ensure!(message.contains("hostPort"), "the message does not say what is forbidden: {message}");
    ensure!(stage.pods().list(&ListParams::default()).await?.items.is_empty(), "there are pods");
    let sets = stage.daemon_sets().list(&ListParams::default()).await?.items;
    ensure!(sets.len() == 1, "a child was made before its parent: {} sets", sets.len());

    enforce(&stage, "privileged").await?;
    stage.until_ready("guard", DEADLINE).await?;
    stage.until("guard", "Degraded", "False", "AsExpected", DEADLINE).await.map(drop)
}

async fn enforce(stage: &Stage, level: &str) -> Result<()> {
    let patch = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": level}}});
    let namespaces = Api::<Namespace>::all(stage.world.client.clone());
    namespaces.patch(&stage.namespace, &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
}
