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

const DEADLINE: Duration = Duration::from_mins(1);
const GENERATIONS: i32 = 3;
/// Deadline of `up`. The goal is 15 s, and the story prints the time; test machines are busy.
const RAISED: Duration = Duration::from_mins(2);

pub fn story() -> Story {
    Story { name: "up", when: When::Last, operator: true, play: |stage| Box::pin(play(stage)) }
}

async fn play(stage: Arc<Stage>) -> Result<()> {
    let result = up::alone(&stage, Box::pin(come_and_go(&stage))).await;
    seed::dress(&stage).await?;
    result
}

async fn come_and_go(stage: &Stage) -> Result<()> {
    let began = Instant::now();
    seed::bare(stage).await?;
    stage.say(format_args!("all nodes are bare and Ready after {:.1} s", began.elapsed().as_secs_f32()));
    let nodes = &stage.world.nodes;
    let before = try_join_all(nodes.iter().map(|node| seed::content(&**node))).await?;

    let first = &stage.world.first;
    let took = up::raise(stage, &first.path).await?;
    stage.say(format_args!("up took {:.1} s on {} nodes", took.as_secs_f32(), nodes.len()));
    ensure!(took < RAISED, "up took {took:?}");
    seed::everywhere(stage, GENERATIONS, &first.digest).await?;
    seed::are_whole(stage, up::NAME, first).await?;
    for (node, before) in nodes.iter().zip(&before) {
        let layer = seed::layer(stage, &**node, &first.digest).await?;
        seed::was_fetched(&**node, before, &layer.digest).await?;
    }
    pulled(stage).await?;
    let image = first.at(stage.base_port - 1);
    let operator = up::operator(stage, "the operator is Ready", |_| true).await?;
    let runs = operator.spec.context("a pod has a specification")?.containers.remove(0).image;
    ensure!(runs.as_ref() == Some(&image), "the operator runs {runs:?}, not {image}");
    stage.say("all generations serve one digest, and every node has fetched it from generation 0");

    let before = versions(stage).await?;
    let took = up::raise(stage, &first.path).await?;
    let after = versions(stage).await?;
    ensure!(before == after, "up changed something: {before:#?} became {after:#?}");
    stage.say(format_args!("up again took {:.1} s, and nothing changed", took.as_secs_f32()));

    let status = shell::text(up::command(stage, &first.path, &["status"])).await?;
    ensure!(status.contains("Ready"), "status says: {status}");
    let status = shell::text(up::command(stage, &first.path, &["status", "--output", "json"])).await?;
    let status: serde_json::Value = serde_json::from_str(&status)?;
    ensure!(status[0]["ready"] == true, "status says: {status:#}");

    let began = Instant::now();
    let said = up::down(stage).await?;
    stage.say(format_args!("down took {:.1} s:\n{said}", began.elapsed().as_secs_f32()));
    nothing_is_left(stage, &said).await
}

/// Checks that the kubelet of every node reports a pull from generation 0, for generation 1 or for the
/// operator.
async fn pulled(stage: &Stage) -> Result<()> {
    let image = stage.world.first.at(stage.base_port - 1);
    let mut nodes = BTreeSet::new();
    for namespace in [stage.namespace.clone(), up::namespace(stage)] {
        let events = Api::<Event>::namespaced(stage.world.client.clone(), &namespace);
        for event in events.list(&ListParams::default().fields("reason=Pulled")).await? {
            let said = event.message.unwrap_or_default();
            if said.starts_with("Successfully pulled") && said.contains(&image) {
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
    let what = "what up has made is at rest";
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
async fn nothing_is_left(stage: &Stage, said: &str) -> Result<()> {
    stage.until_empty(DEADLINE).await?;
    let parts = seed::parts(stage, up::NAME).await?;
    ensure!(parts.is_empty(), "pieces are left: {parts:?}");
    let client = &stage.world.client;
    let made = ListParams::default().labels(&format!("app.kubernetes.io/instance={}", stage.namespace));
    let roles = Api::<ClusterRole>::all(client.clone()).list_metadata(&made).await?.items;
    let bindings = Api::<ClusterRoleBinding>::all(client.clone()).list_metadata(&made).await?.items;
    ensure!(roles.is_empty() && bindings.is_empty(), "rights are left: {roles:?} {bindings:?}");
    let labelled = ListParams::default().labels(quinistry::seed::carrier::CARRIER);
    let nodes = Api::<LiveNode>::all(client.clone()).list_metadata(&labelled).await?.items;
    ensure!(nodes.is_empty(), "labels of nodes are left: {nodes:?}");
    for kept in ["definition quinistries.quinistry.dev", &format!("namespace {}", stage.namespace)] {
        let told = said.lines().any(|line| line.starts_with("left") && line.contains(kept));
        ensure!(told, "down did not say that it leaves {kept}: {said}");
    }
    for port in stage.base_port - 1..stage.base_port + GENERATIONS {
        serving::nowhere(stage, port).await?;
    }
    Ok(())
}
