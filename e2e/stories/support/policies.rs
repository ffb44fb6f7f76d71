//! Mutating admission policies and their bindings. They belong to the whole cluster, so that a story names them after its
//! namespace and deletes them at its end.

use anyhow::{Context as _, Result};
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use serde_json::Value;

use super::Stage;

/// Group and version of the API.
pub const API_VERSION: &str = "admissionregistration.k8s.io/v1";
pub const POLICY: &str = "MutatingAdmissionPolicy";
pub const BINDING: &str = "MutatingAdmissionPolicyBinding";

/// Returns true if the API server has the policies; skips the story if not.
pub async fn are_served(stage: &Stage) -> Result<bool> {
    match api(stage, POLICY)?.list(&ListParams::default()).await {
        Err(kube::Error::Api(error)) if error.code == 404 => {
            stage.skip("this API server has no mutating admission policies");
            Ok(false)
        }
        _ => Ok(true),
    }
}

/// Creates a policy or a binding.
pub async fn create(stage: &Stage, object: Value) -> Result<()> {
    let object: DynamicObject = serde_json::from_value(object)?;
    let kind = object.types.as_ref().map(|types| types.kind.clone()).context("the object has a kind")?;
    api(stage, &kind)?.create(&PostParams::default(), &object).await?;
    Ok(())
}

/// Deletes the binding and the policy of a name, if they exist.
pub async fn delete(stage: &Stage, name: &str) -> Result<()> {
    for kind in [BINDING, POLICY] {
        match api(stage, kind)?.delete(name, &DeleteParams::default()).await {
            Err(kube::Error::Api(error)) if error.code == 404 => {}
            other => drop(other?),
        }
    }
    Ok(())
}

fn api(stage: &Stage, kind: &str) -> Result<Api<DynamicObject>> {
    let (group, version) = API_VERSION.split_once('/').context("the version has a group")?;
    let plural = if kind == POLICY { "mutatingadmissionpolicies" } else { "mutatingadmissionpolicybindings" };
    let kind = GroupVersionKind::gvk(group, version, kind);
    Ok(Api::all_with(stage.world.client.clone(), &ApiResource::from_gvk_with_plural(&kind, plural)))
}
