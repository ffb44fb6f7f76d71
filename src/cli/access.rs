//! `quinistry access`: explains what the rules of a configuration grant.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::builder::PossibleValuesParser;
use clap::{Subcommand, ValueHint};
use serde::Serialize;

use super::configuration::{Configuration, Refused};
use super::exit::{Exit, UsageError};
use super::output::{self, OutputFormatArgs};
use crate::escape::Escaped;
use crate::oci::RepositoryName;
use crate::quine::REPOSITORY;
use crate::registry::auth::rules::Rules;
use crate::registry::auth::{Decision, Identity, IdentityProof, Right, load};
use crate::registry::config::{Config, Origin, StorageConfig};

/// Setting that makes everyone a reader of the built-in repository.
const BUILTIN_IS_PUBLIC: &str = "quinistry.builtin.anonymous is true";

/// Reason why no client may change the built-in repository.
const BUILTIN_IS_READ_ONLY: &str = "the built-in repository is read-only";

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
#[serde(rename_all = "camelCase")]
struct RightReport {
    right: &'static str,
    granted: bool,
    /// Place of the rule that grants the right; `None` if it is not granted, or without rules.
    rule: Option<RulePlace>,
    /// Setting that takes the right from every client, or reason why none can have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    disabled_by: Option<&'static str>,
    /// Setting that gives the right to every client.
    #[serde(skip_serializing_if = "Option::is_none")]
    enabled_by: Option<&'static str>,
}

/// Right with the decision about it.
struct Answer<'a> {
    right: Right,
    decision: Decision<'a>,
    /// Setting that gives the right to every client, whatever the rules decide.
    enabled_by: Option<&'static str>,
    /// Setting that takes the right from every client.
    disabled_by: Option<&'static str>,
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
        check_user(&self.user)?;
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
        let is_builtin = self.repository.as_str() == REPOSITORY;
        let is_public = is_builtin && !is_open && config.access.builtin_is_public;
        let answers = Right::ALL.map(|right| Answer {
            right,
            decision: decide(right),
            enabled_by: (is_public && right == Right::Pull).then_some(BUILTIN_IS_PUBLIC),
            disabled_by: disabled_by(right, is_builtin, &config.storage),
        });
        output::print(if self.output.is_json() {
            output::document(&self.report(&rules, &answers))?
        } else {
            self.text(&answers, is_open)
        })?;
        let is_lacking =
            |right: &str| answers.iter().any(|answer| answer.right.as_str() == right && !answer.is_granted());
        let fails = self.can.as_deref().is_some_and(is_lacking);
        Ok(if fails { Exit::Failure } else { Exit::Success }.into())
    }

    fn report<'a>(&'a self, rules: &'a Rules, answers: &[Answer<'_>]) -> AccessReport<'a> {
        let user = (self.user != ANONYMOUS).then_some(self.user.as_str());
        AccessReport {
            user,
            repository: self.repository.as_str(),
            groups: user.map(|user| rules.groups_of(user)).unwrap_or_default(),
            rights: answers.iter().map(RightReport::new).collect(),
        }
    }

    fn text(&self, answers: &[Answer<'_>], is_open: bool) -> String {
        let mut text = String::new();
        for Answer { right, decision, enabled_by, disabled_by } in answers {
            let by = match (decision, enabled_by, disabled_by) {
                (_, Some(setting), _) => format!("yes  {setting}"),
                // The rules are not asked about these.
                (_, None, Some(BUILTIN_IS_READ_ONLY)) => format!("no   {BUILTIN_IS_READ_ONLY}"),
                (Decision::Granted(_), None, Some(setting)) => format!("no   {setting}"),
                (Decision::Granted(Some(rule)), None, None) => format!("yes  {rule}"),
                (Decision::Granted(None), None, None) if is_open => {
                    "yes  there are neither users nor rules".into()
                }
                (Decision::Granted(None), None, None) => {
                    "yes  there are no rules, and every user may do everything".into()
                }
                (Decision::NotGranted | Decision::BeyondCeiling(_), None, _) => "no".into(),
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

/// Returns what takes a right from every client: the kind of the repository, or a setting of the storage.
fn disabled_by(right: Right, is_builtin: bool, storage: &StorageConfig) -> Option<&'static str> {
    let changes_content = matches!(right, Right::Push | Right::Overwrite | Right::Delete);
    if changes_content && is_builtin {
        Some(BUILTIN_IS_READ_ONLY)
    } else if changes_content && storage.is_read_only {
        Some("storage.maintenance.readonly.enabled is true")
    } else if right == Right::Delete && !storage.allows_delete {
        Some("storage.delete.enabled is false")
    } else {
        None
    }
}

/// Refuses a text that cannot be the name of a user. Users of certificates may have names that a password file cannot
/// hold.
fn check_user(name: &str) -> Result<(), UsageError> {
    let problem = if name.is_empty() {
        "is empty; give the name of a user, or anonymous for a client without credentials"
    } else if name.contains(char::is_control) {
        "has a line break or another control character, which no user name has"
    } else if name == "authenticated" {
        "stands for every user; give the name of one"
    } else if name.starts_with("group:") {
        "stands for a group; give the name of one of its members"
    } else {
        return Ok(());
    };
    Err(UsageError(format!("user \"{}\" {problem}", Escaped(name))))
}

// === impl Answer ===

impl Answer<'_> {
    fn is_granted(&self) -> bool {
        self.enabled_by.is_some() || self.decision.is_granted() && self.disabled_by.is_none()
    }
}

// === impl RightReport ===

impl RightReport {
    fn new(answer: &Answer<'_>) -> Self {
        let granted = answer.is_granted();
        let enabled_by = answer.enabled_by;
        let rule = answer.decision.rule().filter(|_| granted && enabled_by.is_none()).map(RulePlace::new);
        Self { right: answer.right.as_str(), granted, rule, disabled_by: answer.disabled_by, enabled_by }
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
