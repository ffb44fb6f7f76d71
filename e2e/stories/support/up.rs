//! `quinistry up` and its related commands, as a user runs them on a machine that reaches the API server: in
//! the stage's namespace, on the stage's ports, with an operator of its own.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{DeleteParams, ListParams};
use kube::{Api, ResourceExt as _};
use tokio::process::Command;

use super::pods::is_ready;
use super::{Stage, diagnosis, shell, wait};

/// Name that `up` gives its resource.
pub const NAME: &str = "quinistry";
/// Name that `up` gives its operator.
pub const OPERATOR: &str = "quinistry-operator";
/// Selector of all objects that `up` creates.
const MANAGED_BY_UP: &str = "app.kubernetes.io/managed-by=quinistry-up";
/// Deadline far beyond the usual durations.
const DEADLINE: Duration = Duration::from_mins(2);

/// Runs a story without the shared operator. After a failure, removes the objects that `up` created, unless
/// these are to be kept.
pub async fn without_shared_operator(stage: &Stage, play: impl Future<Output = Result<()>>) -> Result<()> {
    stage.operator().stop_shared(&stage.world).await?;
    delete_leftovers(stage).await?;
    let result = play.await;
    let Err(error) = result else { return Ok(()) };
    let mut descriptions = String::new();
    for namespace in [stage.namespace.clone(), namespace(stage)] {
        descriptions += &diagnosis::of_namespace(&stage.world, &namespace).await;
    }
    if std::env::var_os("QUINISTRY_E2E_KEEP").is_none() {
        let _ = down(stage).await;
    }
    Err(anyhow!("{error:#}\n{descriptions}"))
}

/// Deletes what an earlier run kept for inspection, which includes an operator.
async fn delete_leftovers(stage: &Stage) -> Result<()> {
    let api = Api::<Namespace>::all(stage.world.client.clone());
    let selection = ListParams::default().labels(MANAGED_BY_UP);
    for one in api.list(&selection).await? {
        api.delete(&one.name_any(), &DeleteParams::default()).await?;
    }
    wait::until_none(&api, &selection, DEADLINE, "what an earlier `up` created is gone").await
}

/// Returns the namespace of the stage's operator.
pub fn namespace(stage: &Stage) -> String {
    format!("{}-operator", stage.namespace)
}

/// Builds a command of an executable for the stage's namespace.
pub fn command(stage: &Stage, executable: &Path, arguments: &[&str]) -> Command {
    let program = executable.to_string_lossy();
    let place = ["--namespace", &stage.namespace];
    shell::command([program.as_ref()].iter().chain(arguments).chain(&place))
}

/// Builds `quinistry up` for the stage's ports, with more arguments.
pub fn up(stage: &Stage, executable: &Path, arguments: &[&str]) -> Command {
    let port = stage.base_port.to_string();
    let up = ["up", "--base-port", &port];
    command(stage, executable, &[up.as_slice(), arguments].concat())
}

/// Raises three generations of an executable and waits for them. Prints the last line of the output, and
/// returns the duration.
pub async fn raise(stage: &Stage, executable: &Path) -> Result<Duration> {
    let began = Instant::now();
    let output =
        shell::text(up(stage, executable, &["--generations", "3", "--wait", "--timeout", "240"])).await?;
    stage.log(output.lines().last().unwrap_or_default());
    Ok(began.elapsed())
}

/// Runs a command that must fail, and returns its output.
pub async fn expect_failure(command: Command) -> Result<String> {
    let shown = format!("{:?}", command.as_std());
    match shell::output(command).await {
        Ok(_) => bail!("{shown} succeeded"),
        // The output is part of the error.
        Err(error) => Ok(format!("{error:#}")),
    }
}

/// Runs `quinistry down`, and returns its output.
pub async fn down(stage: &Stage) -> Result<String> {
    let output = shell::text(command(stage, &stage.world.first.path, &["down", "--yes"])).await?;
    let gone = ListParams::default().fields(&format!("metadata.name={}", namespace(stage)));
    let api = Api::<Namespace>::all(stage.world.client.clone());
    wait::until_none(&api, &gone, DEADLINE, "the operator's namespace is gone").await?;
    Ok(output)
}

/// Returns the operator's Deployment.
pub async fn deployment(stage: &Stage) -> Result<Deployment> {
    let api = Api::<Deployment>::namespaced(stage.world.client.clone(), &namespace(stage));
    api.get(OPERATOR).await.context("the operator's Deployment exists")
}

/// Returns the API of the operator's pods.
pub fn operators(stage: &Stage) -> Api<Pod> {
    Api::namespaced(stage.world.client.clone(), &namespace(stage))
}

/// Waits until an operator's pod is Ready and satisfies a condition, and returns the pod.
pub async fn operator(stage: &Stage, what: &str, is: impl Fn(&Pod) -> bool) -> Result<Pod> {
    let matches = |pod: &&Pod| is_ready(pod) && is(pod);
    let all = ListParams::default();
    let pods = operators(stage);
    let pods =
        wait::until_all(&pods, &all, DEADLINE, what, |pods| pods.iter().any(|pod| matches(&pod))).await?;
    pods.into_iter().find(|pod| matches(&pod)).context("a pod matches")
}
