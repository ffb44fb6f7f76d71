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

use super::support::outage::{self, Others, kubectl};
use super::support::stage::condition;
use super::support::{Node, Stage, Story, When, operator, pods, wait};

const DEADLINE: Duration = Duration::from_secs(90);
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
    let result = come_and_go(&stage, &leaving).await;
    if result.is_err() {
        outage::recover(&stage).await?;
    }
    result
}

async fn come_and_go(stage: &Stage, leaving: &str) -> Result<()> {
    stage.apply(&stage.resource(NAME, GENERATIONS)).await?;
    stage.until_ready(NAME, DEADLINE).await?;
    let node = stage.world.node(leaving)?;

    let all = Others::than(stage, &[], NAME).await?;
    kubectl(&["cordon", leaving]).await?;
    // Pods of DaemonSets stay; all others are evicted.
    let drain =
        ["drain", leaving, "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=60s"];
    kubectl(&drain).await?;
    operator_moved(stage, leaving).await?;
    all.unmoved(stage, &[], NAME).await?;
    stage.until(NAME, "Degraded", "False", "AsExpected", DEADLINE).await?;
    stage.say(format_args!("{leaving} is cordoned and drained, which touches no generation"));

    // One node leaves; while the cluster removes its objects, another node is disconnected and returns.
    let silent = outage::victims(stage).await?.into_iter().find(|node| node.name() != leaving);
    let not_ours: Vec<&str> = silent.iter().map(|node| node.name()).chain([leaving]).collect();
    let others = Others::than(stage, &not_ours, NAME).await?;
    node.stop().await?;
    node.wipe().await?;
    Api::<core::Node>::all(stage.world.client.clone()).delete(leaving, &DeleteParams::default()).await?;
    let what = format!("{NAME} does without {leaving}");
    let size = stage.world.size() - 1;
    let without = |one: &Quinistry| {
        let status = one.status.as_ref();
        status.is_some_and(|status| status.generations.iter().all(|one| one.desired == size))
    };
    wait::until(&stage.resources(), NAME, DEADLINE, &what, without).await?;
    stage.until(NAME, "Degraded", "False", "AsExpected", DEADLINE).await?;
    others.unmoved(stage, &not_ours, NAME).await?;
    if let Some(silent) = silent {
        cut_off(stage, silent).await?;
        others.unmoved(stage, &not_ours, NAME).await?;
    }
    let here = ListParams::default().fields(&format!("spec.nodeName={leaving}"));
    let what = format!("no pod is left of {leaving}");
    wait::until_none(&stage.pods(), &here, DEADLINE, &what).await?;
    stage.say(format_args!("{leaving} is removed, and its pods with it"));

    // Only the name of the node is left, so that it joins as a new one would: late, and all generations at
    // once.
    let began = Timestamp::now();
    node.add().await?;
    stage.world.load(node).await?;
    let back = outage::until_back(stage, node, began).await?;
    outage::heal(stage, node, back, GENERATIONS, &stage.world.first.digest).await?;
    stage.until(NAME, "Degraded", "False", "AsExpected", DEADLINE).await?;
    others.unmoved(stage, &not_ours, NAME).await?;
    outage::no_false_alarm(stage).await
}

/// Disconnects the node until the API server marks it as not Ready, and in full runs for a minute more.
async fn cut_off(stage: &Stage, node: &dyn Node) -> Result<()> {
    node.cut_off().await?;
    outage::until_lost(stage, node).await?;
    let message = stage.until(NAME, "Degraded", "True", "NodesNotReady", DEADLINE).await?;
    ensure!(message.contains(node.name()), "the message does not name the node: {message}");
    let ready = stage.until_ready(NAME, DEADLINE).await?;
    stage.say(&message);
    if stage.world.soak {
        tokio::time::sleep(Duration::from_mins(1)).await;
    }
    let began = Timestamp::now();
    node.mend().await?;
    let back = outage::until_back(stage, node, began).await?;
    outage::heal(stage, node, back, GENERATIONS, &stage.world.first.digest).await?;
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
