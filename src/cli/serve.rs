//! `quinistry serve`: runs the registry until a signal stops it.

use std::fmt;
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::os::fd::AsFd as _;
use std::process::ExitCode;

use anyhow::Context as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;

use super::LayerArg;
use super::exit::Exit;
use super::listen::{bind, bind_all};
use super::storage;
use crate::oci::Digest;
use crate::quine::{Executable, ExecutableError, LayerForm, Quine, REPOSITORY};
use crate::registry::{Limits, State, serve};
use crate::shutdown::Signals;

/// File from which Kubernetes reads a container's termination message.
const TERMINATION_LOG: &str = "/dev/termination-log";

const DEFAULT_PORT: u16 = 8080;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[arg(
        long,
        value_name = "ADDR",
        help = "Address and port to listen on [default: [::]:8080, or 0.0.0.0:8080 without IPv6]"
    )]
    listen: Option<SocketAddr>,

    /// Compression of the image's layer [default: tar, or the one that has the expected digest]
    #[arg(long, value_name = "FORM")]
    layer: Option<LayerArg>,

    #[command(flatten)]
    storage: storage::StorageArgs,

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
            Err(mismatch) => {
                eprintln!("quinistry: {mismatch}");
                // The file is absent outside Kubernetes. A failure to write it is ignored: the message is
                // printed above.
                if std::fs::exists(TERMINATION_LOG).unwrap_or(false) {
                    let _ = std::fs::write(TERMINATION_LOG, mismatch.to_string());
                }
                return Ok(Exit::Deviates.into());
            }
        };
        lift_file_limit();
        tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(self.serve(&quine))?;
        Ok(ExitCode::SUCCESS)
    }

    async fn serve(self, quine: &Quine) -> anyhow::Result<()> {
        let mut signals = Signals::listen().context("failed to listen for signals")?;
        let listener = self.bind()?;
        let mut state = State::new(quine);
        if let Some((store, options)) = self.storage.open()? {
            self.storage.sweep(&store);
            state = state.with_store(store, options);
        }
        tracing::info!(
            address = %listener.local_addr()?,
            manifest = %quine.digest(),
            config = %quine.config().digest(),
            layer = %quine.layer().digest(),
            "serving {REPOSITORY}"
        );
        let stop = async {
            signals.next().await;
            tracing::info!("stopping");
        };
        serve(listener, state, Limits::default(), stop).await;
        Ok(())
    }

    fn bind(&self) -> anyhow::Result<TcpListener> {
        if self.listen_stdin {
            return from_stdin().context("standard input is not a listening TCP socket");
        }
        match self.listen {
            Some(address) => bind(address),
            None => bind_all((Ipv6Addr::UNSPECIFIED, DEFAULT_PORT).into()),
        }
    }
}

fn from_stdin() -> io::Result<TcpListener> {
    let listener = std::net::TcpListener::from(io::stdin().as_fd().try_clone_to_owned()?);
    listener.set_nonblocking(true)?;
    listener.local_addr()?;
    TcpListener::from_std(listener)
}

/// Raises the soft limit of open files to the hard limit, because every connection is an open file. The
/// customary soft limit of 1024 protects programs that use select(2), which this one does not.
fn lift_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::debug!(%error, "cannot raise the limit of open files");
    }
}

/// Makes the kernel kill this process when its parent ends, even by SIGKILL.
fn die_with(parent: i32) -> anyhow::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .context("failed to tie this process to its parent's life")?;
    // The parent may have ended before the line above, and then no signal comes.
    let now = rustix::process::getppid().map(rustix::process::Pid::as_raw_pid);
    anyhow::ensure!(now == Some(parent), "the parent process {parent} is gone");
    Ok(())
}

/// Computes the image in the wanted form; without one, in the form that has the expected digest.
fn choose(
    executable: &Executable,
    form: Option<LayerForm>,
    expected: Option<&Digest>,
) -> Result<Result<Quine, DigestMismatch>, ExecutableError> {
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
    Ok(Err(DigestMismatch { expected: expected.clone(), found }))
}

/// Error of an executable whose image is not the expected one.
#[derive(Debug)]
struct DigestMismatch {
    expected: Digest,
    found: Vec<(LayerForm, Digest)>,
}

impl fmt::Display for DigestMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "this executable's image is not the expected one: expected {}, computed", self.expected)?;
        for (index, (form, digest)) in self.found.iter().enumerate() {
            write!(f, "{} {digest} ({} layer)", if index == 0 { "" } else { " and" }, form.as_str())?;
        }
        Ok(())
    }
}
