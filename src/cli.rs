//! The command line: one file per subcommand.
//!
//! The only room with `anyhow`, standard output and exit codes. What the subcommands do lies in the other
//! rooms; here are flags, wiring, and words for people. Called by `main` alone.

use std::ffi::OsString;
use std::future::Future;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand, ValueEnum};

use self::output::print;
use crate::escape::{self, Escaped};
use crate::layout::Format;
use crate::quine::LayerForm;
use crate::shutdown::Signals;
use crate::{nss, telemetry};

mod bootstrap;
mod check;
mod cluster;
mod completions;
mod copy;
mod crd;
mod delete;
mod down;
mod gc;
mod image;
mod inspect;
mod list;
mod listen;
mod login;
mod operator;
mod output;
mod own;
mod probe;
mod progress;
mod pull;
mod push;
mod referrers;
mod remote;
mod serve;
mod status;
mod storage;
mod tags;
mod up;
mod verify;

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
    /// Raise generations on this machine, each pulled from the one before and proven equal to it
    Bootstrap(bootstrap::Args),
    /// Copy an image from a registry into a file or folder
    Pull(pull::Args),
    /// Copy an image, by default this executable's own, into a registry
    Push(push::Args),
    /// Copy an image from one registry to another, without keeping it here
    Copy(copy::Args),
    /// Delete a tag, or an image by its digest with all of its tags
    Delete(delete::Args),
    /// List what refers to an image: signatures, bills of materials and the like
    Referrers(referrers::Args),
    /// Fetch and hash every byte of an image, and say whether it is this executable's own
    Verify(verify::Args),
    /// Show what an image is made of
    Inspect(inspect::Args),
    /// List the tags of a repository
    Tags(tags::Args),
    /// List the repositories of a registry
    List(list::Args),
    /// Ask a URL, and succeed if the answer does: a health check without curl
    Probe(probe::Args),
    /// Store credentials for a registry
    Login(login::Args),
    /// Remove from a storage folder what no manifest needs, while no registry serves it
    Gc(gc::Args),
    /// Raise generation 0 and the operator on a Kubernetes cluster that can reach no registry
    Up(up::Args),
    /// Say whether `up` can work on a cluster, and change nothing
    Check(check::Args),
    /// Show the generations of a cluster, what is wrong with them and what to do
    Status(status::Args),
    /// Remove from a cluster what `up` made
    Down(down::Args),
    /// Raise generations on the nodes of a Kubernetes cluster, as Quinistry resources ask for
    Operator(operator::Args),
    /// Print the resource definition of the Kubernetes operator
    Crd(crd::Args),
    /// Print a completion script for a shell
    Completions(completions::Args),
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

/// How kubectl knows its plugins.
const PLUGIN: &str = "kubectl-quinistry";

/// What this process was started with. As a plugin of kubectl it is called by another name, and shows what there is when
/// nothing else is asked for: nobody who types `kubectl quinistry` wants to serve.
#[must_use]
pub fn parse() -> Cli {
    Cli::parse_from(arguments(std::env::args_os().collect()))
}

fn arguments(mut arguments: Vec<OsString>) -> Vec<OsString> {
    let is_plugin =
        arguments.first().is_some_and(|path| Path::new(path).file_name() == Some(PLUGIN.as_ref()));
    if is_plugin {
        arguments[0] = "kubectl quinistry".into();
        if arguments.len() == 1 {
            arguments.push("status".into());
        }
    }
    arguments
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
        Command::Bootstrap(args) => args.run().map(done),
        Command::Pull(args) => args.run().map(done),
        Command::Push(args) => args.run().map(done),
        Command::Copy(args) => args.run().map(done),
        Command::Delete(args) => args.run().map(done),
        Command::Referrers(args) => args.run().map(done),
        Command::Verify(args) => args.run().map(done),
        Command::Inspect(args) => args.run().map(done),
        Command::Tags(args) => args.run().map(done),
        Command::List(args) => args.run().map(done),
        Command::Probe(args) => args.run().map(done),
        Command::Login(args) => args.run().map(done),
        Command::Gc(args) => args.run().map(done),
        Command::Up(args) => args.run().map(done),
        Command::Check(args) => args.run(),
        Command::Status(args) => args.run(),
        Command::Down(args) => args.run().map(done),
        Command::Operator(args) => args.run(),
        Command::Crd(args) => args.run().map(done),
        Command::Completions(args) => args.run().map(done),
    };
    result.unwrap_or_else(|error| {
        // Causes may be in the words of a registry, an archive or a cluster.
        output::complain(&format!("quinistry: {}", Escaped(&format!("{error:#}"))));
        ExitCode::FAILURE
    })
}

/// The runtime of all subcommands but `serve`: one thread, this one.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("failed to start")
}

/// Runs a future to its end, or until somebody wants this program to stop: then it is dropped, and what it was
/// writing goes with it.
fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    runtime()?.block_on(async {
        let mut signals = Signals::listen().context("failed to listen for signals")?;
        tokio::select! {
            result = future => result,
            () = signals.next() => anyhow::bail!("interrupted; nothing is left behind"),
        }
    })
}

/// A length for people: `5.1 MB`.
#[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
fn human(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if value < 999.95 {
            return if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1000.0;
    }
    format!("{value:.1} TB")
}

/// Text from a registry, made harmless for a terminal.
fn plain(text: &str) -> String {
    escape::line(text)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn lengths_are_shown_in_decimal_units() {
        assert_eq!(super::human(999), "999 B");
        assert_eq!(super::human(1000), "1.0 kB");
        assert_eq!(super::human(5_140_000), "5.1 MB");
        assert_eq!(super::human(999_999), "1.0 MB");
        assert_eq!(super::human(7_000_000_000_000), "7.0 TB");
    }

    #[test]
    fn a_plugin_of_kubectl_shows_the_status() {
        let given = |words: &[&str]| super::arguments(words.iter().map(Into::into).collect());
        assert_eq!(given(&["/bin/kubectl-quinistry"]), ["kubectl quinistry", "status"]);
        assert_eq!(given(&["kubectl-quinistry", "up"]), ["kubectl quinistry", "up"]);
        assert_eq!(given(&["/bin/quinistry"]), ["/bin/quinistry"]);
    }

    #[test]
    fn the_command_line_is_well_formed() {
        super::Cli::command().debug_assert();
    }
}
