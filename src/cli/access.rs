//! `quinistry access`: explains what the rules of a configuration grant.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::builder::PossibleValuesParser;
use clap::{Subcommand, ValueHint};
use serde::Serialize;

use super::configuration::{Configuration, Refused};
use super::exit::Exit;
use super::output::{self, OutputFormatArgs};
use crate::escape::Escaped;
use crate::oci::RepositoryName;
use crate::registry::auth::rules::Rules;
use crate::registry::auth::{Decision, Identity, IdentityProof, Right, load};
use crate::registry::config::{Config, Origin};

/// Word for a client without credentials.
const ANONYMOUS: &str = "anonymous";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: AccessCommand,
}

#[derive(Debug, Subcommand)]
enum AccessCommand {
    /// Say what a user may do in a repository, and by which rule
    Check(CheckArgs),
}

#[derive(Debug, clap::Args)]
struct CheckArgs {
    /// Configuration file
    #[arg(value_name = "CONFIG", value_hint = ValueHint::FilePath)]
    config: PathBuf,

    /// Name of the user, or `anonymous` for a client without credentials
    #[arg(value_name = "USER")]
    user: String,

    /// Repository, such as team/app
    #[arg(value_name = "REPO")]
    repository: RepositoryName,

    /// Exit with code 1 unless the user has this right
    #[arg(long, value_name = "RIGHT", value_parser = PossibleValuesParser::new(Right::ALL.map(Right::as_str)))]
    can: Option<String>,

    #[command(flatten)]
    output: OutputFormatArgs,
}

/// Rights of a user for programs.
#[derive(Debug, Serialize)]
struct AccessReport<'a> {
    /// `None` for a client without credentials.
    user: Option<&'a str>,
    repository: &'a str,
    groups: Vec<&'a str>,
    rights: Vec<RightReport>,
}

#[derive(Debug, Serialize)]
struct RightReport {
    right: &'static str,
    granted: bool,
    /// Place of the rule that grants the right; `None` if it is not granted, or without rules.
    rule: Option<RulePlace>,
}

#[derive(Debug, Serialize)]
struct RulePlace {
    file: Option<String>,
    line: Option<u32>,
    variable: Option<String>,
}

// === impl Args ===

impl Args {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            AccessCommand::Check(args) => args.run(),
        }
    }
}

// === impl CheckArgs ===

impl CheckArgs {
    fn run(self) -> anyhow::Result<ExitCode> {
        let configuration = Configuration::find(Some(self.config.clone()));
        let configuration = configuration.context("no configuration is named")?;
        let config = match configuration.read()?.accept() {
            Ok((config, _)) => config,
            Err(refused) => return Ok(report(&refused)),
        };
        let rules = load::rules(&config.access).context("failed to compile the rules")?;
        let identity = match self.user.as_str() {
            ANONYMOUS => Identity::anonymous(),
            user => Identity {
                name: Some(user.into()),
                proof: IdentityProof::Password { version: None },
                ceiling: None,
            },
        };
        let is_open = is_open(&config);
        let decide = |right| {
            if is_open { Decision::Granted(None) } else { rules.decide(&identity, right, &self.repository) }
        };
        let decisions = Right::ALL.map(|right| (right, decide(right)));
        output::print(if self.output.is_json() {
            output::document(&self.report(&rules, &decisions))?
        } else {
            self.text(&decisions, is_open)
        })?;
        let is_lacking =
            |right: &str| decisions.iter().any(|(of, is)| of.as_str() == right && !is.is_granted());
        let fails = self.can.as_deref().is_some_and(is_lacking);
        Ok(if fails { Exit::Failure } else { Exit::Success }.into())
    }

    fn report<'a>(&'a self, rules: &'a Rules, decisions: &[(Right, Decision<'_>)]) -> AccessReport<'a> {
        let user = (self.user != ANONYMOUS).then_some(self.user.as_str());
        AccessReport {
            user,
            repository: self.repository.as_str(),
            groups: user.map(|user| rules.groups_of(user)).unwrap_or_default(),
            rights: decisions.iter().map(RightReport::new).collect(),
        }
    }

    fn text(&self, decisions: &[(Right, Decision<'_>)], is_open: bool) -> String {
        let mut text = String::new();
        for (right, decision) in decisions {
            let by = match decision {
                Decision::Granted(Some(rule)) => format!("yes  {rule}"),
                Decision::Granted(None) if is_open => "yes  there are neither users nor rules".into(),
                Decision::Granted(None) => "yes  there are no rules, and every user may do everything".into(),
                Decision::NotGranted | Decision::BeyondCeiling(_) => "no".into(),
            };
            writeln!(text, "{:<9}  {by}", right.as_str()).expect("writing to a string does not fail");
        }
        let (user, repository) = (Escaped(&self.user), &self.repository);
        format!("{user} in {repository}:\n{text}")
    }
}

/// Returns true for a registry that does not ask who its clients are.
fn is_open(config: &Config) -> bool {
    config.access.rules.is_none() && !config.has_users()
}

/// Prints the findings of a refused configuration.
fn report(refused: &Refused) -> ExitCode {
    refused.report();
    Exit::Failure.into()
}

// === impl RightReport ===

impl RightReport {
    fn new((right, decision): &(Right, Decision<'_>)) -> Self {
        let granted = decision.is_granted();
        let rule = decision.rule().filter(|_| granted).map(RulePlace::new);
        Self { right: right.as_str(), granted, rule }
    }
}

// === impl RulePlace ===

impl RulePlace {
    fn new(origin: &Origin) -> Self {
        let (mut file, mut line, mut variable) = (None, None, None);
        match origin {
            Origin::File { file: name, line: at, .. } => (file, line) = (Some(name.to_string()), Some(*at)),
            Origin::Variable(name) => variable = Some(name.to_string()),
            Origin::Default => {}
        }
        Self { file, line, variable }
    }
}
