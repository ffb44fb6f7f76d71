//! Two nodes that are disconnected during a rollout and return soon. The rollout stops no more pods than
//! allowed, since the limit is never raised for nodes that may return at any moment.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::ListParams;
use serde_json::json;

use super::support::{Node, Stage, Story, When, outage, serving};

const DEADLINE: Duration = Duration::from_mins(4);
const NAME: &str = "reed";

pub fn story() -> Story {
    Story { name: "flapping_nodes", when: When::Last, operator: true, play: |stage| Box::pin(play(stage)) }
}

async fn play(stage: Arc<Stage>) -> Result<()> {
    let mut nodes = outage::spare_nodes(&stage).await?;
    if nodes.len() < 2 {
        stage.skip("fewer than two spare nodes");
        return Ok(());
    }
    nodes.truncate(2);
    let result = disconnect_during_rollout(&stage, &nodes).await;
    if result.is_err() {
        outage::repair_nodes(&stage).await?;
    }
    result
}

async fn disconnect_during_rollout(stage: &Stage, nodes: &[&dyn Node]) -> Result<()> {
    stage.apply(&stage.resource(NAME, 1)).await?;
    stage.until_ready(NAME, DEADLINE).await?;
    let before = stage.daemon_sets().get(NAME).await?.metadata.generation.context("a generation")?;
    for node in nodes {
        node.disconnect().await?;
    }
    for node in nodes {
        outage::until_not_ready(stage, *node).await?;
    }
    // Another template, of the same image.
    let mut resource = stage.resource(NAME, 1);
    resource["spec"]["resources"] = json!({"limits": {"memory": "120Mi"}});
    stage.apply(&resource).await?;
    stage.until(NAME, "Progressing", "True", "RollingOut", DEADLINE).await?;
    let began = Timestamp::now();
    for node in nodes {
        node.reconnect().await?;
    }
    for node in nodes {
        outage::until_node_ready(stage, *node, began).await?;
    }
    stage.until_ready(NAME, DEADLINE).await?;
    // One change for the template. Raising and lowering the limit would be two more.
    let sets = stage.daemon_sets().list(&ListParams::default()).await?;
    for set in sets {
        let changes = set.metadata.generation.context("a generation")? - before;
        ensure!(changes == 1, "{} was changed {changes} times", set.name_any());
    }
    serving::check_all_nodes(stage, stage.base_port..stage.base_port + 1, &stage.world.first.digest).await?;
    stage.log("the template was written once, and the limit was never raised");
    Ok(())
}
