//! Nodes of `e2e/cluster`: network namespaces on this machine.

use std::path::{Path, PathBuf};

use anyhow::Result;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::process::Command;

use super::{Node, shell};

/// Node of a cluster that `e2e/cluster/up` started.
pub struct ClusterNode {
    cluster: String,
    name: String,
}

impl ClusterNode {
    pub fn new(cluster: &str, name: &str) -> Self {
        Self { cluster: cluster.into(), name: name.into() }
    }

    /// Creates the node, which did not exist before, and joins it to the cluster.
    pub async fn create(&self) -> Result<()> {
        self.script("add").await
    }

    /// Removes the node from this machine; its Node object stays in the API.
    pub async fn remove(&self) -> Result<()> {
        self.script("remove").await
    }

    /// Runs `e2e/cluster/node` for this node with a subcommand.
    fn script<'a>(&'a self, subcommand: &'a str) -> BoxFuture<'a, Result<()>> {
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("e2e/cluster/node");
        let mut command = shell::command([script.to_string_lossy().as_ref(), &self.name, subcommand]);
        command.env("QUINISTRY_CLUSTER", &self.cluster);
        async { shell::output(command).await.map(drop) }.boxed()
    }
}

impl Node for ClusterNode {
    fn name(&self) -> &str {
        &self.name
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let namespace = format!("--net=/run/netns/{}-{}", self.cluster, self.name);
        shell::command(["nsenter", &namespace, "--"].iter().chain(arguments))
    }

    fn disk_command(&self, arguments: &[&str]) -> Command {
        let namespace =
            format!("--mount=/var/lib/quinistry-e2e/{}/{}/mounts/namespace", self.cluster, self.name);
        shell::command(["nsenter", &namespace, "--"].iter().chain(arguments))
    }

    fn ctr(&self) -> Vec<String> {
        // The cluster's own `ctr`, whose version is that of the runtime.
        let folder = format!("/var/lib/quinistry-e2e/{}", self.cluster);
        let (program, socket) =
            (format!("{folder}/runtime/ctr"), format!("{folder}/{}/containerd.sock", self.name));
        [&program, "-a", &socket, "-n", "k8s.io"].map(str::to_owned).into()
    }

    /// Returns the path itself, since the nodes share this machine's files.
    fn copy<'a>(&'a self, file: &'a Path) -> BoxFuture<'a, Result<String>> {
        async { Ok(file.to_string_lossy().into_owned()) }.boxed()
    }

    fn containerd_root(&self) -> String {
        format!("/var/lib/quinistry-e2e/{}/{}", self.cluster, self.name)
    }

    fn stop(&self) -> BoxFuture<'_, Result<()>> {
        self.script("stop")
    }

    fn start(&self) -> BoxFuture<'_, Result<()>> {
        self.script("start")
    }

    fn wipe(&self) -> BoxFuture<'_, Result<()>> {
        self.script("wipe")
    }
}
