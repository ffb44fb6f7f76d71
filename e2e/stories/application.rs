//! An application of two images in a cluster that reaches no registry: carried in one file, loaded through a
//! port-forward, named by a `Bundle`, and pulled by every node from its own localhost. It is upgraded and rolled back by
//! one `apply` each, and a node that has lost everything gets it again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};

use super::support::application::{Carried, Elsewhere, IMAGES, answered_digest};
use super::support::outage::{self};
use super::support::{Node, Stage, Story, When, wait};

const DEADLINE: Duration = Duration::from_mins(4);

/// The kubelet brings a changed ConfigMap into pods within its sync period, by default a minute, and a few seconds.
const NAMES_DEADLINE: Duration = Duration::from_mins(4);

const NAME: &str = "depot";

pub fn story() -> Story {
    Story { name: "application", when: When::Last, operator: true, play: |stage| Box::pin(play(stage)) }
}

async fn play(stage: Arc<Stage>) -> Result<()> {
    let node = *outage::spare_nodes(&stage).await?.last().context("a spare node exists")?;
    let result = carry(&stage, node).await;
    if result.is_err() {
        outage::repair_nodes(&stage).await?;
    }
    result
}

async fn carry(stage: &Stage, node: &dyn Node) -> Result<()> {
    let elsewhere = Elsewhere::start(stage).await?;
    let (old, new) = (elsewhere.carry(stage, "1.0").await?, elsewhere.carry(stage, "1.1").await?);
    // Nothing of the following reaches the registry that the images come from.
    let _files = elsewhere.close();

    let began = Instant::now();
    let mut resource = stage.resource(NAME, 2);
    resource["spec"]["digest"] = json!(stage.world.first.digest);
    resource["spec"]["store"] =
        json!({"copies": 2, "path": format!("/var/lib/quinistry/{}", stage.namespace)});
    stage.apply(&resource).await?;
    stage.until_ready(NAME, DEADLINE).await?;
    stage.until(NAME, "StoreReady", "True", "StoresReady", DEADLINE).await?;
    stage.log(format_args!("a store of two copies: {:.1} s", began.elapsed().as_secs_f32()));

    let began = Instant::now();
    let bundle = old.load(stage, NAME, "shop").await?;
    stage.log(format_args!("loaded: {:.1} s", began.elapsed().as_secs_f32()));
    apply(stage, &bundle).await?;
    until_served(stage, &old).await?;
    old.run(stage, stage.base_port).await?;
    stage.log(format_args!("from load to pods on every node: {:.1} s", began.elapsed().as_secs_f32()));
    until_available(stage, "shop").await?;

    // An upgrade, and the way back: the former version is still there, and is not loaded again.
    let upgraded = new.load(stage, NAME, "shop").await?;
    apply(stage, &upgraded).await?;
    until_served(stage, &new).await?;
    new.run(stage, stage.base_port).await?;
    apply(stage, &bundle).await?;
    until_served(stage, &old).await?;
    old.run(stage, stage.base_port).await?;
    stage.log("upgraded, and rolled back by one apply");

    // A node without images, and without its part of the store if it had one.
    node.stop().await?;
    node.wipe().await?;
    outage::until_not_ready(stage, node).await?;
    for other in stage.world.nodes.iter().filter(|other| other.name() != node.name()) {
        for image in IMAGES {
            answered_digest(&**other, &old.image(stage.base_port, image)).await?;
        }
    }
    let began = Instant::now();
    node.start().await?;
    stage.world.load(node).await?;
    stage.until_ready(NAME, DEADLINE).await?;
    old.run(stage, stage.base_port).await?;
    stage.until(NAME, "StoreReady", "True", "StoresReady", DEADLINE).await?;
    stage
        .log(format_args!("a wiped node runs the application again: {:.1} s", began.elapsed().as_secs_f32()));
    Ok(())
}

/// Applies a `Bundle` as `kubectl apply --server-side` does.
async fn apply(stage: &Stage, bundle: &Value) -> Result<()> {
    let name = bundle["metadata"]["name"].as_str().context("a bundle has a name")?;
    let parameters = PatchParams::apply("story").force();
    bundles(stage).patch(name, &parameters, &Patch::Apply(bundle)).await?;
    Ok(())
}

fn bundles(stage: &Stage) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("quinistry.dev", "v1alpha1", "Bundle");
    let resource = ApiResource::from_gvk_with_plural(&kind, "bundles");
    Api::namespaced_with(stage.world.client.clone(), &stage.namespace, &resource)
}

/// Waits until every node's localhost answers every name of the application.
async fn until_served(stage: &Stage, carried: &Carried) -> Result<()> {
    for node in &stage.world.nodes {
        for image in IMAGES {
            let image = carried.image(stage.base_port, image);
            let what = format!("{} answers {image}", node.name());
            wait::eventually(NAMES_DEADLINE, &what, || answered_digest(&**node, &image)).await?;
        }
    }
    Ok(())
}

/// Waits until the operator has found the bundle on the nodes that it asked.
async fn until_available(stage: &Stage, name: &str) -> Result<()> {
    let bundles = bundles(stage);
    wait::eventually(DEADLINE, &format!("Bundle {name} is available"), || async {
        let bundle = bundles.get(name).await?;
        let conditions = bundle.data["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let is_available = conditions.iter().any(|one| one["type"] == "Available" && one["status"] == "True");
        ensure!(is_available, "{}", bundle.data["status"]);
        Ok(())
    })
    .await
}
