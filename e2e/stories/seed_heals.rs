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
use super::support::outage::{self, HEALED, Others};
use super::support::pods::{GENERATION, is_ready};
use super::support::stage::condition;
use super::support::{Node, Stage, Story, When, daemon_sets, seed, serving, up, wait};

const DEADLINE: Duration = Duration::from_secs(90);
const GENERATIONS: i32 = 3;
/// The node that joins.
const FOURTH: &str = "n4";

pub fn story() -> Story {
    Story { name: "seed_heals", when: When::Last, operator: true, play: |stage| Box::pin(play(stage)) }
}

async fn play(stage: Arc<Stage>) -> Result<()> {
    if !stage.world.local {
        stage.skip("nobody adds a node there, nor stops the API server");
        return Ok(());
    }
    let fourth = ClusterNode::new(&std::env::var("QUINISTRY_E2E_CLUSTER")?, FOURTH);
    let result = up::alone(&stage, Box::pin(heal(&stage, &fourth))).await;
    // Whatever happened, the next story finds three nodes, and the bootstrap images.
    let nodes = Api::<LiveNode>::all(stage.world.client.clone());
    if nodes.get_opt(FOURTH).await?.is_some() {
        fourth.remove().await?;
        nodes.delete(FOURTH, &DeleteParams::default()).await?;
    }
    outage::recover(&stage).await?;
    seed::dress(&stage).await?;
    result
}

async fn heal(stage: &Stage, fourth: &ClusterNode) -> Result<()> {
    seed::bare(stage).await?;
    up::raise(stage, &stage.world.first.path).await?;
    let operator = up::operator(stage, "the operator is Ready", |_| true).await?;
    let taken = node_of(&operator).context("the operator is on a node")?.to_owned();
    tell_requests(stage).await?;

    joins(stage, fourth).await?;
    let victim = stage.world.nodes.iter().find(|node| node.name() != taken).context("there are others")?;
    loses_its_disk(stage, &**victim).await?;
    all_at_once(stage).await?;
    without_an_api_server(stage, &**victim).await?;
    operator_dies(stage).await?;
    up::down(stage).await.map(drop)
}

