//! A node without room for a pod: the status names the node with the scheduler's message, Degraded follows
//! after the deadline, and the user can tolerate the node, exclude it by a label, or make room.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1 as core;
use kube::Api;
use kube::api::{Patch, PatchParams};
use quinistry::crd::{Quinistry, Reason};
use serde_json::{Value, json};

use super::support::{Stage, Story, When, wait};

const DEADLINE: Duration = Duration::from_mins(4);
const NAME: &str = "crate";
/// Extended resource that limits the room on a node; no other pod requests it.
const EXTENDED_RESOURCE: &str = "example.com/quinistry-shelf";
const EXCLUDE_LABEL: &str = "quinistry.dev/exclude";

pub fn story() -> Story {
    Story { name: "crowded_node", when: When::Last, operator: true, play: |stage| Box::pin(play(stage)) }
}

async fn play(stage: Arc<Stage>) -> Result<()> {
    let nodes: Vec<&str> = stage.world.nodes.iter().map(|node| node.name()).collect();
    let result = check(&stage, &nodes).await;
    let crowded = nodes.last().context("there are nodes")?;
    set_label(&stage, crowded, None).await?;
    for node in nodes {
        set_room(&stage, node, None).await?;
    }
    result
}

async fn check(stage: &Stage, nodes: &[&str]) -> Result<()> {
    let (crowded, others) = nodes.split_last().context("there are nodes")?;
    for node in others {
        set_room(stage, node, Some("8")).await?;
    }
    let mut resource = stage.resource(NAME, 2);
    resource["spec"]["resources"] =
        json!({"requests": {EXTENDED_RESOURCE: 1}, "limits": {EXTENDED_RESOURCE: 1}});
    resource["spec"]["rollout"] = json!({"progressDeadlineSeconds": 10});
    stage.apply(&resource).await?;
    let message = stage.until(NAME, "Degraded", "True", "Unschedulable", DEADLINE).await?;
    stage.log(&message);
    ensure!(
        message.contains(*crowded) && message.contains(EXTENDED_RESOURCE),
        "the message does not say what is missing where: {message}"
    );
    let live = stage.resources().get(NAME).await?;
    let deviations = live.status.map(|status| status.deviations).unwrap_or_default();
    let is_reported =
        |one: &quinistry::crd::Deviation| (&*one.node, one.reason) == (*crowded, Reason::Unschedulable);
    ensure!(!deviations.is_empty() && deviations.iter().all(is_reported), "deviations: {deviations:?}");

    resource["spec"]["rollout"]["tolerateNodes"] = json!(1);
    stage.apply(&resource).await?;
    let ready = stage.until_ready(NAME, DEADLINE).await?;
    ensure!(raised_generations(&ready) == 2, "not all are raised: {:?}", ready.status);
    stage.until(NAME, "Degraded", "True", "Unschedulable", DEADLINE).await?;
    stage.log(format_args!("all generations are Ready, and {crowded} may be behind"));

    resource["spec"]["rollout"]["tolerateNodes"] = json!(0);
    stage.apply(&resource).await?;
    set_label(stage, crowded, Some("true")).await?;
    stage.until_ready(NAME, DEADLINE).await?;
    stage.until(NAME, "Degraded", "False", "AsExpected", DEADLINE).await?;
    stage.log(format_args!("{crowded} is left out"));

    set_room(stage, crowded, Some("8")).await?;
    set_label(stage, crowded, None).await?;
    let what = format!("{NAME} is Ready on {crowded} too");
    let size = stage.world.node_count();
    wait::until(&stage.resources(), NAME, DEADLINE, &what, |one| {
        let generations = one.status.iter().flat_map(|status| &status.generations);
        let everywhere = generations.into_iter().all(|one| one.available == size && one.desired == size);
        everywhere && super::support::stage::is_ready(one)
    })
    .await?;
    stage.until(NAME, "Degraded", "False", "AsExpected", DEADLINE).await.map(drop)
}

fn raised_generations(resource: &Quinistry) -> usize {
    resource
        .status
        .as_ref()
        .map_or(0, |status| status.generations.iter().filter(|one| one.available > 0).count())
}

/// Sets or removes the room of a node. The kubelet would remove it by itself, later.
async fn set_room(stage: &Stage, node: &str, amount: Option<&str>) -> Result<()> {
    let capacity = json!({EXTENDED_RESOURCE: amount});
    let patch = json!({"status": {"capacity": capacity, "allocatable": capacity}});
    let nodes = Api::<core::Node>::all(stage.world.client.clone());
    nodes.patch_status(node, &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
}

async fn set_label(stage: &Stage, node: &str, value: Option<&str>) -> Result<()> {
    let patch: Value = json!({"metadata": {"labels": {EXCLUDE_LABEL: value}}});
    let nodes = Api::<core::Node>::all(stage.world.client.clone());
    nodes.patch(node, &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
}
