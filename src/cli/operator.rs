//! `quinistry operator`: runs the Kubernetes operator until a signal stops it.

use std::process::ExitCode;

use anyhow::Context as _;
use tokio::sync::watch;

use super::listen::bind;
use crate::operator::{Operator, Settings, router};
use crate::quine::Executable;
use crate::registry::config::ListenAddress;
use crate::registry::{Limits, serve};
use crate::seed::SplitExecutable;
use crate::shutdown::Signals;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Namespace whose resources the operator reconciles [default: all namespaces]
    #[arg(long, short, value_name = "NAMESPACE")]
    namespace: Option<String>,

    /// Elect one of several operators as leader by a Lease in their own namespace; the others stand by
    #[arg(long)]
    leader_elect: bool,

    /// Name of the Lease, shared by the replicas of one operator and by no other operator
    #[arg(long, value_name = "NAME", default_value = "quinistry-operator", requires = "leader_elect")]
    lease_name: String,

    /// Leave the generations above a seed of another executable to the operator of that executable
    #[arg(long)]
    hand_over: bool,

    /// Address of /healthz, /readyz and /metrics: PORT, HOST:PORT or unix:PATH
    #[arg(long, value_name = "ADDR", default_value = "[::]:8081", value_parser = ListenAddress::from_flag)]
    listen: ListenAddress,
}

impl Args {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(self.operate())
    }

    async fn operate(self) -> anyhow::Result<ExitCode> {
        let mut signals = Signals::listen().context("failed to listen for signals")?;
        let listener = bind(&self.listen, Limits::default(), "--listen")?;
        let settings = Settings {
            namespace: self.namespace.clone(),
            lease: self.leader_elect.then(|| self.lease_name.clone()),
            own: own(),
            hand_over: self.hand_over,
        };
        let operator = Operator::from_environment(settings).await?;
        tracing::info!(
            address = %listener.local_address()?,
            namespace = self.namespace.as_deref().unwrap_or("all"),
            "operating"
        );
        let (stop, stopped) = watch::channel(false);
        let until = |mut stopped: watch::Receiver<bool>| async move {
            // The sender is dropped only when the program ends.
            let _ = stopped.wait_for(|stop| *stop).await;
        };
        let app = router(operator.clone());
        let mut admin = tokio::spawn(serve(listener, app, Limits::default(), until(stopped.clone())));
        let mut run = tokio::spawn(operator.run(until(stopped)));
        tokio::select! {
            () = signals.next() => {}
            ended = &mut run => {
                ended.context("the operator failed")??;
                anyhow::bail!("the operator ended by itself");
            }
            ended = &mut admin => {
                ended.context("the listener failed")?;
                anyhow::bail!("the listener ended by itself");
            }
        }
        tracing::info!("stopping");
        stop.send_replace(true);
        tokio::select! {
            ended = run => ended.context("the operator failed")??,
            () = signals.next() => tracing::warn!("second signal received, stopping at once"),
        }
        admin.abort();
        Ok(ExitCode::SUCCESS)
    }
}

/// Splits this executable as a seed. An executable that cannot be an image cannot restore a seed part, but
/// operates all the same.
fn own() -> Option<SplitExecutable> {
    let executable = Executable::current()
        .inspect_err(|error| tracing::warn!(%error, "cannot restore parts of the seed"))
        .ok()?;
    SplitExecutable::of_this("", &executable)
        .inspect_err(|error| tracing::warn!(%error, "cannot restore parts of the seed"))
        .ok()
}
