//! A program that a story runs on a node.

use std::process::Stdio;

use anyhow::{Context as _, Result};
use tokio::process::Child;

use super::Node;

/// Script that runs a program until its standard input is closed, and ends when the program has ended. Killing
/// `docker exec` would leave the program behind. The first word is the file to which the output is appended.
const SCRIPT: &str = "\"$@\" >>\"$0\" 2>&1 & cat >/dev/null; kill -KILL $!; wait $!";

/// A program on a node, which is killed when this value is dropped.
pub struct NodeProcess(Child);

impl NodeProcess {
    /// Starts a program with its arguments. The output is appended to a file of the node.
    pub fn start(node: &dyn Node, words: &[&str], log: &str) -> Result<Self> {
        let mut command = node.command(&[&["sh", "-c", SCRIPT, log], words].concat());
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(false);
        let started = command.spawn();
        Ok(Self(started.with_context(|| format!("failed to start {words:?} on node {}", node.name()))?))
    }

    /// Kills the program, and waits until it has ended.
    pub async fn kill(mut self) -> Result<()> {
        drop(self.0.stdin.take());
        self.0.wait().await.map(drop).context("failed to wait for a program on a node")
    }
}
