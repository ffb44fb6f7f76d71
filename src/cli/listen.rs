//! Listening on an address, for the subcommands that serve.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::TcpListener;

use super::port_holder;

/// Listens there and nowhere else.
pub(super) async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let is_taken = error.kind() == io::ErrorKind::AddrInUse;
        let holder = if is_taken { port_holder::of(address.port()) } else { None };
        let holder = holder.map(|holder| format!("held by {holder}; ")).unwrap_or_default();
        anyhow::Error::from(error)
            .context(format!("failed to listen on {address} ({holder}choose another address with --listen)"))
    })
}

/// The same, but where `[::]` means all addresses, and the kernel has no IPv6, on those of IPv4.
pub(super) async fn bind_all(address: SocketAddr) -> anyhow::Result<TcpListener> {
    match bind(address).await {
        // Anything else would fail for IPv4 as well.
        Err(error) if address.ip() == Ipv6Addr::UNSPECIFIED && is_no_ipv6(&error) => {
            bind((Ipv4Addr::UNSPECIFIED, address.port()).into()).await
        }
        bound => bound,
    }
}

fn is_no_ipv6(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| {
        error.kind() == io::ErrorKind::AddrNotAvailable
            || error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error())
    })
}