/// Makes generation 0 log its requests. The operator keeps fields that other managers add to a `DaemonSet`.
async fn tell_requests(stage: &Stage) -> Result<()> {
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

async fn joins(stage: &Stage, fourth: &ClusterNode) -> Result<()> {
    let others = Others::than(stage, &[FOURTH], up::NAME).await?;
    let began = Timestamp::now();
    fourth.create().await?;
    let back = outage::until_back(stage, fourth, began).await?;
    whole(stage, &[fourth], back, "it joined").await?;
    others.unmoved(stage, &[FOURTH], up::NAME).await?;
    let layer = seed::layer(stage, fourth, &stage.world.first.digest).await?;
    seed::was_fetched(fourth, "", &layer.digest).await
}

async fn loses_its_disk(stage: &Stage, node: &dyn Node) -> Result<()> {
    let others = Others::than(stage, &[node.name()], up::NAME).await?;
    let layer = seed::layer(stage, node, &stage.world.first.digest).await?;
    let began = Timestamp::now();
    node.stop().await?;
    node.wipe().await?;
    node.start().await?;
    let back = outage::until_back(stage, node, began).await?;
    // No other client has asked generation 0 yet: its log is new, and the story asks afterwards.
    let times = wait::eventually(HEALED, "generation 0 has sent its layer", || async {
        let times = seed::sent(stage, node, &layer).await?;
        ensure!(times > 0, "it was not asked for {}", layer.digest);
        Ok(times)
    })
    .await?;
    stage.say(format_args!("generation 0 on {} has sent {} bytes {times} times", node.name(), layer.size));
    whole(stage, &[node], back, "its disk was lost").await?;
    others.unharmed(stage, &[node.name()], up::NAME).await?;
    seed::was_fetched(node, "", &layer.digest).await
}

async fn all_at_once(stage: &Stage) -> Result<()> {
    let began = Timestamp::now();
    try_join_all(stage.world.nodes.iter().map(|node| node.stop())).await?;
    try_join_all(stage.world.nodes.iter().map(|node| node.start())).await?;
    let mut back = Instant::now();
    for node in &stage.world.nodes {
        back = outage::until_back(stage, &**node, began).await?;
    }
    let all: Vec<&dyn Node> = stage.world.nodes.iter().map(|node| &**node).collect();
    whole(stage, &all, back, "all nodes were restarted at once").await
}

async fn without_an_api_server(stage: &Stage, node: &dyn Node) -> Result<()> {
    let others = Others::than(stage, &[node.name()], up::NAME).await?;
    outage::api_server("stop").await?;
    // Whatever the checks find, the API server must come back.
    let meanwhile = away(stage, node).await;
    outage::api_server("start").await?;
    let began = Timestamp::now();
    outage::until_answered(stage).await?;
    meanwhile?;
    let back = outage::until_back(stage, node, began).await?;
    whole_within(outage::RETURNED, stage, &[node], back, "it was restarted without an API server").await?;
    others.unharmed(stage, &[node.name()], up::NAME).await
}

/// Restarts the node, and checks that the others continue to serve.
async fn away(stage: &Stage, node: &dyn Node) -> Result<()> {
    node.stop().await?;
    node.start().await?;
    let ports = stage.base_port - 1..stage.base_port + GENERATIONS;
    for other in stage.world.nodes.iter().filter(|other| other.name() != node.name()) {
        serving::on(&**other, ports.clone(), &stage.world.first.digest).await?;
    }
    Ok(())
}

async fn operator_dies(stage: &Stage) -> Result<()> {
    let operator = up::operator(stage, "the operator is Ready", |_| true).await?;
    let name = node_of(&operator).context("the operator is on a node")?.to_owned();
    // The operator may be on the node that has joined.
    let fourth = ClusterNode::new(&std::env::var("QUINISTRY_E2E_CLUSTER")?, FOURTH);
    let node = stage.world.node(&name).unwrap_or(&fourth);
    let died = Instant::now();
    node.stop().await?;
    outage::until_lost(stage, node).await?;
    let lost = died.elapsed();
    let next =
        up::operator(stage, "an operator is Ready elsewhere", |pod| node_of(pod) != Some(&name)).await?;
    stage.say(format_args!(
        "the operator's node {name} died; it was given up after {:.1} s, and the next operator was Ready on {} after \
         {:.1} s",
        lost.as_secs_f32(),
        node_of(&next).unwrap_or_default(),
        died.elapsed().as_secs_f32()
    ));
    let ports = stage.base_port - 1..stage.base_port + GENERATIONS;
    for other in stage.world.nodes.iter().filter(|other| other.name() != name) {
        serving::on(&**other, ports.clone(), &stage.world.first.digest).await?;
    }
    // The dead operator's last message may have named another node.
    wait::until(&stage.resources(), up::NAME, DEADLINE, &format!("{} names {name}", up::NAME), |one| {
        condition(one, "Degraded")
            .is_some_and(|degraded| degraded.reason == "NodesNotReady" && degraded.message.contains(&name))
    })
    .await?;
    let began = Timestamp::now();
    node.start().await?;
    let back = outage::until_back(stage, node, began).await?;
    whole(stage, &[node], back, "it came back").await
}

/// Waits until nodes serve the digest from all generations and the resource is Ready. Prints the time, and
/// the times of each generation's pod on each node.
async fn whole(stage: &Stage, nodes: &[&dyn Node], back: Instant, why: &str) -> Result<()> {
    whole_within(HEALED, stage, nodes, back, why).await
}

async fn whole_within(
    patience: Duration,
    stage: &Stage,
    nodes: &[&dyn Node],
    back: Instant,
    why: &str,
) -> Result<()> {
    let zero = Timestamp::now().as_second() - i64::try_from(back.elapsed().as_secs())?;
    let count = usize::try_from(GENERATIONS)? + 1;
    let mut told = Vec::new();
    for node in nodes {
        let here = ListParams::default().fields(&format!("spec.nodeName={}", node.name()));
        let what = format!("{count} generations are Ready on {}", node.name());
        let there = |pods: &[Pod]| pods.len() == count && pods.iter().all(is_ready);
        wait::until_all(&stage.pods(), &here, patience, &what, there).await?;
        let ports = stage.base_port - 1..stage.base_port + GENERATIONS;
        let digest = &stage.world.first.digest;
        wait::eventually(patience, "they serve the digest", || serving::on(*node, ports.clone(), digest))
            .await?;
        // The pods' states may have been from before the outage.
        let pods = wait::until_all(&stage.pods(), &here, patience, &what, there).await?;
        told.push(format!("{}: {}", node.name(), times(&pods, zero)));
    }
    let took = back.elapsed();
    stage.until_ready(up::NAME, DEADLINE.max(patience)).await?;
    stage.until(up::NAME, "Degraded", "False", "AsExpected", DEADLINE.max(patience)).await?;
    let known = back.elapsed();
    up::operator(stage, "the operator is Ready", |_| true).await?;
    stage.say(format_args!(
        "{why}: whole {:.1} s after it was Ready, known to be after {:.1} s, operated after {:.1} s",
        took.as_secs_f32(),
        known.as_secs_f32(),
        back.elapsed().as_secs_f32()
    ));
    for line in told {
        stage.say(line);
    }
    ensure!(took < patience, "healing took {took:?}");
    Ok(())
}

/// Formats when each generation's pod was created, started and Ready, in seconds since `zero`.
fn times(pods: &[Pod], zero: i64) -> String {
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
