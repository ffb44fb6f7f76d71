//! Steps between the acceptance of a connection and its first request: PROXY protocol, then TLS.

use std::io;
use std::sync::Arc;

use tokio::time::timeout;

use super::admission::SilentClient;
use super::peer::{ConnectedClient, Peer};
use super::proxy_protocol::ProxyProtocol;
use super::server::Limits;
use super::stream::SocketStream;
use super::tls::{self, TlsServer};

/// Steps between the acceptance of a connection and its first request.
#[derive(Clone, Debug, Default)]
pub struct Transport {
    /// TLS, if the listener has it.
    pub tls: Option<Arc<TlsServer>>,
    /// PROXY protocol, if each connection begins with it.
    pub proxy_protocol: Option<Arc<ProxyProtocol>>,
}

impl Transport {
    /// Returns true if connections carry HTTP as they are.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.tls.is_none() && self.proxy_protocol.is_none()
    }
}

/// Takes all steps of a connection; none without a transport but the wait for the first byte. Each has a deadline of its
/// own. The client is silent until it has sent what is its own: the header of a proxy does not count.
pub(super) async fn establish(
    transport: Option<&Transport>,
    mut stream: SocketStream,
    mut peer: Peer,
    limits: Limits,
    client: SilentClient,
) -> io::Result<(SocketStream, ConnectedClient)> {
    if let Some(proxy_protocol) = transport.and_then(|transport| transport.proxy_protocol.as_ref()) {
        peer = proxy_protocol.accept(&mut stream, peer).await?;
    }
    match transport.and_then(|transport| transport.tls.as_ref()) {
        None => {
            let first = timeout(limits.idle, stream.peek_byte()).await;
            first.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no request received in time"))??;
            client.speaks()?;
            Ok((stream, peer.into()))
        }
        Some(server) => {
            let (stream, session) = tls::accept(server, stream, limits.handshake, (client, peer)).await?;
            Ok((stream, ConnectedClient { peer, tls: Some(session) }))
        }
    }
}
