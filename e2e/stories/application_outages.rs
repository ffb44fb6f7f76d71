//! An application while nodes and the API server fail: a node loses its disk in the middle of a load into its store, the
//! API server goes away during another load, all nodes restart at once, and a node joins. Nothing is loaded again, and
//! all nodes that run serve the application throughout.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;
use k8s_openapi::api::core::v1::Node as LiveNode;
use k8s_openapi::jiff::Timestamp;
use kube::api::DeleteParams;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::support::application::{Carried, Elsewhere, only_error, parse_bundle, store_pods, store_resource};
use super::support::breaking_proxy::BreakingProxy;
use super::support::bundles::{apply, until_served, until_served_on};
use super::support::cluster::ClusterNode;
use super::support::image_observer::ImageObserver;
use super::support::{Stage, Story, When, outage, seed, shell};

const DEADLINE: Duration = Duration::from_mins(4);
const NAME: &str = "depot";
/// The node that joins.
const JOINING_NODE: &str = "n4";
/// Label of the nodes that may have a store.
const STORE_LABEL: &str = "quinistry.dev/story-store";
/// Bytes of a load after which its way is held: within the first layer.
const BYTES_BEFORE_FAULT: u64 = 3 << 20;

pub fn story() -> Story {
    Story {
        name: "application_outages",
        when: When::Last,
        operator: true,
        play: |stage| Box::pin(play(stage)),
    }
}

async fn play(stage: Arc<Stage>) -> Result<()> {
    if !stage.world.local {
        stage.skip("the story cannot add a node to a kind cluster or stop its API server");
        return Ok(());
    }
    let joining = ClusterNode::new(&std::env::var("QUINISTRY_E2E_CLUSTER")?, JOINING_NODE);
    let result = endure(&stage, &joining).await;
    // Whatever happened, the next story finds three nodes, and the bootstrap images.
    let nodes = Api::<LiveNode>::all(stage.world.client.clone());
    if nodes.get_opt(JOINING_NODE).await?.is_some() {
        joining.remove().await?;
        nodes.delete(JOINING_NODE, &DeleteParams::default()).await?;
    }
    for node in &stage.world.nodes {
        outage::kubectl(&["label", "node", node.name(), &format!("{STORE_LABEL}-")]).await?;
    }
    if result.is_err() {
        outage::repair_nodes(&stage).await?;
        seed::load_bootstrap_images(&stage).await?;
    }
    result
}

async fn endure(stage: &Stage, joining: &ClusterNode) -> Result<()> {
    let elsewhere = Elsewhere::start(stage).await?;
    let mut versions = Vec::new();
    for version in ["1.0", "1.1", "1.2"] {
        versions.push(elsewhere.carry(stage, version).await?);
    }
    let _files = elsewhere.close();
    // A store's node is stopped below, which may not be that of the operator.
    for node in outage::spare_nodes(stage).await?.iter().take(2) {
        outage::kubectl(&["label", "node", node.name(), &format!("{STORE_LABEL}=yes"), "--overwrite"])
            .await?;
    }
    let mut resource = store_resource(stage, NAME, 2);
    resource["spec"]["store"]["nodeSelector"] = json!({STORE_LABEL: "yes"});
    stage.apply(&resource).await?;
    stage.until_ready(NAME, DEADLINE).await?;
    stage.until(NAME, "StoreReady", "True", "StoresReady", DEADLINE).await?;
    apply(stage, &versions[0].load(stage, NAME, "shop").await?).await?;
    until_served(stage, &versions[0]).await?;
    let observer = ImageObserver::start(stage, stage.base_port);
    observer.add(&versions[0]);
    versions[0].run(stage, stage.base_port).await?;

    let bundle = store_node_loses_disk(stage, &observer, &versions[1]).await?;
    apply(stage, &bundle).await?;
    until_served(stage, &versions[1]).await?;
    observer.add(&versions[1]);
    let bundle = api_server_away(stage, &versions).await?;
    all_nodes_restart(stage, &observer, &versions[1]).await?;
    // The list before the last one is not kept.
    observer.remove(&versions[0]);
    apply(stage, &bundle).await?;
    node_joins(stage, joining, &versions[2]).await?;
    observer.check(stage).await?;
    // Pods of a node that is gone would be deleted by the collector of pods, a minute later.
    stage.empty().await
}

