//! Ports that something outside the cluster occupies or blocks: a process of the node in both network modes,
//! and a rule that drops packets to the node's localhost.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::support::{Node, Stage, Story, When, serving};

/// The kubelet retries with growing pauses, so that recovery takes as long as the failure lasted.
const DEADLINE: Duration = Duration::from_mins(4);

pub fn story() -> Story {
    Story {
        name: "ports_of_nodes",
        when: When::Together,
        operator: true,
        play: |stage| Box::pin(play(stage)),
    }
}

async fn play(stage: Arc<Stage>) -> Result<()> {
    let node = &**stage.world.nodes.last().context("there are nodes")?;
    shadowed(&stage, node).await?;
    taken(&stage, node).await?;
    unreachable(&stage, node).await
}

/// The network plugin forwards the port to the pod, the process receives nothing, and neither of them reports
/// an error.
async fn shadowed(stage: &Stage, node: &dyn Node) -> Result<()> {
    let (port, digest) = (stage.base_port + 1, &stage.world.first.digest);
    let process = node.serve(&stage.world.second.path, port).await?;
    stage.apply(&stage.resource("shade", 2)).await?;
    stage.until_ready("shade", DEADLINE).await?;
    stage.until("shade", "PortsAvailable", "True", "PortsFree", DEADLINE).await?;
    serving::check_all_nodes(stage, stage.base_port..port + 1, digest).await?;
    stage.delete("shade").await?;
    // The process has been running all the time, and has its port again.
    serving::check_node(node, port..port + 1, &stage.world.second.digest).await?;
    drop(process);
    stage.log("a host port shadows a process of the node");
    Ok(())
}

/// On the node's own network only one process can listen on a port.
async fn taken(stage: &Stage, node: &dyn Node) -> Result<()> {
    let (port, digest) = (stage.base_port + 1, &stage.world.first.digest);
    let process = node.serve(&stage.world.second.path, port).await?;
    let mut resource = stage.resource("bare", 2);
    resource["spec"]["network"] = json!({"mode": "HostNetwork"});
    resource["spec"]["digest"] = json!(digest);
    stage.apply(&resource).await?;
    let message = stage.until("bare", "PortsAvailable", "False", "PortTaken", DEADLINE).await?;
    stage.log(&message);
    let place = format!("generation 2 on {}:", node.name());
    let named = message.contains(&place) && message.contains(&format!("127.0.0.1:{port}"));
    ensure!(named, "the message does not say what is taken where: {message}");
    stage.until("bare", "Degraded", "True", "PortTaken", DEADLINE).await?;
    drop(process);
    stage.until_ready("bare", DEADLINE).await?;
    stage.until("bare", "PortsAvailable", "True", "PortsFree", DEADLINE).await?;
    serving::check_all_nodes(stage, stage.base_port..port + 1, digest).await?;
    stage.log("the port is free, and the generation is Ready");
    stage.delete("bare").await
}

/// The pods are healthy, and answer on their own addresses only.
async fn unreachable(stage: &Stage, node: &dyn Node) -> Result<()> {
    let port = stage.base_port + 1;
    node.block(port).await?;
    let reported = async {
        stage.apply(&stage.resource("walled", 2)).await?;
        stage.until("walled", "PortsAvailable", "False", "HostPortUnreachable", DEADLINE).await
    };
    let reported = reported.await;
    node.unblock(port).await?;
    let message = reported?;
    stage.log(&message);
    let place = format!("generation 2 on {}:", node.name());
    let named = message.contains(&place) && message.contains("localhost");
    ensure!(named, "the message does not say what does not answer where: {message}");
    stage.until_ready("walled", DEADLINE).await?;
    stage.until("walled", "PortsAvailable", "True", "PortsFree", DEADLINE).await.map(drop)
}
