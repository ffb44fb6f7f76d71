//! A node, as far as stories touch it from outside the Kubernetes API.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures_util::future::BoxFuture;
use tokio::process::Command;

use super::{shell, wait};

/// How long a node's tools may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// A node of whatever cluster the stories run on.
pub trait Node: Send + Sync {
    /// As the API knows it.
    fn name(&self) -> &str;

    /// A command that runs on the node, with the node's localhost.
    fn command(&self, words: &[&str]) -> Command;

    /// containerd's client, speaking to the node's containerd, in the namespace of Kubernetes.
    fn ctr(&self) -> Vec<String>;

    /// Puts a file onto the node and gives its path there.
    fn put<'a>(&'a self, file: &'a Path) -> BoxFuture<'a, Result<String>>;

    /// Ends kubelet, containers and runtime at once, as a power failure would.
    fn stop(&self) -> BoxFuture<'_, Result<()>>;

    /// Starts a stopped node.
    fn start(&self) -> BoxFuture<'_, Result<()>>;

    /// Takes images and containers from a stopped node, and what its kubelet remembers of them.
    fn wipe(&self) -> BoxFuture<'_, Result<()>>;
}

impl dyn Node + '_ {
    /// Runs a command on the node and gives what it printed.
    pub async fn run(&self, words: &[&str]) -> Result<String> {
        let output = tokio::time::timeout(PATIENCE, shell::text(self.command(words)));
        output
            .await
            .with_context(|| format!("{words:?} takes too long"))?
            .with_context(|| format!("on node {}", self.name()))
    }

    /// Loads an image archive into the node's containerd, as `kind load image-archive` does: the archive comes by
    /// standard input, and the image gets a name by its digest too, which the kubelet then tells as `imageID`.
    pub async fn load(&self, archive: &Path) -> Result<()> {
        let ctr = self.ctr();
        let import = ["images", "import", "--all-platforms", "--digests", "-"];
        let words: Vec<&str> = ctr.iter().map(String::as_str).chain(import).collect();
        let output = tokio::time::timeout(PATIENCE, shell::output_of(self.command(&words), archive));
        output
            .await
            .with_context(|| format!("{words:?} takes too long"))?
            .with_context(|| format!("on node {}", self.name()))
            .map(drop)
    }

    /// Takes the node off the network; its own localhost goes on working.
    pub async fn cut_off(&self) -> Result<()> {
        self.run(&["sh", "-c", &on_each_way("-I")]).await.map(drop)
    }

    /// Undoes `cut_off`.
    pub async fn mend(&self) -> Result<()> {
        self.run(&["sh", "-c", &on_each_way("-D")]).await.map(drop)
    }

    /// Drops what is sent to a port of the node's own localhost, before the network plugin's rules see it.
    pub async fn block(&self, port: i32) -> Result<()> {
        self.run(&["sh", "-c", &on_loopback("-I", port)]).await.map(drop)
    }

    /// Undoes `block`.
    pub async fn unblock(&self, port: i32) -> Result<()> {
        self.run(&["sh", "-c", &on_loopback("-D", port)]).await.map(drop)
    }

    /// Power off and on again.
    pub async fn restart(&self) -> Result<()> {
        self.stop().await?;
        self.start().await
    }

    /// A node that was stopped, wiped and deleted comes back as a new one would: its kubelet registers it.
    pub async fn add(&self) -> Result<()> {
        self.start().await
    }

    /// Serves an executable's own image on a port of the node's localhost, until the guard is dropped.
    pub async fn serve(&self, executable: &Path, port: i32) -> Result<Serving> {
        let path = self.put(executable).await?;
        let listen = format!("127.0.0.1:{port}");
        // Ends when its standard input is closed, wherever it runs: killing `docker exec` would leave it behind.
        let script = "\"$0\" serve --listen \"$1\" & cat >/dev/null; kill $!";
        let mut command = self.command(&["sh", "-c", script, &path, &listen]);
        let process = command
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .kill_on_drop(false)
            .spawn()
            .with_context(|| format!("failed to start {}", executable.display()))?;
        let url = format!("http://localhost:{port}/v2/");
        wait::eventually(Duration::from_secs(20), &format!("{url} answers on {}", self.name()), || async {
            self.run(&["curl", "-sf", "-o", "/dev/null", &url]).await
        })
        .await?;
        Ok(Serving { _process: process })
    }
}

/// Rules that are inserted or deleted; `-w`, since others write rules at the same time.
fn on_each_way(verb: &str) -> String {
    let ways = ["INPUT -i", "OUTPUT -o", "FORWARD -i", "FORWARD -o"];
    ways.map(|way| format!("iptables -w {verb} {way} eth0 -j DROP")).join(" && ")
}

/// In the table that is asked before the one in which a host port is led to its pod.
fn on_loopback(verb: &str, port: i32) -> String {
    format!("iptables -w -t mangle {verb} OUTPUT -o lo -p tcp --dport {port} -j DROP")
}

/// A registry on a node; it ends with this value.
pub struct Serving {
    _process: tokio::process::Child,
}
