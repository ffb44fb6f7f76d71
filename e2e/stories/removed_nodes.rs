//! A node that is cordoned, drained, removed from the cluster, and returns as a new node would, late and
//! without images; and another node that is disconnected in the meantime. Other nodes are not affected.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{self as core, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use quinistry::crd::Quinistry;

use super::support::outage::{self, Baseline, kubectl};
use super::support::stage::condition;
use super::support::{Node, Stage, Story, When, operator, pods, wait};

const DEADLINE: Duration = Duration::from_mins(4);
const GENERATIONS: i32 = 3;
const NAME: &str = "moss";

pub fn story() -> Story {
    Story { name: "removed_nodes", when: When::Last, operator: true, play: |stage| Box::pin(play(stage)) }
}

async fn play(stage: Arc<Stage>) -> Result<()> {
    // The operator's own node, so that draining it tests more.
    let leaving = match outage::operator_node(&stage).await? {
        Some(name) => name,
        None => stage.world.nodes.last().context("there are nodes")?.name().to_owned(),
    };
    let result = remove_and_return(&stage, &leaving).await;
    if result.is_err() {
        outage::repair_nodes(&stage).await?;
    }
    result
}

async fn remove_and_return(stage: &Stage, leaving: &str) -> Result<()> {
    stage.apply(&stage.resource(NAME, GENERATIONS)).await?;
    stage.until_ready(NAME, DEADLINE).await?;
    let node = stage.world.node(leaving)?;

    let all = Baseline::except(stage, &[], NAME).await?;
    kubectl(&["cordon", leaving]).await?;
    // Pods of DaemonSets stay; all others are evicted.
    let drain =
        ["drain", leaving, "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=60s"];
    kubectl(&drain).await?;
    operator_moved(stage, leaving).await?;
    all.check_unchanged(stage, &[], NAME).await?;
    stage.until(NAME, "Degraded", "False", "AsExpected", DEADLINE).await?;
    stage.log(format_args!("{leaving} is cordoned and drained, which touches no generation"));

    // One node leaves; while the cluster removes its objects, another node is disconnected and returns.
    let disconnected = outage::spare_nodes(stage).await?.into_iter().find(|node| node.name() != leaving);
    let affected: Vec<&str> = disconnected.iter().map(|node| node.name()).chain([leaving]).collect();
    let baseline = Baseline::except(stage, &affected, NAME).await?;
    node.stop().await?;
    node.wipe().await?;
    Api::<core::Node>::all(stage.world.client.clone()).delete(leaving, &DeleteParams::default()).await?;
    let what = format!("{NAME} no longer expects {leaving}");
    let size = stage.world.node_count() - 1;
    let without = |one: &Quinistry| {
        let status = one.status.as_ref();
        status.is_some_and(|status| status.generations.iter().all(|one| one.desired == size))
    };
    wait::until(&stage.resources(), NAME, DEADLINE, &what, without).await?;
    stage.until(NAME, "Degraded", "False", "AsExpected", DEADLINE).await?;
    baseline.check_unchanged(stage, &affected, NAME).await?;
    if let Some(disconnected) = disconnected {
        disconnect(stage, disconnected).await?;
        baseline.check_unchanged(stage, &affected, NAME).await?;
    }
    let here = ListParams::default().fields(&format!("spec.nodeName={leaving}"));
    let what = format!("no pod is left of {leaving}");
    wait::until_none(&stage.pods(), &here, DEADLINE, &what).await?;
    stage.log(format_args!("{leaving} and its pods are removed"));

    // Only the name of the node is left, so that it joins as a new one would: late, and all generations at
    // once.
    let began = Timestamp::now();
    node.add().await?;
    stage.world.load(node).await?;
    let back = outage::until_node_ready(stage, node, began).await?;
    outage::until_healed(stage, node, back, GENERATIONS, &stage.world.first.digest).await?;
    stage.until(NAME, "Degraded", "False", "AsExpected", DEADLINE).await?;
    baseline.check_unchanged(stage, &affected, NAME).await?;
    outage::check_no_false_alarm(stage).await
}

/// Disconnects the node until the API server marks it as not Ready, and in full runs for a minute more.
async fn disconnect(stage: &Stage, node: &dyn Node) -> Result<()> {
    node.disconnect().await?;
    outage::until_not_ready(stage, node).await?;
    let message = stage.until(NAME, "Degraded", "True", "NodesNotReady", DEADLINE).await?;
    ensure!(message.contains(node.name()), "the message does not name the node: {message}");
    let ready = stage.until_ready(NAME, DEADLINE).await?;
    stage.log(&message);
    if stage.world.soak {
        tokio::time::sleep(Duration::from_mins(1)).await;
    }
    let began = Timestamp::now();
    node.reconnect().await?;
    let back = outage::until_node_ready(stage, node, began).await?;
    outage::until_healed(stage, node, back, GENERATIONS, &stage.world.first.digest).await?;
    let now = stage.until_ready(NAME, DEADLINE).await?;
    let since = |one: &Quinistry| condition(one, "Ready").map(|ready| ready.last_transition_time.0);
    ensure!(since(&ready) == since(&now), "{NAME} was not Ready for a while");
    stage.until(NAME, "Degraded", "False", "AsExpected", DEADLINE).await.map(drop)
}

/// Waits until the operator is Ready on another node.
async fn operator_moved(stage: &Stage, from: &str) -> Result<()> {
    if !stage.operator().in_cluster() {
        return Ok(());
    }
    let api = Api::<Pod>::namespaced(stage.world.client.clone(), operator::NAMESPACE);
    let elsewhere = |pod: &&Pod| {
        pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).is_some_and(|node| node != from)
    };
    let what = format!("the operator is Ready on another node than {from}");
    wait::until_all(&api, &ListParams::default(), DEADLINE, &what, |all| {
        all.iter().filter(elsewhere).any(pods::is_ready)
    })
    .await
    .map(drop)
}
