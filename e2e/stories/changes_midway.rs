//! A resource that changes while generations are raised: another image, more generations, fewer, and a pause.
//! The operator does not wait for anything that is no longer wanted, and the last specification is reached.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use kube::api::ListParams;
use serde_json::json;

use super::support::{Stage, Story, When, serving, wait};

const DEADLINE: Duration = Duration::from_mins(4);

pub fn story() -> Story {
    Story {
        name: "changes_midway",
        when: When::Together,
        operator: true,
        play: |stage| Box::pin(play(stage)),
    }
}

async fn play(stage: Arc<Stage>) -> Result<()> {
    let (first, second) = (&stage.world.first, &stage.world.second);
    let port = stage.base_port + 20;
    let _serving = stage.world.serve(second, port).await?;

    // Four generations are requested; as soon as the second exists, five of another image.
    let mut resource = stage.resource("weather", 4);
    stage.apply(&resource).await?;
    until_created(&stage, "weather-gen2").await?;
    resource["spec"]["image"] = json!(second.at(port));
    resource["spec"]["generations"] = json!(5);
    stage.apply(&resource).await?;
    until_created(&stage, "weather-gen3").await?;
    // As soon as the third exists, three generations of the first image.
    resource["spec"]["image"] = json!(first.image);
    resource["spec"]["generations"] = json!(3);
    stage.apply(&resource).await?;
    let ready = stage.until_ready("weather", DEADLINE).await?;
    let digest = ready.status.and_then(|status| status.digest);
    ensure!(digest.as_ref() == Some(&first.digest), "the status says {digest:?}, not {}", first.digest);
    let sets = stage.daemon_sets().list(&ListParams::default()).await?.items.len();
    ensure!(sets == 3, "there are {sets} sets");
    serving::check_all_nodes(&stage, stage.base_port..stage.base_port + 3, &first.digest).await?;
    stage.log("after two changes three generations of the first image are Ready");

    resource["spec"]["generations"] = json!(4);
    resource["spec"]["suspend"] = json!(true);
    stage.apply(&resource).await?;
    stage.until("weather", "Progressing", "False", "Suspended", DEADLINE).await?;
    let sets = stage.daemon_sets().list(&ListParams::default()).await?.items.len();
    ensure!(sets == 3, "suspended, and there are {sets} sets");
    serving::check_all_nodes(&stage, stage.base_port..stage.base_port + 3, &first.digest).await?;
    resource["spec"]["suspend"] = json!(false);
    stage.apply(&resource).await?;
    stage.until_ready("weather", DEADLINE).await.map(drop)
}

async fn until_created(stage: &Stage, name: &str) -> Result<()> {
    let what = format!("DaemonSet {name} exists");
    wait::until(&stage.daemon_sets(), name, DEADLINE, &what, |_| true).await.map(drop)
}
