//! Other end of a connection.

use std::net::SocketAddr;

/// Other end of the connection that a request came on. The server adds it to the extensions of each request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    /// Address of a TCP client.
    Tcp(SocketAddr),
    /// Client of a Unix socket, which has no address.
    Unix,
}
