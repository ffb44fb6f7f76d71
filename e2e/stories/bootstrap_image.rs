//! Bootstrap images that cannot be pulled: without a registry, with an invalid name, never loaded, and one
//! whose later use needs credentials although it was loaded. Each is reported with the kubelet's message and
//! the remedy, and no child is created.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;
use kube::api::{DeleteParams, ListParams};
use serde_json::json;

use super::support::pods::of_generation;
use super::support::{Stage, Story, When, shell};

const DEADLINE: Duration = Duration::from_mins(4);

pub fn story() -> Story {
    Story {
        name: "bootstrap_image",
        when: When::Together,
        operator: true,
        play: |stage| Box::pin(play(stage)),
    }
}

async fn play(stage: Arc<Stage>) -> Result<()> {
    // Nothing listens on this port, so that the pull fails at once on every cluster.
    let nowhere = format!("localhost:{}/quinistry:none", stage.base_port + 20);
    for (name, image, policy, text) in [
        ("nowhere", nowhere.as_str(), "IfNotPresent", "localhost"),
        ("nameless", "registry.example.com/UPPER:case", "IfNotPresent", "InvalidImageName"),
        ("never", "registry.example.com/never:loaded", "Never", "ErrImageNeverPull"),
    ] {
        let mut resource = stage.resource(name, 2);
        resource["spec"]["image"] = json!(image);
        resource["spec"]["imagePullPolicy"] = json!(policy);
        stage.apply(&resource).await?;
        let message = stage.until(name, "Progressing", "False", "BootstrapImagePullFailed", DEADLINE).await?;
        ensure!(message.contains(text), "{name}: the message does not say {text}: {message}");
        let sets = stage.daemon_sets().list(&ListParams::default()).await?.items;
        ensure!(sets.len() == 1, "{name}: a child was created before its parent: {} sets", sets.len());
        stage.delete(name).await?;
    }
    stage.log("missing registry, invalid name and image never loaded are reported");
    check_loaded_image(&stage).await
}

/// An image loaded without `--bootstrap` starts once. Then a child has pulled the same content, and the
/// kubelet, which records pulls since 1.35, asks for credentials for the loaded name.
async fn check_loaded_image(stage: &Stage) -> Result<()> {
    // Content that no earlier run has pulled either, since kubelets keep their records.
    let folder = tempfile::tempdir()?;
    let program = folder.path().join("quinistry-plain");
    std::fs::copy(&stage.world.first.path, &program)?;
    std::fs::OpenOptions::new().append(true).open(&program)?.write_all(stage.namespace.as_bytes())?;
    let archive = folder.path().join("plain.tar");
    let image = "registry.example.com/quinistry:plain";
    let [program, file] = [&program, &archive].map(|path| path.to_string_lossy().into_owned());
    shell::output(shell::command([program.as_str(), "image", "save", "--name", image, &file])).await?;
    try_join_all(stage.world.nodes.iter().map(|node| node.load(&archive))).await?;

    let mut resource = stage.resource("plain", 2);
    resource["spec"]["image"] = json!(image);
    resource["spec"]["imagePullPolicy"] = json!("Never");
    stage.apply(&resource).await?;
    stage.until_ready("plain", DEADLINE).await?;
    let pods = stage.pods().list(&of_generation(1)).await?.items;
    let pod = pods.first().and_then(|pod| pod.metadata.name.clone()).context("generation 1 has pods")?;
    stage.pods().delete(&pod, &DeleteParams::default()).await?;
    if !stage.world.verifies_pulls().await? {
        stage.log(
            "this Kubernetes does not verify credentials of pulled images; the rest of the story is left out",
        );
        return stage.until_ready("plain", DEADLINE).await.map(drop);
    }
    let message = stage.until("plain", "Degraded", "True", "BootstrapImagePullFailed", DEADLINE).await?;
    stage.log(&message);
    ensure!(message.contains("image save --bootstrap"), "the message does not name the remedy: {message}");
    // The children continue to serve.
    let children = stage.pods().list(&of_generation(2)).await?.items;
    ensure!(children.len() == stage.world.nodes.len(), "{} children are left", children.len());
    Ok(())
}
