//! `quinistry config`: checks distribution's configuration, and lists the keys.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Subcommand, ValueHint};
use serde::Serialize;

use super::configuration::{Configuration, Files};
use super::exit::{Exit, UsageError};
use super::output::{self, OutputFormatArgs};
use crate::registry::config::{self, ConfigKey, Diagnostic, KeyTreatment, Loaded, Origin, Severity};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Check a configuration file and the environment, and say what differs from distribution
    Check(CheckArgs),
    /// List the keys of the configuration, and what happens with each
    Keys(KeysArgs),
}

#[derive(Debug, clap::Args)]
struct CheckArgs {
    #[arg(help = "Configuration file [default: $REGISTRY_CONFIGURATION_PATH, or the environment alone]")]
    #[arg(value_name = "CONFIG", value_hint = ValueHint::FilePath)]
    config: Option<PathBuf>,

    /// Fail on warnings as well
    #[arg(long)]
    strict: bool,

    /// Print the configuration in effect, with the place of each value and without secrets
    #[arg(long, conflicts_with = "output")]
    show: bool,

    #[command(flatten)]
    output: OutputFormatArgs,
}

#[derive(Debug, clap::Args)]
struct KeysArgs {
    #[command(flatten)]
    output: OutputFormatArgs,
}

/// Findings for programs.
#[derive(Debug, Serialize)]
struct ConfigCheckReport<'a> {
    /// True if `serve` would start, and with `--strict` without a warning.
    passes: bool,
    keys: usize,
    findings: Vec<Finding<'a>>,
}

#[derive(Debug, Serialize)]
struct Finding<'a> {
    severity: &'static str,
    key: &'a str,
    message: &'a str,
    file: Option<&'a str>,
    line: Option<u32>,
    column: Option<u32>,
    variable: Option<&'a str>,
}

/// Row of the table of keys for programs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct KeyReport {
    path: &'static str,
    #[serde(rename = "type")]
    kind: String,
    default: Option<&'static str>,
    treatment: &'static str,
    distribution: &'static str,
    is_secret: bool,
    note: Option<&'static str>,
}

#[derive(Debug, Serialize)]
struct KeysReport {
    keys: Vec<KeyReport>,
}

// === impl Args ===

impl Args {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            ConfigCommand::Check(args) => args.run(),
            ConfigCommand::Keys(args) => args.run().map(|()| Exit::Success.into()),
        }
    }
}

// === impl CheckArgs ===

impl CheckArgs {
    fn run(self) -> anyhow::Result<ExitCode> {
        let Some(configuration) = Configuration::find(self.config) else {
            let message = "no file is named, and no variable sets a key: give CONFIG, or set \
                           REGISTRY_CONFIGURATION_PATH or another REGISTRY_ variable";
            return Err(UsageError(message.into()).into());
        };
        let mut read = configuration.read()?.check_files();
        read.0.check_user_files(&Files);
        let loaded = read.0;
        let warnings = loaded.count(Severity::Warning);
        let passes = loaded.config.is_some() && !(self.strict && warnings > 0);
        output::print(if self.output.is_json() {
            let findings = loaded.diagnostics.iter().map(Finding::new).collect();
            output::document(&ConfigCheckReport { passes, keys: loaded.keys, findings })?
        } else if self.show {
            // The findings must not end up in a file that the text is written to.
            output::complain(text_of_findings(&loaded).trim_end());
            loaded.show().unwrap_or_default()
        } else {
            let mut text = text_of_findings(&loaded);
            if passes {
                let (keys, warnings) = (super::count(loaded.keys, "key"), super::count(warnings, "warning"));
                writeln!(text, "ok: {keys}, {warnings}")?;
            }
            text
        })?;
        Ok(if passes { Exit::Success } else { Exit::Failure }.into())
    }
}

fn text_of_findings(loaded: &Loaded) -> String {
    output::lines(&loaded.diagnostics)
}

// === impl Finding ===

impl<'a> Finding<'a> {
    fn new(finding: &'a Diagnostic) -> Self {
        let (mut file, mut line, mut column, mut variable) = (None, None, None, None);
        match &finding.origin {
            Origin::File { file: name, line: at, column: from } => {
                (file, line, column) = (Some(&**name), Some(*at), Some(*from));
            }
            Origin::Variable(name) => variable = Some(&**name),
            Origin::Default => {}
        }
        let (key, message) = (finding.key.as_str(), finding.message.as_str());
        Self { severity: finding.severity.as_str(), key, message, file, line, column, variable }
    }
}

// === impl KeysArgs ===

impl KeysArgs {
    fn run(self) -> anyhow::Result<()> {
        let keys: Vec<_> = config::all_keys().map(KeyReport::new).collect();
        output::print(if self.output.is_json() {
            output::document(&KeysReport { keys })?
        } else {
            table(&keys)
        })
    }
}

/// Renders the keys as columns.
fn table(keys: &[KeyReport]) -> String {
    let width = keys.iter().map(|key| key.path.len()).max().unwrap_or(0);
    let mut text = String::new();
    for key in keys {
        let note = key.note.map(|note| format!("; {note}")).unwrap_or_default();
        let default = key.default.map(|default| format!(", {default} by default")).unwrap_or_default();
        writeln!(text, "{:width$}  {}{default}; {}{note}", key.path, key.kind, key.treatment)
            .expect("writing to a string does not fail");
    }
    text
}

// === impl KeyReport ===

impl KeyReport {
    fn new(key: &'static ConfigKey) -> Self {
        let note = match key.outcome {
            KeyTreatment::Warn(message) | KeyTreatment::Refuse(message, _) => message,
            KeyTreatment::Implement | KeyTreatment::Silent | KeyTreatment::Within => key.note,
        };
        Self {
            path: key.path,
            kind: key.kind.describe(),
            default: (!key.default.is_empty()).then_some(key.default),
            treatment: key.outcome.as_str(),
            distribution: key.lines.as_str(),
            is_secret: key.is_secret,
            note: (!note.is_empty()).then_some(note),
        }
    }
}
