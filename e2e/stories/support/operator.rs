//! The operator that most stories share. It is installed in the cluster with helm, or runs beside the stories
//! as a process of this machine, which is faster during development and requires that this machine reaches
//! the pods.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::process::Command;

use super::pods::is_ready;
use super::process::Process;
use super::world::{OperatorPlace, World};
use super::{shell, wait};

/// Namespace of the release, which enforces the strictest Pod Security level.
pub const NAMESPACE: &str = "quinistry-system";
/// Name of the release.
pub const RELEASE: &str = "quinistry";

/// Port of the shared operator when it runs beside the stories.
const ADMIN_PORT: u16 = 18081;

/// The shared operator.
pub struct SharedOperator {
    place: OperatorPlace,
    /// The process, if the operator runs beside the stories and is not stopped.
    process: Mutex<Option<Process>>,
    is_stopped: AtomicBool,
    log: PathBuf,
    _folder: tempfile::TempDir,
}

impl SharedOperator {
    pub async fn start(world: &World) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let log = folder.path().join("log");
        let process = match world.operator {
            OperatorPlace::Helm => install(world).await.map(|()| None)?,
            OperatorPlace::Beside => {
                apply_definition(world).await?;
                let mut process = Process::start(&command(world, ADMIN_PORT), &log)?;
                until_ready(&mut process, ADMIN_PORT).await?;
                Some(process)
            }
            OperatorPlace::Elsewhere => apply_definition(world).await.map(|()| None)?,
        };
        let crds = Api::<CustomResourceDefinition>::all(world.client.clone());
        wait::until(
            &crds,
            "quinistries.quinistry.dev",
            Duration::from_secs(30),
            "the definition is established",
            |crd| {
                let conditions = crd.status.as_ref().and_then(|status| status.conditions.as_ref());
                conditions.is_some_and(|all| {
                    all.iter().any(|one| one.type_ == "Established" && one.status == "True")
                })
            },
        )
        .await?;
        let (process, is_stopped) = (Mutex::new(process), AtomicBool::new(false));
        Ok(Self { place: world.operator, process, is_stopped, log, _folder: folder })
    }

    /// Stops the operator, so that a story can run its own. The runner starts it again after the story,
    /// however that ends.
    pub async fn stop_shared(&self, world: &World) -> Result<()> {
        self.is_stopped.store(true, Ordering::SeqCst);
        match self.place {
            // Not `kubectl scale`, which would take the field from Helm.
            OperatorPlace::Helm => {
                upgrade(world, &["replicas=0"]).await?;
                pods(world, 0).await.map(drop)
            }
            OperatorPlace::Beside => {
                let process = self.process.lock().expect("nothing panics with it").take();
                process.context("the shared operator is stopped already")?.stop().await
            }
            OperatorPlace::Elsewhere => bail!("the operator is managed outside the stories"),
        }
    }

    /// Starts the operator again if a story stopped it.
    pub async fn restart_shared(&self, world: &World) -> Result<()> {
        if !self.is_stopped.swap(false, Ordering::SeqCst) {
            return Ok(());
        }
        match self.place {
            OperatorPlace::Helm => upgrade(world, &[]).await,
            OperatorPlace::Beside => {
                let mut process = Process::start(&command(world, ADMIN_PORT), &self.log)?;
                until_ready(&mut process, ADMIN_PORT).await?;
                *self.process.lock().expect("nothing panics with it") = Some(process);
                Ok(())
            }
            OperatorPlace::Elsewhere => Ok(()),
        }
    }

    /// Returns true if the chart installed the operator.
    pub fn in_cluster(&self) -> bool {
        self.place == OperatorPlace::Helm
    }

    /// Returns the log of an operator beside the stories.
    pub fn log(&self) -> Option<String> {
        std::fs::read_to_string(&self.log).ok()
    }

    /// Returns the memory in bytes: the resident set, or in the cluster the kubelet's figure, which is
    /// slightly greater.
    pub async fn memory(&self, world: &World) -> Result<u64> {
        if self.place == OperatorPlace::Beside {
            let id = self.process.lock().expect("nothing panics with it").as_ref().and_then(Process::id);
            let id = id.context("the operator has ended")?;
            let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
            return Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024);
        }
        let pod = pod(world).await?;
        let node = pod.spec.and_then(|spec| spec.node_name).context("the pod is on no node")?;
        // Not the summary API: it needs statistics of the disks, which are not available everywhere.
        let request =
            http::Request::get(format!("/api/v1/nodes/{node}/proxy/metrics/resource")).body(Vec::new())?;
        let text = world.client.request_text(request).await?;
        let name = format!("pod=\"{}\"", pod.metadata.name.unwrap_or_default());
        let of_pod =
            |line: &&str| line.starts_with("container_memory_working_set_bytes{") && line.contains(&name);
        let value = text.lines().find(of_pod).and_then(|line| line.split_whitespace().nth(1));
        let bytes: f64 = value.context("the kubelet does not know the pod's memory")?.parse()?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of bytes")]
        Ok(bytes as u64)
    }
}

