//! Carriers that are not there: nodes move on to the next one that the resource names; with none left they are named and
//! hold up nobody, until the resource names one that is there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Node as LiveNode;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use quinistry::seed::carrier::{CARRIER, NONE};
use serde_json::json;

use super::support::{Stage, Story, When, daemon_sets, seed, wait};

const DEADLINE: Duration = Duration::from_secs(90);
const GENERATIONS: i32 = 2;
const NAME: &str = "hermit";
/// Names that no node knows.
const ABSENT: [&str; 2] = ["localhost/absent:1", "localhost/absent:2"];
/// The sandbox image of `e2e/cluster`.
const PRESENT: &str = "localhost/pause:1";

pub fn story() -> Story {
    Story { name: "seed_carriers", when: When::Together, operator: true, play: |stage| Box::pin(play(stage)) }
}

async fn play(stage: Arc<Stage>) -> Result<()> {
    if !stage.world.local {
        stage.say("skipped: the sandbox image has another name there");
        return Ok(());
    }
    let result = move_on(&stage).await;
    // Labels of nodes are everybody's.
    let unlabelled = unlabel(&stage).await;
    result.and(unlabelled)
}

async fn move_on(stage: &Stage) -> Result<()> {
    let digest = &stage.world.first.digest;
    let began = Instant::now();
    stage.apply(&seed::resource(stage, NAME, GENERATIONS, &[ABSENT[0], ABSENT[1], PRESENT])?).await?;
    stage.until_ready(NAME, DEADLINE).await?;
    seed::everywhere(stage, GENERATIONS, digest).await?;
    let images = carriers(stage).await?;
    stage.say(format_args!(
        "Ready in {:.1} s, after two that are not there: {images:?}",
        began.elapsed().as_secs_f32()
    ));
    ensure!(images.iter().any(|image| image == PRESENT), "none of the sets runs {PRESENT}");

    // Nothing is taken away for the sake of a carrier that is not there.
    stage.apply(&seed::resource(stage, NAME, GENERATIONS, &ABSENT)?).await?;
    let message = stage.until(NAME, "Degraded", "True", "NoCarrierImage", DEADLINE).await?;
    stage.say(&message);
    let named = |node: &dyn super::support::Node| message.contains(node.name());
    ensure!(stage.world.nodes.iter().any(|node| named(&**node)), "the message names no node: {message}");
    let nodes = Api::<LiveNode>::all(stage.world.client.clone());
    let all = ListParams::default();
    let none = |node: &LiveNode| node.labels().get(CARRIER).is_some_and(|label| label == NONE);
    wait::until_all(&nodes, &all, DEADLINE, "every node says that it has none", |nodes| {
        nodes.iter().all(none)
    })
    .await?;
    stage.until(NAME, "Degraded", "True", "NoCarrierImage", DEADLINE).await?;

    let began = Instant::now();
    stage.apply(&seed::resource(stage, NAME, GENERATIONS, &[PRESENT])?).await?;
    stage.until_ready(NAME, DEADLINE).await?;
    stage.until(NAME, "Degraded", "False", "AsExpected", DEADLINE).await?;
    seed::everywhere(stage, GENERATIONS, digest).await?;
    stage.say(format_args!(
        "healed {:.1} s after the resource named one that is there",
        began.elapsed().as_secs_f32()
    ));
    let images = carriers(stage).await?;
    ensure!(images == [PRESENT], "the carriers are {images:?}");
    stage.delete(NAME).await
}

/// The images of generation 0's sets.
async fn carriers(stage: &Stage) -> Result<Vec<String>> {
    let sets = stage.daemon_sets().list(&seed::of(0)).await?;
    Ok(sets.iter().map(|set| daemon_sets::image(set).to_owned()).collect())
}

async fn unlabel(stage: &Stage) -> Result<()> {
    let nodes = Api::<LiveNode>::all(stage.world.client.clone());
    let patch = json!({"metadata": {"labels": {CARRIER: null}}});
    for node in &stage.world.nodes {
        nodes.patch(node.name(), &PatchParams::default(), &Patch::Merge(&patch)).await?;
    }
    Ok(())
}
