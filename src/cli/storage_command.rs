//! `quinistry storage`: tries what an object store can do.

use anyhow::Context as _;
use clap::Subcommand;
use serde::Serialize;

use super::output::{self, OutputFormatArgs};
use super::{block_on, sanitize};
use crate::bucket::{self, BucketOptions, Finding, InvalidBucketUrl, ProbeDepth};
use crate::client::{TlsOptions, client_builder};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: StorageCommand,
}

#[derive(Debug, Subcommand)]
enum StorageCommand {
    /// Write and remove some objects under the registry's root, and say what the store can do
    Probe(ProbeArgs),
}

#[derive(Debug, clap::Args)]
struct ProbeArgs {
    /// Bucket with its folder and region, as a URL. Credentials come from the environment
    #[arg(value_name = "URL", value_parser = parse)]
    url: BucketOptions,

    #[command(flatten)]
    output: OutputFormatArgs,
}

fn parse(text: &str) -> Result<BucketOptions, InvalidBucketUrl> {
    text.parse()
}

/// Findings for programs.
#[derive(Debug, Serialize)]
struct Report {
    url: String,
    findings: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    ability: &'static str,
    able: Option<bool>,
    without: &'static str,
    error: Option<String>,
}

// === impl Args ===

impl Args {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self.command {
            StorageCommand::Probe(args) => args.run(),
        }
    }
}

// === impl ProbeArgs ===

impl ProbeArgs {
    fn run(self) -> anyhow::Result<()> {
        let tls = TlsOptions { skip_verify: !self.url.verifies_certificate, ..TlsOptions::default() };
        let client = bucket::http_client(client_builder(&tls)?).context("failed to start")?;
        let objects = bucket::connect(&self.url, client.clone().into())
            .with_context(|| format!("failed to address {}", self.url))?;
        let report = block_on(async {
            bucket::probe(&objects, Some(&client), ProbeDepth::Full, self.url.is_exclusive)
                .await
                .with_context(|| format!("failed to probe {}", self.url))
        })?;
        let findings = report.findings.iter().map(Row::from).collect();
        let report = Report { url: self.url.to_string(), findings };
        output::print(if self.output.is_json() { output::document(&report)? } else { report.text() })
    }
}

// === impl Row ===

impl From<&Finding> for Row {
    fn from(finding: &Finding) -> Self {
        let error = finding.error.as_ref().map(|error| sanitize(&error.to_string()));
        Self { ability: finding.name, able: finding.outcome, without: finding.without, error }
    }
}

// === impl Report ===

impl Report {
    /// Returns the table, with the consequence of each ability that the store lacks.
    fn text(&self) -> String {
        let width = self.findings.iter().map(|row| row.ability.len()).max().unwrap_or_default();
        output::lines(self.findings.iter().map(|row| {
            let ability = row.ability;
            match (row.able, &row.error) {
                (Some(true), _) => format!("{ability:width$}  yes"),
                (None, _) => format!("{ability:width$}  not tried"),
                (_, None) => format!("{ability:width$}  no: {}", row.without),
                (_, Some(error)) => format!("{ability:width$}  no: {} ({error})", row.without),
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_says_what_follows_from_a_lack() {
        let row = |ability, able, error: Option<&str>| Row {
            ability,
            able,
            without: "slower",
            error: error.map(str::to_owned),
        };
        let findings = vec![
            row("copy", Some(true), None),
            row("sign", None, None),
            row("fence", Some(false), None),
            row("a", Some(false), Some("501")),
        ];
        let report = Report { url: "s3://b".into(), findings };
        assert_eq!(
            report.text(),
            "copy   yes\nsign   not tried\nfence  no: slower\na      no: slower (501)\n"
        );
    }
}
