//! Two generations grow to five, each after its predecessor, and shrink to two, the highest first. The
//! generations that stay are not touched.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use kube::ResourceExt as _;
use kube::api::ListParams;

use super::support::observer::Observer;
use super::support::pods::restarts;
use super::support::{Stage, Story, When, serving, wait};

const DEADLINE: Duration = Duration::from_mins(4);

pub fn story() -> Story {
    Story {
        name: "grow_and_shrink",
        when: When::Together,
        operator: true,
        play: |stage| Box::pin(play(stage)),
    }
}

async fn play(stage: Arc<Stage>) -> Result<()> {
    let (port, digest) = (stage.base_port, &stage.world.first.digest);
    stage.apply(&stage.resource("tree", 2)).await?;
    stage.until_ready("tree", DEADLINE).await?;
    let oldest = pods_of_first_two(&stage).await?;

    let observer = Observer::start(&stage).await?;
    stage.apply(&stage.resource("tree", 5)).await?;
    stage.until_ready("tree", DEADLINE).await?;
    stage.log("grown from 2 to 5");
    serving::check_all_nodes(&stage, port..port + 5, digest).await?;
    ensure!(pods_of_first_two(&stage).await? == oldest, "growing replaced pods of generations 1 and 2");

    stage.apply(&stage.resource("tree", 2)).await?;
    stage.until_ready("tree", DEADLINE).await?;
    let what = "two DaemonSets are left";
    wait::until_all(&stage.daemon_sets(), &ListParams::default(), DEADLINE, what, |sets| sets.len() == 2)
        .await?;
    let size = stage.world.nodes.len() * 2;
    let what = "pods of two generations are left";
    wait::until_all(&stage.pods(), &ListParams::default(), DEADLINE, what, |pods| pods.len() == size).await?;
    stage.log("shrunk from 5 to 2");
    // Each generation after its predecessor, and the highest first when they are deleted.
    observer.check_chain_rule(&stage).await?;
    serving::check_all_nodes(&stage, port..port + 2, digest).await?;
    ensure!(pods_of_first_two(&stage).await? == oldest, "shrinking replaced pods of generations 1 and 2");
    serving::check_stopped(&stage, port + 2).await
}

/// Returns the pods of generations 1 and 2 by UID, with their restarts.
async fn pods_of_first_two(stage: &Stage) -> Result<BTreeMap<String, i32>> {
    let selection = ListParams::default().labels("quinistry/generation in (1,2)");
    let pods = stage.pods().list(&selection).await?;
    let pods: BTreeMap<_, _> =
        pods.iter().map(|pod| (pod.uid().unwrap_or_default(), restarts(pod))).collect();
    ensure!(pods.len() == stage.world.nodes.len() * 2, "generations 1 and 2 have {} pods", pods.len());
    Ok(pods)
}