/// Loads a version through a store whose node stops in the middle of the load, and comes back without its disk. Returns
/// the `Bundle` of the version.
async fn store_node_loses_disk(stage: &Stage, observer: &ImageObserver, carried: &Carried) -> Result<Value> {
    let proxy = BreakingProxy::start().await?;
    let mut command = carried.load_command(stage, NAME, "shop")?;
    command.env("KUBECONFIG", proxy.kubeconfig());
    proxy.hold_at(BYTES_BEFORE_FAULT);
    let loading = shell::outputs(command);
    // A load takes the first of the ready pods by name.
    let mut pods = store_pods(stage).await?;
    pods.sort_by_key(ResourceExt::name_any);
    let pod = pods.first().context("a store is ready")?;
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).context("a pod has a node")?;
    let node = stage.world.node(node)?;
    // Until the API server knows that the node is gone, the Service leads to its store, too, and nodes that meet that one
    // deny an image for a moment.
    let of_others = observer.allow_silence_of_all();
    let mut silence = None;
    let losing = async {
        proxy.until_sent(BYTES_BEFORE_FAULT).await;
        silence = Some(observer.allow_silence(&[node.name()]));
        node.stop().await?;
        node.wipe().await?;
        proxy.release();
        anyhow::Ok(())
    };
    let ((yaml, errors), ()) = tokio::try_join!(loading, losing)?;
    ensure!(errors.contains("going on with"), "the load did not go to another store: {errors}");
    let moved = errors.lines().find(|line| line.contains("going on with")).unwrap_or_default();
    stage.log(moved);
    outage::until_not_ready(stage, node).await?;
    drop(of_others);

    let began = (Timestamp::now(), Instant::now());
    node.start().await?;
    stage.world.load(node).await?;
    outage::until_node_ready(stage, node, began.0).await?;
    stage.until_ready(NAME, DEADLINE).await?;
    stage.until(NAME, "StoreReady", "True", "StoresReady", DEADLINE).await?;
    drop(silence);
    stage.log(format_args!(
        "{} has everything again after {:.1} s",
        node.name(),
        began.1.elapsed().as_secs_f32()
    ));
    parse_bundle(&yaml)
}

/// Stops the API server in the middle of a load of the last version. Nodes go on to answer names, a load that begins
/// fails with a message, and the one that had begun ends well when the API server is back. Returns the `Bundle`.
async fn api_server_away(stage: &Stage, versions: &[Carried]) -> Result<Value> {
    let [.., served, carried] = versions else { anyhow::bail!("three versions") };
    let proxy = BreakingProxy::start().await?;
    let mut command = carried.load_command(stage, NAME, "shop")?;
    command.env("KUBECONFIG", proxy.kubeconfig());
    proxy.hold_at(BYTES_BEFORE_FAULT);
    let began = Instant::now();
    let loading = shell::text(command);
    let outage = async {
        proxy.until_sent(BYTES_BEFORE_FAULT).await;
        outage::api_server("stop").await?;
        proxy.release();
        let checked = check_without_api_server(stage, served).await;
        outage::api_server("start").await?;
        checked?;
        outage::until_api_server_ready(stage).await
    };
    let (yaml, ()) = tokio::try_join!(loading, outage)?;
    stage.log(format_args!(
        "loaded across an outage of the API server: {:.1} s",
        began.elapsed().as_secs_f32()
    ));
    carried.check_loaded(stage, NAME).await?;
    parse_bundle(&yaml)
}

async fn check_without_api_server(stage: &Stage, served: &Carried) -> Result<()> {
    let errors = shell::failure(served.load_command(stage, NAME, "shop")?).await?;
    stage.log(format_args!("no API server: {}", only_error(&errors)?));
    until_served(stage, served).await
}

/// Restarts all nodes at once. They serve everything again by themselves.
async fn all_nodes_restart(stage: &Stage, observer: &ImageObserver, served: &Carried) -> Result<()> {
    let silence = observer.allow_silence_of_all();
    let began = (Timestamp::now(), Instant::now());
    let nodes = &stage.world.nodes;
    try_join_all(nodes.iter().map(|node| node.stop())).await?;
    try_join_all(nodes.iter().map(|node| node.start())).await?;
    for node in nodes {
        outage::until_node_ready(stage, &**node, began.0).await?;
    }
    until_served(stage, served).await?;
    stage.log(format_args!("all nodes restarted, and serve after {:.1} s", began.1.elapsed().as_secs_f32()));
    stage.until_ready(NAME, DEADLINE).await?;
    stage.until(NAME, "StoreReady", "True", "StoresReady", DEADLINE).await?;
    drop(silence);
    served.check_loaded(stage, NAME).await
}

/// Adds a node, which pulls the application from its own localhost.
async fn node_joins(stage: &Stage, joining: &ClusterNode, served: &Carried) -> Result<()> {
    let began = Instant::now();
    joining.create().await?;
    stage.world.load(joining).await?;
    until_served(stage, served).await?;
    until_served_on(stage, joining, served).await?;
    served.run_on(stage, stage.base_port, &json!({}), stage.world.node_count() + 1).await?;
    stage.log(format_args!(
        "{JOINING_NODE} joined, and runs the application: {:.1} s",
        began.elapsed().as_secs_f32()
    ));
    Ok(())
}
