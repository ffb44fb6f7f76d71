//! `quinistry serve`: the registry, until it is told to stop.

use std::fmt;
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::os::fd::AsFd as _;
use std::process::ExitCode;

use anyhow::Context as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;

use super::LayerArg;
use super::listen::{bind, bind_all};
use super::storage;
use crate::oci::Digest;
use crate::quine::{Executable, ExecutableError, LayerForm, Quine, REPOSITORY};
use crate::registry::{Limits, State, serve};
use crate::shutdown::Signals;

/// The exit code for an image that is not the expected one.
const DEVIATES: u8 = 3;

/// Where Kubernetes looks for a container's last words.
const TERMINATION_LOG: &str = "/dev/termination-log";

const PORT: u16 = 8080;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[arg(
        long,
        value_name = "ADDR",
        help = "Address and port to listen on [default: [::]:8080, or 0.0.0.0:8080 without IPv6]"
    )]
    listen: Option<SocketAddr>,

    /// How the image's layer is stored [default: tar, or whichever has the expected digest]
    #[arg(long, value_name = "FORM")]
    layer: Option<LayerArg>,

    #[command(flatten)]
    storage: storage::Storage,

    /// Exit with code 3 unless the image has this digest
    #[arg(long, value_name = "DIGEST")]
    expect_digest: Option<Digest>,

    /// Serve on the listening socket given as standard input
    #[arg(long, hide = true, conflicts_with = "listen")]
    listen_stdin: bool,

    /// Die with the process of this id, which must be the parent
    #[arg(long, hide = true, value_name = "PID")]
    die_with: Option<i32>,
}

impl Args {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        if let Some(parent) = self.die_with {
            die_with(parent)?;
        }
        let executable = Executable::current()?;
        let quine = match choose(&executable, self.layer.map(Into::into), self.expect_digest.as_ref())? {
            Ok(quine) => quine,
            Err(deviation) => {
                eprintln!("quinistry: {deviation}");
                // Absent outside Kubernetes, and nothing to do about a failure but to have printed it above.
                if std::fs::exists(TERMINATION_LOG).unwrap_or(false) {
                    let _ = std::fs::write(TERMINATION_LOG, deviation.to_string());
                }
                return Ok(ExitCode::from(DEVIATES));
            }
        };
        lift_file_limit();
        tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(self.serve(&quine))?;
        Ok(ExitCode::SUCCESS)
    }

    async fn serve(self, quine: &Quine) -> anyhow::Result<()> {
        let mut signals = Signals::listen().context("failed to listen for signals")?;
        let listener = self.bind().await?;
        tracing::info!(
            address = %listener.local_addr()?,
            manifest = %quine.digest(),
            config = %quine.config().digest(),
            layer = %quine.layer().digest(),
            "serving {REPOSITORY}"
        );
        let mut state = State::new(quine);
        if let Some((store, options)) = self.storage.open()? {
            self.storage.sweep(&store);
            state = state.with_store(store, options);
        }
        let stop = async {
            signals.next().await;
            tracing::info!("stopping");
        };
        serve(listener, state, Limits::default(), stop).await;
        Ok(())
    }

    async fn bind(&self) -> anyhow::Result<TcpListener> {
        if self.listen_stdin {
            return from_stdin().context("standard input is not a listening TCP socket");
        }
        match self.listen {
            Some(address) => bind(address).await,
            None => bind_all((Ipv6Addr::UNSPECIFIED, PORT).into()).await,
        }
    }
}

fn from_stdin() -> io::Result<TcpListener> {
    let listener = std::net::TcpListener::from(io::stdin().as_fd().try_clone_to_owned()?);
    listener.set_nonblocking(true)?;
    listener.local_addr()?;
    TcpListener::from_std(listener)
}

/// Allows as many open files as the machine does, for every connection is one. The customary soft limit of 1024 is
/// there for programs that use select(2), which cannot count further; this one does not.
fn lift_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}

/// Ties this process to its parent's life, even if that is killed with SIGKILL.
fn die_with(parent: i32) -> anyhow::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .context("failed to tie this process to its parent's life")?;
    // It may have died before the line above, and then will not die again.
    let now = rustix::process::getppid().map(rustix::process::Pid::as_raw_pid);
    anyhow::ensure!(now == Some(parent), "the parent process {parent} is gone");
    Ok(())
}

/// The image in the wanted form; without one, in the form that has the expected digest.
fn choose(
    executable: &Executable,
    form: Option<LayerForm>,
    expected: Option<&Digest>,
) -> Result<Result<Quine, Deviation>, ExecutableError> {
    let Some(expected) = expected else { return Quine::new(executable, form.unwrap_or_default()).map(Ok) };
    let forms = match form {
        Some(form) => vec![form],
        None => LayerForm::ALL.to_vec(),
    };
    let mut found = Vec::new();
    for form in forms {
        let quine = Quine::new(executable, form)?;
        if quine.digest() == expected {
            return Ok(Ok(quine));
        }
        found.push((form, quine.digest().clone()));
    }
    Ok(Err(Deviation { expected: expected.clone(), found }))
}

/// The executable is not the one that was meant.
#[derive(Debug)]
struct Deviation {
    expected: Digest,
    found: Vec<(LayerForm, Digest)>,
}

impl fmt::Display for Deviation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "this executable's image is not the expected one: expected {}, computed", self.expected)?;
        for (index, (form, digest)) in self.found.iter().enumerate() {
            write!(f, "{} {digest} ({} layer)", if index == 0 { "" } else { " and" }, form.as_str())?;
        }
        Ok(())
    }
}
