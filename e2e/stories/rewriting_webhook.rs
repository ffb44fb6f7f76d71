//! Admission that rewrites images of pods: an added digest changes nothing, and another registry is reported.
//! A mutating admission policy does here what plugins do by webhooks; both change a pod when it is created.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use kube::ResourceExt as _;
use kube::api::{DeleteParams, PostParams};
use serde_json::{Value, json};

use super::support::pods::of_generation;
use super::support::policies::{API_VERSION, BINDING, POLICY};
use super::support::{Stage, Story, When, policies, serving, wait};

const DEADLINE: Duration = Duration::from_mins(4);
/// Registry that does not exist. Nothing listens on its port, so that a pull fails at once: kubelets pull one
/// image after another, and a name lookup of a minute would hold up all stories.
const MIRROR_REPOSITORY: &str = "localhost:1/mirror/quinistry";

pub fn story() -> Story {
    Story {
        name: "rewriting_webhook",
        when: When::Together,
        operator: true,
        play: |stage| Box::pin(play(stage)),
    }
}

async fn play(stage: Arc<Stage>) -> Result<()> {
    if !policies::are_served(&stage).await? {
        return Ok(());
    }
    let result = check(&stage).await;
    for suffix in ["pins", "mirrors"] {
        policies::delete(&stage, &name(&stage, suffix)).await?;
    }
    result
}

async fn check(stage: &Stage) -> Result<()> {
    let first = &stage.world.first;
    let source = stage.base_port + 20;
    let _registry = stage.world.serve(first, source).await?;
    let mut resource = stage.resource("pinned", 2);
    resource["spec"]["image"] = json!(format!("localhost:{source}/quinistry:latest"));
    create_policy(stage, "pins", "!one.image.contains('@')", &format!("one.image + '@{}'", first.digest))
        .await?;
    until_in_force(stage, &format!("localhost:{source}/quinistry:latest"), &first.digest).await?;
    stage.apply(&resource).await?;
    stage.until_ready("pinned", DEADLINE).await?;
    let suffix = format!(":latest@{}", first.digest);
    for pod in stage.pods().list(&of_generation(1)).await? {
        let image = image(&pod);
        ensure!(image.ends_with(&suffix), "the policy did not change {}: {image}", pod.name_any());
    }
    serving::check_all_nodes(stage, stage.base_port..stage.base_port + 2, &first.digest).await?;
    stage.log("pinned pods count as updated");

    let condition = "one.image.contains('/quinistry@')";
    create_policy(stage, "mirrors", condition, &format!("'{MIRROR_REPOSITORY}@' + one.image.split('@')[1]"))
        .await?;
    let child = first.at(stage.base_port + 1);
    until_in_force(stage, &child, MIRROR_REPOSITORY).await?;
    resource["spec"]["generations"] = json!(3);
    stage.apply(&resource).await?;
    let message = stage.until("pinned", "Degraded", "True", "ImageRewritten", DEADLINE).await?;
    stage.log(&message);
    ensure!(
        message.contains("generation 3") && message.contains(MIRROR_REPOSITORY),
        "the message does not say what became of the image: {message}"
    );
    policies::delete(stage, &name(stage, "mirrors")).await?;
    until_in_force(stage, &child, &child).await?;
    stage.pods().delete_collection(&DeleteParams::default(), &of_generation(3)).await?;
    stage.until_ready("pinned", DEADLINE).await.map(drop)
}

fn image(pod: &k8s_openapi::api::core::v1::Pod) -> &str {
    let container = pod.spec.as_ref().and_then(|spec| spec.containers.first());
    container.and_then(|container| container.image.as_deref()).unwrap_or_default()
}

/// Returns a policy's name. Policies are cluster-wide, so that the name contains the story's namespace.
fn name(stage: &Stage, suffix: &str) -> String {
    format!("{}-{suffix}", stage.namespace)
}

/// Creates a policy that replaces the image of each pod of this story by the expression `image` if
/// `condition` holds.
async fn create_policy(stage: &Stage, suffix: &str, condition: &str, image: &str) -> Result<()> {
    let name = name(stage, suffix);
    let change = format!(
        "[JSONPatch{{op: \"replace\", path: \"/spec/containers/0/image\", value: {}}}]",
        image.replace("one.", "object.spec.containers[0].")
    );
    let create = async |kind: &str, spec: Value| {
        let object =
            json!({"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec});
        policies::create(stage, object).await
    };
    let pods =
        json!({"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]});
    let policy = json!({
        "matchConstraints": {"resourceRules": [pods]},
        "matchConditions": [{
            "name": "one", "expression": condition.replace("one.", "object.spec.containers[0]."),
        }],
        "failurePolicy": "Fail",
        "reinvocationPolicy": "Never",
        "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": change}}],
    });
    create(POLICY, policy).await?;
    let here = json!({"matchLabels": {"kubernetes.io/metadata.name": stage.namespace}});
    let binding = json!({"policyName": name, "matchResources": {"namespaceSelector": here}});
    create(BINDING, binding).await
}

/// Waits until the image of a pod would be rewritten to one that contains `word`: policies take a moment to
/// come into force.
async fn until_in_force(stage: &Stage, of: &str, word: &str) -> Result<()> {
    let pod = serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "probe"},
        "spec": {"containers": [{"name": "probe", "image": of}]},
    }))?;
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    wait::eventually(Duration::from_secs(30), "the policies are in force", || async {
        let created = stage.pods().create(&dry, &pod).await?;
        ensure!(image(&created).contains(word), "the image becomes {}", image(&created));
        Ok(())
    })
    .await
}
