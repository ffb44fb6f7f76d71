//! Listening sockets: TCP, a unix socket by its path, or one socket that systemd has opened.

mod systemd;
mod unix;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpSocket, UnixListener};

use super::peer::{Peer, PeerProcess};
use super::server::Limits;
use super::stream::SocketStream;
use super::transport::Transport;

pub use self::systemd::SystemdError;
pub use self::unix::UnixSocketError;

/// TCP keepalive of a silent client: idle time before the first probe, interval, and number of probes.
const TCP_KEEPALIVE: (Duration, Duration, u32) = (Duration::from_mins(1), Duration::from_secs(15), 4);

/// Most bytes of a connection that the kernel holds before they are sent. Without this bound the kernel
/// copies some 2.5 MB of a response for each client that does not read (`tcp_wmem`): a thousand of them
/// occupy a core for seconds, and their buffers count in the pod's memory cgroup. Large enough that the kernel
/// has bytes to send while the server prepares the next ones.
pub(super) const MAX_UNSENT_BYTES: u32 = 128 * 1024;

/// Socket that accepts the connections of a server.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    transport: Option<Arc<Transport>>,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix {
        listener: UnixListener,
        /// File that is removed with the listener, if this process made it.
        _file: Option<unix::SocketFile>,
    },
}

/// Address of a [`Listener`]. `Display` gives `127.0.0.1:5000` or `unix:/run/registry.sock`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalAddress {
    /// Address and port.
    Tcp(SocketAddr),
    /// Path of a unix socket; `None` if the socket has no name, or an abstract one.
    Unix(Option<PathBuf>),
}

/// Listens on a TCP address with the options that [`serve`](crate::serve) sets, so that also the first
/// connections have them. Must be called within a tokio runtime.
pub fn bind(address: SocketAddr, limits: Limits) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restarted server must not wait for the ends of its former connections.
    socket.set_reuseaddr(true)?;
    if let Err(error) = set_tcp_options(&SockRef::from(&socket)) {
        tracing::debug!(%error, "cannot set options of the listening socket");
    }
    socket.bind(address)?;
    socket.listen(u32::try_from(limits.connections).unwrap_or(u32::MAX))
}

/// Sets options that accepted connections inherit: TCP keepalive, so that the kernel ends connections whose
/// client vanished without closing them, for example at a power failure, and [`MAX_UNSENT_BYTES`].
fn set_tcp_options(socket: &SockRef<'_>) -> io::Result<()> {
    let (idle, interval, count) = TCP_KEEPALIVE;
    socket.set_tcp_keepalive(
        &TcpKeepalive::new().with_time(idle).with_interval(interval).with_retries(count),
    )?;
    socket.set_tcp_notsent_lowat(MAX_UNSENT_BYTES)
}

// === impl Listener ===

impl Listener {
    /// Listens on a TCP address, as [`bind`] does.
    pub fn tcp(address: SocketAddr, limits: Limits) -> io::Result<Self> {
        bind(address, limits).map(Self::from)
    }

    /// Listens on a unix socket, to which every local user that can reach the path may connect, as every local
    /// user may connect to a port. Must be called within a tokio runtime.
    ///
    /// A socket that a former process left is replaced; a socket on which a process listens, and any other
    /// file, are refused. The file is removed when the listener is dropped.
    pub fn unix(path: impl AsRef<Path>, limits: Limits) -> Result<Self, UnixSocketError> {
        let (listener, file) = unix::bind(path.as_ref(), limits)?;
        Ok(Socket::Unix { listener, _file: Some(file) }.into())
    }

    /// Returns the socket that systemd has opened for this process, TCP or unix, if there is one
    /// (`sd_listen_fds(3)`). Must be called within a tokio runtime.
    pub fn from_systemd() -> Result<Option<Self>, SystemdError> {
        systemd::listener()
    }

    /// Puts a transport between the accepted connections and HTTP.
    #[must_use]
    pub fn with_transport(mut self, transport: Transport) -> Self {
        self.transport = (!transport.is_plain()).then(|| Arc::new(transport));
        self
    }

    /// Returns the transport of the connections, unless they carry HTTP as they are.
    pub(super) fn transport(&self) -> Option<Arc<Transport>> {
        self.transport.clone()
    }

    /// Returns the address on which the socket listens.
    pub fn local_address(&self) -> io::Result<LocalAddress> {
        Ok(match &self.socket {
            Socket::Tcp(listener) => LocalAddress::Tcp(listener.local_addr()?),
            Socket::Unix { listener, .. } => {
                LocalAddress::Unix(listener.local_addr()?.as_pathname().map(Into::into))
            }
        })
    }

    /// Sets the options of a socket that was made elsewhere. The backlog becomes as long as the number of
    /// connections, because a client repeats a dropped attempt only after a second.
    pub(super) fn adopt(&self, limits: Limits) -> io::Result<()> {
        let backlog = backlog(limits);
        match &self.socket {
            Socket::Tcp(listener) => {
                let socket = SockRef::from(listener);
                socket.listen(backlog)?;
                set_tcp_options(&socket)
            }
            Socket::Unix { listener, .. } => SockRef::from(listener).listen(backlog),
        }
    }

    /// Accepts the next connection.
    pub(super) async fn accept(&self) -> io::Result<(SocketStream, Peer)> {
        match &self.socket {
            Socket::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                // Without this, the last segment of an answer waits for the client's delayed acknowledgement.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "cannot set TCP_NODELAY");
                }
                Ok((SocketStream::Tcp(stream), address.into()))
            }
            Socket::Unix { listener, .. } => {
                let (stream, _) = listener.accept().await?;
                let process = PeerProcess::of(&stream);
                Ok((SocketStream::Unix(stream), Peer::Unix(process)))
            }
        }
    }
}

fn backlog(limits: Limits) -> i32 {
    i32::try_from(limits.connections).unwrap_or(i32::MAX)
}

impl From<Socket> for Listener {
    fn from(socket: Socket) -> Self {
        Self { socket, transport: None }
    }
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Socket::Tcp(listener).into()
    }
}

impl From<UnixListener> for Listener {
    /// Serves a socket whose file another owner removes.
    fn from(listener: UnixListener) -> Self {
        Socket::Unix { listener, _file: None }.into()
    }
}

impl fmt::Display for LocalAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(Some(path)) => write!(f, "unix:{}", path.display()),
            Self::Unix(None) => f.write_str("unix socket without a path"),
        }
    }
}
