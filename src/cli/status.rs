//! `quinistry status`: shows the tree of generations with their problems and advice.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::ValueEnum;

use super::cluster::{self, ClusterArgs};
use super::output;
use crate::install::api::Cluster;
use crate::install::status::{Renewals, StatusSnapshot, read_snapshots};
use crate::install::tree::{Colours, draw};

/// Time between two observations with --watch.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Show the resources of this namespace only [default: all namespaces]
    #[arg(long, short, value_name = "NAMESPACE", value_parser = cluster::namespace)]
    namespace: Option<String>,

    /// Show the resources of all namespaces, which is the default
    #[arg(long, short = 'A', conflicts_with = "namespace")]
    all_namespaces: bool,

    /// Keep running, and show changes
    #[arg(long, short)]
    watch: bool,

    /// Format of the result
    #[arg(long, short, value_enum, default_value = "text")]
    output: StatusFormat,

    #[command(flatten)]
    cluster: ClusterArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum StatusFormat {
    /// A tree
    Text,
    /// A document; with --watch one line for each change
    Json,
}

// === impl Args ===

impl Args {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        if self.watch {
            let watched = super::block_until_stopped(async {
                let cluster = self.cluster.connect_to_read().await?;
                self.watch(&cluster).await
            })?;
            return Ok(watched.unwrap_or(ExitCode::SUCCESS));
        }
        cluster::run("nothing was changed", async {
            let cluster = self.cluster.connect_to_read().await?;
            self.once(&cluster).await
        })
    }

    async fn once(&self, cluster: &Cluster) -> anyhow::Result<ExitCode> {
        let snapshots = read_snapshots(cluster, self.namespace.as_deref(), &mut Renewals::default()).await?;
        match self.output {
            StatusFormat::Json => super::print(output::document(&snapshots)?)?,
            StatusFormat::Text => super::print(self.text(&snapshots, cluster::colours_of_stdout()))?,
        }
        let ready = !snapshots.is_empty() && snapshots.iter().all(|snapshot| snapshot.ready);
        Ok(if ready { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// Watches until a signal, or until the reader closes standard output.
    async fn watch(&self, cluster: &Cluster) -> anyhow::Result<ExitCode> {
        let redraws = self.output == StatusFormat::Text && std::io::stdout().is_terminal();
        let mut last = String::new();
        let mut renewals = Renewals::default();
        loop {
            let text = match read_snapshots(cluster, self.namespace.as_deref(), &mut renewals).await {
                Ok(snapshots) if self.output == StatusFormat::Json => output::line(&snapshots)?,
                Ok(snapshots) => self.text(&snapshots, cluster::colours_of_stdout()),
                // The API server may be back soon.
                Err(error) => format!("{}\n", super::sanitize(&error.to_string())),
            };
            if redraws {
                // Drawn from the top left corner, with the rest of the screen cleared.
                super::print(format!("\u{1b}[H\u{1b}[J{text}"))?;
            } else if self.output == StatusFormat::Json {
                if text != last {
                    super::print(&text)?;
                }
            } else {
                cluster::new_lines(&last, &text).try_for_each(|line| super::print(format!("{line}\n")))?;
            }
            last = text;
            tokio::time::sleep(WATCH_INTERVAL).await;
        }
    }

    fn text(&self, snapshots: &[StatusSnapshot], colours: Colours) -> String {
        if snapshots.is_empty() {
            let place = self.namespace.as_deref().map_or_else(
                || "in this cluster".to_owned(),
                |namespace| format!("in namespace {namespace}"),
            );
            return format!("there is no Quinistry {place}; `quinistry up` raises one\n");
        }
        snapshots.iter().map(|snapshot| draw(snapshot, colours)).collect::<Vec<_>>().join("\n")
    }
}
