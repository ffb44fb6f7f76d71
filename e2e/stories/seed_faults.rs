//! Obstacles to `quinistry up`: missing rights, absent carrier images, ports in use, a namespace that forbids
//! host ports, a kill half way, and another `up` at the same time. Each time `up` names the obstacle or copes
//! with it, and a second run completes.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::support::outage::kubectl;
use super::support::process::Process;
use super::support::{Stage, Story, When, daemon_sets, seed, shell, up, wait};

const DEADLINE: Duration = Duration::from_mins(4);
const GENERATIONS: i32 = 3;
const ENFORCE: &str = "pod-security.kubernetes.io/enforce";

pub fn story() -> Story {
    Story { name: "seed_faults", when: When::Last, operator: true, play: |stage| Box::pin(play(stage)) }
}

async fn play(stage: Arc<Stage>) -> Result<()> {
    up::without_shared_operator(&stage, Box::pin(faults(&stage))).await
}

async fn faults(stage: &Stage) -> Result<()> {
    let folder = tempfile::tempdir()?;
    refused_rights(stage, folder.path()).await?;
    no_carrier(stage).await?;
    taken_port(stage).await?;
    baseline(stage).await?;
    interrupted(stage, &folder.path().join("log")).await?;
    two_concurrent_runs(stage).await
}

/// A user without any rights gets a list of the missing ones, and nothing is created.
async fn refused_rights(stage: &Stage, folder: &Path) -> Result<()> {
    let namespace = ["--namespace", &stage.namespace];
    kubectl(&[&["create", "serviceaccount", "nobody"][..], &namespace].concat()).await?;
    let token = kubectl(&[&["create", "token", "nobody"][..], &namespace].concat()).await?;
    let view = kubectl(&["config", "view", "--raw", "--minify", "--flatten", "--output", "json"]).await?;
    let mut config: Value = serde_json::from_str(&view)?;
    config["users"][0]["user"] = json!({"token": token});
    let file = folder.join("kubeconfig");
    std::fs::write(&file, config.to_string())?;

    let file = file.to_str().context("a plain path")?;
    let output = up::expect_failure(up::up(stage, &stage.world.first.path, &["--kubeconfig", file])).await?;
    let rights = output.lines().find(|line| line.contains("may not")).context(output.clone())?;
    stage.log(rights);
    // A few of the rights in one short line, and where to find the others.
    for word in ["nobody", "namespaces", "nodes", "check -o json", "cluster-admin"] {
        ensure!(rights.contains(word), "the message does not contain {word}: {output}");
    }
    check_nothing_created(stage).await
}

/// No node has the named carrier image.
async fn no_carrier(stage: &Stage) -> Result<()> {
    let output =
        up::expect_failure(up::up(stage, &stage.world.first.path, &["--carrier", "localhost/absent:1"]))
            .await?;
    let line = output.lines().find(|line| line.contains("localhost/absent:1") && line.contains("carriers"));
    let line = line.context(output.clone())?;
    stage.log(line);
    ensure!(
        stage.world.nodes.iter().all(|node| line.contains(node.name())),
        "the message does not name all nodes: {output}"
    );
    check_nothing_created(stage).await
}

/// Another pod has a required port. `up` names the pod, and works when that is gone.
async fn taken_port(stage: &Stage) -> Result<()> {
    let port = stage.base_port + 1;
    let thief = daemon_sets::by_hand("thief", &stage.world.first.image, port, &stage.world.first.digest);
    stage.daemon_sets().create(&PostParams::default(), &thief).await?;
    daemon_sets::until_rolled_out(stage, "thief", DEADLINE).await?;
    let output = up::expect_failure(up::up(stage, &stage.world.first.path, &[])).await?;
    let line = output.lines().find(|line| line.contains("thief")).context(output.clone())?;
    stage.log(line);
    ensure!(
        line.contains(&format!("{port} ({}/thief-", stage.namespace)),
        "the message does not name the owner of the port: {output}"
    );
    check_nothing_created(stage).await?;
    stage.daemon_sets().delete("thief", &DeleteParams::default()).await?;
    stage.until_empty(DEADLINE).await
}

/// The namespace forbids host ports. `up` announces that it changes the level, changes it, and completes.
async fn baseline(stage: &Stage) -> Result<()> {
    let patch = json!({"metadata": {"labels": {ENFORCE: "baseline"}}});
    let namespaces = Api::<Namespace>::all(stage.world.client.clone());
    namespaces.patch(&stage.namespace, &PatchParams::default(), &Patch::Merge(patch)).await?;
    let check =
        up::command(stage, &stage.world.first.path, &["check", "--base-port", &stage.base_port.to_string()]);
    let output = shell::text(check).await?;
    let line = output.lines().find(|line| line.contains("baseline")).context(output.clone())?;
    stage.log(line);
    up::raise(stage, &stage.world.first.path).await?;
    let now = namespaces.get(&stage.namespace).await?;
    let level = now.metadata.labels.as_ref().and_then(|labels| labels.get(ENFORCE));
    ensure!(level.is_some_and(|level| level == "privileged"), "the namespace enforces {level:?}");
    seed::check_all_nodes(stage, GENERATIONS, &stage.world.first.digest).await?;
    up::down(stage).await.map(drop)
}

/// Kills `up` when the first seed parts exist, and again when generation 0 is created. The remains do no
/// harm.
async fn interrupted(stage: &Stage, log: &Path) -> Result<()> {
    let up = || Process::start(&up::up(stage, &stage.world.first.path, &["--generations", "3"]), log);
    let first = up()?;
    let some = wait::eventually(DEADLINE, "some seed parts exist", || async {
        let parts = seed::parts(stage, up::NAME).await?.len();
        ensure!(parts > 1, "there are {parts}");
        Ok(parts)
    })
    .await?;
    first.kill().await?;
    let second = up()?;
    let name = format!("{}-gen0", up::NAME);
    wait::until(&stage.daemon_sets(), &name, DEADLINE, "generation 0 exists", |_| true).await?;
    second.kill().await?;
    let sets = stage.daemon_sets().list(&ListParams::default()).await?.items.len();
    ensure!(sets == 1, "up was killed too late: {sets} sets exist");
    stage.log(format_args!("killed when {some} seed parts existed, and when generation 0 existed"));
    Ok(())
}

/// Two users run `up` at once on top of an interrupted run, and both see it complete.
async fn two_concurrent_runs(stage: &Stage) -> Result<()> {
    let path = &stage.world.first.path;
    let (one, other) = tokio::join!(up::raise(stage, path), up::raise(stage, path));
    one.context("the first run")?;
    other.context("the second run")?;
    seed::check_all_nodes(stage, GENERATIONS, &stage.world.first.digest).await?;
    seed::check_parts(stage, up::NAME, &stage.world.first).await?;
    up::operator(stage, "the operator is Ready", |_| true).await?;
    up::down(stage).await.map(drop)
}

async fn check_nothing_created(stage: &Stage) -> Result<()> {
    let parts = seed::parts(stage, up::NAME).await?.len();
    let resources = stage.resources().list(&ListParams::default()).await?.items.len();
    let namespaces = Api::<Namespace>::all(stage.world.client.clone());
    let operator = namespaces.get_opt(&up::namespace(stage)).await?.is_some();
    ensure!(
        parts == 0 && resources == 0 && !operator,
        "created: {parts} seed parts, {resources} resources, operator namespace: {operator}"
    );
    Ok(())
}
