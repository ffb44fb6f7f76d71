//! Two operators as the chart installs them, on two nodes. The leader's node is disconnected, and the other
//! operator leads within 20 seconds; the former leader returns, ends, and stands by.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{ListParams, LogParams};
use kube::{Api, ResourceExt as _};

use super::support::operator::{self, NAMESPACE};
use super::support::pods::restarts;
use super::support::{Node, Stage, Story, When, lease, wait};

const DEADLINE: Duration = Duration::from_mins(4);
/// Documented bound. The story asserts twice this time, since test machines are slow, and prints the time.
const TAKEOVER_BOUND: Duration = Duration::from_secs(20);

pub fn story() -> Story {
    Story { name: "two_operators", when: When::Last, operator: true, play: |stage| Box::pin(play(stage)) }
}

async fn play(stage: Arc<Stage>) -> Result<()> {
    if !stage.operator().in_cluster() {
        stage.skip("the operator runs beside the stories");
        return Ok(());
    }
    let tested = disconnect_leader(&stage).await;
    // Without values: one operator, as the other stories expect.
    let restored = operator::upgrade(&stage.world, &[]).await;
    let alone = operator::pods(&stage.world, 1).await;
    tested?;
    restored?;
    alone.map(drop)
}

async fn disconnect_leader(stage: &Stage) -> Result<()> {
    let world = &stage.world;
    operator::upgrade(world, &["replicas=2"]).await?;
    let pods = operator::pods(world, 2).await?;
    let nodes_of_pods: BTreeSet<_> = pods.iter().map(node_of).collect();
    ensure!(nodes_of_pods.len() == 2, "both operators are on {nodes_of_pods:?}");
    let budgets = Api::<PodDisruptionBudget>::namespaced(world.client.clone(), NAMESPACE);
    let all = ListParams::default();
    wait::until_all(&budgets, &all, DEADLINE, "one of the two may be disrupted", |budgets| {
        budgets
            .iter()
            .any(|one| one.status.as_ref().is_some_and(|status| status.disruptions_allowed == Some(1)))
    })
    .await?;

    let leases = Api::<Lease>::namespaced(world.client.clone(), NAMESPACE);
    let name = leases.list(&all).await?.items.first().map(kube::ResourceExt::name_any);
    let name = name.context("the operators have made a Lease")?;
    let leader = lease::until_held(&leases, &name, DEADLINE, |_| true).await?;
    stage.apply(&stage.resource("twins", 2)).await?;
    stage.until_ready("twins", DEADLINE).await?;

    let pod = pods.iter().find(|pod| pod.name_any() == leader).context("a pod holds the Lease")?;
    let node =
        world.nodes.iter().find(|node| Some(node.name()) == node_of(pod)).context("the pod is on a node")?;
    node.disconnect().await?;
    let followed = until_takeover(stage, &leases, &name, &leader).await;
    let mended = node.reconnect().await;
    followed?;
    mended?;
    until_standby(stage, &**node, pod).await
}

/// Waits until the other operator leads and carries out a change.
async fn until_takeover(stage: &Stage, leases: &Api<Lease>, name: &str, leader: &str) -> Result<()> {
    let cut = Instant::now();
    let next = lease::until_held(leases, name, DEADLINE, |holder| holder != leader).await?;
    let took = cut.elapsed();
    stage.log(format_args!("{leader} is cut off; {next} leads after {:.1} s", took.as_secs_f32()));
    ensure!(took < TAKEOVER_BOUND * 2, "takeover took {took:?}");
    // Generation 3 goes to all Ready nodes. The API still reports the disconnected node as Ready.
    stage.apply(&stage.resource("twins", 3)).await?;
    let what = "the next leader has handled the third generation";
    wait::until(&stage.resources(), "twins", DEADLINE, what, |twins| {
        twins.status.as_ref().map(|status| status.observed_generation) == twins.metadata.generation
    })
    .await
    .map(drop)
}

/// Waits until the former leader has ended and restarted, and the resource is Ready.
async fn until_standby(stage: &Stage, node: &dyn Node, pod: &Pod) -> Result<()> {
    let world = &stage.world;
    let pods = Api::<Pod>::namespaced(world.client.clone(), NAMESPACE);
    let name = pod.name_any();
    let what = format!("the operator on {} has ended and restarted", node.name());
    wait::until(&pods, &name, DEADLINE, &what, |pod| {
        let ready = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
        restarts(pod) > 0 && ready.is_some_and(|all| all.iter().all(|one| one.ready))
    })
    .await?;
    let last = LogParams { previous: true, ..LogParams::default() };
    let log = pods.logs(&name, &last).await?;
    ensure!(log.contains("leads now"), "the former leader's log does not name the leader: {log}");
    stage.until_ready("twins", DEADLINE).await?;
    stage.log("the former leader has ended by itself, and is the standby");
    Ok(())
}

fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref())
}
