//! `ConfigMaps` of generation 0 that get lost or altered. While its pods run nothing happens to them, and what was there
//! is there again; pods that start with a wrong piece refuse to run, and start as soon as it is the right one again.

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

const DEADLINE: Duration = Duration::from_secs(90);
const NAME: &str = "mosaic";
const GENERATIONS: i32 = 2;
/// Where this story's operators answer.
const PORT: u16 = 18084;

pub fn story() -> Story {
    Story { name: "seed_pieces", when: When::Last, operator: true, play: |stage| Box::pin(play(stage)) }
}

async fn play(stage: Arc<Stage>) -> Result<()> {
    if !stage.can_run_operators() {
        return Ok(());
    }
    stage.operator().leave(&stage.world).await?;
    with_log(|log| async move { lose_and_alter(&stage, &log).await }).await
}

async fn lose_and_alter(stage: &Stage, log: &Path) -> Result<()> {
    let operator = Process::start(&operator::command(&stage.world, PORT), log)?;
    let began = Instant::now();
    stage.apply(&seed::resource(stage, NAME, GENERATIONS, &[])?).await?;
    stage.until_ready(NAME, DEADLINE).await?;
    let digest = &stage.world.first.digest;
    seed::everywhere(stage, GENERATIONS, digest).await?;
    stage.say(format_args!("raised from nothing in {:.1} s", began.elapsed().as_secs_f32()));

    // The stub too, and the last piece, which is shorter.
    let cut = seed::cut(NAME, &stage.world.first)?;
    let last = SeedPart::Share(cut.share_count() - 1);
    let before = lives(stage).await?;
    for part in [SeedPart::Stub, SeedPart::Share(0), last] {
        lose(stage, &cut, part).await?;
        until_restored(stage, &cut, part).await?;
    }
    for part in [SeedPart::Stub, SeedPart::Share(1), last] {
        alter(stage, &cut, part).await?;
        until_restored(stage, &cut, part).await?;
    }
    stage.until_ready(NAME, DEADLINE).await?;
    let after = lives(stage).await?;
    ensure!(before == after, "pods were touched: {before:?} became {after:?}");
    stage.say("three pieces lost and three altered; all are restored, and no pod was touched");

    refuse(stage, &cut, operator, log).await
}

/// Pods start with a wrong piece while nobody is there to restore it; then somebody is.
async fn refuse(stage: &Stage, cut: &SplitExecutable, operator: Process, log: &Path) -> Result<()> {
    operator.stop().await?;
    let old = lives(stage).await?;
    // A kubelet goes on with what it knows of an immutable ConfigMap as long as any pod is there that has it.
    place(stage, Some("nowhere")).await?;
    wait::until_none(&stage.pods(), &of_generation(0), DEADLINE, "generation 0 is gone from all nodes")
        .await?;
    alter(stage, cut, SeedPart::Share(2)).await?;
    place(stage, None).await?;
    let size = stage.world.nodes.len();
    let what = "every new pod of generation 0 refuses the pieces";
    let refusing = wait::until_all(&stage.pods(), &of_generation(0), DEADLINE, what, |pods| {
        pods.len() == size
            && pods.iter().all(|pod| !old.contains_key(&pod.name_any()) && refusal(pod).is_some())
    })
    .await?;
    for pod in refusing {
        let said = refusal(&pod).unwrap_or_default();
        stage.say(format_args!("{}: {said}", pod.name_any()));
        ensure!(said.lines().count() == 1, "the stub does not say one line: {said:?}");
        ensure!(said.contains(&cut.digest().to_string()), "the stub does not say what it wants: {said}");
    }
    // The others do not care.
    let ports = stage.base_port..stage.base_port + GENERATIONS;
    serving::everywhere(stage, ports, &stage.world.first.digest).await?;

    let began = Instant::now();
    let operator = Process::start(&operator::command(&stage.world, PORT), log)?;
    until_restored(stage, cut, SeedPart::Share(2)).await?;
    wait::until_all(&stage.pods(), &of_generation(0), DEADLINE, "generation 0 is whole again", |pods| {
        pods.len() == size && pods.iter().all(is_ready)
    })
    .await?;
    stage.until_ready(NAME, DEADLINE).await?;
    seed::everywhere(stage, GENERATIONS, &stage.world.first.digest).await?;
    stage.say(format_args!("whole again {:.1} s after an operator came", began.elapsed().as_secs_f32()));
    let lives = lives(stage).await?;
    let kept =
        |(name, _): &(&String, &(i32, String))| old.get(*name).is_some_and(|(generation, _)| *generation > 0);
    let kept = lives.iter().filter(kept).count();
    ensure!(kept == size * 2, "only {kept} pods of the generations stayed");
    stage.delete(NAME).await?;
    let left = seed::parts(stage, NAME).await?;
    operator.kill().await?;
    ensure!(left.is_empty(), "pieces are left: {left:?}");
    Ok(())
}

