//! Two operators beside the stories, of which one leads. The leader is killed, loses the API server, is
//! stopped and continued, and asked to end. Each time the other operator leads within 20 seconds and
//! continues the work, and the former leader writes nothing any more.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use serde_json::json;

use super::support::fault_proxy::{Fault, FaultProxy};
use super::support::observer::Observer;
use super::support::process::{Process, last_words};
use super::support::random::SeededRandom;
use super::support::{Stage, Story, When, lease, operator, wait};

const DEADLINE: Duration = Duration::from_mins(4);
/// Documented bound. The story asserts twice this time, since test machines are slow, and prints the time.
const TAKEOVER_BOUND: Duration = Duration::from_secs(20);
/// Ports of the two operators' admin listeners.
const OPERATOR_PORTS: [u16; 2] = [18_083, 18_084];
/// Greatest number of events before a fault: about the events of rolling one generation out on three nodes.
const MAX_EVENTS_BEFORE_FAULT: u64 = 60;

pub fn story() -> Story {
    Story { name: "leaders", when: When::Last, operator: true, play: |stage| Box::pin(play(stage)) }
}

/// Fault of a leader.
#[derive(Clone, Copy, Debug)]
enum LeaderFault {
    /// SIGKILL.
    Killed,
    /// The API server stops answering the leader for a while.
    Disconnected,
    /// SIGSTOP, and SIGCONT when the other operator leads.
    Paused,
    /// SIGTERM.
    Stopped,
}

/// An operator with a proxy of its own before the API server.
struct LeaderCandidate {
    name: &'static str,
    port: u16,
    proxy: FaultProxy,
    process: Option<Process>,
}

async fn play(stage: Arc<Stage>) -> Result<()> {
    if !stage.can_run_operators() {
        return Ok(());
    }
    stage.operator().stop_shared(&stage.world).await?;
    let mut candidates = Vec::new();
    for (name, port) in ["one", "two"].into_iter().zip(OPERATOR_PORTS) {
        let proxy = FaultProxy::start(&stage).await?;
        candidates.push(LeaderCandidate { name, port, proxy, process: None });
    }
    let result = inject_faults(&stage, &mut candidates).await;
    result.with_context(|| {
        let logs = candidates.iter().map(|one| format!("{}\n{}\n", one.name, last_words(&one.proxy.log())));
        format!("logs of the operators: {}", logs.collect::<String>())
    })
}

async fn inject_faults(stage: &Stage, candidates: &mut [LeaderCandidate]) -> Result<()> {
    let second = &stage.world.second;
    let port = stage.base_port + 20;
    let _serving = stage.world.serve(second, port).await?;
    let images = [second.at(port), stage.world.first.image.clone()];
    let (mut random, seed) = SeededRandom::new();
    stage.log(format_args!("QUINISTRY_E2E_SEED={seed} repeats this run"));
    let observer = Observer::start(stage).await?;
    for one in candidates.iter_mut() {
        one.start(stage).await?;
    }
    stage.apply(&stage.resource("rowan", 3)).await?;
    stage.until_ready("rowan", DEADLINE).await?;

    let faults = [LeaderFault::Paused, LeaderFault::Killed, LeaderFault::Disconnected, LeaderFault::Stopped];
    let rounds = if stage.world.soak { 5 } else { 1 };
    for (round, fault) in (0..rounds).flat_map(|_| faults).enumerate() {
        // In the middle of replacing three generations.
        let mut resource = stage.resource("rowan", 3);
        resource["spec"]["image"] = json!(images[round % 2]);
        let moment = observer.count() + usize::try_from(random.below(MAX_EVENTS_BEFORE_FAULT))?;
        stage.apply(&resource).await?;
        tokio::select! {
            () = observer.until_count(moment) => {}
            ready = stage.until_ready("rowan", DEADLINE) => drop(ready?),
        }
        inject(stage, candidates, fault).await?;
    }
    observer.check_chain_rule(stage).await
}

/// Injects a fault into the leader. The other operator leads and makes the resource Ready, and then the
/// former leader starts again.
async fn inject(stage: &Stage, candidates: &mut [LeaderCandidate], fault: LeaderFault) -> Result<()> {
    let leases = Api::<Lease>::namespaced(stage.world.client.clone(), &stage.namespace);
    let holder = lease::until_held(&leases, "story", DEADLINE, |_| true).await?;
    let leader =
        candidates.iter_mut().find(|one| one.name == holder).context("one of the two operators leads")?;
    let began = Instant::now();
    let process = leader.process.take().context("the leader runs")?;
    let left = match fault {
        LeaderFault::Killed => process.kill().await.map(|()| None)?,
        LeaderFault::Stopped => process.stop().await.map(|()| None)?,
        LeaderFault::Paused => process.pause().map(|()| Some(process))?,
        LeaderFault::Disconnected => {
            leader.proxy.set(Fault::Silent);
            Some(process)
        }
    };
    let next = lease::until_held(&leases, "story", DEADLINE, |now| now != holder).await?;
    let took = began.elapsed();
    stage.log(format_args!("{holder} is {fault:?}: {next} leads after {:.1} s", took.as_secs_f32()));
    ensure!(took < TAKEOVER_BOUND * 2, "takeover took {took:?}");
    stage.until_ready("rowan", DEADLINE).await?;
    if let Some(mut process) = left {
        // Writes on their way at the time of the fault have arrived long since.
        let before = leader.writes();
        match fault {
            LeaderFault::Paused => process.resume()?,
            _ => leader.proxy.set(Fault::None),
        }
        wait::eventually(DEADLINE, "the former leader ends by itself", || {
            let alive = process.is_alive();
            async move { if alive { Err(anyhow::anyhow!("the process runs")) } else { Ok(()) } }
        })
        .await?;
        let after = leader.writes();
        ensure!(before == after, "the former leader has written: {before} writes before, {after} after");
        ensure!(
            last_words(&leader.proxy.log()).contains(&format!("{next} leads now")),
            "its log does not name the leader"
        );
    }
    leader.start(stage).await
}

// === impl LeaderCandidate ===

impl LeaderCandidate {
    async fn start(&mut self, stage: &Stage) -> Result<()> {
        let mut process = self.proxy.operator(&stage.world, self.port, |command| {
            command.args(["--leader-elect", "--lease-name", "story"]).env("POD_NAME", self.name);
        })?;
        operator::until_ready(&mut process, self.port).await?;
        self.process = Some(process);
        Ok(())
    }

    /// Returns the number of the operator's forwarded writes, except those of the Lease.
    fn writes(&self) -> usize {
        self.proxy.writes().except("leases")
    }
}
