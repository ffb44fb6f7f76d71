//! Results on standard output: text for a terminal, JSON for programs, or the essential result alone.

mod json;

use std::fmt::Display;
use std::io::{self, Write as _};

use anyhow::Context as _;
use clap::ValueEnum;
use serde::Serialize;

pub(super) use json::{document, line};

/// Form of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ResultFormat {
    /// Text for reading
    Text,
    /// One JSON document, with the fields of docs/commands.md
    Json,
}

/// `-o/--output`, for commands without a quiet form.
#[derive(Clone, Copy, Debug, clap::Args)]
#[group(skip)]
pub(super) struct OutputFormatArgs {
    /// Format of the result
    #[arg(
        long = "output",
        short = 'o',
        id = "output",
        value_enum,
        value_name = "FORMAT",
        default_value = "text"
    )]
    pub(super) format: ResultFormat,
}

/// Arguments `-o/--output` and `-q/--quiet`.
#[derive(Clone, Copy, Debug, clap::Args)]
#[group(skip)]
pub(super) struct OutputArgs {
    #[command(flatten)]
    form: OutputFormatArgs,

    /// Print the essential result only, such as a digest or names; no progress
    #[arg(long, short, conflicts_with = "output")]
    quiet: bool,
}

/// Result of a command, in each form that it is printed in. docs/commands.md promises the serialized fields.
pub(super) trait Report: Serialize {
    /// Returns the text for a terminal: whole lines, with everything from outside escaped.
    fn text(&self) -> String;

    /// Returns the text that `--quiet` prints: whole lines, or nothing.
    fn essence(&self) -> String;
}

// === impl OutputFormatArgs ===

impl OutputFormatArgs {
    pub(super) fn is_json(self) -> bool {
        self.format == ResultFormat::Json
    }
}

// === impl OutputArgs ===

impl OutputArgs {
    pub(super) fn is_json(self) -> bool {
        self.form.is_json()
    }

    pub(super) fn is_quiet(self) -> bool {
        self.quiet
    }

    /// Prints a result in the wanted form.
    pub(super) fn print(self, report: &impl Report) -> anyhow::Result<()> {
        print(match self.form.format {
            ResultFormat::Json => document(report)?,
            ResultFormat::Text if self.quiet => report.essence(),
            ResultFormat::Text => report.text(),
        })
    }
}

/// Renders items as lines.
pub(super) fn lines(items: impl IntoIterator<Item = impl Display>) -> String {
    items.into_iter().fold(String::new(), |text, item| text + &item.to_string() + "\n")
}

/// Error of a standard output that its reader, such as `head`, has closed. Ends the command with success and
/// without a message.
#[derive(Debug, thiserror::Error)]
#[error("standard output is closed")]
pub(super) struct ReaderGone;

/// Writes a result to standard output; fails with [`ReaderGone`] when it is closed.
pub(super) fn print(result: impl AsRef<[u8]>) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(result.as_ref()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(ReaderGone.into()),
        result => result.context("failed to write standard output"),
    }
}

/// Goes on without a reader of standard output.
pub(super) fn go_on_unread(printed: anyhow::Result<()>) -> anyhow::Result<()> {
    printed.or_else(|error| if error.is::<ReaderGone>() { Ok(()) } else { Err(error) })
}

/// Writes a line to standard error, and ignores a failure, because no other place is left to report it.
/// `eprintln!` would panic.
pub(super) fn complain(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