/// Takes generation 0 off all nodes, or lets it come back. What it is else stays as it was.
async fn place(stage: &Stage, somewhere: Option<&str>) -> Result<()> {
    let patch = json!({"spec": {"template": {"spec": {"nodeSelector": {"story": somewhere}}}}});
    let name = format!("{NAME}-gen0");
    stage.daemon_sets().patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
}

/// What the stub said when it refused what it was given.
fn refusal(pod: &Pod) -> Option<String> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    let states = statuses.iter().flat_map(|one| one.state.iter().chain(&one.last_state));
    let ended = states.filter_map(|state| state.terminated.as_ref());
    let mut ended = ended.filter(|ended| ended.exit_code == exit::WRONG_DIGEST);
    ended.next().map(|ended| ended.message.clone().unwrap_or_default().trim().to_owned())
}

async fn lose(stage: &Stage, cut: &SplitExecutable, part: SeedPart) -> Result<()> {
    seed::config_maps(stage).delete(&cut.names().of(part), &DeleteParams::default()).await?;
    Ok(())
}

/// Somebody makes it anew, with all that it says but one byte.
async fn alter(stage: &Stage, cut: &SplitExecutable, part: SeedPart) -> Result<()> {
    let maps = seed::config_maps(stage);
    let live = maps.get(&cut.names().of(part)).await?;
    let mut other = live.clone();
    other.metadata.resource_version = None;
    other.metadata.uid = None;
    other.metadata.managed_fields = None;
    let data = other.binary_data.as_mut().and_then(|data| data.get_mut(part.key())).context("it has data")?;
    let byte = data.0.last_mut().context("it is not empty")?;
    *byte = !*byte;
    lose(stage, cut, part).await?;
    match maps.create(&PostParams::default(), &other).await {
        // An operator was quicker, and restored what was lost: then that is what was tried.
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
        result => result.map(drop).context("the altered piece is not taken"),
    }
}

/// Waits until a part has the right bytes.
async fn until_restored(stage: &Stage, cut: &SplitExecutable, part: SeedPart) -> Result<()> {
    let (name, bytes) = (cut.names().of(part), cut.bytes(part)?);
    let right = |map: &ConfigMap| {
        let data = map.binary_data.as_ref().and_then(|data| data.get(part.key()));
        map.metadata.deletion_timestamp.is_none()
            && map.immutable == Some(true)
            && data.is_some_and(|data| data.0 == bytes)
    };
    let what = format!("{name} is restored");
    wait::until(&seed::config_maps(stage), &name, DEADLINE, &what, right).await.map(drop)
}

/// All pods: generation, UID and restarts.
async fn lives(stage: &Stage) -> Result<BTreeMap<String, (i32, String)>> {
    let pods = stage.pods().list(&ListParams::default()).await?;
    let generation = |pod: &Pod| pod.labels().get(GENERATION).and_then(|text| text.parse().ok());
    let life = |pod: &Pod| {
        let (uid, restarts) = (pod.uid().unwrap_or_default(), restarts(pod));
        (pod.name_any(), (generation(pod).unwrap_or_default(), format!("{uid} {restarts}")))
    };
    Ok(pods.iter().map(life).collect())
}
