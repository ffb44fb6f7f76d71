//! Addresses for servers that a test starts, and that cannot tell which port they have taken.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::TcpSocket;

/// Returns an address of loopback that stays reserved until this process ends, for a server that sets
/// `SO_REUSEADDR` before it binds, as this program, std, tokio, Go and Node.js do.
///
/// A bound socket that does not listen holds the port: connections are refused until a server listens there,
/// and the kernel gives the port neither to a listener on port 0 nor to an outgoing connection. A port that was
/// only found free goes to another test, or to a connection, before its server has started.
pub fn reserved_address() -> SocketAddr {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    Box::leak(Box::new(socket)).local_addr().unwrap()
}
