//! A chain that stands on generation 0 alone while nodes join, lose their disks, restart all at once or
//! without an API server, and while the operator's node dies. Each time the chain heals without intervention.
//! The story prints the time and its parts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;
use k8s_openapi::api::core::v1::{Node as LiveNode, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;

use super::support::cluster::ClusterNode;
use super::support::outage::{self, Baseline, HEAL_DEADLINE};
use super::support::pods::{GENERATION, is_ready};
use super::support::stage::condition;
use super::support::{Node, Stage, Story, When, daemon_sets, seed, serving, up, wait};

const DEADLINE: Duration = Duration::from_mins(4);
const GENERATIONS: i32 = 3;
/// The node that joins.
const JOINING_NODE: &str = "n4";

pub fn story() -> Story {
    Story { name: "seed_heals", when: When::Last, operator: true, play: |stage| Box::pin(play(stage)) }
}

async fn play(stage: Arc<Stage>) -> Result<()> {
    if !stage.world.local {
        stage.skip("the story cannot add a node to a kind cluster or stop its API server");
        return Ok(());
    }
    let joining = ClusterNode::new(&std::env::var("QUINISTRY_E2E_CLUSTER")?, JOINING_NODE);
    let result = up::without_shared_operator(&stage, Box::pin(heal(&stage, &joining))).await;
    // Whatever happened, the next story finds three nodes, and the bootstrap images.
    let nodes = Api::<LiveNode>::all(stage.world.client.clone());
    if nodes.get_opt(JOINING_NODE).await?.is_some() {
        joining.remove().await?;
        nodes.delete(JOINING_NODE, &DeleteParams::default()).await?;
    }
    outage::repair_nodes(&stage).await?;
    seed::load_bootstrap_images(&stage).await?;
    result
}

async fn heal(stage: &Stage, joining: &ClusterNode) -> Result<()> {
    seed::wipe_all_nodes(stage).await?;
    up::raise(stage, &stage.world.first.path).await?;
    let operator = up::operator(stage, "the operator is Ready", |_| true).await?;
    let taken = node_of(&operator).context("the operator is on a node")?.to_owned();
    log_requests(stage).await?;

    node_joins(stage, joining).await?;
    let spare = stage.world.nodes.iter().find(|node| node.name() != taken).context("another node exists")?;
    node_loses_disk(stage, &**spare).await?;
    all_nodes_restart(stage).await?;
    node_restarts_without_api_server(stage, &**spare).await?;
    operator_node_dies(stage).await?;
    up::down(stage).await.map(drop)
}

/// Makes generation 0 log its requests. The operator keeps fields that other managers add to a `DaemonSet`.
async fn log_requests(stage: &Stage) -> Result<()> {
    let name = format!("{}-gen0", up::NAME);
    let patch = json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet",
        "spec": {"template": {"spec": {"containers": [
            {"name": "quinistry", "env": [{"name": "RUST_LOG", "value": "info,quinistry=debug"}]},
        ]}}},
    });
    stage.daemon_sets().patch(&name, &PatchParams::apply("story").force(), &Patch::Apply(patch)).await?;
    wait::until(
        &stage.daemon_sets(),
        &name,
        DEADLINE,
        "generation 0 logs requests",
        daemon_sets::is_rolled_out,
    )
    .await?;
    stage.until_ready(up::NAME, DEADLINE).await.map(drop)
}

async fn node_joins(stage: &Stage, joining: &ClusterNode) -> Result<()> {
    let baseline = Baseline::except(stage, &[JOINING_NODE], up::NAME).await?;
    let began = Timestamp::now();
    joining.create().await?;
    let back = outage::until_node_ready(stage, joining, began).await?;
    until_complete(stage, &[joining], back, "the node joined").await?;
    baseline.check_unchanged(stage, &[JOINING_NODE], up::NAME).await?;
    let layer = seed::layer(stage, joining, &stage.world.first.digest).await?;
    seed::check_fetched(joining, "", &layer.digest).await
}

