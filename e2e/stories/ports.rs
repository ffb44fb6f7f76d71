//! Ports with another owner: an older resource, and a pod of another `DaemonSet`. The operator creates
//! nothing that could not start, the condition names the owner, and the resource takes over when the owner is
//! gone.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use kube::api::{DeleteParams, ListParams, PostParams};
use serde_json::json;

use super::support::{Stage, Story, When, daemon_sets, wait};

const DEADLINE: Duration = Duration::from_mins(4);

pub fn story() -> Story {
    Story { name: "ports", when: When::Together, operator: true, play: |stage| Box::pin(play(stage)) }
}

async fn play(stage: Arc<Stage>) -> Result<()> {
    two_resources(&stage).await?;
    another_pod(&stage).await
}

async fn two_resources(stage: &Stage) -> Result<()> {
    stage.apply(&stage.resource("older", 2)).await?;
    stage.until_ready("older", DEADLINE).await?;
    // The younger resource's first port is the older one's second.
    let mut younger = stage.resource("younger", 2);
    younger["spec"]["basePort"] = json!(stage.base_port + 1);
    stage.apply(&younger).await?;
    let message = stage.until("younger", "PortsAvailable", "False", "PortConflict", DEADLINE).await?;
    stage.log(&message);
    let named = [format!("{}/older", stage.namespace), stage.base_port.to_string()];
    ensure!(
        named.iter().all(|word| message.contains(word)),
        "the message does not name the owner: {message}"
    );
    let sets = stage.daemon_sets().list(&ListParams::default()).await?;
    let has_created =
        sets.iter().filter_map(|set| set.metadata.name.as_deref()).any(|name| name.starts_with("younger"));
    ensure!(!has_created, "the younger resource created something");
    stage.until_ready("older", DEADLINE).await?;

    stage.resources().delete("older", &DeleteParams::default()).await?;
    stage.until_ready("younger", DEADLINE).await?;
    stage.log("the younger resource has taken over");
    stage.delete("younger").await
}

/// The scheduler places no pod whose host port is taken on the node.
async fn another_pod(stage: &Stage) -> Result<()> {
    let port = stage.base_port + 1;
    let thief = daemon_sets::by_hand("thief", &stage.world.first.image, port, &stage.world.first.digest);
    stage.daemon_sets().create(&PostParams::default(), &thief).await?;
    daemon_sets::until_rolled_out(stage, "thief", DEADLINE).await?;
    stage.apply(&stage.resource("robbed", 2)).await?;
    let message = stage.until("robbed", "PortsAvailable", "False", "HostPortConflict", DEADLINE).await?;
    stage.log(&message);
    ensure!(message.contains("generation 2"), "the message does not say which generation: {message}");

    stage.daemon_sets().delete("thief", &DeleteParams::default()).await?;
    let gone = ListParams::default().fields("metadata.name=thief");
    wait::until_none(&stage.daemon_sets(), &gone, DEADLINE, "the thief is gone").await?;
    stage.until_ready("robbed", DEADLINE).await.map(drop)
}