/// Returns the operator's pod.
pub async fn pod(world: &World) -> Result<Pod> {
    pods(world, 1).await?.pop().context("one operator runs")
}

/// Waits until there are `count` operators' pods and all are ready, and returns them.
pub async fn pods(world: &World, count: usize) -> Result<Vec<Pod>> {
    let component = format!("app.kubernetes.io/instance={RELEASE},app.kubernetes.io/component=operator");
    let selection = ListParams::default().labels(&component);
    let api = Api::<Pod>::namespaced(world.client.clone(), NAMESPACE);
    let what = format!("the release runs {count} operators");
    wait::until_all(&api, &selection, Duration::from_mins(1), &what, |pods| {
        pods.len() == count && pods.iter().all(is_ready)
    })
    .await
}

/// Runs helm in the release's namespace.
pub async fn helm(world: &World, arguments: &[&str]) -> Result<String> {
    let helm = world.helm.to_string_lossy();
    let mut command = shell::command([helm.as_ref(), "--namespace", NAMESPACE].iter().chain(arguments));
    command.current_dir(&world.root);
    shell::text(command).await
}

async fn install(world: &World) -> Result<()> {
    let namespace: Namespace = serde_json::from_value(json!({"metadata": {
        "name": NAMESPACE, "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
    }}))?;
    let namespaces = Api::<Namespace>::all(world.client.clone());
    if namespaces.get_opt(NAMESPACE).await?.is_none() {
        namespaces.create(&PostParams::default(), &namespace).await?;
    }
    // The chart's default image is the name that `image save --bootstrap` gave.
    upgrade(world, &[]).await
}

/// Upgrades the release to these values, rights for stores, and the chart's defaults for all others. Installs a missing
/// release.
pub async fn upgrade(world: &World, values: &[&str]) -> Result<()> {
    let arguments =
        ["upgrade", "--install", RELEASE, "charts/quinistry", "--reset-values", "--wait", "--timeout", "90s"];
    // Stores need rights that the chart gives only where they are asked for.
    let values = ["store.enabled=true"].iter().chain(values).flat_map(|value| ["--set", value]);
    helm(world, &arguments.into_iter().chain(values).collect::<Vec<_>>()).await.map(drop)
}

/// Applies the definitions that the executable prints.
async fn apply_definition(world: &World) -> Result<()> {
    let program = world.first.path.to_string_lossy();
    let text = shell::text(shell::command([program.as_ref(), "crd"])).await?;
    let definitions: Vec<serde_json::Value> = serde_saphyr::from_multiple(&text)?;
    let crds = Api::<CustomResourceDefinition>::all(world.client.clone());
    for definition in definitions {
        let name = definition["metadata"]["name"].as_str().context("the definition has no name")?;
        crds.patch(name, &PatchParams::apply("story").force(), &Patch::Apply(&definition)).await?;
    }
    Ok(())
}

/// Builds the command of an operator beside the stories, which listens on a port of its own. The operator
/// reads `KUBECONFIG` as the stories do, unless the command sets another.
pub fn command(world: &World, port: u16) -> Command {
    let program = world.first.path.to_string_lossy();
    shell::command([program.as_ref(), "operator", "--listen", &format!("127.0.0.1:{port}")])
}

/// Waits until an operator beside the stories has listed the cluster's objects.
pub async fn until_ready(process: &mut Process, port: u16) -> Result<()> {
    let url = format!("http://127.0.0.1:{port}/readyz");
    let ready = wait::eventually(Duration::from_secs(20), "the operator is ready", || {
        shell::output(shell::command(["curl", "-sf", &url]))
    });
    let ready = ready.await.map(drop);
    // Another process may have answered.
    let ready =
        ready.and_then(|()| if process.is_alive() { Ok(()) } else { bail!("the operator has ended") });
    ready.with_context(|| process.log())
}
