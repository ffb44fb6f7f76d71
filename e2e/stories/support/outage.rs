//! Nodes that fail and return: their state in the API, the time until their generations are healthy again,
//! and checks that other nodes are not affected.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::jiff::Timestamp;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};

use super::pods::{is_ready, restarts};
use super::stage::condition;
use super::{Node, Stage, operator, serving, shell, wait};

/// Deadline for the API server to mark a dead node by its missing heartbeats, or for a new kubelet to make
/// its certificates and report.
pub const NODE_STATE_DEADLINE: Duration = Duration::from_secs(90);

/// Deadline for healing. The goal is 15 s after the node is Ready, and the story prints the time. Test machines are
/// slow, and the kubelet's third pause after a failed pull alone is 40 s.
pub const HEAL_DEADLINE: Duration = Duration::from_mins(2);

/// Deadline for recovery after an outage of the API server. Kubernetes itself retries with growing, random
/// pauses: for each kind up to a minute after the last failure, and the `DaemonSet` controller for each set
/// while its cache of the pods is old, which was measured to last for 43 s. The greatest pause is far from
/// the usual one. That controller also waits five minutes for the event of a pod that it lost with the
/// server.
pub const API_RECOVERY_DEADLINE: Duration = Duration::from_mins(6);

/// Returns the nodes that a story may break while the operator runs: neither the operator's nor the control
/// plane's.
pub async fn spare_nodes(stage: &Stage) -> Result<Vec<&dyn Node>> {
    let taken = operator_node(stage).await?;
    let control = ListParams::default().labels("node-role.kubernetes.io/control-plane");
    let control = Api::<core::Node>::all(stage.world.client.clone()).list(&control).await?;
    let free = |node: &&dyn Node| {
        Some(node.name()) != taken.as_deref() && control.iter().all(|other| other.name_any() != node.name())
    };
    let all: Vec<&dyn Node> = stage.world.nodes.iter().map(|node| &**node).filter(free).collect();
    ensure!(!all.is_empty(), "no spare node: the story needs three nodes");
    Ok(all)
}

/// Returns the node of the operator, if that runs in the cluster.
pub async fn operator_node(stage: &Stage) -> Result<Option<String>> {
    if !stage.operator().in_cluster() {
        return Ok(None);
    }
    let pod = operator::pod(&stage.world).await?;
    Ok(Some(pod.spec.and_then(|spec| spec.node_name).context("the operator is on no node")?))
}

/// Runs kubectl as an administrator would, and returns its output.
pub async fn kubectl(arguments: &[&str]) -> Result<String> {
    shell::text(shell::command(["kubectl"].iter().chain(arguments))).await
}

/// Stops or starts the API server of a cluster on this machine; `word` is `stop` or `start`.
pub async fn api_server(word: &str) -> Result<()> {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("e2e/cluster/apiserver");
    let mut command = shell::command([script.to_string_lossy().as_ref(), word]);
    command.env("QUINISTRY_CLUSTER", std::env::var("QUINISTRY_E2E_CLUSTER")?);
    shell::output(command).await.map(drop)
}

/// Waits until the API server is ready again.
pub async fn until_api_server_ready(stage: &Stage) -> Result<()> {
    wait::eventually(NODE_STATE_DEADLINE, "the API server is ready", || async {
        let request = http::Request::get("/readyz").body(Vec::new())?;
        stage.world.client.request_text(request).await.map(drop).context("it is not ready")
    })
    .await
}

/// Waits until the API reports that a node is not Ready.
pub async fn until_not_ready(stage: &Stage, node: &dyn Node) -> Result<()> {
    let nodes = Api::<core::Node>::all(stage.world.client.clone());
    let what = format!("node {} is not Ready", node.name());
    wait::until(&nodes, node.name(), NODE_STATE_DEADLINE, &what, |node| last_ready(node).is_none())
        .await
        .map(drop)
}

/// Waits until a node's kubelet has reported after `after` that the node is Ready, and returns the time when
/// this was seen.
pub async fn until_node_ready(stage: &Stage, node: &dyn Node, after: Timestamp) -> Result<Instant> {
    let nodes = Api::<core::Node>::all(stage.world.client.clone());
    let what = format!("node {} is Ready", node.name());
    // The API keeps whole seconds.
    let fresh = |node: &core::Node| last_ready(node).is_some_and(|at| at.as_second() >= after.as_second());
    wait::until(&nodes, node.name(), NODE_STATE_DEADLINE, &what, fresh).await?;
    Ok(Instant::now())
}

/// Returns the time of the kubelet's last report that the node is Ready, unless the node is not Ready.
fn last_ready(node: &core::Node) -> Option<Timestamp> {
    let conditions = node.status.as_ref()?.conditions.as_ref()?;
    let ready = conditions.iter().find(|one| one.type_ == "Ready" && one.status == "True")?;
    Some(ready.last_heartbeat_time.as_ref()?.0)
}

