//! A resource that the operator cannot parse, since the definition is newer than the operator. The status
//! reports it as invalid, its old form is not applied, and its deletion is noticed.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use quinistry::crd::Quinistry;
use serde_json::{Value, json};

use super::support::{Stage, Story, When, wait};

const DEADLINE: Duration = Duration::from_mins(4);
const DEFINITION: &str = "quinistries.quinistry.dev";

pub fn story() -> Story {
    Story { name: "unreadable", when: When::Last, operator: true, play: |stage| Box::pin(play(stage)) }
}

async fn play(stage: Arc<Stage>) -> Result<()> {
    stage.apply(&stage.resource("tansy", 1)).await?;
    stage.until_ready("tansy", DEADLINE).await?;
    let mode = set_newer_mode(&stage, true).await?;
    let result = check(&stage).await;
    // No resource of the newer version may be left when the old definition is restored.
    let is_gone = wait::until_none(&resources(&stage), &ListParams::default(), DEADLINE, "it is gone").await;
    let restored = set_newer_mode(&stage, false).await;
    ensure!(mode, "the definition has no modes of networks");
    result?;
    is_gone?;
    restored.map(drop)
}

async fn check(stage: &Stage) -> Result<()> {
    let mut resource = stage.resource("tansy", 3);
    resource["spec"]["network"] = json!({"mode": "Tunnel"});
    // The API server takes a moment to use the new definition.
    wait::eventually(DEADLINE, "the API server takes the newer mode", || async {
        let parameters = PatchParams::apply("story");
        resources(stage)
            .patch("tansy", &parameters, &Patch::Apply(&resource))
            .await
            .context("the API server refuses the resource")
    })
    .await?;
    let reported = wait::until(&resources(stage), "tansy", DEADLINE, "tansy is reported as invalid", |one| {
        degraded(&one.data)
            .is_some_and(|condition| condition["status"] == "True" && condition["reason"] == "InvalidSpec")
    })
    .await?;
    let message =
        degraded(&reported.data).map(|condition| condition["message"].to_string()).unwrap_or_default();
    ensure!(message.contains("Tunnel"), "the message does not name the unknown mode: {message}");
    let sets = stage.daemon_sets().list(&ListParams::default()).await?;
    let names: Vec<_> = sets.iter().map(ResourceExt::name_any).collect();
    ensure!(names == ["tansy"], "an unreadable resource was applied: {names:?}");
    let uid = sets.items[0].uid();
    resources(stage).delete("tansy", &DeleteParams::foreground()).await?;
    wait::until_none(&resources(stage), &ListParams::default(), DEADLINE, "it is gone").await?;
    stage.until_empty(DEADLINE).await?;
    let left = stage.daemon_sets().get_opt("tansy").await?;
    ensure!(left.is_none(), "made again: {:?} after {uid:?}", left.and_then(|set| set.uid()));
    stage.log("the resource was reported, not applied, and its deletion was noticed");
    Ok(())
}

/// Returns the API of the stage's resources without their types: this program cannot parse a newer resource
/// either.
fn resources(stage: &Stage) -> Api<DynamicObject> {
    let kind = ApiResource::erase::<Quinistry>(&());
    Api::namespaced_with(stage.world.client.clone(), &stage.namespace, &kind)
}

fn degraded(resource: &Value) -> Option<&Value> {
    resource["status"]["conditions"].as_array()?.iter().find(|one| one["type"] == "Degraded")
}

/// Adds a network mode to the definition, or removes it. Returns whether the definition has any other modes.
async fn set_newer_mode(stage: &Stage, more: bool) -> Result<bool> {
    let api = Api::<CustomResourceDefinition>::all(stage.world.client.clone());
    let live = serde_json::to_value(api.get(DEFINITION).await?)?;
    let path = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/network/properties/mode";
    let modes = live.pointer(path).and_then(|mode| mode["enum"].as_array());
    let mut modes = modes.context("modes are enumerated")?.clone();
    modes.retain(|mode| mode != "Tunnel");
    let known = !modes.is_empty();
    if more {
        modes.push("Tunnel".into());
    }
    let edit = json!([{"op": "replace", "path": format!("{path}/enum"), "value": modes}]);
    let request =
        http::Request::patch(format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{DEFINITION}"))
            .header("Content-Type", "application/json-patch+json")
            .body(edit.to_string().into_bytes())?;
    stage.world.client.request_text(request).await?;
    Ok(known)
}
