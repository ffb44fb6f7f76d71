//! Environment of all stories: the cluster's API and nodes, and the images made of the executable under test.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use futures_util::future::try_join_all;
use k8s_openapi::api::core::v1 as core;
use kube::api::ListParams;
use kube::{Api, Client};

use super::cluster::ClusterNode;
use super::kind::KindNode;
use super::node_process::NodeProcess;
use super::{Node, shell, wait};

/// An executable, its image, and its bootstrap image as loaded onto every node.
pub struct Executable {
    pub path: PathBuf,
    /// The bootstrap image, as `image save` wrote it.
    pub archive: PathBuf,
    pub digest: String,
    pub image: String,
}

impl Executable {
    /// Returns the image's name in a registry on a port of each node's localhost.
    pub fn at(&self, port: i32) -> String {
        format!("localhost:{port}/quinistry@{}", self.digest)
    }
}

/// Place where the operator runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperatorPlace {
    /// In the cluster, installed by the chart.
    Helm,
    /// As a process beside the stories, which must reach the pods.
    Beside,
    /// Managed outside the stories, which only apply the definition.
    Elsewhere,
}

impl OperatorPlace {
    pub fn from_environment() -> Result<Self> {
        match std::env::var("QUINISTRY_E2E_OPERATOR").as_deref() {
            Ok("helm") | Err(_) => Ok(Self::Helm),
            Ok("beside") => Ok(Self::Beside),
            Ok("elsewhere") => Ok(Self::Elsewhere),
            Ok(other) => bail!("the operator runs by helm, beside or elsewhere, not {other}"),
        }
    }
}

/// The cluster, and the images loaded onto it.
pub struct World {
    pub client: Client,
    pub nodes: Vec<Box<dyn Node>>,
    pub first: Executable,
    /// A copy of the first executable, one byte longer, so that the fixed point differs.
    pub second: Executable,
    pub root: PathBuf,
    pub helm: PathBuf,
    pub operator: OperatorPlace,
    /// True if the nodes are network namespaces of this machine, so that its processes reach the pods.
    pub local: bool,
    /// True if stories run in full, however long that takes (`QUINISTRY_E2E_SOAK`).
    pub soak: bool,
    _files: tempfile::TempDir,
}

impl World {
    /// Reads the environment that `e2e/run` prepares. Returns `None` without a cluster.
    pub async fn from_environment() -> Result<Option<Arc<Self>>> {
        let Some(provider) = std::env::var_os("QUINISTRY_E2E_PROVIDER") else { return Ok(None) };
        let variable = |name: &str| std::env::var(name).with_context(|| format!("{name} is not set"));
        let cluster = variable("QUINISTRY_E2E_CLUSTER")?;
        let client = Client::try_default().await.context("no cluster answers at KUBECONFIG")?;
        let began = Instant::now();
        let names = ready_nodes(&client, variable("QUINISTRY_E2E_NODES")?.parse()?).await?;
        let node = |name: &String| -> Result<Box<dyn Node>> {
            match provider.to_str() {
                Some("cluster") => Ok(Box::new(ClusterNode::new(&cluster, name))),
                Some("kind") => Ok(Box::new(KindNode::new(name))),
                _ => bail!("QUINISTRY_E2E_PROVIDER is neither cluster nor kind"),
            }
        };
        let nodes = names.iter().map(node).collect::<Result<Vec<_>>>()?;

        let files = tempfile::Builder::new().prefix("quinistry-e2e-").tempdir()?;
        let binary = PathBuf::from(variable("QUINISTRY_E2E_EXECUTABLE")?);
        let second_path = files.path().join("quinistry-second");
        std::fs::copy(&binary, &second_path)?;
        std::fs::OpenOptions::new().append(true).open(&second_path)?.write_all(b"x")?;
        // The first image has its default name, which the chart and the sample resource use.
        let published = format!("ghcr.io/quinistry/quinistry:{}", env!("CARGO_PKG_VERSION"));
        let first = prepare(&nodes, &binary, files.path(), &published, &[]).await?;
        let other = "registry.example.com/quinistry:second";
        let second = prepare(&nodes, &second_path, files.path(), other, &["--name", other]).await?;
        ensure!(first.digest != second.digest, "a longer executable has the same digest");
        println!("{} nodes, images loaded in {:.1} s", nodes.len(), began.elapsed().as_secs_f32());
        Ok(Some(Arc::new(Self {
            client,
            nodes,
            first,
            second,
            root: PathBuf::from(env!("CARGO_MANIFEST_DIR")),
            helm: std::env::var_os("QUINISTRY_E2E_HELM").unwrap_or("helm".into()).into(),
            operator: OperatorPlace::from_environment()?,
            local: provider == "cluster",
            soak: std::env::var_os("QUINISTRY_E2E_SOAK").is_some(),
            _files: files,
        })))
    }

