//! A node of another architecture is named and left out; the generations on the other nodes are raised.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde_json::json;

use super::support::{Stage, Story, When};

const DEADLINE: Duration = Duration::from_mins(4);
const FOREIGN_NODE: &str = "quinistry-story-stranger";

pub fn story() -> Story {
    // All resources see the node.
    Story { name: "architectures", when: When::Last, operator: true, play: |stage| Box::pin(play(stage)) }
}

async fn play(stage: Arc<Stage>) -> Result<()> {
    let nodes = Api::<Node>::all(stage.world.client.clone());
    let other = if cfg!(target_arch = "aarch64") { "amd64" } else { "arm64" };
    let node: Node = serde_json::from_value(json!({"metadata": {"name": FOREIGN_NODE, "labels": {
        "kubernetes.io/os": "linux", "kubernetes.io/arch": other,
    }}}))?;
    nodes.create(&PostParams::default(), &node).await?;
    let result = check(&stage).await;
    nodes.delete(FOREIGN_NODE, &DeleteParams::default()).await?;
    result?;
    stage.until("ark", "Degraded", "False", "AsExpected", DEADLINE).await.map(drop)
}

async fn check(stage: &Stage) -> Result<()> {
    stage.apply(&stage.resource("ark", 2)).await?;
    let ready = stage.until_ready("ark", DEADLINE).await?;
    let message = stage.until("ark", "Degraded", "True", "MixedArchitectures", DEADLINE).await?;
    stage.log(&message);
    ensure!(message.contains(FOREIGN_NODE), "the message does not name the node: {message}");
    let size = stage.world.node_count();
    let all = ready.status.map(|status| status.generations).unwrap_or_default();
    ensure!(
        all.iter().all(|one| one.desired == size && one.available == size),
        "not all pods are available: {all:?}"
    );
    Ok(())
}
