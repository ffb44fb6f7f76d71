//! Results on standard output: text for a terminal, JSON for programs, or the essential words alone.

mod json;

use std::fmt::Display;
use std::io::{self, Write as _};

use anyhow::Context as _;
use clap::ValueEnum;
use serde::Serialize;

pub(super) use json::{document, line};

/// The form of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Text for reading
    Text,
    /// One JSON document, with the fields of docs/commands.md
    Json,
}

/// `-o/--output`, for commands without a quiet form.
#[derive(Clone, Copy, Debug, clap::Args)]
#[group(skip)]
pub(super) struct OutputFormat {
    /// Format of the result
    #[arg(
        long = "output",
        short = 'o',
        id = "output",
        value_enum,
        value_name = "FORMAT",
        default_value = "text"
    )]
    pub(super) format: Format,
}

/// Arguments `-o/--output` and `-q/--quiet`.
#[derive(Clone, Copy, Debug, clap::Args)]
#[group(skip)]
pub(super) struct Output {
    #[command(flatten)]
    form: OutputFormat,

    /// Print the essential result only, such as a digest or names; no progress
    #[arg(long, short, conflicts_with = "output")]
    quiet: bool,
}

/// The result of a command, in each form that it is printed in. The fields that it serializes are promised in
/// docs/commands.md.
pub(super) trait Report: Serialize {
    /// Returns the text for a terminal: whole lines, with everything from outside escaped.
    fn text(&self) -> String;

    /// Returns the text that `--quiet` prints: whole lines, or nothing.
    fn essence(&self) -> String;
}

// === impl OutputFormat ===

impl OutputFormat {
    pub(super) fn is_json(self) -> bool {
        self.format == Format::Json
    }
}

// === impl Output ===

impl Output {
    pub(super) fn is_json(self) -> bool {
        self.form.is_json()
    }

    pub(super) fn is_quiet(self) -> bool {
        self.quiet
    }

    /// Prints a result in the wanted form.
    pub(super) fn print(self, report: &impl Report) -> anyhow::Result<()> {
        print(match self.form.format {
            Format::Json => document(report)?,
            Format::Text if self.quiet => report.essence(),
            Format::Text => report.text(),
        })
    }
}

/// Renders items as lines.
pub(super) fn lines(items: impl IntoIterator<Item = impl Display>) -> String {
    items.into_iter().fold(String::new(), |text, item| text + &item.to_string() + "\n")
}

/// A reader of standard output that has seen enough, such as `head`. Ends the command, without a word and
/// with success.
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

/// Writes a line to standard error. `eprintln!` panics when its reader is gone; there is nothing left to tell
/// it to.
pub(super) fn complain(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
