//! `quinistry up` on nodes with the sandbox image only: seconds later every node serves one digest from four
//! generations, and the operator runs from generation 0. A second `up` changes nothing; `down` leaves only
//! the objects that it names.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;
use k8s_openapi::api::core::v1::{Event, Node as LiveNode};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};

use super::support::{Stage, Story, When, daemon_sets, seed, serving, shell, up, wait};

const DEADLINE: Duration = Duration::from_mins(4);
const GENERATIONS: i32 = 3;
/// Deadline of `up`. The goal is 15 s, and the story prints the time; test machines are busy.
const UP_DEADLINE: Duration = Duration::from_mins(2);

pub fn story() -> Story {
    Story { name: "up", when: When::Last, operator: true, play: |stage| Box::pin(play(stage)) }
}

async fn play(stage: Arc<Stage>) -> Result<()> {
    let result = up::without_shared_operator(&stage, Box::pin(up_and_down(&stage))).await;
    seed::load_bootstrap_images(&stage).await?;
    result
}

async fn up_and_down(stage: &Stage) -> Result<()> {
    let began = Instant::now();
    seed::wipe_all_nodes(stage).await?;
    stage.log(format_args!("all nodes are wiped and Ready after {:.1} s", began.elapsed().as_secs_f32()));
    let nodes = &stage.world.nodes;
    let before = try_join_all(nodes.iter().map(|node| seed::runtime_content(&**node))).await?;

    let first = &stage.world.first;
    let took = up::raise(stage, &first.path).await?;
    stage.log(format_args!("up took {:.1} s on {} nodes", took.as_secs_f32(), nodes.len()));
    ensure!(took < UP_DEADLINE, "up took {took:?}");
    seed::check_all_nodes(stage, GENERATIONS, &first.digest).await?;
    seed::check_parts(stage, up::NAME, first).await?;
    for (node, before) in nodes.iter().zip(&before) {
        let layer = seed::layer(stage, &**node, &first.digest).await?;
        seed::check_fetched(&**node, before, &layer.digest).await?;
    }
    check_pulled(stage).await?;
    let image = first.at(stage.base_port - 1);
    let operator = up::operator(stage, "the operator is Ready", |_| true).await?;
    let runs = operator.spec.context("a pod has a specification")?.containers.remove(0).image;
    ensure!(runs.as_ref() == Some(&image), "the operator runs {runs:?}, not {image}");
    stage.log("all generations serve one digest, and every node has fetched it from generation 0");

    let before = versions(stage).await?;
    let took = up::raise(stage, &first.path).await?;
    let after = versions(stage).await?;
    ensure!(before == after, "up changed something: {before:#?} became {after:#?}");
    stage.log(format_args!("a second up took {:.1} s and changed nothing", took.as_secs_f32()));

    let status = shell::text(up::command(stage, &first.path, &["status"])).await?;
    ensure!(status.contains("Ready"), "status says: {status}");
    let status = shell::text(up::command(stage, &first.path, &["status", "--output", "json"])).await?;
    let status: serde_json::Value = serde_json::from_str(&status)?;
    ensure!(status[0]["ready"] == true, "status says: {status:#}");

    let began = Instant::now();
    let output = up::down(stage).await?;
    stage.log(format_args!("down took {:.1} s:\n{output}", began.elapsed().as_secs_f32()));
    check_nothing_left(stage, &output).await
}

/// Checks that the kubelet of every node reports a pull from generation 0, for generation 1 or for the
/// operator.
async fn check_pulled(stage: &Stage) -> Result<()> {
    let image = stage.world.first.at(stage.base_port - 1);
    let mut nodes = BTreeSet::new();
    for namespace in [stage.namespace.clone(), up::namespace(stage)] {
        let events = Api::<Event>::namespaced(stage.world.client.clone(), &namespace);
        for event in events.list(&ListParams::default().fields("reason=Pulled")).await? {
            let message = event.message.unwrap_or_default();
            if message.starts_with("Successfully pulled") && message.contains(&image) {
                nodes.extend(event.source.and_then(|source| source.host));
            }
        }
    }
    let all: BTreeSet<String> = stage.world.nodes.iter().map(|node| node.name().to_owned()).collect();
    ensure!(nodes == all, "only {nodes:?} have pulled from generation 0");
    Ok(())
}

/// Returns the versions of all objects that `up` creates, once they no longer change.
async fn versions(stage: &Stage) -> Result<BTreeMap<String, String>> {
    let all = ListParams::default();
    let what = "the objects of up no longer change";
    let sets = wait::until_all(&stage.daemon_sets(), &all, DEADLINE, what, |sets| {
        sets.len() > 3 && sets.iter().all(daemon_sets::is_rolled_out)
    })
    .await?;
    let sets = sets
        .into_iter()
        .map(|set| (format!("DaemonSet {}", set.name_any()), set.resource_version().unwrap_or_default()));
    let deployment = up::deployment(stage).await?.resource_version().unwrap_or_default();
    let resource = stage.resources().get(up::NAME).await?.metadata.generation;
    let mut versions = seed::parts(stage, up::NAME).await?;
    versions.extend(sets);
    versions.insert("Deployment".into(), deployment);
    versions.insert("Quinistry".into(), format!("{resource:?}"));
    Ok(versions)
}

/// Checks that all created objects are gone, except those that `down` has named.
async fn check_nothing_left(stage: &Stage, output: &str) -> Result<()> {
    stage.until_empty(DEADLINE).await?;
    let parts = seed::parts(stage, up::NAME).await?;
    ensure!(parts.is_empty(), "seed parts are left: {parts:?}");
    let client = &stage.world.client;
    let made = ListParams::default().labels(&format!("app.kubernetes.io/instance={}", stage.namespace));
    let roles = Api::<ClusterRole>::all(client.clone()).list_metadata(&made).await?.items;
    let bindings = Api::<ClusterRoleBinding>::all(client.clone()).list_metadata(&made).await?.items;
    ensure!(roles.is_empty() && bindings.is_empty(), "rights are left: {roles:?} {bindings:?}");
    let labelled = ListParams::default().labels(quinistry::seed::carrier::CARRIER);
    let nodes = Api::<LiveNode>::all(client.clone()).list_metadata(&labelled).await?.items;
    ensure!(nodes.is_empty(), "labels of nodes are left: {nodes:?}");
    for kept in ["definition quinistries.quinistry.dev", &format!("namespace {}", stage.namespace)] {
        let is_named = output.lines().any(|line| line.starts_with("left") && line.contains(kept));
        ensure!(is_named, "down did not say that it leaves {kept}: {output}");
    }
    for port in stage.base_port - 1..stage.base_port + GENERATIONS {
        serving::check_stopped(stage, port).await?;
    }
    Ok(())
}
