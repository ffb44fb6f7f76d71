//! Listening on an address, for the subcommands that serve.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};
use std::os::fd::AsFd as _;

use anyhow::Context as _;
use tokio::net::TcpListener;

use super::port_holder;
use crate::http::{Limits, Listener};
use crate::registry::config::{ListenAddress, ListenHost};

/// Listens on an address. On all addresses that is `[::]`, or `0.0.0.0` if the kernel has no IPv6; a name is
/// listened on by its first address. `option` names what chooses another address, for the error.
pub(super) fn bind(address: &ListenAddress, limits: Limits, option: &str) -> anyhow::Result<Listener> {
    match address {
        ListenAddress::Unix(path) => Ok(Listener::unix(path, limits)?),
        ListenAddress::Tcp { host: ListenHost::All, port } => bind_all(*port, limits, option),
        ListenAddress::Tcp { host: ListenHost::Ip(IpAddr::V6(Ipv6Addr::UNSPECIFIED)), port } => {
            bind_all(*port, limits, option)
        }
        ListenAddress::Tcp { host: ListenHost::Ip(ip), port } => {
            bind_tcp((*ip, *port).into(), limits, option)
        }
        ListenAddress::Tcp { host: ListenHost::Name(name), port } => {
            let found = (name.as_str(), *port).to_socket_addrs();
            let mut found =
                found.with_context(|| format!("failed to listen on {address}"))?.collect::<Vec<_>>();
            // As Go does: clients try IPv4 first or second, and `localhost` is 127.0.0.1 for most.
            found.sort_by_key(SocketAddr::is_ipv6);
            let first =
                found.first().with_context(|| format!("failed to listen on {address}: it has no address"))?;
            bind_tcp(*first, limits, option)
        }
    }
}

/// Serves on the listening TCP socket that is standard input.
pub(super) fn from_stdin() -> io::Result<Listener> {
    let listener = std::net::TcpListener::from(io::stdin().as_fd().try_clone_to_owned()?);
    listener.set_nonblocking(true)?;
    listener.local_addr()?;
    TcpListener::from_std(listener).map(Listener::from)
}

fn bind_all(port: u16, limits: Limits, option: &str) -> anyhow::Result<Listener> {
    match bind_tcp((Ipv6Addr::UNSPECIFIED, port).into(), limits, option) {
        // Other errors would occur for IPv4 as well.
        Err(error) if is_no_ipv6(&error) => bind_tcp((Ipv4Addr::UNSPECIFIED, port).into(), limits, option),
        bound => bound,
    }
}

fn bind_tcp(address: SocketAddr, limits: Limits, option: &str) -> anyhow::Result<Listener> {
    Listener::tcp(address, limits).map_err(|error| {
        let is_taken = error.kind() == io::ErrorKind::AddrInUse;
        let holder = if is_taken { port_holder::of(address.port()) } else { None };
        let holder = holder.map(|holder| format!("held by {holder}; ")).unwrap_or_default();
        anyhow::Error::from(error)
            .context(format!("failed to listen on {address} ({holder}choose another address with {option})"))
    })
}

fn is_no_ipv6(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| {
        error.kind() == io::ErrorKind::AddrNotAvailable
            || error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error())
    })
}
