//! The operator is killed again and again by SIGKILL, at any moment of a rollout. The next one observes the
//! state, continues, and never breaks the chain rule.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use kube::api::ListParams;
use serde_json::json;

use super::support::observer::Observer;
use super::support::process::{Process, with_log};
use super::support::random::SeededRandom;
use super::support::stage::is_ready;
use super::support::{Stage, Story, When, operator, serving};

const DEADLINE: Duration = Duration::from_mins(4);
/// Port of this story's operators.
const OPERATOR_PORT: u16 = 18082;
/// Greatest number of events in an operator's life: about the events of rolling one generation out on three
/// nodes.
const MAX_EVENTS_PER_LIFE: u64 = 60;

pub fn story() -> Story {
    Story { name: "operator_killed", when: When::Last, operator: true, play: |stage| Box::pin(play(stage)) }
}

async fn play(stage: Arc<Stage>) -> Result<()> {
    if !stage.can_run_operators() {
        return Ok(());
    }
    stage.operator().stop_shared(&stage.world).await?;
    with_log(|log| async move { kill_repeatedly(&stage, &log).await }).await
}

/// Specification that a user applies.
struct DesiredSpec {
    generations: i32,
    second: bool,
}

async fn kill_repeatedly(stage: &Stage, log: &Path) -> Result<()> {
    let second = &stage.world.second;
    let port = stage.base_port + 20;
    let _serving = stage.world.serve(second, port).await?;
    let (mut random, seed) = SeededRandom::new();
    stage.log(format_args!("QUINISTRY_E2E_SEED={seed} repeats this run"));
    let observer = Observer::start(stage).await?;

    let (rounds, kills) = if stage.world.soak { (10, 5) } else { (2, 4) };
    let mut desired = DesiredSpec { generations: 3, second: false };
    for round in 1..=rounds {
        let mut left = kills;
        while left > 0 {
            let done = stage.resources().get_opt("phoenix").await?.is_some_and(|one| is_ready(&one));
            if left == kills || done || random.below(3) == 0 {
                desired = change_spec(&mut random, &desired);
                apply_spec(stage, &desired, port).await?;
            }
            let operator = Process::start(&operator::command(&stage.world, OPERATOR_PORT), log)?;
            let moment = observer.count() + usize::try_from(random.below(MAX_EVENTS_PER_LIFE))?;
            tokio::select! {
                () = observer.until_count(moment) => {}
                ready = stage.until_ready("phoenix", DEADLINE) => drop(ready?),
            }
            operator.kill().await?;
            left -= 1;
        }
        let operator = Process::start(&operator::command(&stage.world, OPERATOR_PORT), log)?;
        let ready = stage.until_ready("phoenix", DEADLINE).await?;
        operator.kill().await?;
        let digest = ready.status.and_then(|status| status.digest);
        let wanted = if desired.second { &second.digest } else { &stage.world.first.digest };
        ensure!(digest.as_ref() == Some(wanted), "the status says {digest:?}, not {wanted}");
        let sets = stage.daemon_sets().list(&ListParams::default()).await?.items.len();
        ensure!(sets == usize::try_from(desired.generations)?, "{sets} sets, not {}", desired.generations);
        stage.log(format_args!("killed {} times; {} generations Ready", round * kills, desired.generations));
    }
    let wanted = if desired.second { &second.digest } else { &stage.world.first.digest };
    let ports = stage.base_port..stage.base_port + desired.generations;
    serving::check_all_nodes(stage, ports, wanted).await?;
    observer.check_chain_rule(stage).await
}

/// Returns a specification with another number of generations, another image, or both.
fn change_spec(random: &mut SeededRandom, before: &DesiredSpec) -> DesiredSpec {
    let second = random.below(2) == 0;
    let mut generations = 2 + i32::try_from(random.below(3)).expect("a small number");
    if second == before.second && generations == before.generations {
        generations = 2 + (generations - 1) % 3;
    }
    DesiredSpec { generations, second }
}

async fn apply_spec(stage: &Stage, desired: &DesiredSpec, port: i32) -> Result<()> {
    let mut resource = stage.resource("phoenix", desired.generations);
    if desired.second {
        resource["spec"]["image"] = json!(stage.world.second.at(port));
    }
    stage.apply(&resource).await.map(drop).context("failed to change the resource")
}
