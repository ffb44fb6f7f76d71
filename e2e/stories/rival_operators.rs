//! Two operators of the same namespace that do not share an election: one claims the namespace, and the other
//! does nothing and reports that. When the claimant ends, the other one takes over.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Event;
use kube::Api;
use kube::api::ListParams;

use super::support::fault_proxy::FaultProxy;
use super::support::process::{Process, last_words};
use super::support::{Stage, Story, When, lease, operator, wait};

/// Another operator takes a claim over within 45 seconds, and sooner if the claimant releases it.
const DEADLINE: Duration = Duration::from_mins(4);
const OPERATOR_PORTS: [u16; 2] = [18_087, 18_088];
const CLAIM_LEASE: &str = "quinistry-claim";

pub fn story() -> Story {
    Story { name: "rival_operators", when: When::Last, operator: true, play: |stage| Box::pin(play(stage)) }
}

async fn play(stage: Arc<Stage>) -> Result<()> {
    if !stage.can_run_operators() {
        return Ok(());
    }
    stage.operator().stop_shared(&stage.world).await?;
    let (one, other) = (FaultProxy::start(&stage).await?, FaultProxy::start(&stage).await?);
    let result = check(&stage, &one, &other).await;
    result.with_context(|| {
        format!(
            "log of the first operator:\n{}\nlog of the other:\n{}",
            last_words(&one.log()),
            last_words(&other.log())
        )
    })
}

async fn check(stage: &Stage, one: &FaultProxy, other: &FaultProxy) -> Result<()> {
    let leases = Api::<Lease>::namespaced(stage.world.client.clone(), &stage.namespace);
    let first = start_operator(stage, one, "one", OPERATOR_PORTS[0]).await?;
    stage.apply(&stage.resource("lovage", 2)).await?;
    stage.until_ready("lovage", DEADLINE).await?;
    lease::until_held(&leases, CLAIM_LEASE, DEADLINE, |holder| holder.ends_with("/one")).await?;

    let _second = start_operator(stage, other, "other", OPERATOR_PORTS[1]).await?;
    let events = Api::<Event>::namespaced(stage.world.client.clone(), &stage.namespace);
    let claimed_by_another = ListParams::default().fields("reason=ClaimedByAnother");
    wait::until_all(
        &events,
        &claimed_by_another,
        DEADLINE,
        "the other operator reports that it stands by",
        |all| !all.is_empty(),
    )
    .await?;
    stage.apply(&stage.resource("lovage", 3)).await?;
    stage.until_ready("lovage", DEADLINE).await?;
    let writes = other.writes();
    let acted = writes.matching("daemonsets") + writes.matching("quinistries") + writes.matching("leases");
    ensure!(acted == 0, "the other operator has written: {:?}", writes.forwarded);

    first.stop().await?;
    lease::until_held(&leases, CLAIM_LEASE, DEADLINE, |holder| holder.ends_with("/other")).await?;
    stage.apply(&stage.resource("lovage", 2)).await?;
    stage.until_ready("lovage", DEADLINE).await?;
    ensure!(other.writes().matching("daemonsets") > 0, "the other operator deletes generation 3");
    Ok(())
}

/// Starts an operator that takes part in no election.
async fn start_operator(stage: &Stage, proxy: &FaultProxy, name: &str, port: u16) -> Result<Process> {
    let mut process = proxy.operator(&stage.world, port, |command| {
        command.env("POD_NAME", name);
    })?;
    operator::until_ready(&mut process, port).await?;
    Ok(process)
}
