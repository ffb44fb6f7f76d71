//! The command line: one file per subcommand.
//!
//! The only room with `anyhow`, standard output and exit codes. The other rooms do the work; this one has
//! flags, wiring, help and messages. Called by `main` alone.

use std::future::Future;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand, ValueEnum};

pub use self::command_line::parse;
use self::exit::Exit;
use self::output::{ReaderGone, print};
use crate::escape::{self, Escaped};
use crate::layout::Format;
use crate::quine::LayerForm;
use crate::shutdown::Signals;
use crate::{nss, telemetry};

mod access;
mod bootstrap;
mod bundle;
mod check;
mod cluster;
mod command_line;
mod completions;
mod config;
mod configuration;
mod configured;
mod copy;
mod crd;
mod delete;
mod down;
mod exit;
mod fsck;
mod garbage_collect;
mod gc;
mod help;
mod image;
mod inspect;
mod key;
mod kubernetes_name;
mod list;
mod listen;
mod load;
mod login;
mod logout;
mod man;
mod migrate;
mod mirrors;
mod operator;
mod output;
mod own;
mod ownership;
mod password_stdin;
mod policy;
mod port_holder;
mod prepare_storage;
mod private_file;
mod probe;
mod progress;
mod pull;
mod push;
mod referrers;
mod remote;
mod retention;
mod serve;
mod status;
mod storage;
mod storage_command;
mod tags;
mod target;
mod tls;
mod up;
mod upstream;
mod user;
mod verify;
mod version;
mod whole_file;

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

    /// Form of the log's lines on standard error [default: text, or that of a configuration file]
    #[arg(long, value_name = "FORM", global = true)]
    log_format: Option<LogFormatArg>,
}

/// Value of `--log-format`.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormatArg {
    /// Lines for reading
    Text,
    /// One JSON object a line
    Json,
}

impl From<LogFormatArg> for telemetry::LogFormat {
    fn from(format: LogFormatArg) -> Self {
        match format {
            LogFormatArg::Text => Self::Text,
            LogFormatArg::Json => Self::Json,
        }
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve an image of this very executable (the default)
    Serve(serve::CommandArgs),
    /// Print or save this executable's own image
    Image(image::Args),
    /// Raise generations on this machine, each pulled from the one before and proven equal to it
    Bootstrap(bootstrap::Args),
    /// Copy an image from a registry into a file or folder
    Pull(pull::Args),
    /// Copy an image from a file or folder, or with --self this executable's own, into a registry
    Push(push::Args),
    /// Copy an image from one registry to another, without keeping it here
    Copy(copy::Args),
    /// Copy several images, or those of Kubernetes manifests, into one archive
    Bundle(bundle::Args),
    /// Put all images of an archive into a registry, and rewrite Kubernetes manifests to them
    Load(load::Args),
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
    /// Remove the credentials of a registry
    Logout(logout::Args),
    /// Try what an object store can do
    Storage(storage_command::Args),
    /// Give a storage folder to the user that serves it, as an init container does
    PrepareStorage(prepare_storage::Args),
    /// Remove what no manifest needs, from a folder that no registry serves, or from a bucket
    Gc(gc::Args),
    /// Name the damage of a storage folder or bucket, and repair what has exactly one answer
    Fsck(fsck::Args),
    /// Copy a registry from one storage to another: folders and buckets, also of distribution
    Migrate(migrate::Args),
    /// Do as distribution's command of this name does, with the storage of a configuration file
    GarbageCollect(garbage_collect::Args),
    /// Show which tags the policies of a configuration keep, and delete the others
    Retention(retention::Args),
    /// Show, fetch and remove copies of other registries' images
    Upstream(upstream::Args),
    /// Print the files by which engines pull other registries' images through one registry
    Mirrors(mirrors::Args),
    /// Print the admission policy by which pods of some namespaces pull their images from one registry
    Policy(policy::Args),
    /// Check distribution's configuration, and list its keys
    Config(config::Args),
    /// Add, remove and list users of a password file
    User(user::Args),
    /// Say what the rules of a configuration grant
    Access(access::Args),
    /// Add, remove and list API keys of a registry
    Key(key::Args),
    /// Make an own authority and a certificate for a registry
    Tls(tls::Args),
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
    /// Print the resource definitions of the Kubernetes operator
    Crd(crd::Args),
    /// Print a completion script for a shell
    #[command(visible_alias = "completion")]
    Completions(completions::Args),
    /// Print the version, and the digest of this executable's image
    Version(version::Args),
    /// Write manual pages into a folder
    Man(man::Args),
}

/// Value of `--layer`.
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

/// Value of `--format`.
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

/// Runs what the command line asks for.
#[must_use]
pub fn main(cli: Cli) -> ExitCode {
    nss::pin();
    telemetry::init(crate::escape::line);
    if let Some(format) = cli.log_format {
        telemetry::configure(&telemetry::LogSettings {
            format: format.into(),
            ..telemetry::LogSettings::default()
        });
    }
    run(cli).unwrap_or_else(|error| {
        if error.is::<ReaderGone>() {
            return Exit::Success.into();
        }
        // Causes may quote a registry, an archive or a cluster.
        output::complain(&format!("quinistry: {}", Escaped(&format!("{error:#}"))));
        Exit::of(&error).into()
    })
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let done = |()| Exit::Success.into();
    let log_format = cli.log_format.map(Into::into);
    match cli.command {
        None => cli.serve.run(None, log_format),
        Some(Command::Serve(args)) => args.run(log_format),
        Some(Command::Image(args)) => args.run().map(done),
        Some(Command::Bootstrap(args)) => args.run().map(done),
        Some(Command::Pull(args)) => args.run().map(done),
        Some(Command::Push(args)) => args.run().map(done),
        Some(Command::Copy(args)) => args.run().map(done),
        Some(Command::Bundle(args)) => args.run().map(done),
        Some(Command::Load(args)) => args.run().map(done),
        Some(Command::Delete(args)) => args.run().map(done),
        Some(Command::Referrers(args)) => args.run().map(done),
        Some(Command::Verify(args)) => args.run().map(done),
        Some(Command::Inspect(args)) => args.run().map(done),
        Some(Command::Tags(args)) => args.run().map(done),
        Some(Command::List(args)) => args.run().map(done),
        Some(Command::Probe(args)) => args.run().map(done),
        Some(Command::Login(args)) => args.run().map(done),
        Some(Command::Logout(args)) => args.run().map(done),
        Some(Command::Storage(args)) => args.run().map(done),
        Some(Command::PrepareStorage(args)) => args.run().map(done),
        Some(Command::Gc(args)) => args.run(),
        Some(Command::Fsck(args)) => args.run(),
        Some(Command::Migrate(args)) => args.run(),
        Some(Command::GarbageCollect(args)) => args.run(),
        Some(Command::Retention(args)) => args.run(),
        Some(Command::Upstream(args)) => args.run(),
        Some(Command::Mirrors(args)) => args.run().map(done),
        Some(Command::Policy(args)) => args.run().map(done),
        Some(Command::Config(args)) => args.run(),
        Some(Command::User(args)) => args.run().map(done),
        Some(Command::Access(args)) => args.run(),
        Some(Command::Key(args)) => args.run().map(done),
        Some(Command::Tls(args)) => args.run().map(done),
        Some(Command::Up(args)) => args.run().map(done),
        Some(Command::Check(args)) => args.run(),
        Some(Command::Status(args)) => args.run(),
        Some(Command::Down(args)) => args.run().map(done),
        Some(Command::Operator(args)) => args.run(),
        Some(Command::Crd(args)) => args.run().map(done),
        Some(Command::Completions(args)) => args.run().map(done),
        Some(Command::Version(args)) => args.run().map(done),
        Some(Command::Man(args)) => args.run().map(done),
    }
}

/// Builds the runtime of all subcommands except `serve` and `operator`: it runs on this thread alone.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("failed to start")
}

