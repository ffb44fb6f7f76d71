//! `quinistry check`: whether generation zero can be raised, before anything is changed.

use std::fmt::Write as _;
use std::process::ExitCode;

use super::cluster::{self, What, Where};
use crate::up::check::{Level, Question, check};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    what: What,
    #[command(flatten)]
    place: Where,
}

// === impl Args ===

impl Args {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let (wishes, shipment) = (self.what.wishes(), self.what.shipment()?);
        let question = Question { namespace: &self.what.namespace, wishes: &wishes, shipment: &shipment };
        let findings = cluster::run("nothing was changed", async {
            let cluster = self.place.look().await?;
            Ok(check(&cluster, &question).await?)
        })?;
        let paint = cluster::paint_of_stdout();
        let mut text = String::new();
        for finding in &findings {
            writeln!(text, "{}", cluster::line(finding, paint))?;
        }
        super::print(text)?;
        let fails = findings.iter().any(|finding| finding.level == Level::Fail);
        Ok(if fails { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}
