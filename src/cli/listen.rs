//! Listening on an address, for the subcommands that serve.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::TcpListener;

use super::port_holder;
use crate::http::{self, Limits};

/// Listens on exactly this address.
pub(super) fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    http::bind(address, Limits::default()).map_err(|error| {
        let is_taken = error.kind() == io::ErrorKind::AddrInUse;
        let holder = if is_taken { port_holder::of(address.port()) } else { None };
        let holder = holder.map(|holder| format!("held by {holder}; ")).unwrap_or_default();
        anyhow::Error::from(error)
            .context(format!("failed to listen on {address} ({holder}choose another address with --listen)"))
    })
}

/// Listens on this address, or on all IPv4 addresses if it is `[::]` and the kernel has no IPv6.
pub(super) fn bind_all(address: SocketAddr) -> anyhow::Result<TcpListener> {
    match bind(address) {
        // Other errors would occur for IPv4 as well.
        Err(error) if address.ip() == Ipv6Addr::UNSPECIFIED && is_no_ipv6(&error) => {
            bind((Ipv4Addr::UNSPECIFIED, address.port()).into())
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
