//! A listener of `serve` that alone takes pushes.

use std::net::IpAddr;

use axum::Router;
use tokio::sync::watch;

use crate::cli::exit::UsageError;
use crate::http::{Limits, Listener, WithPeer, serve_each};
use crate::registry::config::{ListenAddress, ListenHost};
use crate::registry::{Entrance, State};

#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub(super) struct PushArgs {
    /// Take pushes at this loopback address alone, and refuse them at the other one: HOST:PORT or unix:PATH
    #[arg(long, value_name = "ADDR", value_parser = ListenAddress::from_flag, requires = "storage")]
    #[arg(conflicts_with = "read_only")]
    push_listen: Option<ListenAddress>,
}

impl PushArgs {
    /// Returns the address, if one is given. Fails unless only this host can connect to it.
    pub(super) fn address(&self) -> Result<Option<ListenAddress>, UsageError> {
        match &self.push_listen {
            Some(address) if !is_local(address) => Err(UsageError(format!(
                "--push-listen {address} is neither a loopback address nor a unix socket: each client that reaches it \
                 can push, without a user; choose one such as 127.0.0.1:8090"
            ))),
            address => Ok(address.clone()),
        }
    }
}

/// Serves reads at one listener, and pushes at another, until `stop` resolves and the requests have ended.
pub(super) async fn serve_apart(
    listener: Listener,
    push_listener: Listener,
    state: State,
    limits: Limits,
    stop: impl Future<Output = ()>,
) {
    let push_address = push_listener.local_address().map(|address| address.to_string()).unwrap_or_default();
    let (end, mut ended) = watch::channel(());
    let stop = async move {
        stop.await;
        drop(end);
    };
    let ended = async move { while ended.changed().await.is_ok() {} };
    let pushes = Entrance::for_pushes(state.clone());
    let pushes = tokio::spawn(serve_entrance(push_listener, pushes, limits, ended));
    serve_entrance(listener, Entrance::for_reads(state, &push_address), limits, stop).await;
    // Pushes have the time that all requests have to end.
    let _ = pushes.await;
}

async fn serve_entrance(
    listener: Listener,
    entrance: Entrance,
    limits: Limits,
    stop: impl Future<Output = ()>,
) {
    let app = Router::new().fallback_service(entrance);
    serve_each(listener, move |peer| WithPeer::new(app.clone(), peer), limits, stop).await;
}

/// Returns true if only processes of this host, or of this pod, can connect.
fn is_local(address: &ListenAddress) -> bool {
    match address {
        ListenAddress::Unix(_) => true,
        ListenAddress::Tcp { host: ListenHost::All, .. } => false,
        ListenAddress::Tcp { host: ListenHost::Ip(ip), .. } => IpAddr::to_canonical(ip).is_loopback(),
        // Another name may mean another address tomorrow.
        ListenAddress::Tcp { host: ListenHost::Name(name), .. } => name == "localhost",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_this_host_take_pushes() {
        let address = |text: &str| {
            let args = PushArgs { push_listen: Some(ListenAddress::from_flag(text).unwrap()) };
            args.address()
        };
        for local in ["127.0.0.1:8090", "127.1.2.3:0", "[::1]:8090", "localhost:8090", "unix:/run/push.sock"]
        {
            assert!(address(local).is_ok(), "{local}");
        }
        for remote in ["8090", ":8090", "0.0.0.0:8090", "[::]:8090", "10.0.0.7:8090", "store.local:8090"] {
            let refused = address(remote).unwrap_err().to_string();
            assert!(refused.contains("is neither a loopback address nor a unix socket"), "{refused}");
        }
    }
}
