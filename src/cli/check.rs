//! `quinistry check`: whether generation zero can be raised, before anything is changed.

use std::fmt::Write as _;
use std::process::ExitCode;

use serde::Serialize;

use super::cluster::{self, What, Where};
use super::output::{self, OutputFormat};
use crate::install::check::{Finding, Level, Question, check};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    what: What,
    #[command(flatten)]
    output: OutputFormat,
    #[command(flatten)]
    place: Where,
}

/// The findings, for programs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'a> {
    /// Names of the cluster: context, cluster and address.
    cluster: &'a str,
    namespace: &'a str,
    /// Whether `up` can work: no finding fails.
    passes: bool,
    findings: &'a [Finding],
}

// === impl Args ===

impl Args {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let (wishes, shipment) = (self.what.wishes(), self.what.shipment()?);
        let namespace = &self.what.namespace;
        let question = Question { namespace, wishes: &wishes, shipment: &shipment, downgrade: false };
        let (place, findings) = cluster::run("nothing was changed", async {
            let cluster = self.place.look().await?;
            Ok((cluster.place().to_string(), check(&cluster, &question).await?))
        })?;
        let passes = findings.iter().all(|finding| finding.level != Level::Fail);
        output::print(if self.output.is_json() {
            output::document(&Report { cluster: &place, namespace, passes, findings: &findings })?
        } else {
            let paint = cluster::paint_of_stdout();
            let mut text = String::new();
            for finding in &findings {
                writeln!(text, "{}", cluster::line(finding, paint))?;
            }
            text
        })?;
        Ok(if passes { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
