//! `quinistry check`: checks that generation 0 can be raised, and changes nothing.

use std::fmt::Write as _;
use std::process::ExitCode;

use serde::Serialize;

use super::cluster::{self, ClusterArgs, InstallArgs};
use super::output::{self, OutputFormatArgs};
use crate::install::InstallRequest;
use crate::install::check::{Level, PreflightFinding, check};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    install: InstallArgs,
    #[command(flatten)]
    output: OutputFormatArgs,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// Findings for programs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct CheckReport<'a> {
    /// Names of the cluster: context, cluster and address.
    cluster: &'a str,
    namespace: &'a str,
    /// True if `up` can work: no finding fails.
    passes: bool,
    findings: &'a [PreflightFinding],
}

// === impl Args ===

impl Args {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let (options, payload) = (self.install.options(), self.install.payload()?);
        let namespace = &self.install.namespace;
        let request = InstallRequest { namespace, options: &options, payload: &payload, loads_images: false };
        let (identity, findings) = cluster::run("nothing was changed", async {
            let cluster = self.cluster.connect_to_read().await?;
            Ok((cluster.identity().to_string(), check(&cluster, &request, false).await?))
        })?;
        let passes = findings.iter().all(|finding| finding.level != Level::Fail);
        output::print(if self.output.is_json() {
            output::document(&CheckReport { cluster: &identity, namespace, passes, findings: &findings })?
        } else {
            let colours = cluster::colours_of_stdout();
            let mut text = String::new();
            for finding in &findings {
                writeln!(text, "{}", cluster::finding_line(finding, colours))?;
            }
            text
        })?;
        Ok(if passes { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
