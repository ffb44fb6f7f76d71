//! Nodes of a kind cluster: containers that carry the node's name.

use std::path::Path;

use anyhow::Result;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::process::Command;

use super::{Node, shell};

/// Ends every container and its shim; containerd would only detach from them.
const STOP: &str = "systemctl stop kubelet
ctr -n k8s.io tasks ls -q | xargs -r -n1 ctr -n k8s.io tasks kill -s SIGKILL
systemctl stop containerd";

/// What is not part of the node's own image goes: that one holds the sandbox image and kind's own, which no registry
/// may be there to give again.
const WIPE: &str = "systemctl start containerd
ctr -n k8s.io images ls -q | grep /quinistry | xargs -r ctr -n k8s.io images rm --sync
systemctl stop containerd
rm -rf /var/lib/kubelet/image_manager /quinistry-e2e";

/// One of them.
pub struct KindNode {
    name: String,
}

impl KindNode {
    pub fn new(name: &str) -> Self {
        Self { name: name.into() }
    }

    fn script<'a>(&'a self, script: &'a str) -> BoxFuture<'a, Result<()>> {
        async move { shell::output(self.command(&["sh", "-c", script])).await.map(drop) }.boxed()
    }
}

impl Node for KindNode {
    fn name(&self) -> &str {
        &self.name
    }

    fn command(&self, words: &[&str]) -> Command {
        shell::command(["docker", "exec", "-i", &self.name].iter().chain(words))
    }

    fn ctr(&self) -> Vec<String> {
        ["ctr", "-n", "k8s.io"].map(str::to_owned).into()
    }

    fn put<'a>(&'a self, file: &'a Path) -> BoxFuture<'a, Result<String>> {
        async move {
            let name = file.file_name().expect("a file has a name").to_string_lossy();
            let path = format!("/quinistry-e2e/{name}");
            self.script("mkdir -p /quinistry-e2e").await?;
            // Not over a file that may be running there.
            if shell::output(self.command(&["test", "-e", &path])).await.is_err() {
                let target = format!("{}:{path}", self.name);
                shell::output(shell::command([
                    "docker",
                    "cp",
                    "-q",
                    file.to_string_lossy().as_ref(),
                    &target,
                ]))
                .await?;
            }
            Ok(path)
        }
        .boxed()
    }

    fn stop(&self) -> BoxFuture<'_, Result<()>> {
        self.script(STOP)
    }

    fn start(&self) -> BoxFuture<'_, Result<()>> {
        self.script("systemctl start containerd kubelet")
    }

    fn wipe(&self) -> BoxFuture<'_, Result<()>> {
        self.script(WIPE)
    }
}
