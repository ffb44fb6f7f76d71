//! A new bootstrap image from registries on the nodes' own localhost: every generation is replaced in order,
//! each only after its predecessor serves the new digest on all nodes.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use kube::api::ListParams;
use serde_json::json;

use super::support::observer::Observer;
use super::support::world::Executable;
use super::support::{Stage, Story, When, serving};

const DEADLINE: Duration = Duration::from_mins(4);

pub fn story() -> Story {
    Story { name: "reroll", when: When::Together, operator: true, play: |stage| Box::pin(play(stage)) }
}

async fn play(stage: Arc<Stage>) -> Result<()> {
    let (first, second) = (&stage.world.first, &stage.world.second);
    let (old, new) = (stage.base_port + 20, stage.base_port + 21);
    let _old = stage.world.serve(first, old).await?;
    let _new = stage.world.serve(second, new).await?;

    stage.apply(&from_registry(&stage, old, first)).await?;
    stage.until_ready("phoenix", DEADLINE).await?;
    stage.log("raised from registries on the nodes' localhost");

    // The observer watches pods, since the statuses of DaemonSets lag behind.
    let observer = Observer::start(&stage).await?;
    stage.apply(&from_registry(&stage, new, second)).await?;
    let ready = stage.until_ready("phoenix", DEADLINE).await?;
    stage.log("replaced");
    let digest = ready.status.and_then(|status| status.digest);
    ensure!(digest.as_ref() == Some(&second.digest), "the status says {digest:?}, not {}", second.digest);

    observer.check_chain_rule(&stage).await?;
    serving::check_all_nodes(&stage, stage.base_port..stage.base_port + 3, &second.digest).await?;
    for pod in stage.pods().list(&ListParams::default()).await? {
        let containers = pod.spec.into_iter().flat_map(|spec| spec.containers);
        for image in containers.filter_map(|container| container.image) {
            ensure!(image.ends_with(&second.digest), "{:?} still runs {image}", pod.metadata.name);
        }
    }
    Ok(())
}

/// Builds the resource whose bootstrap image an executable serves on a port of each node.
fn from_registry(stage: &Stage, port: i32, executable: &Executable) -> serde_json::Value {
    let mut resource = stage.resource("phoenix", 3);
    resource["spec"]["image"] = json!(executable.at(port));
    resource
}
