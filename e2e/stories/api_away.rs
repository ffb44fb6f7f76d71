//! The API server is stopped in the middle of a rollout. Running generations continue to serve, the operator
//! survives, and the rollout continues afterwards.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use kube::api::ListParams;

use super::support::observer::Observer;
use super::support::pods::{is_ready, restarts};
use super::support::{Stage, Story, When, operator, outage, serving, wait};

const DEADLINE: Duration = Duration::from_mins(4);
const GENERATIONS: u8 = 4;

pub fn story() -> Story {
    Story { name: "api_away", when: When::Last, operator: true, play: |stage| Box::pin(play(stage)) }
}

async fn play(stage: Arc<Stage>) -> Result<()> {
    if !stage.world.local {
        stage.skip("the story cannot stop the API server of a kind cluster");
        return Ok(());
    }
    let helm = stage.operator().in_cluster();
    let before = if helm { Some(operator::pod(&stage.world).await?) } else { None };
    let observer = Observer::start(&stage).await?;
    stage.apply(&stage.resource("anchor", GENERATIONS.into())).await?;
    let what = "generation 2 exists";
    wait::until(&stage.daemon_sets(), "anchor-gen2", DEADLINE, what, |_| true).await?;

    outage::api_server("stop").await?;
    // Whatever the checks find, the API server must come back.
    let checked = check_during_outage(&stage).await;
    outage::api_server("start").await?;
    checked?;
    outage::until_api_server_ready(&stage).await?;
    // A kubelet that is late to renew its lease makes its node count as dead, and dead nodes do not hold up
    // the chain: the resource may be Ready before this node is.
    let (all, what) = (ListParams::default(), "all generations are Ready on all nodes");
    wait::until_all(&stage.pods(), &all, outage::API_RECOVERY_DEADLINE, what, |pods| {
        pods.len() == usize::from(GENERATIONS) * stage.world.nodes.len() && pods.iter().all(is_ready)
    })
    .await?;
    stage.until_ready("anchor", outage::API_RECOVERY_DEADLINE).await?;
    stage.log("Ready");
    let ports = stage.base_port..stage.base_port + i32::from(GENERATIONS);
    serving::check_all_nodes(&stage, ports, &stage.world.first.digest).await?;
    if let Some(before) = before {
        let after = operator::pod(&stage.world).await?;
        let same = before.metadata.uid == after.metadata.uid && restarts(&before) == restarts(&after);
        ensure!(same, "the operator was restarted: its liveness must not depend on the API server");
    }
    observer.check_chain_rule(&stage).await
}

/// Waits for a span of time, since the outage itself is tested.
async fn check_during_outage(stage: &Stage) -> Result<()> {
    let seconds = if stage.world.soak { 30 } else { 8 };
    let (port, digest) = (stage.base_port, &stage.world.first.digest);
    let results = tokio::join!(
        tokio::time::sleep(Duration::from_secs(seconds)),
        serving::check_all_nodes(stage, port..port + 1, digest)
    );
    results.1.context("generation 1 does not serve without an API server")?;
    stage.log(format_args!("no API server for {seconds} s; generation 1 continued to serve"));
    Ok(())
}
