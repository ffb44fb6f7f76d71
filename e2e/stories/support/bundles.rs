//! `Bundle` resources of a stage, and the nodes that answer for their names.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::Value;

use super::application::{Carried, answered_digest};
use super::{Node, Stage, wait};

/// The kubelet brings a changed `ConfigMap` into pods within its sync period, by default a minute, and a few seconds.
const NAMES_DEADLINE: Duration = Duration::from_mins(4);

/// Deadline of the operator's proof.
const PROOF_DEADLINE: Duration = Duration::from_mins(4);

/// Returns the API of the stage's bundles.
pub fn bundles(stage: &Stage) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("quinistry.dev", "v1alpha1", "Bundle");
    let resource = ApiResource::from_gvk_with_plural(&kind, "bundles");
    Api::namespaced_with(stage.world.client.clone(), &stage.namespace, &resource)
}

/// Applies a `Bundle` as `kubectl apply --server-side` does.
pub async fn apply(stage: &Stage, bundle: &Value) -> Result<()> {
    let name = bundle["metadata"]["name"].as_str().context("a bundle has a name")?;
    let parameters = PatchParams::apply("story").force();
    bundles(stage).patch(name, &parameters, &Patch::Apply(bundle)).await?;
    Ok(())
}

/// Waits until the localhost of each node of the cluster answers every name of a version.
pub async fn until_served(stage: &Stage, carried: &Carried) -> Result<()> {
    for node in &stage.world.nodes {
        until_served_on(stage, &**node, carried).await?;
    }
    Ok(())
}

/// Waits until one node's localhost answers every name of a version by its digest.
pub async fn until_served_on(stage: &Stage, node: &dyn Node, carried: &Carried) -> Result<()> {
    for image in &carried.images {
        until_answered(node, &carried.image(stage.base_port, &image.path), &image.digest).await?;
    }
    Ok(())
}

/// Waits until a node answers a name by a digest.
pub async fn until_answered(node: &dyn Node, image: &str, digest: &str) -> Result<()> {
    let what = format!("{} answers {image}", node.name());
    wait::eventually(NAMES_DEADLINE, &what, || async {
        let found = answered_digest(node, image).await?;
        ensure!(found == digest, "{found}, not {digest}");
        Ok(())
    })
    .await
}

/// Waits until a bundle has a condition with a reason, and returns its message.
pub async fn until(stage: &Stage, name: &str, kind: &str, status: &str, reason: &str) -> Result<String> {
    let bundles = bundles(stage);
    wait::eventually(PROOF_DEADLINE, &format!("Bundle {name} has {kind} {status}, {reason}"), || async {
        let bundle = bundles.get(name).await?;
        let conditions = bundle.data["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let mut matching = conditions
            .iter()
            .filter(|one| one["type"] == kind && one["status"] == status && one["reason"] == reason);
        let found = matching.next().with_context(|| bundle.data["status"].to_string())?;
        Ok(found["message"].as_str().unwrap_or_default().to_owned())
    })
    .await
}

/// Waits until the operator has found the bundle on the nodes that it asked.
pub async fn until_available(stage: &Stage, name: &str) -> Result<()> {
    until(stage, name, "Available", "True", "Served").await.map(drop)
}
