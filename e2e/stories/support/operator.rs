//! The operator that most stories share: installed in the cluster with helm, or run beside the stories, which is
//! quicker while one works on it and needs a machine that reaches the pods.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use serde_json::json;

use super::world::World;
use super::{shell, wait};

/// Namespace of the release, which enforces the strictest Pod Security.
pub const NAMESPACE: &str = "quinistry-system";
/// Name of the release.
pub const RELEASE: &str = "quinistry";

/// How the operator comes to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// In the cluster, by the chart.
    Helm,
    /// As a process beside the stories, which must reach the pods.
    Beside,
    /// Somebody else sees to it; the definition is applied all the same.
    Elsewhere,
}

impl How {
    pub fn find() -> Result<Self> {
        match std::env::var("QUINISTRY_E2E_OPERATOR").as_deref() {
            Ok("helm") | Err(_) => Ok(Self::Helm),
            Ok("beside") => Ok(Self::Beside),
            Ok("elsewhere") => Ok(Self::Elsewhere),
            Ok(other) => bail!("the operator runs by helm, beside or elsewhere, not {other}"),
        }
    }
}

/// A running operator.
pub struct Operator {
    how: How,
    beside: Option<Beside>,
}

struct Beside {
    process: tokio::process::Child,
    log: PathBuf,
    _folder: tempfile::TempDir,
}

impl Operator {
    pub async fn start(world: &World) -> Result<Self> {
        let beside = match world.operator {
            How::Helm => install(world).await.map(|()| None)?,
            How::Beside => Some(beside(world).await?),
            How::Elsewhere => define(world).await.map(|()| None)?,
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
        Ok(Self { how: world.operator, beside })
    }

    /// Whether the chart installed it.
    pub fn in_cluster(&self) -> bool {
        self.how == How::Helm
    }

    /// Its log, when it runs beside.
    pub fn log(&self) -> Option<String> {
        self.beside.as_ref().and_then(|beside| std::fs::read_to_string(&beside.log).ok())
    }

    /// Memory in bytes: resident, or in the cluster what the kubelet counts, which is a little more.
    pub async fn memory(&self, world: &World) -> Result<u64> {
        if let Some(beside) = &self.beside {
            let id = beside.process.id().context("it has ended")?;
            let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
            return Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024);
        }
        let pod = pod(world).await?;
        let node = pod.spec.and_then(|spec| spec.node_name).context("the pod is on no node")?;
        // The summary of the same figures needs to know the disks, which it does not everywhere.
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

/// The operator's pod.
pub async fn pod(world: &World) -> Result<Pod> {
    let selection = ListParams::default().labels(&format!("app.kubernetes.io/instance={RELEASE}"));
    let pods = Api::<Pod>::namespaced(world.client.clone(), NAMESPACE);
    let running = |pod: &Pod| {
        pod.metadata.deletion_timestamp.is_none()
            && pod.spec.as_ref().is_some_and(|spec| spec.restart_policy.as_deref() == Some("Always"))
    };
    let pods = wait::until_all(&pods, &selection, Duration::from_secs(30), "one operator runs", |pods| {
        pods.iter().filter(|pod| running(pod)).count() == 1
    });
    pods.await?.into_iter().find(running).context("one operator runs")
}

/// helm, with the release's namespace.
pub async fn helm(world: &World, words: &[&str]) -> Result<String> {
    let helm = world.helm.to_string_lossy();
    let mut command = shell::command([helm.as_ref(), "--namespace", NAMESPACE].iter().chain(words));
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
    let words = ["upgrade", "--install", RELEASE, "charts/quinistry", "--wait", "--timeout", "90s"];
    // No values: the chart's own name of the image is what `image save --bootstrap` has given it.
    helm(world, &words).await.map(drop)
}

/// Applies the definition that the executable prints.
async fn define(world: &World) -> Result<()> {
    let program = world.first.path.to_string_lossy();
    let text = shell::text(shell::command([program.as_ref(), "crd"])).await?;
    let definition: serde_json::Value = serde_saphyr::from_str(&text)?;
    let crds = Api::<CustomResourceDefinition>::all(world.client.clone());
    let name = definition["metadata"]["name"].as_str().context("the definition has no name")?;
    crds.patch(name, &PatchParams::apply("story").force(), &Patch::Apply(&definition)).await?;
    Ok(())
}

async fn beside(world: &World) -> Result<Beside> {
    define(world).await?;
    let program = world.first.path.to_string_lossy();
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("log");
    let file = std::fs::File::create(&log)?;
    let mut command = shell::command([program.as_ref(), "operator", "--listen", "127.0.0.1:18081"]);
    let process = command.stdout(file.try_clone()?).stderr(file).spawn()?;
    wait::eventually(Duration::from_secs(20), "the operator is ready", || {
        shell::output(shell::command(["curl", "-sf", "http://127.0.0.1:18081/readyz"]))
    })
    .await
    .with_context(|| std::fs::read_to_string(&log).unwrap_or_default())?;
    Ok(Beside { process, log, _folder: folder })
}
