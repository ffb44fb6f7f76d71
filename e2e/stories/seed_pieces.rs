//! Seed parts that are lost or altered. While generation 0's pods run they are not affected, and the operator
//! restores the parts. Pods that start with a wrong part refuse to run, and start as soon as the part is
//! restored.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::ResourceExt as _;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use quinistry::seed::{SeedPart, SplitExecutable, exit};
use serde_json::json;

use super::support::pods::{GENERATION, is_ready, of_generation, restarts};
use super::support::process::{Process, with_log};
use super::support::{Stage, Story, When, operator, seed, serving, wait};

const DEADLINE: Duration = Duration::from_mins(4);
const NAME: &str = "mosaic";
const GENERATIONS: i32 = 2;
/// Port of this story's operators.
const PORT: u16 = 18084;

pub fn story() -> Story {
    Story { name: "seed_pieces", when: When::Last, operator: true, play: |stage| Box::pin(play(stage)) }
}

async fn play(stage: Arc<Stage>) -> Result<()> {
    if !stage.can_run_operators() {
        return Ok(());
    }
    stage.operator().stop_shared(&stage.world).await?;
    with_log(|log| async move { delete_and_alter_parts(&stage, &log).await }).await
}

async fn delete_and_alter_parts(stage: &Stage, log: &Path) -> Result<()> {
    let operator = Process::start(&operator::command(&stage.world, PORT), log)?;
    let began = Instant::now();
    stage.apply(&seed::resource(stage, NAME, GENERATIONS, &[])?).await?;
    stage.until_ready(NAME, DEADLINE).await?;
    let digest = &stage.world.first.digest;
    seed::check_all_nodes(stage, GENERATIONS, digest).await?;
    stage.log(format_args!("raised from nothing in {:.1} s", began.elapsed().as_secs_f32()));

    // The stub too, and the last part, which is shorter.
    let split = seed::split(NAME, &stage.world.first)?;
    let last = SeedPart::Share(split.share_count() - 1);
    let before = pod_identities(stage).await?;
    for part in [SeedPart::Stub, SeedPart::Share(0), last] {
        delete_part(stage, &split, part).await?;
        until_restored(stage, &split, part).await?;
    }
    for part in [SeedPart::Stub, SeedPart::Share(1), last] {
        alter_part(stage, &split, part).await?;
        until_restored(stage, &split, part).await?;
    }
    stage.until_ready(NAME, DEADLINE).await?;
    let after = pod_identities(stage).await?;
    ensure!(before == after, "pods were restarted: {before:?} became {after:?}");
    stage.log("three seed parts deleted and three altered; all are restored, and no pod was restarted");

    refuse_wrong_part(stage, &split, operator, log).await
}

/// Pods start with a wrong seed part while no operator runs; then an operator starts and restores the part.
async fn refuse_wrong_part(
    stage: &Stage,
    split: &SplitExecutable,
    operator: Process,
    log: &Path,
) -> Result<()> {
    operator.stop().await?;
    let old = pod_identities(stage).await?;
    // A kubelet keeps its copy of an immutable ConfigMap as long as any pod on the node uses it.
    set_node_selector(stage, Some("nowhere")).await?;
    wait::until_none(&stage.pods(), &of_generation(0), DEADLINE, "generation 0 is deleted on all nodes")
        .await?;
    alter_part(stage, split, SeedPart::Share(2)).await?;
    set_node_selector(stage, None).await?;
    let size = stage.world.nodes.len();
    let what = "every new pod of generation 0 refuses the seed parts";
    let refusing = wait::until_all(&stage.pods(), &of_generation(0), DEADLINE, what, |pods| {
        pods.len() == size
            && pods.iter().all(|pod| !old.contains_key(&pod.name_any()) && refusal(pod).is_some())
    })
    .await?;
    for pod in refusing {
        let message = refusal(&pod).unwrap_or_default();
        stage.log(format_args!("{}: {message}", pod.name_any()));
        ensure!(message.lines().count() == 1, "the message of the stub is not one line: {message:?}");
        ensure!(
            message.contains(&split.digest().to_string()),
            "the message of the stub does not name the expected digest: {message}"
        );
    }
    // The other generations are not affected.
    let ports = stage.base_port..stage.base_port + GENERATIONS;
    serving::check_all_nodes(stage, ports, &stage.world.first.digest).await?;

    let began = Instant::now();
    let operator = Process::start(&operator::command(&stage.world, PORT), log)?;
    until_restored(stage, split, SeedPart::Share(2)).await?;
    wait::until_all(
        &stage.pods(),
        &of_generation(0),
        DEADLINE,
        "all pods of generation 0 are Ready",
        |pods| pods.len() == size && pods.iter().all(is_ready),
    )
    .await?;
    stage.until_ready(NAME, DEADLINE).await?;
    seed::check_all_nodes(stage, GENERATIONS, &stage.world.first.digest).await?;
    stage.log(format_args!("Ready {:.1} s after an operator started", began.elapsed().as_secs_f32()));
    let pod_identities = pod_identities(stage).await?;
    let kept =
        |(name, _): &(&String, &(i32, String))| old.get(*name).is_some_and(|(generation, _)| *generation > 0);
    let kept = pod_identities.iter().filter(kept).count();
    ensure!(kept == size * 2, "only {kept} pods of the generations stayed");
    stage.delete(NAME).await?;
    let left = seed::parts(stage, NAME).await?;
    operator.kill().await?;
    ensure!(left.is_empty(), "seed parts are left: {left:?}");
    Ok(())
}

