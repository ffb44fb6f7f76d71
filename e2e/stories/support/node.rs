//! A node, as far as stories use it from outside the Kubernetes API.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures_util::future::BoxFuture;
use tokio::process::Command;

use super::node_process::NodeProcess;
use super::{shell, wait};

/// Deadline for a command on a node.
const COMMAND_DEADLINE: Duration = Duration::from_mins(1);

/// A node of any cluster that the stories run on.
pub trait Node: Send + Sync {
    /// Returns the name of the Node object.
    fn name(&self) -> &str;

    /// Builds a command that runs on the node, with the node's localhost.
    fn command(&self, words: &[&str]) -> Command;

    /// Builds a command that runs on the node, and sees the files of the node's own disk.
    fn disk_command(&self, words: &[&str]) -> Command;

    /// Returns the command line of containerd's client for the node's containerd, in the namespace of
    /// Kubernetes.
    fn ctr(&self) -> Vec<String>;

    /// Copies a file to the node, and returns its path there.
    fn copy<'a>(&'a self, file: &'a Path) -> BoxFuture<'a, Result<String>>;

    /// Returns the folder in which the node's containerd looks for `etc/containerd/certs.d`.
    fn containerd_root(&self) -> String;

    /// Ends kubelet, containers and runtime abruptly, as a power failure would.
    fn stop(&self) -> BoxFuture<'_, Result<()>>;

    /// Starts a stopped node.
    fn start(&self) -> BoxFuture<'_, Result<()>>;

    /// Removes images and containers from a stopped node, and the kubelet's records of them.
    fn wipe(&self) -> BoxFuture<'_, Result<()>>;
}

impl dyn Node + '_ {
    /// Runs a command on the node, and returns its output.
    pub async fn run(&self, words: &[&str]) -> Result<String> {
        let output = tokio::time::timeout(COMMAND_DEADLINE, shell::text(self.command(words)));
        output
            .await
            .with_context(|| format!("{words:?} takes too long"))?
            .with_context(|| format!("on node {}", self.name()))
    }

    /// Loads an image archive into the node's containerd, as `kind load image-archive` does: the archive is
    /// piped to standard input, and the image also gets a name by its digest, which the kubelet then reports
    /// as `imageID`.
    pub async fn load(&self, archive: &Path) -> Result<()> {
        let ctr = self.ctr();
        let import = ["images", "import", "--all-platforms", "--digests", "-"];
        let words: Vec<&str> = ctr.iter().map(String::as_str).chain(import).collect();
        let output = tokio::time::timeout(COMMAND_DEADLINE, shell::output_of(self.command(&words), archive));
        output
            .await
            .with_context(|| format!("{words:?} takes too long"))?
            .with_context(|| format!("on node {}", self.name()))
            .map(drop)
    }

    /// Disconnects the node from the network; its own localhost continues to work.
    pub async fn disconnect(&self) -> Result<()> {
        self.run(&["sh", "-c", &network_rules("-I")]).await.map(drop)
    }

    /// Undoes `disconnect`.
    pub async fn reconnect(&self) -> Result<()> {
        self.run(&["sh", "-c", &network_rules("-D")]).await.map(drop)
    }

    /// Drops packets to a port of the node's own localhost before the network plugin's rules see them.
    pub async fn block(&self, port: i32) -> Result<()> {
        self.run(&["sh", "-c", &loopback_rule("-I", port)]).await.map(drop)
    }

    /// Undoes `block`.
    pub async fn unblock(&self, port: i32) -> Result<()> {
        self.run(&["sh", "-c", &loopback_rule("-D", port)]).await.map(drop)
    }

    /// Switches the node off and on again.
    pub async fn restart(&self) -> Result<()> {
        self.stop().await?;
        self.start().await
    }

    /// Starts a node that was stopped, wiped and deleted; its kubelet registers it as a new one.
    pub async fn add(&self) -> Result<()> {
        self.start().await
    }

    /// Serves an executable's own image on a port of the node's localhost, until the guard is dropped.
    pub async fn serve(&self, executable: &Path, port: i32) -> Result<NodeProcess> {
        let path = self.copy(executable).await?;
        let listen = format!("127.0.0.1:{port}");
        let process = NodeProcess::start(self, &[&path, "serve", "--listen", &listen], "/dev/null")?;
        let url = format!("http://localhost:{port}/v2/");
        wait::eventually(Duration::from_secs(20), &format!("{url} answers on {}", self.name()), || async {
            self.run(&["curl", "-sf", "-o", "/dev/null", &url]).await
        })
        .await?;
        Ok(process)
    }
}

/// Returns a shell command that inserts or deletes rules against the node's network interface. `-w` waits,
/// since other programs write rules at the same time.
fn network_rules(verb: &str) -> String {
    let chains = ["INPUT -i", "OUTPUT -o", "FORWARD -i", "FORWARD -o"];
    chains.map(|chain| format!("iptables -w {verb} {chain} eth0 -j DROP")).join(" && ")
}

/// Returns a shell command for a rule in `mangle`, the table before the one in which a host port is forwarded
/// to its pod.
fn loopback_rule(verb: &str, port: i32) -> String {
    format!("iptables -w -t mangle {verb} OUTPUT -o lo -p tcp --dport {port} -j DROP")
}