    /// Returns the address at which pods and other nodes reach a node.
    pub async fn address_of(&self, node: &dyn Node) -> Result<String> {
        let object = Api::<core::Node>::all(self.client.clone()).get(node.name()).await?;
        let addresses = object.status.and_then(|status| status.addresses).into_iter().flatten();
        let address = addresses.into_iter().find(|address| address.type_ == "InternalIP");
        Ok(address.with_context(|| format!("node {} has no address", node.name()))?.address)
    }

    /// Serves an executable's own image on a port of every node's localhost, until the guards are dropped.
    pub async fn serve(&self, executable: &Executable, port: i32) -> Result<Vec<NodeProcess>> {
        try_join_all(self.nodes.iter().map(|node| node.serve(&executable.path, port))).await
    }

    /// Returns true if kubelets verify credentials for images that another pod has pulled, the default since
    /// 1.35.
    pub async fn verifies_pulls(&self) -> Result<bool> {
        let version = self.client.apiserver_version().await?;
        let minor: u32 =
            version.minor.trim_end_matches('+').parse().context("a minor version is a number")?;
        Ok((version.major.as_str(), minor) >= ("1", 35))
    }

    /// Returns a node by name.
    pub fn node(&self, name: &str) -> Result<&dyn Node> {
        let found = self.nodes.iter().find(|node| node.name() == name);
        found.map(|node| &**node).with_context(|| format!("node {name} not found"))
    }

    /// Loads the bootstrap images onto a node that has lost them.
    pub async fn load(&self, node: &dyn Node) -> Result<()> {
        node.load(&self.first.archive).await?;
        node.load(&self.second.archive).await
    }

    /// Returns the number of pods of a generation on all nodes.
    pub fn node_count(&self) -> i32 {
        i32::try_from(self.nodes.len()).expect("few nodes")
    }
}

/// Waits until all nodes are ready, and returns their names. `kind create --wait` waits for the control plane
/// only.
async fn ready_nodes(client: &Client, count: usize) -> Result<Vec<String>> {
    let ready = |node: &core::Node| {
        let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
        conditions.is_some_and(|all| all.iter().any(|one| one.type_ == "Ready" && one.status == "True"))
    };
    let api = Api::<core::Node>::all(client.clone());
    let what = format!("{count} nodes are ready");
    let all = ListParams::default();
    let nodes = wait::until_all(&api, &all, Duration::from_mins(2), &what, |nodes| {
        nodes.len() == count && nodes.iter().all(ready)
    });
    Ok(nodes.await?.iter().map(kube::ResourceExt::name_any).collect())
}

/// Reads an executable's digest, and loads its bootstrap image onto every node.
async fn prepare(
    nodes: &[Box<dyn Node>],
    path: &Path,
    folder: &Path,
    image: &str,
    name_arguments: &[&str],
) -> Result<Executable> {
    let program = path.to_string_lossy();
    let digest = shell::text(shell::command([program.as_ref(), "image", "digest"])).await?;
    let archive = folder.join(format!("{}.tar", path.file_name().expect("a file has a name").display()));
    let save = ["image", "save", "--bootstrap", archive.to_str().context("a plain path")?];
    shell::output(shell::command([program.as_ref()].iter().chain(&save).chain(name_arguments))).await?;
    try_join_all(nodes.iter().map(|node| node.load(&archive))).await?;
    Ok(Executable { path: path.into(), archive, digest, image: image.into() })
}