async fn node_loses_disk(stage: &Stage, node: &dyn Node) -> Result<()> {
    let baseline = Baseline::except(stage, &[node.name()], up::NAME).await?;
    let layer = seed::layer(stage, node, &stage.world.first.digest).await?;
    let began = Timestamp::now();
    node.stop().await?;
    node.wipe().await?;
    node.start().await?;
    let back = outage::until_node_ready(stage, node, began).await?;
    // No other client has asked generation 0 yet: its log is new, and the story asks afterwards.
    let times = wait::eventually(HEAL_DEADLINE, "generation 0 has sent its layer", || async {
        let times = seed::count_sent(stage, node, &layer).await?;
        ensure!(times > 0, "no client has asked for {}", layer.digest);
        Ok(times)
    })
    .await?;
    stage.log(format_args!("generation 0 on {} has sent {} bytes {times} times", node.name(), layer.size));
    until_complete(stage, &[node], back, "the node lost its disk").await?;
    baseline.check_unchanged_but_ready(stage, &[node.name()], up::NAME).await?;
    seed::check_fetched(node, "", &layer.digest).await
}

async fn all_nodes_restart(stage: &Stage) -> Result<()> {
    let began = Timestamp::now();
    try_join_all(stage.world.nodes.iter().map(|node| node.stop())).await?;
    try_join_all(stage.world.nodes.iter().map(|node| node.start())).await?;
    let mut back = Instant::now();
    for node in &stage.world.nodes {
        back = outage::until_node_ready(stage, &**node, began).await?;
    }
    let all: Vec<&dyn Node> = stage.world.nodes.iter().map(|node| &**node).collect();
    until_complete(stage, &all, back, "all nodes were restarted at once").await
}

async fn node_restarts_without_api_server(stage: &Stage, node: &dyn Node) -> Result<()> {
    let baseline = Baseline::except(stage, &[node.name()], up::NAME).await?;
    outage::api_server("stop").await?;
    // Whatever the checks find, the API server must come back.
    let checked = restart_during_outage(stage, node).await;
    outage::api_server("start").await?;
    let began = Timestamp::now();
    outage::until_api_server_ready(stage).await?;
    checked?;
    let back = outage::until_node_ready(stage, node, began).await?;
    until_complete_within(
        outage::API_RECOVERY_DEADLINE,
        stage,
        &[node],
        back,
        "the node was restarted without an API server",
    )
    .await?;
    baseline.check_unchanged_but_ready(stage, &[node.name()], up::NAME).await
}

/// Restarts the node, and checks that the others continue to serve.
async fn restart_during_outage(stage: &Stage, node: &dyn Node) -> Result<()> {
    node.stop().await?;
    node.start().await?;
    let ports = stage.base_port - 1..stage.base_port + GENERATIONS;
    for other in stage.world.nodes.iter().filter(|other| other.name() != node.name()) {
        serving::check_node(&**other, ports.clone(), &stage.world.first.digest).await?;
    }
    Ok(())
}

async fn operator_node_dies(stage: &Stage) -> Result<()> {
    let operator = up::operator(stage, "the operator is Ready", |_| true).await?;
    let name = node_of(&operator).context("the operator is on a node")?.to_owned();
    // The operator may be on the node that has joined.
    let joining = ClusterNode::new(&std::env::var("QUINISTRY_E2E_CLUSTER")?, JOINING_NODE);
    let node = stage.world.node(&name).unwrap_or(&joining);
    let died = Instant::now();
    node.stop().await?;
    outage::until_not_ready(stage, node).await?;
    let lost = died.elapsed();
    let next =
        up::operator(stage, "an operator is Ready elsewhere", |pod| node_of(pod) != Some(&name)).await?;
    stage.log(format_args!(
        "the operator's node {name} died; the API reported it after {:.1} s, and the next operator was Ready on {} after \
         {:.1} s",
        lost.as_secs_f32(),
        node_of(&next).unwrap_or_default(),
        died.elapsed().as_secs_f32()
    ));
    let ports = stage.base_port - 1..stage.base_port + GENERATIONS;
    for other in stage.world.nodes.iter().filter(|other| other.name() != name) {
        serving::check_node(&**other, ports.clone(), &stage.world.first.digest).await?;
    }
    // The dead operator's last message may have named another node.
    wait::until(&stage.resources(), up::NAME, DEADLINE, &format!("{} names {name}", up::NAME), |one| {
        condition(one, "Degraded")
            .is_some_and(|degraded| degraded.reason == "NodesNotReady" && degraded.message.contains(&name))
    })
    .await?;
    let began = Timestamp::now();
    node.start().await?;
    let back = outage::until_node_ready(stage, node, began).await?;
    until_complete(stage, &[node], back, "the node of the operator came back").await
}

