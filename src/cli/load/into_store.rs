//! Loading into the store of a cluster, through port-forwards to one of its pods.

use super::super::cluster::{self, ClusterArgs};
use super::super::kubernetes_name::is_dns_subdomain;
use super::super::output::complain;
use super::super::{progress, sanitize};
use super::room::ensure_room;
use super::{Bundle, INTERRUPTED, LoadReport};
use crate::client::{Client, ClientError};
use crate::install::InstallError;
use crate::install::names;
use crate::install::store::{Store, StorePod, StoreTunnel, TunnelEvent};

/// Arguments that name the store of a cluster.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Cluster")]
pub(super) struct StoreArgs {
    /// Namespace of the Quinistry whose store to load into [default: quinistry-system]
    #[arg(long, short, value_name = "NAMESPACE", value_parser = cluster::namespace)]
    namespace: Option<String>,

    /// Name of the Quinistry [default: quinistry]
    #[arg(long, value_name = "NAME", value_parser = resource_name)]
    name: Option<String>,

    #[command(flatten)]
    cluster: ClusterArgs,
}

/// Parses the name of a resource.
fn resource_name(typed: &str) -> Result<String, &'static str> {
    if is_dns_subdomain(typed) {
        Ok(typed.into())
    } else {
        Err("a name is made of a to z, 0 to 9, '-' and '.', and begins and ends with a letter or a digit")
    }
}

// === impl StoreArgs ===

impl StoreArgs {
    /// Returns true if an argument is given.
    pub(super) const fn is_given(&self) -> bool {
        self.namespace.is_some() || self.name.is_some() || self.cluster.is_given()
    }

    /// Finds the store.
    pub(super) async fn find(&self) -> Result<Store, InstallError> {
        let cluster = self.cluster.connect_to_change().await?;
        let namespace = self.namespace.as_deref().unwrap_or(names::NAMESPACE);
        Store::find(&cluster, namespace, self.name.as_deref().unwrap_or(names::RESOURCE)).await
    }
}

/// Puts all images of a bundle into a store. Returns the pod that has taken them, too. Begins again, and sends only what is
/// not there, when a pod fails and another one takes its place.
pub(in crate::cli) async fn load(
    bundle: &Bundle,
    store: &Store,
    is_quiet: bool,
) -> anyhow::Result<(LoadReport, StorePod)> {
    // All connections go through the tunnel: the name is for messages.
    let host = format!("{}-store", store.name());
    let mut tunnel = StoreTunnel::open(store).await?;
    ensure_room(bundle, store, &host).await?;
    loop {
        let pod = tunnel.pod();
        let destination = format!("store of {}/{} ({pod})", store.namespace(), store.name());
        // Connections of an earlier client may lead to the former pod.
        let client = Client::over_socket(tunnel.socket())?;
        let loading = async {
            client.ensure_answers(&host).await?;
            client.load(bundle, &host, progress::bars_with_total(is_quiet)).await
        };
        let result = tokio::select! {
            biased;
            event = tunnel.event() => Err(event),
            result = loading => Ok(result),
        };
        let event = match result {
            Ok(Ok(report)) => return Ok((report, pod)),
            Ok(Err(error)) => match tunnel.try_event() {
                Some(event) => event,
                None => return Err(failure(&destination, error, tunnel.last_failure())),
            },
            Err(event) => event,
        };
        match event {
            TunnelEvent::Moved { from, to, why } => complain(&sanitize(&format!(
                "warning: {from} failed: {why}; going on with {to}, which gets everything that it lacks"
            ))),
            TunnelEvent::Failed(error) => {
                return Err(
                    anyhow::Error::from(error).context(format!("failed to load into the {destination}"))
                );
            }
        }
    }
}

/// Returns the error of a load. If a connection failed, the last failure of a port-forward is the reason.
fn failure(destination: &str, error: ClientError, why: Option<String>) -> anyhow::Error {
    let is_of_connection = matches!(
        error,
        ClientError::Connect { .. } | ClientError::Timeout { .. } | ClientError::Broken { .. }
    );
    let context = match why {
        Some(why) if is_of_connection => {
            format!("failed to load into the {destination}: {}; {INTERRUPTED}", sanitize(&why))
        }
        _ => format!("failed to load into the {destination}"),
    };
    anyhow::Error::from(error).context(context)
}
