//! A node image without names, as left behind by a tag that has moved: Kubernetes sends `"names": null`. The
//! operator continues with everything.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::support::{Stage, Story, When};

const DEADLINE: Duration = Duration::from_mins(4);

pub fn story() -> Story {
    Story { name: "nameless_image", when: When::Last, operator: true, play: |stage| Box::pin(play(stage)) }
}

async fn play(stage: Arc<Stage>) -> Result<()> {
    for node in &stage.world.nodes {
        remove_image_names(&stage, node.name()).await?;
    }
    stage.apply(&stage.resource("thyme", 2)).await?;
    stage.until_ready("thyme", DEADLINE).await?;
    // The kubelet may have reported its images since; therefore once more, during a change.
    for node in &stage.world.nodes {
        remove_image_names(&stage, node.name()).await?;
    }
    stage.apply(&stage.resource("thyme", 3)).await?;
    stage.until_ready("thyme", DEADLINE).await.map(drop)
}

/// Removes the names of a node's last image, in place of the kubelet.
async fn remove_image_names(stage: &Stage, name: &str) -> Result<()> {
    let nodes = Api::<Node>::all(stage.world.client.clone());
    let node = nodes.get(name).await?;
    let images = node.status.and_then(|status| status.images).unwrap_or_default();
    let mut images = serde_json::to_value(images)?;
    let last = images.as_array_mut().and_then(|images| images.last_mut());
    last.with_context(|| format!("node {name} has images"))?["names"] = Value::Null;
    let patch = Patch::Merge(json!({"status": {"images": images}}));
    nodes.patch_status(name, &PatchParams::default(), &patch).await?;
    let request = http::Request::get(format!("/api/v1/nodes/{name}")).body(Vec::new())?;
    let text = stage.world.client.request_text(request).await?;
    ensure!(text.contains("\"names\":null"), "the API server does not send null here");
    Ok(())
}
