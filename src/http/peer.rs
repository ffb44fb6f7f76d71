//! Peer of a connection, and its way to the handlers of requests.
//!
//! An extension costs each request three allocations, so [`serve`](crate::serve) adds none. A service that wants
//! the peer is made for each connection by [`serve_each`](crate::serve_each), and [`WithPeer`] passes the peer
//! on to handlers behind a router.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::SystemTime;

use axum::extract::Request;
use axum::response::Response;
use http::{HeaderValue, header};
use pin_project_lite::pin_project;
use tokio::net::UnixStream;
use tower_service::Service;

use super::tls::TlsSession;

/// Other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    /// Address of a TCP client. An IPv4 address that an IPv6 socket accepted is an IPv4 address here.
    Tcp(SocketAddr),
    /// Process on the same machine, connected to a unix socket; `None` if the kernel does not name the process.
    Unix(Option<PeerProcess>),
    /// Client whose address its proxy does not tell in the PROXY protocol, or that proxy itself. Has the address of
    /// the proxy; `None` if that is connected to a unix socket.
    Unnamed(Option<SocketAddr>),
}

/// Process that connected to a unix socket, as it was then (`SO_PEERCRED`, unix(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerProcess {
    /// Process identifier; `None` for a process in a PID namespace that this one cannot see into.
    pub pid: Option<i32>,
    /// User identifier.
    pub uid: u32,
    /// Group identifier.
    pub gid: u32,
}

impl Peer {
    /// Returns the IP address, if the connection has one.
    #[must_use]
    pub const fn ip(self) -> Option<IpAddr> {
        match self {
            Self::Tcp(address) | Self::Unnamed(Some(address)) => Some(address.ip()),
            Self::Unix(_) | Self::Unnamed(None) => None,
        }
    }
}

impl PeerProcess {
    /// Returns the process at the other end of a connection; `None` if the kernel does not name it.
    pub(crate) fn of(stream: &UnixStream) -> Option<Self> {
        let credentials = stream.peer_cred().ok()?;
        // The kernel writes 0 for a process of another PID namespace.
        let pid = credentials.pid().filter(|pid| *pid != 0);
        Some(Self { pid, uid: credentials.uid(), gid: credentials.gid() })
    }
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(SocketAddr::new(address.ip().to_canonical(), address.port()))
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) | Self::Unnamed(Some(address)) => address.fmt(f),
            Self::Unix(_) | Self::Unnamed(None) => f.write_str("unix"),
        }
    }
}

/// Client of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectedClient {
    /// Other end of the connection. Behind a proxy that speaks the PROXY protocol, the client of that proxy.
    pub peer: Peer,
    /// Session, if the connection has TLS.
    pub tls: Option<TlsSession>,
}

impl From<Peer> for ConnectedClient {
    /// Makes the client of a connection without TLS.
    fn from(peer: Peer) -> Self {
        Self { peer, tls: None }
    }
}

/// Service of one connection that adds its [`Peer`], and its [`TlsSession`] if it has one, to the extensions of each
/// request.
///
/// ```
/// use axum::Extension;
/// use axum::routing::get;
/// use quinistry_http::{Limits, Peer, WithPeer, bind, serve_each};
///
/// # fn example() -> std::io::Result<impl Future<Output = ()>> {
/// let app = axum::Router::new().route("/", get(|Extension(peer): Extension<Peer>| async move { peer.to_string() }));
/// let listener = bind("127.0.0.1:8080".parse().expect("this is an address"), Limits::default())?;
/// let connect = move |client| WithPeer::new(app.clone(), client);
/// # Ok(
/// serve_each(listener, connect, Limits::default(), std::future::pending())
/// # )
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct WithPeer<S> {
    service: S,
    client: ConnectedClient,
}

impl<S> WithPeer<S> {
    /// Makes the service of a connection of `client`.
    pub const fn new(service: S, client: ConnectedClient) -> Self {
        Self { service, client }
    }
}

impl<S: Service<Request, Response = Response>> Service<Request> for WithPeer<S> {
    type Response = Response;
    type Error = S::Error;
    type Future = PeerFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let extensions = request.extensions_mut();
        extensions.insert(self.client.peer);
        let mut closes = false;
        if let Some(session) = &self.client.tls {
            closes = session.is_stale(SystemTime::now());
            extensions.insert(if closes { session.without_certificate() } else { session.clone() });
        }
        PeerFuture { response: self.service.call(request), closes }
    }
}

pin_project! {
    /// Response of [`WithPeer`]. Ends the connection if its client must be verified again.
    #[derive(Debug)]
    pub struct PeerFuture<F> {
        #[pin]
        response: F,
        closes: bool,
    }
}

impl<F: Future<Output = Result<Response, E>>, E> Future for PeerFuture<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let mut result = ready!(this.response.poll(cx));
        if let Ok(response) = &mut result
            && *this.closes
        {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        Poll::Ready(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv4_client_of_an_ipv6_socket_has_its_ipv4_address() {
        let mapped: SocketAddr = "[::ffff:10.0.0.7]:4711".parse().unwrap();
        assert_eq!(Peer::from(mapped).to_string(), "10.0.0.7:4711");
        assert_eq!(Peer::from(mapped).ip(), Some("10.0.0.7".parse().unwrap()));
        assert_eq!(Peer::from("[fd00::7]:1".parse::<SocketAddr>().unwrap()).to_string(), "[fd00::7]:1");
        assert_eq!((Peer::Unix(None).to_string().as_str(), Peer::Unix(None).ip()), ("unix", None));
    }
}
