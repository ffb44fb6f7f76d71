//! A write of a leader that is held back until the next leader has acted, and then arrives. The state on
//! which the write was based has changed: the API server refuses the write, and the next leader's objects
//! stay.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use http::StatusCode;
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, ResourceExt as _};
use serde_json::json;

use super::support::fault_proxy::{Fault, FaultProxy};
use super::support::process::{Process, last_words};
use super::support::{Stage, Story, When, daemon_sets, lease, operator};

const DEADLINE: Duration = Duration::from_mins(4);
const OPERATOR_PORTS: [u16; 2] = [18_085, 18_086];
const LEASE: &str = "held";

pub fn story() -> Story {
    Story { name: "held_write", when: When::Last, operator: true, play: |stage| Box::pin(play(stage)) }
}

async fn play(stage: Arc<Stage>) -> Result<()> {
    if !stage.can_run_operators() {
        return Ok(());
    }
    stage.operator().stop_shared(&stage.world).await?;
    let (first, second) = (FaultProxy::start(&stage).await?, FaultProxy::start(&stage).await?);
    let result = check(&stage, &first, &second).await;
    result.with_context(|| {
        format!(
            "log of the first operator:\n{}\nlog of the second:\n{}",
            last_words(&first.log()),
            last_words(&second.log())
        )
    })
}

async fn check(stage: &Stage, first: &FaultProxy, second: &FaultProxy) -> Result<()> {
    let leases = Api::<Lease>::namespaced(stage.world.client.clone(), &stage.namespace);
    let _former = start_operator(stage, first, "first", OPERATOR_PORTS[0]).await?;
    lease::until_held(&leases, LEASE, DEADLINE, |holder| holder == "first").await?;
    stage.apply(&stage.resource("sorrel", 1)).await?;
    stage.until_ready("sorrel", DEADLINE).await?;

    // An edit by the first leader whose write does not arrive.
    let mut resource = stage.resource("sorrel", 1);
    resource["spec"]["resources"] = json!({"limits": {"memory": "160Mi"}});
    let (held, edited) =
        tokio::join!(tokio::time::timeout(DEADLINE, first.hold("daemonsets")), stage.apply(&resource),);
    held.context("the first leader writes nothing")?;
    edited?;
    first.set(Fault::Silent);
    let _next = start_operator(stage, second, "second", OPERATOR_PORTS[1]).await?;
    lease::until_held(&leases, LEASE, DEADLINE, |holder| holder == "second").await?;
    // Another edit, so that a late write would be visible.
    resource["spec"]["resources"] = json!({"limits": {"memory": "192Mi"}});
    stage.apply(&resource).await?;
    stage.until_ready("sorrel", DEADLINE).await?;
    let before = stage.daemon_sets().get("sorrel").await?;

    let answer = tokio::time::timeout(DEADLINE, first.release()).await?;
    ensure!(answer == Some(StatusCode::CONFLICT), "the late write is answered with {answer:?}");
    let after = stage.daemon_sets().get("sorrel").await?;
    ensure!(daemon_sets::image(&before) == daemon_sets::image(&after), "the late write changed the image");
    ensure!(before.metadata.generation == after.metadata.generation, "the late write changed the DaemonSet");
    stage.log(format_args!("the write of {} is refused", after.name_any()));
    Ok(())
}

async fn start_operator(stage: &Stage, proxy: &FaultProxy, name: &str, port: u16) -> Result<Process> {
    let mut process = proxy.operator(&stage.world, port, |command| {
        command.args(["--leader-elect", "--lease-name", LEASE]).env("POD_NAME", name);
    })?;
    operator::until_ready(&mut process, port).await?;
    Ok(process)
}
