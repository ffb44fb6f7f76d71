//! Carrier images that are not present. Nodes without any are named, and continue by themselves when the
//! resource names one that is present; nodes that have only the third of three use that one, and keep it. The
//! story runs alone, since it labels nodes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::{Node as LiveNode, Pod};
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use quinistry::crd::{Quinistry, Reason};
use quinistry::seed::carrier::{CARRIER, NONE};
use serde_json::json;

use super::support::pods::of_generation;
use super::support::{Stage, Story, When, daemon_sets, seed, wait};

const DEADLINE: Duration = Duration::from_mins(4);
const GENERATIONS: i32 = 2;
const NAME: &str = "hermit";
/// Image names that no node knows.
const ABSENT_IMAGES: [&str; 2] = ["localhost/absent:1", "localhost/absent:2"];
/// The sandbox image of `e2e/cluster`.
const PRESENT_IMAGE: &str = "localhost/pause:1";

pub fn story() -> Story {
    Story { name: "seed_carriers", when: When::Last, operator: true, play: |stage| Box::pin(play(stage)) }
}

async fn play(stage: Arc<Stage>) -> Result<()> {
    if !stage.world.local {
        stage.skip("the sandbox image of a kind cluster has another name");
        return Ok(());
    }
    let healed = no_carrier_then_one(&stage).await;
    // Labels of nodes affect all stories.
    remove_labels(&stage).await?;
    healed?;
    let moved = third_carrier(&stage).await;
    remove_labels(&stage).await?;
    moved
}

/// None of the named images is present on any node; then one is.
async fn no_carrier_then_one(stage: &Stage) -> Result<()> {
    stage.apply(&seed::resource(stage, NAME, GENERATIONS, &ABSENT_IMAGES)?).await?;
    let nodes = Api::<LiveNode>::all(stage.world.client.clone());
    let none = |node: &LiveNode| node.labels().get(CARRIER).is_some_and(|label| label == NONE);
    let what = "every node is labelled as without carrier";
    wait::until_all(&nodes, &ListParams::default(), DEADLINE, what, |nodes| nodes.iter().all(none)).await?;
    let named = |one: &Quinistry| {
        let deviations = one.status.iter().flat_map(|status| &status.deviations);
        let none = deviations.filter(|one| one.reason == Reason::NoCarrierImage);
        let places: BTreeSet<&str> = none.map(|one| one.node.as_str()).collect();
        stage.world.nodes.iter().all(|node| places.contains(node.name()))
    };
    wait::until(&stage.resources(), NAME, DEADLINE, "the resource names every node", named).await?;
    stage.log(stage.until(NAME, "Degraded", "True", "NoCarrierImage", DEADLINE).await?);

    let began = Instant::now();
    stage.apply(&seed::resource(stage, NAME, GENERATIONS, &[PRESENT_IMAGE])?).await?;
    stage.until_ready(NAME, DEADLINE).await?;
    stage.until(NAME, "Degraded", "False", "AsExpected", DEADLINE).await?;
    seed::check_all_nodes(stage, GENERATIONS, &stage.world.first.digest).await?;
    let took = began.elapsed().as_secs_f32();
    stage.log(format_args!("healed {took:.1} s after the resource named a present image"));
    stage.delete(NAME).await
}

/// Only the third named image is present.
async fn third_carrier(stage: &Stage) -> Result<()> {
    let began = Instant::now();
    stage
        .apply(&seed::resource(
            stage,
            NAME,
            GENERATIONS,
            &[ABSENT_IMAGES[0], ABSENT_IMAGES[1], PRESENT_IMAGE],
        )?)
        .await?;
    stage.until_ready(NAME, DEADLINE).await?;
    seed::check_all_nodes(stage, GENERATIONS, &stage.world.first.digest).await?;
    let images = carrier_images(stage).await?;
    let took = began.elapsed().as_secs_f32();
    stage.log(format_args!("Ready in {took:.1} s with the third image: {images:?}"));
    ensure!(images.iter().any(|image| image == PRESENT_IMAGE), "none of the sets runs {PRESENT_IMAGE}");
    // Running pods stay, whatever the resource names next.
    let before = stage.pods().list(&ListParams::default()).await?;
    stage.apply(&seed::resource(stage, NAME, GENERATIONS, &ABSENT_IMAGES)?).await?;
    stage.until_ready(NAME, DEADLINE).await?;
    let after = stage.pods().list(&ListParams::default()).await?;
    let uids = |pods: &[Pod]| pods.iter().filter_map(ResourceExt::uid).collect::<BTreeSet<_>>();
    ensure!(uids(&before.items) == uids(&after.items), "pods were replaced");
    stage.delete(NAME).await
}

/// Returns the images of generation 0's `DaemonSets`.
async fn carrier_images(stage: &Stage) -> Result<Vec<String>> {
    let sets = stage.daemon_sets().list(&of_generation(0)).await?;
    Ok(sets.iter().map(|set| daemon_sets::image(set).to_owned()).collect())
}

async fn remove_labels(stage: &Stage) -> Result<()> {
    let nodes = Api::<LiveNode>::all(stage.world.client.clone());
    let patch = json!({"metadata": {"labels": {CARRIER: null}}});
    for node in &stage.world.nodes {
        nodes.patch(node.name(), &PatchParams::default(), &Patch::Merge(&patch)).await?;
    }
    Ok(())
}
