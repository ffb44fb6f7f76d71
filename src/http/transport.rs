//! Steps between the acceptance of a connection and its first request: PROXY protocol, then TLS.

use std::io;
use std::sync::Arc;

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

    /// Takes all steps of a connection. Each has a deadline of its own.
    pub(super) async fn establish(
        &self,
        mut stream: SocketStream,
        mut peer: Peer,
        limits: Limits,
    ) -> io::Result<(SocketStream, ConnectedClient)> {
        if let Some(proxy_protocol) = &self.proxy_protocol {
            peer = proxy_protocol.accept(&mut stream, peer).await?;
        }
        match &self.tls {
            None => Ok((stream, peer.into())),
            Some(server) => {
                let (stream, session) = tls::accept(server, stream, limits.handshake).await?;
                Ok((stream, ConnectedClient { peer, tls: Some(session) }))
            }
        }
    }
}