/// Runs a future to its end. On a signal to stop the future is dropped, which removes unfinished files.
fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    block_on_unless_interrupted(future, "nothing is left behind")
}

/// Runs a future to its end. On a signal to stop the future is dropped; `consequence` says what that means.
fn block_on_unless_interrupted<T>(
    future: impl Future<Output = anyhow::Result<T>>,
    consequence: &str,
) -> anyhow::Result<T> {
    runtime()?.block_on(async {
        let mut signals = Signals::listen().context("failed to listen for signals")?;
        tokio::select! {
            result = future => result,
            () = signals.next() => anyhow::bail!("interrupted; {consequence}"),
        }
    })
}

/// Runs a future that only a signal to stop ends; `None` stands for that regular end.
fn block_until_stopped<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<Option<T>> {
    runtime()?.block_on(async {
        let mut signals = Signals::listen().context("failed to listen for signals")?;
        tokio::select! {
            result = future => result.map(Some),
            () = signals.next() => Ok(None),
        }
    })
}

/// Formats a length for display, such as `5.1 MB`.
#[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
fn format_bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if value < 999.95 {
            return if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1000.0;
    }
    format!("{value:.1} TB")
}

/// Formats a number with its noun, in the singular for one.
fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// Escapes text from outside, such as a registry's, for a terminal.
fn sanitize(text: &str) -> String {
    escape::line(text)
}

#[cfg(test)]
mod tests {
    #[test]
    fn one_of_a_kind_is_in_the_singular() {
        let counts = [0, 1, 2].map(|number| super::count(number, "blob"));
        assert_eq!(counts, ["0 blobs", "1 blob", "2 blobs"]);
    }

    #[test]
    fn lengths_are_shown_in_decimal_units() {
        assert_eq!(super::format_bytes(999), "999 B");
        assert_eq!(super::format_bytes(1000), "1.0 kB");
        assert_eq!(super::format_bytes(5_140_000), "5.1 MB");
        assert_eq!(super::format_bytes(999_999), "1.0 MB");
        assert_eq!(super::format_bytes(7_000_000_000_000), "7.0 TB");
    }
}
