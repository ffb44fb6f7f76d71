//! An API server that answers with 429, then with 503, then cuts connections, while generations are raised
//! and replaced. The operator retries without flooding the API server, and completes everything in order.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::support::fault_proxy::{Fault, FaultProxy};
use super::support::observer::Observer;
use super::support::{Stage, Story, When, serving, wait};

const DEADLINE: Duration = Duration::from_mins(4);
const OPERATOR_PORT: u16 = 18083;
/// Number of times that connections are cut, each after `EVENTS_BETWEEN_CUTS` further events.
const CONNECTION_CUTS: usize = 5;
const EVENTS_BETWEEN_CUTS: usize = 12;
/// Greatest tolerated rate of attempts to write, per second: the pause between them begins with two seconds
/// and doubles.
const MAX_ATTEMPTS_PER_SECOND: usize = 2;

pub fn story() -> Story {
    Story { name: "api_faults", when: When::Last, operator: true, play: |stage| Box::pin(play(stage)) }
}

async fn play(stage: Arc<Stage>) -> Result<()> {
    if !stage.can_run_operators() {
        return Ok(());
    }
    stage.operator().stop_shared(&stage.world).await?;
    let proxy = FaultProxy::start(&stage).await?;
    let mut process = proxy.operator(&stage.world, OPERATOR_PORT, |_| {})?;
    let result = check(&stage, &proxy).await;
    ensure!(process.is_alive(), "the operator ended:\n{}", process.log());
    result.with_context(|| format!("log of the operator:\n{}", process.log()))
}

async fn check(stage: &Stage, proxy: &FaultProxy) -> Result<()> {
    let second = &stage.world.second;
    let port = stage.base_port + 20;
    let _serving = stage.world.serve(second, port).await?;
    let observer = Observer::start(stage).await?;
    let mut resource = stage.resource("reed", 3);
    stage.apply(&resource).await?;
    let what = "generation 2 exists";
    wait::until(&stage.daemon_sets(), "reed-gen2", DEADLINE, what, |_| true).await?;
    let seconds = if stage.world.soak { 30 } else { 5 };
    for fault in [Fault::TooManyRequests, Fault::Unavailable] {
        let before = count_refused(proxy);
        proxy.set(fault);
        // A span of time, since the behaviour during the fault is tested.
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        let attempts = count_refused(proxy) - before;
        stage.log(format_args!("{fault:?} for {seconds} s: {attempts} attempts to write"));
        ensure!(
            attempts < MAX_ATTEMPTS_PER_SECOND * usize::try_from(seconds)?,
            "{attempts} attempts within {seconds} s"
        );
    }
    proxy.set(Fault::None);
    stage.until_ready("reed", DEADLINE).await?;
    stage.log("Ready");

    resource["spec"]["image"] = json!(second.at(port));
    stage.apply(&resource).await?;
    for _ in 0..CONNECTION_CUTS {
        observer.until_count(observer.count() + EVENTS_BETWEEN_CUTS).await;
        proxy.cut();
    }
    let ready = stage.until_ready("reed", DEADLINE).await?;
    stage.log(format_args!("replaced, with connections cut off {CONNECTION_CUTS} times"));
    let digest = ready.status.and_then(|status| status.digest);
    ensure!(digest.as_ref() == Some(&second.digest), "the status says {digest:?}, not {}", second.digest);
    serving::check_all_nodes(stage, stage.base_port..stage.base_port + 3, &second.digest).await?;
    observer.check_chain_rule(stage).await
}

fn count_refused(proxy: &FaultProxy) -> usize {
    proxy.writes().refused.values().sum()
}
