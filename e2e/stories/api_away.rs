//! The API server is stopped in the middle of a rollout. Running generations continue to serve, the operator
//! survives, and the rollout continues afterwards.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use kube::api::ListParams;

use super::support::observer::Observer;
use super::support::pods::{is_ready, restarts};
use super::support::{Stage, Story, When, operator, outage, serving, wait};

const DEADLINE: Duration = Duration::from_mins(2);
const GENERATIONS: u8 = 4;

pub fn story() -> Story {
    Story { name: "api_away", when: When::Last, operator: true, play: |stage| Box::pin(play(stage)) }
}

async fn play(stage: Arc<Stage>) -> Result<()> {
    if !stage.world.local {
        stage.skip("the API server of a kind cluster is not this story's to stop");
        return Ok(());
    }
    let helm = stage.operator().in_cluster();
    let before = if helm { Some(operator::pod(&stage.world).await?) } else { None };
    let observer = Observer::begin(&stage).await?;
    stage.apply(&stage.resource("anchor", GENERATIONS.into())).await?;
    let what = "generation 2 is there";
    wait::until(&stage.daemon_sets(), "anchor-gen2", DEADLINE, what, |_| true).await?;

    outage::api_server("stop").await?;
    // Whatever the checks find, the API server must come back.
    let meanwhile = away(&stage).await;
    outage::api_server("start").await?;
    meanwhile?;
    outage::until_answered(&stage).await?;
    // A kubelet that is late to renew its lease makes its node count as dead, and dead nodes do not hold up
    // the chain: the resource may be Ready before this node is.
    let (all, what) = (ListParams::default(), "all generations are Ready on all nodes");
    wait::until_all(&stage.pods(), &all, outage::RETURNED, what, |pods| {
        pods.len() == usize::from(GENERATIONS) * stage.world.nodes.len() && pods.iter().all(is_ready)
    })
    .await?;
    stage.until_ready("anchor", outage::RETURNED).await?;
    stage.say("Ready");
    let ports = stage.base_port..stage.base_port + i32::from(GENERATIONS);
    serving::everywhere(&stage, ports, &stage.world.first.digest).await?;
    if let Some(before) = before {
        let after = operator::pod(&stage.world).await?;
        let same = before.metadata.uid == after.metadata.uid && restarts(&before) == restarts(&after);
        ensure!(same, "the operator was restarted: its liveness must not depend on the API server");
    }
    observer.verdict(&stage).await
}

/// Waits for a span of time, since the outage itself is tested.
async fn away(stage: &Stage) -> Result<()> {
    let seconds = if stage.world.soak { 30 } else { 8 };
    let (port, digest) = (stage.base_port, &stage.world.first.digest);
    let both = tokio::join!(
        tokio::time::sleep(Duration::from_secs(seconds)),
        serving::everywhere(stage, port..port + 1, digest)
    );
    both.1.context("generation 1 does not serve without an API server")?;
    stage.say(format_args!("without an API server for {seconds} s; generation 1 went on serving"));
    Ok(())
}
