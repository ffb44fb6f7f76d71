//! `quinistry serve`: runs the registry until a signal stops it.

mod announce;
mod endpoints;
mod expected_digest;
mod exposure;
mod files;
mod heal_sources;
pub(super) mod opened_bucket;
mod opened_storage;
mod peers;
pub(super) mod plan;
pub(super) mod process;
mod push_listener;
mod reload;
mod renewal;
mod running;
pub(super) mod settings;
mod shared_folder;
mod tls_args;
pub(super) mod upstreams;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::ValueHint;

use self::peers::PeerArgs;
use self::plan::ServePlan;
use self::push_listener::PushArgs;
use self::reload::Reloads;
use self::running::RunningRegistry;
use self::tls_args::TlsArgs;
use super::LayerArg;
use super::configuration::{Configuration, Refused};
use super::exit::Exit;
use super::storage::StorageArgs;
use crate::oci::Digest;
use crate::quine::{Executable, Quine};
use crate::registry::config::{self, ListenAddress};
use crate::shutdown::Signals;
use crate::telemetry::LogFormat;

/// Longest time for background work, such as a cycle of collection, to end after the last request.
const BACKGROUND_TIMEOUT: Duration = Duration::from_secs(3);

#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    #[arg(
        long,
        value_name = "ADDR",
        value_parser = ListenAddress::from_flag,
        help = "PORT, HOST:PORT or unix:PATH to listen on [default: [::]:8080, or 0.0.0.0:8080 without IPv6]"
    )]
    listen: Option<ListenAddress>,

    /// Compression of the image's layer [default: tar, or the one that has the expected digest]
    #[arg(long, value_name = "FORM")]
    layer: Option<LayerArg>,

    #[command(flatten)]
    storage: StorageArgs,

    #[command(flatten)]
    push: PushArgs,

    #[command(flatten)]
    peers: PeerArgs,

    #[command(flatten)]
    tls: TlsArgs,

    /// Serve metrics and health on this address too: PORT, HOST:PORT or unix:PATH
    #[arg(long, value_name = "ADDR", value_parser = ListenAddress::from_flag)]
    metrics: Option<ListenAddress>,

    /// Write a line for each request to standard output
    #[arg(long)]
    access_log: bool,

    /// Exit with code 3 unless the image has this digest
    #[arg(long, value_name = "DIGEST")]
    expect_digest: Option<Digest>,

    /// Serve on the listening socket given as standard input
    #[arg(long, hide = true, conflicts_with_all = ["listen", "push_listen"])]
    listen_stdin: bool,

    /// Die with the process of this id, which must be the parent
    #[arg(long, hide = true, value_name = "PID")]
    die_with: Option<i32>,
}

/// Flags that a plan is made of.
#[derive(Clone, Debug)]
struct Flags {
    args: Args,
    log_format: Option<LogFormat>,
}

/// Arguments of the subcommand, which also takes a configuration file.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct CommandArgs {
    /// Configuration file of distribution's registry (see docs/configuration.md)
    #[arg(
        value_name = "CONFIG",
        value_hint = ValueHint::FilePath,
        conflicts_with_all = ["storage", "bundle", "memory_limit", "upload_timeout", "allow_sparse", "gc", "exclusive", "tls_cert", "peers"]
    )]
    config: Option<PathBuf>,

    #[command(flatten)]
    serve: Args,
}

impl CommandArgs {
    pub(super) fn run(self, log_format: Option<LogFormat>) -> anyhow::Result<ExitCode> {
        self.serve.run(self.config, log_format)
    }
}

impl Args {
    /// Serves by the configuration in `file`, or by the flags and the environment. `log_format` wins over that of
    /// the configuration.
    pub(super) fn run(
        self,
        file: Option<PathBuf>,
        log_format: Option<LogFormat>,
    ) -> anyhow::Result<ExitCode> {
        if let Some(parent) = self.die_with {
            process::die_with(parent)?;
        }
        let flags = Flags { args: self, log_format };
        let configuration = Configuration::find(file);
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        // From the first moment on, so that an early signal neither ends the process halfway nor is lost.
        let signals = runtime.block_on(async { SignalListeners::listen(&flags, configuration.as_ref()) })?;
        let plan = match &configuration {
            None => ServePlan::of_flags(&flags)?,
            Some(configuration) => match ServePlan::of_configuration(&flags, configuration) {
                Ok(plan) => plan,
                Err(error) => return report(error),
            },
        };
        plan.start_log();
        if configuration.is_none() {
            warn_of_unresolved_variables();
        }
        let executable = Executable::current()?;
        let form = flags.args.layer.map(Into::into);
        let quine = match expected_digest::choose(&executable, form, flags.args.expect_digest.as_ref())? {
            Ok(quine) => quine,
            Err(mismatch) => {
                eprintln!("quinistry: {mismatch}");
                process::leave_termination_message(&mismatch.to_string());
                return Ok(Exit::Deviates.into());
            }
        };
        process::lift_file_limit();
        let served = runtime.block_on(serve(&quine, &plan, signals));
        // Requests have ended. Work of the leader may take minutes to notice, and can be cut off anywhere.
        runtime.shutdown_timeout(BACKGROUND_TIMEOUT);
        served?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Listeners for the signals to stop, and to read the configuration again.
struct SignalListeners {
    stop: Signals,
    reloads: Option<Reloads>,
}

impl SignalListeners {
    fn listen(flags: &Flags, configuration: Option<&Configuration>) -> anyhow::Result<Self> {
        let stop = Signals::listen().context("failed to listen for signals")?;
        let reloads =
            configuration.map(|configuration| Reloads::listen(flags.clone(), configuration.clone()));
        Ok(Self { stop, reloads: reloads.transpose()? })
    }
}

async fn serve(quine: &Quine, plan: &ServePlan, signals: SignalListeners) -> anyhow::Result<()> {
    let SignalListeners { mut stop, reloads } = signals;
    let running = RunningRegistry::start(plan, quine)?;
    let stop = async move {
        stop.next().await;
        tracing::info!("stopping");
    };
    running.serve(reloads, stop).await;
    Ok(())
}

/// Warns about variables that look like keys of a configuration, and are none.
fn warn_of_unresolved_variables() {
    let names = config::unresolved_variables(std::env::vars_os());
    if !names.is_empty() {
        let variables = names.join(" ");
        tracing::warn!(%variables, "variables set no key, `quinistry config keys` lists the keys");
    }
}

/// Prints all findings of a refused configuration; other errors are the caller's.
fn report(error: anyhow::Error) -> anyhow::Result<ExitCode> {
    let refused = error.downcast::<Refused>()?;
    refused.report();
    Ok(Exit::Failure.into())
}
