//! A node that loses power, once with all its images and once for longer. Other nodes are not affected, a new
//! image rolls out on them without waiting for the dead node, and the node heals by itself when it returns.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::support::outage::{self, Baseline};
use super::support::world::Executable;
use super::support::{Node, Stage, Story, When, serving};

/// A rollout continues without a node that has been gone for a minute.
const DEADLINE: Duration = Duration::from_mins(4);
const GENERATIONS: i32 = 3;
const NAME: &str = "fern";

pub fn story() -> Story {
    Story { name: "dead_nodes", when: When::Last, operator: true, play: |stage| Box::pin(play(stage)) }
}

async fn play(stage: Arc<Stage>) -> Result<()> {
    let node = *outage::spare_nodes(&stage).await?.last().context("a spare node exists")?;
    let result = stop_and_restart(&stage, node).await;
    if result.is_err() {
        outage::repair_nodes(&stage).await?;
    }
    result
}

async fn stop_and_restart(stage: &Stage, node: &dyn Node) -> Result<()> {
    let (first, second) = (&stage.world.first, &stage.world.second);
    let (old, new) = (stage.base_port + 20, stage.base_port + 21);
    // The registries outlive their node, as a registry outside the cluster would.
    let nodes = &stage.world.nodes;
    let _old = stage.world.serve(first, old).await?;
    let _new = stage.world.serve(second, new).await?;
    stage.apply(&from_registry(stage, old, first)).await?;
    stage.until_ready(NAME, DEADLINE).await?;

    let dead = [node.name()];
    let baseline = Baseline::except(stage, &dead, NAME).await?;
    node.stop().await?;
    node.wipe().await?;
    outage::until_not_ready(stage, node).await?;
    let message = stage.until(NAME, "Degraded", "True", "NodesNotReady", DEADLINE).await?;
    ensure!(message.contains(node.name()), "the message does not name the node: {message}");
    baseline.check_unchanged(stage, &dead, NAME).await?;
    stage.log(&message);
    back(stage, node, first).await?;
    baseline.check_unchanged(stage, &dead, NAME).await?;

    node.stop().await?;
    outage::until_not_ready(stage, node).await?;
    stage.apply(&from_registry(stage, new, second)).await?;
    let ready = stage.until_ready(NAME, DEADLINE).await?;
    let status = ready.status.context("a Ready resource has a status")?;
    ensure!(status.digest.as_ref() == Some(&second.digest), "the status says {:?}", status.digest);
    let living_nodes = stage.world.node_count() - 1;
    for one in &status.generations {
        ensure!(one.available == living_nodes, "not all pods are available: {one:?}");
        ensure!(one.digest.as_ref() == Some(&second.digest), "not replaced: {one:?}");
    }
    let message = stage.until(NAME, "Degraded", "True", "NodesNotReady", DEADLINE).await?;
    ensure!(message.contains(node.name()), "the message does not name the node: {message}");
    let ports = stage.base_port..stage.base_port + GENERATIONS;
    for living in nodes.iter().filter(|other| other.name() != node.name()) {
        serving::check_node(&**living, ports.clone(), &second.digest).await?;
    }
    stage.log(format_args!("all generations replaced while {} was off", node.name()));

    let baseline = Baseline::except(stage, &dead, NAME).await?;
    back(stage, node, second).await?;
    baseline.check_unchanged(stage, &dead, NAME).await?;
    outage::check_no_false_alarm(stage).await
}

/// Starts the node; an administrator loads the images again, and the operator and the kubelet do the rest.
async fn back(stage: &Stage, node: &dyn Node, executable: &Executable) -> Result<()> {
    let began = Timestamp::now();
    node.start().await?;
    let back = outage::until_node_ready(stage, node, began).await?;
    outage::until_healed(stage, node, back, GENERATIONS, &executable.digest).await?;
    stage.world.load(node).await?;
    stage.until(NAME, "Degraded", "False", "AsExpected", DEADLINE).await?;
    stage.until_ready(NAME, DEADLINE).await.map(drop)
}

/// Builds the resource whose bootstrap image an executable serves on a port of each node.
fn from_registry(stage: &Stage, port: i32, executable: &Executable) -> Value {
    let mut resource = stage.resource(NAME, GENERATIONS);
    resource["spec"]["image"] = json!(executable.at(port));
    resource
}
