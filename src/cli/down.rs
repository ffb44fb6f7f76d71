//! `quinistry down`: removes everything that `up` made.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _, stderr, stdin};
use std::time::Duration;

use tokio::sync::oneshot;

use super::cluster::{self, ClusterArgs};
use crate::install::{ClusterIdentity, names, uninstall};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Namespace of the resource
    #[arg(long, short, value_name = "NAMESPACE", default_value = names::NAMESPACE, value_parser = cluster::namespace)]
    namespace: String,

    /// Do not ask for confirmation
    #[arg(long, short)]
    yes: bool,

    /// Time that pods may take to end
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=86400))]
    timeout: u64,

    #[command(flatten)]
    cluster: ClusterArgs,
}

// === impl Args ===

impl Args {
    pub(super) fn run(self) -> anyhow::Result<()> {
        anyhow::ensure!(
            self.yes || stdin().is_terminal(),
            "this removes all generations of {}/{}, and nothing can be pulled from them afterwards: confirm with --yes",
            self.namespace,
            names::RESOURCE
        );
        let report = cluster::run("run it again to go on", async {
            let cluster = self.cluster.connect_to_change().await?;
            if !self.yes && !self.confirm(cluster.identity()).await? {
                return Ok(None);
            }
            Ok(Some(uninstall(&cluster, &self.namespace, Duration::from_secs(self.timeout)).await?))
        })?;
        let Some(report) = report else { return super::print("nothing was changed\n") };
        if report.deleted.is_empty() && report.kept.is_empty() {
            return super::print(format!("there is nothing of quinistry in {}\n", self.namespace));
        }
        let mut text = String::new();
        for (word, list) in [("removed", &report.deleted), ("left   ", &report.kept)] {
            for one in list {
                writeln!(text, "{word}  {}", super::sanitize(one))?;
            }
        }
        super::print(text)
    }

    /// Asks for confirmation and shows the cluster's names: the current context may not be the one that the
    /// user has in mind.
    async fn confirm(&self, identity: &ClusterIdentity) -> anyhow::Result<bool> {
        eprint!(
            "Remove all generations of {}/{}, and the operator, from {}? [y/N] ",
            self.namespace,
            names::RESOURCE,
            super::sanitize(&identity.to_string())
        );
        stderr().flush()?;
        // A thread that nothing waits for, so that an interrupt ends the question.
        let (send, receive) = oneshot::channel();
        std::thread::spawn(move || {
            let mut answer = String::new();
            let _ = send.send(stdin().read_line(&mut answer).map(|_| answer));
        });
        let answer = receive.await??;
        Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
    }
}
