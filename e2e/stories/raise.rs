//! The example of docs/kubernetes.md: `kubectl apply -f e2e/generation.yaml` raises three generations, and
//! every node serves one digest on three ports. The story prints the time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use quinistry::crd::{GenerationState, Proof};

use super::support::{Stage, Story, When, serving};

/// Sufficient for slow machines. The goal with images present is 6 s; the story prints the time.
const DEADLINE: Duration = Duration::from_mins(4);

pub fn story() -> Story {
    Story { name: "raise", when: When::First, operator: true, play: |stage| Box::pin(play(stage)) }
}

async fn play(stage: Arc<Stage>) -> Result<()> {
    let sample = std::fs::read_to_string(stage.world.root.join("e2e/generation.yaml"))?;
    let sample: serde_json::Value = serde_saphyr::from_str(&sample)?;
    let name = sample["metadata"]["name"].as_str().context("the sample has a name")?;
    let digest = &stage.world.first.digest;

    let began = Instant::now();
    stage.apply(&sample).await?;
    let ready = stage.until_ready(name, DEADLINE).await?;
    stage.log(format_args!(
        "from apply to Ready, 3 generations on {} nodes: {:.1} s",
        stage.world.nodes.len(),
        began.elapsed().as_secs_f32()
    ));

    let status = ready.status.context("a Ready resource has a status")?;
    ensure!(status.digest.as_deref() == Some(digest), "the status says {:?}, not {digest}", status.digest);
    ensure!(status.ready == "3/3", "the status says {}", status.ready);
    ensure!(status.deviations.is_empty(), "deviations: {:?}", status.deviations);
    let size = stage.world.node_count();
    for (one, number) in status.generations.iter().zip(1..) {
        ensure!(one.generation == number && one.state == GenerationState::Ready, "{one:?}");
        ensure!(one.port == 4999 + number && one.digest.as_deref() == Some(digest), "{one:?}");
        ensure!([one.desired, one.updated, one.available] == [size; 3], "{one:?}");
        ensure!(one.verified > 0 && one.proofs.contains(&Proof::Fetched), "not fetched: {one:?}");
        // The digest of generation 1 is learned from itself, so that its probe asks for the tag, which proves
        // nothing.
        let is_probed = number == 1 || one.proofs.contains(&Proof::Readiness);
        ensure!(is_probed, "not proven by readiness: {one:?}");
    }
    ensure!(status.generations.len() == 3, "{} generations in the status", status.generations.len());
    serving::check_all_nodes(&stage, 5000..5003, digest).await?;

    stage.delete(name).await?;
    serving::check_stopped(&stage, 5002).await
}