/// Waits until a node serves a digest from all generations of a resource and their pods are Ready, and prints
/// how long that took.
pub async fn until_healed(
    stage: &Stage,
    node: &dyn Node,
    back: Instant,
    generations: i32,
    digest: &str,
) -> Result<()> {
    let here = ListParams::default().fields(&format!("spec.nodeName={}", node.name()));
    let what = format!("{generations} generations are Ready on {}", node.name());
    wait::until_all(&stage.pods(), &here, HEAL_DEADLINE, &what, |pods| {
        pods.len() == usize::try_from(generations).unwrap_or_default() && pods.iter().all(is_ready)
    })
    .await?;
    let (ports, what) = (stage.base_port..stage.base_port + generations, "all generations serve the digest");
    wait::eventually(HEAL_DEADLINE, what, || serving::check_node(node, ports.clone(), digest)).await?;
    let took = back.elapsed();
    stage.log(format_args!("healed {:.1} s after {} was Ready", took.as_secs_f32(), node.name()));
    ensure!(took < HEAL_DEADLINE, "healing took {} s", took.as_secs());
    Ok(())
}

/// Checks that the operator reported no unreachable ports. Pods that the operator has not seen yet could be
/// mistaken for such.
pub async fn check_no_false_alarm(stage: &Stage) -> Result<()> {
    let events = Api::<core::Event>::namespaced(stage.world.client.clone(), &stage.namespace);
    let alarms = events.list(&ListParams::default().fields("reason=HostPortUnreachable")).await?.items;
    let messages: Vec<_> = alarms.into_iter().filter_map(|event| event.message).collect();
    ensure!(messages.is_empty(), "HostPortUnreachable reported by mistake: {messages:?}");
    Ok(())
}

/// Repairs the nodes that a story has left broken, so that the next story can use them.
pub async fn repair_nodes(stage: &Stage) -> Result<()> {
    let nodes = Api::<core::Node>::all(stage.world.client.clone());
    for node in &stage.world.nodes {
        let live = nodes.get_opt(node.name()).await?;
        let is_healthy = |live: &core::Node| {
            last_ready(live).is_some() && live.spec.as_ref().and_then(|spec| spec.unschedulable).is_none()
        };
        if live.as_ref().is_some_and(is_healthy) {
            continue;
        }
        let _ = node.reconnect().await;
        node.restart().await?;
        stage.world.load(&**node).await?;
        until_node_ready(stage, &**node, Timestamp::UNIX_EPOCH).await?;
        kubectl(&["uncordon", node.name()]).await?;
    }
    Ok(())
}

/// State that must not change during a story: pods on other nodes, by name with their UIDs and restarts, and
/// the number of writes to each `DaemonSet`.
pub struct Baseline {
    pods: BTreeMap<String, (String, i32)>,
    sets: BTreeMap<String, Option<i64>>,
    /// Time of the last change of the condition Ready.
    ready: Option<Timestamp>,
}

impl Baseline {
    /// Records the state of all nodes except `nodes`.
    pub async fn except(stage: &Stage, nodes: &[&str], resource: &str) -> Result<Self> {
        let all = ListParams::default();
        let elsewhere = |pod: &core::Pod| {
            let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
            node.is_some_and(|node| !nodes.contains(&node))
        };
        let pods = stage.pods().list(&all).await?.items.into_iter().filter(elsewhere);
        let sets = stage.daemon_sets().list(&all).await?;
        let live = stage.resources().get(resource).await?;
        let ready = condition(&live, "Ready").context("the resource has a condition Ready")?;
        ensure!(ready.status == "True", "{resource} is not Ready: {}", ready.message);
        Ok(Self {
            pods: pods.map(|pod| (pod.name_any(), (pod.uid().unwrap_or_default(), restarts(&pod)))).collect(),
            sets: sets.iter().map(|set| (set.name_any(), set.metadata.generation)).collect(),
            ready: Some(ready.last_transition_time.0),
        })
    }

    /// Checks that nothing has changed.
    pub async fn check_unchanged(&self, stage: &Stage, nodes: &[&str], resource: &str) -> Result<()> {
        self.compare(&Self::except(stage, nodes, resource).await?)
    }

    /// Checks that nothing but the condition Ready has changed, which may have been False for a while because
    /// a Ready node lacked a generation.
    pub async fn check_unchanged_but_ready(
        &self,
        stage: &Stage,
        nodes: &[&str],
        resource: &str,
    ) -> Result<()> {
        let now = Self { ready: self.ready, ..Self::except(stage, nodes, resource).await? };
        self.compare(&now)
    }

    /// Returns an error that lists each difference.
    fn compare(&self, now: &Self) -> Result<()> {
        let mut differences = changes(&self.pods, &now.pods);
        differences.extend(changes(&self.sets, &now.sets));
        if self.ready != now.ready {
            differences.push(format!("Ready since {:?}, then since {:?}", self.ready, now.ready));
        }
        ensure!(differences.is_empty(), "other nodes or sets have changed: {}", differences.join("; "));
        Ok(())
    }
}

fn changes<T: PartialEq + std::fmt::Debug>(
    before: &BTreeMap<String, T>,
    after: &BTreeMap<String, T>,
) -> Vec<String> {
    let names: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let change = |name: &String| {
        let (before, after) = (before.get(name), after.get(name));
        (before != after).then(|| format!("{name} was {before:?}, and is {after:?}"))
    };
    names.into_iter().filter_map(change).collect()
}
