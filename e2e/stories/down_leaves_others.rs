//! `up` overwrites and `down` deletes nothing that another program created: a Role of a chart, a ConfigMap in
//! the operator's namespace, and the definition while another program's resource uses it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::api::rbac::v1::Role;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, PostParams};
use quinistry::crd::Quinistry;
use serde_json::json;

use super::support::{Stage, Story, When, seed, shell, up, wait};

const DEADLINE: Duration = Duration::from_mins(4);

/// Name of a resource with a quantity of more than 31 bits, which earlier versions could not read.
const OTHER_RESOURCE: &str = "shelf";

pub fn story() -> Story {
    Story {
        name: "down_leaves_others",
        when: When::Last,
        operator: true,
        play: |stage| Box::pin(play(stage)),
    }
}

async fn play(stage: Arc<Stage>) -> Result<()> {
    let result = up::without_shared_operator(&stage, Box::pin(check(&stage))).await;
    let tidied = clean_up(&stage).await;
    seed::load_bootstrap_images(&stage).await?;
    result.and(tidied)
}

async fn check(stage: &Stage) -> Result<()> {
    let client = &stage.world.client;
    let first = &stage.world.first;
    let roles = Api::<Role>::namespaced(client.clone(), &stage.namespace);
    let role = json!({
        "metadata": {"name": up::OPERATOR, "labels": {"app.kubernetes.io/managed-by": "Helm"}}, "rules": [],
    });
    let role = roles.create(&PostParams::default(), &serde_json::from_value(role)?).await?;
    let output = up::expect_failure(up::up(stage, &first.path, &[])).await?;
    ensure!(output.contains(up::OPERATOR) && output.contains("Helm"), "up does not name the Role: {output}");
    ensure!(roles.get(up::OPERATOR).await?.metadata.uid == role.metadata.uid, "the Role was replaced");
    roles.delete(up::OPERATOR, &DeleteParams::default()).await?;
    stage.log("up refuses to overwrite a chart's Role");

    shell::text(up::up(stage, &first.path, &["--generations", "1", "--timeout", "120"])).await?;
    let maps = Api::<ConfigMap>::namespaced(client.clone(), &up::namespace(stage));
    let map = json!({"metadata": {"name": "not-ours"}});
    maps.create(&PostParams::default(), &serde_json::from_value(map)?).await?;
    let shelf = json!({
        "apiVersion": "quinistry.dev/v1alpha1", "kind": "Quinistry", "metadata": {"name": OTHER_RESOURCE},
        "spec": {
            "image": "registry.example.com/shelf:1", "suspend": true, "basePort": stage.base_port + 8,
            "resources": {"limits": {"memory": 4_294_967_296_u64}},
        },
    });
    resources(stage).create(&PostParams::default(), &serde_json::from_value(shelf)?).await?;

    let output = shell::text(up::command(stage, &first.path, &["down", "--yes"])).await?;
    stage.log(&output);
    let is_left = |what: &str| output.lines().any(|line| line.starts_with("left") && line.contains(what));
    for what in ["not-ours", OTHER_RESOURCE, "definition"] {
        ensure!(is_left(what), "down does not say that it leaves {what}: {output}");
    }
    ensure!(maps.get_opt("not-ours").await?.is_some(), "the ConfigMap is gone");
    ensure!(resources(stage).get_opt(OTHER_RESOURCE).await?.is_some(), "the other resource is gone");
    let definitions = Api::<CustomResourceDefinition>::all(client.clone());
    ensure!(definitions.get_opt("quinistries.quinistry.dev").await?.is_some(), "the definition is gone");
    let all = ListParams::default();
    wait::until_none(&up::operators(stage), &all, DEADLINE, "the operator's pods are gone").await
}

/// Returns the stage's resources, by metadata alone.
fn resources(stage: &Stage) -> Api<DynamicObject> {
    let kind = ApiResource::erase::<Quinistry>(&());
    Api::namespaced_with(stage.world.client.clone(), &stage.namespace, &kind)
}

/// Deletes the objects that this story itself created.
async fn clean_up(stage: &Stage) -> Result<()> {
    let api = Api::<Namespace>::all(stage.world.client.clone());
    for result in [
        resources(stage).delete(OTHER_RESOURCE, &DeleteParams::default()).await.map(drop),
        api.delete(&up::namespace(stage), &DeleteParams::default()).await.map(drop),
    ] {
        match result {
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            result => result?,
        }
    }
    let gone = ListParams::default().fields(&format!("metadata.name={}", up::namespace(stage)));
    wait::until_none(&api, &gone, DEADLINE * 2, "the operator's namespace is gone").await
}