/// Waits until nodes serve the digest from all generations and the resource is Ready. Prints the time, and
/// the times of each generation's pod on each node.
async fn until_complete(stage: &Stage, nodes: &[&dyn Node], back: Instant, why: &str) -> Result<()> {
    until_complete_within(HEAL_DEADLINE, stage, nodes, back, why).await
}

async fn until_complete_within(
    deadline: Duration,
    stage: &Stage,
    nodes: &[&dyn Node],
    back: Instant,
    why: &str,
) -> Result<()> {
    let zero = Timestamp::now().as_second() - i64::try_from(back.elapsed().as_secs())?;
    let count = usize::try_from(GENERATIONS)? + 1;
    let mut lines = Vec::new();
    for node in nodes {
        let here = ListParams::default().fields(&format!("spec.nodeName={}", node.name()));
        let what = format!("{count} generations are Ready on {}", node.name());
        let there = |pods: &[Pod]| pods.len() == count && pods.iter().all(is_ready);
        wait::until_all(&stage.pods(), &here, deadline, &what, there).await?;
        let ports = stage.base_port - 1..stage.base_port + GENERATIONS;
        let digest = &stage.world.first.digest;
        wait::eventually(deadline, "all generations serve the digest", || {
            serving::check_node(*node, ports.clone(), digest)
        })
        .await?;
        // The pods' states may have been from before the outage.
        let pods = wait::until_all(&stage.pods(), &here, deadline, &what, there).await?;
        lines.push(format!("{}: {}", node.name(), pod_times(&pods, zero)));
    }
    let took = back.elapsed();
    stage.until_ready(up::NAME, DEADLINE.max(deadline)).await?;
    stage.until(up::NAME, "Degraded", "False", "AsExpected", DEADLINE.max(deadline)).await?;
    let known = back.elapsed();
    up::operator(stage, "the operator is Ready", |_| true).await?;
    stage.log(format_args!(
        "{why}: pods Ready {:.1} s after the node, resource Ready after {:.1} s, operator Ready after {:.1} s",
        took.as_secs_f32(),
        known.as_secs_f32(),
        back.elapsed().as_secs_f32()
    ));
    for line in lines {
        stage.log(line);
    }
    ensure!(took < deadline, "healing took {took:?}");
    Ok(())
}

/// Formats when each generation's pod was created, started and Ready, in seconds since `zero`.
fn pod_times(pods: &[Pod], zero: i64) -> String {
    let since = |at: Option<Timestamp>| at.map_or("?".into(), |at| format!("{:+}", at.as_second() - zero));
    let one = |pod: &Pod| {
        let status = pod.status.as_ref();
        let made = pod.metadata.creation_timestamp.as_ref().map(|at| at.0);
        let state = status.and_then(|status| status.container_statuses.as_ref()?.first()?.state.as_ref());
        let started = state.and_then(|state| Some(state.running.as_ref()?.started_at.as_ref()?.0));
        let conditions = status.into_iter().flat_map(|status| status.conditions.iter().flatten());
        let mut ready = conditions.filter(|one| one.type_ == "Ready");
        let ready = ready.next().and_then(|ready| Some(ready.last_transition_time.as_ref()?.0));
        let generation = pod.labels().get(GENERATION).cloned().unwrap_or_default();
        (
            generation.clone(),
            format!("{generation} made {} started {} Ready {}", since(made), since(started), since(ready)),
        )
    };
    let mut all: Vec<_> = pods.iter().map(one).collect();
    all.sort();
    all.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join("; ")
}

fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref())
}
