//! `quinistry policy`: in namespaces with its label, pods get their images from one registry, whatever a manifest
//! names. Only the API server is asked; no pod is started.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::support::{Stage, Story, When, policies, shell, wait};

const LABEL: &str = "example.com/images";
const HOST: &str = "localhost:5000";
/// Time after which a policy is surely in force.
const DEADLINE: Duration = Duration::from_mins(1);

/// Images as manifests name them, and what becomes of them.
const IMAGES: [(&str, &str); 12] = [
    ("nginx", "localhost:5000/docker.io/library/nginx"),
    ("nginx:1.29", "localhost:5000/docker.io/library/nginx:1.29"),
    ("docker.io/nginx", "localhost:5000/docker.io/library/nginx"),
    ("index.docker.io/nginx", "localhost:5000/docker.io/library/nginx"),
    ("bitnami/redis:8", "localhost:5000/docker.io/bitnami/redis:8"),
    ("index.docker.io/bitnami/redis:8", "localhost:5000/docker.io/bitnami/redis:8"),
    ("ghcr.io/acme/shop:1.4.0", "localhost:5000/ghcr.io/acme/shop:1.4.0"),
    ("registry.lan:5000/shop", "localhost:5000/registry.lan_5000/shop"),
    ("localhost/shop", "localhost:5000/localhost/shop"),
    ("localhost:5000/ghcr.io/acme/shop:1.4.0", "localhost:5000/ghcr.io/acme/shop:1.4.0"),
    (
        "quay.io/a/b:1@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "localhost:5000/quay.io/a/b:1@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    ),
    ("a/b/c", "localhost:5000/docker.io/a/b/c"),
];

pub fn story() -> Story {
    Story { name: "image_policy", when: When::Together, operator: false, play: |stage| Box::pin(play(stage)) }
}

async fn play(stage: Arc<Stage>) -> Result<()> {
    if !policies::are_served(&stage).await? {
        return Ok(());
    }
    let result = check(&stage).await;
    policies::delete(&stage, &stage.namespace).await?;
    result
}

async fn check(stage: &Stage) -> Result<()> {
    let program = stage.world.first.path.to_string_lossy();
    // Policies are for all namespaces: this one has the name of the story's namespace, and its label.
    let label = format!("{LABEL}={}", stage.namespace);
    let words = [&*program, "policy", HOST, "--name", &stage.namespace, "--label", &label, "-o", "json"];
    let list: Value = serde_json::from_str(&shell::text(shell::command(words)).await?)?;
    for item in list["items"].as_array().context("the list has items")? {
        policies::create(stage, item.clone()).await?;
    }
    let label = json!({"metadata": {"labels": {LABEL: stage.namespace}}});
    Api::<Namespace>::all(stage.world.client.clone())
        .patch(&stage.namespace, &PatchParams::default(), &Patch::Merge(label))
        .await?;
    wait::eventually(DEADLINE, "the policy is in force", || async {
        let image = created(stage, &json!([{"name": "a", "image": "nginx"}]), &json!({})).await?;
        ensure!(image.0 == ["localhost:5000/docker.io/library/nginx"], "the image becomes {:?}", image.0);
        Ok(())
    })
    .await?;
    let containers: Vec<Value> = IMAGES
        .iter()
        .enumerate()
        .map(|(number, (image, _))| json!({"name": format!("c{number}"), "image": image}))
        .collect();
    let more = json!({
        "initContainers": [{"name": "init", "image": "busybox"}],
        "volumes": [
            {"name": "empty", "emptyDir": {}},
            {"name": "model", "image": {"reference": "ghcr.io/acme/model:2"}},
        ],
    });
    let (images, pod) = created(stage, &json!(containers), &more).await?;
    let wanted: Vec<&str> = IMAGES.iter().map(|(_, wanted)| *wanted).collect();
    ensure!(images == wanted, "images became {images:?}, not {wanted:?}");
    let spec = serde_json::to_value(&pod.spec)?;
    ensure!(spec["initContainers"][0]["image"] == "localhost:5000/docker.io/library/busybox", "{spec}");
    let volume = spec["volumes"].as_array().and_then(|all| all.iter().find(|one| one["name"] == "model"));
    let reference = volume.map(|volume| &volume["image"]["reference"]);
    ensure!(reference.is_some_and(|image| image == "localhost:5000/ghcr.io/acme/model:2"), "{spec}");
    stage.log(format_args!("{} images of one pod are rewritten", wanted.len() + 2));
    debug_containers(stage).await
}

/// Only a new debug container gets another image: those that run stay as they are.
async fn debug_containers(stage: &Stage) -> Result<()> {
    let pod = pod(&json!([{"name": "a", "image": "nginx"}]), &json!({"nodeName": "absent"}))?;
    let name = pod.metadata.name.clone().unwrap_or_default();
    stage.pods().create(&PostParams::default(), &pod).await?;
    for (number, image) in ["busybox:1", "alpine:3"].into_iter().enumerate() {
        let debug = json!({"name": format!("d{number}"), "image": image});
        let patch = json!({"spec": {"ephemeralContainers": [debug]}});
        stage
            .pods()
            .patch_ephemeral_containers(&name, &PatchParams::default(), &Patch::Strategic(patch))
            .await?;
    }
    let pod = stage.pods().get(&name).await?;
    let spec = pod.spec.unwrap_or_default();
    let mut images: Vec<String> =
        spec.ephemeral_containers.into_iter().flatten().filter_map(|one| one.image).collect();
    // The API server decides about the order.
    images.sort();
    stage.pods().delete(&name, &DeleteParams::default().grace_period(0)).await?;
    let wanted = ["localhost:5000/docker.io/library/alpine:3", "localhost:5000/docker.io/library/busybox:1"];
    ensure!(images == wanted, "debug containers have {images:?}");
    stage.log("debug containers are rewritten when they are added");
    Ok(())
}

fn pod(containers: &Value, more: &Value) -> Result<Pod> {
    let mut spec = json!({"containers": containers});
    spec.as_object_mut().context("an object")?.extend(more.as_object().cloned().unwrap_or_default());
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "probe"}, "spec": spec});
    Ok(serde_json::from_value(pod)?)
}

/// Returns the pod that the API server would create, and the images of its containers.
async fn created(stage: &Stage, containers: &Value, more: &Value) -> Result<(Vec<String>, Pod)> {
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let pod = stage.pods().create(&dry, &pod(containers, more)?).await?;
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    Ok((containers.filter_map(|one| one.image.clone()).collect(), pod))
}
