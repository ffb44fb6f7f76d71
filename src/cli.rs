//! The command line: one file per subcommand.
//!
//! The only room with `anyhow`, standard output and exit codes. What the subcommands do lies in the other
//! rooms; here are flags, wiring, and words for people. Called by `main` alone.

use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

use crate::layout::Format;
use crate::quine::LayerForm;
use crate::{nss, telemetry};

mod image;
mod serve;

/// The registry that ships itself.
///
/// Without a subcommand it serves, as `quinistry serve` does.
#[derive(Debug, Parser)]
#[command(name = "quinistry", version, max_term_width = 100, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,

    #[command(flatten)]
    serve: serve::Args,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve an image of this very executable (the default)
    Serve(serve::Args),
    /// Print or save this executable's own image
    Image(image::Args),
}

/// `--layer`
#[derive(Clone, Copy, Debug, ValueEnum)]
enum LayerArg {
    /// Plain tar, best on the same machine
    Tar,
    /// Smaller, for slow links
    Gzip,
}

impl From<LayerArg> for LayerForm {
    fn from(form: LayerArg) -> Self {
        match form {
            LayerArg::Tar => Self::Tar,
            LayerArg::Gzip => Self::Gzip,
        }
    }
}

/// `--format`
#[derive(Clone, Copy, Debug, ValueEnum)]
enum FormatArg {
    /// One file that every engine can load
    Archive,
    /// A folder
    OciLayout,
}

impl From<FormatArg> for Format {
    fn from(format: FormatArg) -> Self {
        match format {
            FormatArg::Archive => Self::Archive,
            FormatArg::OciLayout => Self::OciLayout,
        }
    }
}

/// Runs what the command line asks for. The exit code is 0, 1 for a failure, 3 for an image that is not the
/// expected one (`serve` only); clap ends usage errors with 2.
#[must_use]
pub fn main(cli: Cli) -> ExitCode {
    nss::pin();
    telemetry::init();
    let done = |()| ExitCode::SUCCESS;
    let result = match cli.command.unwrap_or(Command::Serve(cli.serve)) {
        Command::Serve(args) => args.run(),
        Command::Image(args) => args.run().map(done),
    };
    result.unwrap_or_else(|error| {
        eprintln!("quinistry: {error:#}");
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_well_formed() {
        super::Cli::command().debug_assert();
    }
}