/// Removes generation 0 from all nodes, or lets it return, by its node selector alone.
async fn set_node_selector(stage: &Stage, node_label: Option<&str>) -> Result<()> {
    let patch = json!({"spec": {"template": {"spec": {"nodeSelector": {"story": node_label}}}}});
    let name = format!("{NAME}-gen0");
    stage.daemon_sets().patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
}

/// Returns the stub's message about a wrong digest.
fn refusal(pod: &Pod) -> Option<String> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    let states = statuses.iter().flat_map(|one| one.state.iter().chain(&one.last_state));
    let ended = states.filter_map(|state| state.terminated.as_ref());
    let mut ended = ended.filter(|ended| ended.exit_code == exit::WRONG_DIGEST);
    ended.next().map(|ended| ended.message.clone().unwrap_or_default().trim().to_owned())
}

async fn delete_part(stage: &Stage, split: &SplitExecutable, part: SeedPart) -> Result<()> {
    seed::config_maps(stage).delete(&split.names().of(part), &DeleteParams::default()).await?;
    Ok(())
}

/// Replaces a seed part by a copy with one byte changed.
async fn alter_part(stage: &Stage, split: &SplitExecutable, part: SeedPart) -> Result<()> {
    let maps = seed::config_maps(stage);
    let live = maps.get(&split.names().of(part)).await?;
    let mut other = live.clone();
    other.metadata.resource_version = None;
    other.metadata.uid = None;
    other.metadata.managed_fields = None;
    let data = other
        .binary_data
        .as_mut()
        .and_then(|data| data.get_mut(part.key()))
        .context("the seed part has data")?;
    let byte = data.0.last_mut().context("the seed part is not empty")?;
    *byte = !*byte;
    delete_part(stage, split, part).await?;
    match maps.create(&PostParams::default(), &other).await {
        // The operator was faster and restored the lost part, which is tested as well.
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
        result => result.map(drop).context("failed to create the altered seed part"),
    }
}

/// Waits until a seed part has the right bytes.
async fn until_restored(stage: &Stage, split: &SplitExecutable, part: SeedPart) -> Result<()> {
    let (name, bytes) = (split.names().of(part), split.bytes(part)?);
    let right = |map: &ConfigMap| {
        let data = map.binary_data.as_ref().and_then(|data| data.get(part.key()));
        map.metadata.deletion_timestamp.is_none()
            && map.immutable == Some(true)
            && data.is_some_and(|data| data.0 == bytes)
    };
    let what = format!("{name} is restored");
    wait::until(&seed::config_maps(stage), &name, DEADLINE, &what, right).await.map(drop)
}

/// Returns all pods by name: generation, UID and restarts.
async fn pod_identities(stage: &Stage) -> Result<BTreeMap<String, (i32, String)>> {
    let pods = stage.pods().list(&ListParams::default()).await?;
    let generation = |pod: &Pod| pod.labels().get(GENERATION).and_then(|text| text.parse().ok());
    let identity = |pod: &Pod| {
        let (uid, restarts) = (pod.uid().unwrap_or_default(), restarts(pod));
        (pod.name_any(), (generation(pod).unwrap_or_default(), format!("{uid} {restarts}")))
    };
    Ok(pods.iter().map(identity).collect())
}
