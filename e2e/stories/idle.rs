//! An operator with nothing to do writes nothing, whatever wakes it, and needs little memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::support::{Stage, Story, When, wait};

/// Length of the observation. Writes that must not happen can only be observed for a span of time.
const OBSERVATION_TIME: Duration = Duration::from_secs(20);
const DEADLINE: Duration = Duration::from_mins(4);

pub fn story() -> Story {
    Story { name: "idle", when: When::Last, operator: true, play: |stage| Box::pin(play(stage)) }
}

async fn play(stage: Arc<Stage>) -> Result<()> {
    stage.apply(&stage.resource("stone", 3)).await?;
    stage.until_ready("stone", DEADLINE).await?;
    // The writes after a rollout, such as the DaemonSet controller's last status, are over when nothing
    // changes any more.
    let mut before = write_counters(&stage).await?;
    wait::eventually(DEADLINE, "the writes have ended", || {
        let last = before.clone();
        let stage = &stage;
        async move {
            let now = changed_counters(stage, Duration::from_secs(3)).await?;
            ensure!(now.is_empty(), "still writing: {now:?} after {last:?}");
            Ok(())
        }
    })
    .await?;

    before = write_counters(&stage).await?;
    // Wakes the operator, which watches nodes, without giving it anything to do.
    let nodes = Api::<Node>::all(stage.world.client.clone());
    for node in &stage.world.nodes {
        let patch = json!({"metadata": {"annotations": {"quinistry.dev/story": stage.namespace}}});
        nodes.patch(node.name(), &PatchParams::default(), &Patch::Merge(patch)).await?;
    }
    let written = changed_counters(&stage, OBSERVATION_TIME).await?;
    ensure!(written.is_empty(), "the idle operator writes: {written:?}, of {before:?}");
    let memory = stage.operator().memory(&stage.world).await?;
    stage.log(format_args!(
        "no write in {} s; memory {} kB (goal: 30 MB)",
        OBSERVATION_TIME.as_secs(),
        memory / 1000
    ));
    ensure!(memory < 64_000_000, "the idle operator takes {memory} bytes");
    Ok(())
}

/// Returns the counters that the API server increments within a span of time.
async fn changed_counters(stage: &Stage, span: Duration) -> Result<Vec<String>> {
    let before = write_counters(stage).await?;
    tokio::time::sleep(span).await;
    let after = write_counters(stage).await?;
    Ok(after.into_iter().filter(|(key, count)| before.get(key) != Some(count)).map(|(key, _)| key).collect())
}

/// Reads the counters of requests by which an operator changes objects. The cluster's own controllers write
/// statuses by PUT, and Events of the core group; those are not counted.
async fn write_counters(stage: &Stage) -> Result<BTreeMap<String, String>> {
    let request = http::Request::get("/metrics").body(Vec::new())?;
    let text = stage.world.client.request_text(request).await?;
    let counted = |line: &&str| {
        let has = |part: &str| line.contains(part);
        let write =
            ["PATCH", "POST", "DELETE", "APPLY", "PUT"].iter().any(|verb| has(&format!("verb=\"{verb}\"")));
        line.starts_with("apiserver_request_total{")
            && write
            && (has("resource=\"quinistries\"")
                || (has("resource=\"daemonsets\"") && !has("verb=\"PUT\""))
                || (has("resource=\"pods\"") && has("verb=\"DELETE\"")))
    };
    let lines = text.lines().filter(counted).filter_map(|line| line.rsplit_once(' '));
    Ok(lines.map(|(key, count)| (key.to_owned(), count.to_owned())).collect())
}
