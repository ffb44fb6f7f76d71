//! Connections: accepting them, bounding them, ending them.
//!
//! HTTP/1.1 only: HTTP/2 in the clear has no client among container engines, and telling the two protocols
//! apart would wait without a deadline for the first bytes of a silent client.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::response::Response;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tower_service::Service;

use super::socket::{Deadlines, Guarded, Watched};

/// What a client may cost. Durations are generous to slow links and final to those who say nothing.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most connections at once; further ones wait in the listener's backlog. Each costs a few tens of KiB.
    pub connections: usize,
    /// From the first byte of a request's head to its last.
    pub head: Duration,
    /// Between an answer and the next request on the same connection.
    pub idle: Duration,
    /// How long an answer may go on below `write_rate` before the connection is closed.
    pub write: Duration,
    /// Bytes per second that a client must read on average, once it reads slower than we write.
    pub write_rate: u64,
    /// How long a shutdown waits for the answers that are on their way.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            head: Duration::from_secs(20),
            idle: Duration::from_secs(75),
            write: Duration::from_secs(30),
            write_rate: 1024,
            drain: Duration::from_secs(10),
        }
    }
}

/// Serves `app` until `shutdown` resolves: then stops accepting, closes idle connections, lets running answers
/// finish for at most [`Limits::drain`], and returns.
pub async fn serve<S>(listener: TcpListener, app: S, limits: Limits, shutdown: impl Future<Output = ()>)
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    if let Err(error) = prepare(&listener, limits) {
        tracing::debug!(%error, "failed to set options of the listening socket");
    }
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(limits.connections));
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = async {
            let place = places.clone().acquire_owned().await.expect("the semaphore is never closed");
            (listener.accept().await, place)
        };
        tokio::select! {
            () = &mut shutdown => break,
            (accepted, place) = accepted => match accepted {
                Ok((stream, _)) => {
                    let connection = graceful.watch(connection(stream, &app, limits));
                    tokio::spawn(async move {
                        // An error here is the client's: it left, or ran into a deadline.
                        if let Err(error) = connection.await {
                            tracing::debug!(%error, "connection ended");
                        }
                        drop(place);
                    });
                }
                Err(error) => on_accept_error(&error).await,
            },
        }
    }
    drop(listener);
    if tokio::time::timeout(limits.drain, graceful.shutdown()).await.is_err() {
        tracing::warn!("some answers were still on their way after {:?}; leaving them", limits.drain);
    }
}

/// Most bytes that are read at once, and the longest head of a request. A connection that sends much has so
/// much memory, out of a budget that all of them share; the others read by small pieces.
pub(super) const BUFFER: usize = 128 * 1024;

/// TCP keepalive of a silent client: idle time before the first probe, interval, and number of probes.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_mins(1), Duration::from_secs(15), 4);

/// Has the kernel end connections whose client has vanished without a word, as when its machine lost power:
/// connections have their options from their listener. And has as many clients wait to be accepted as there
/// are places, for an attempt that is dropped is made again only after a second.
fn prepare(listener: &TcpListener, limits: Limits) -> io::Result<()> {
    let (idle, interval, count) = KEEPALIVE;
    rustix::net::listen(listener, i32::try_from(limits.connections).unwrap_or(i32::MAX))?;
    sockopt::set_socket_keepalive(listener, true)?;
    sockopt::set_tcp_keepidle(listener, idle)?;
    sockopt::set_tcp_keepintvl(listener, interval)?;
    sockopt::set_tcp_keepcnt(listener, count)?;
    Ok(())
}

type Connection<S> =
    hyper::server::conn::http1::Connection<TokioIo<Guarded<TcpStream>>, TowerToHyperService<Watched<S>>>;

fn connection<S>(stream: TcpStream, app: &S, limits: Limits) -> Connection<S>
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone,
{
    // Without this, the last segment of an answer waits for the client's delayed acknowledgement.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY is not to be had");
    }
    let deadlines = Deadlines {
        head: limits.head,
        idle: limits.idle,
        write: limits.write,
        write_bytes: write_bytes(limits),
    };
    let socket = Guarded::new(stream, deadlines);
    let service = TowerToHyperService::new(Watched::new(app.clone(), socket.phase()));
    // hyper's own head deadline would also cut idle connections short; the socket's deadlines replace it.
    hyper::server::conn::http1::Builder::new()
        .header_read_timeout(None)
        .max_buf_size(BUFFER)
        .max_header_size(BUFFER)
        .serve_connection(TokioIo::new(socket), service)
}

/// What a client must take within [`Limits::write`], at least a byte: a window of less than a second must not
/// round down to a client that may take nothing.
fn write_bytes(limits: Limits) -> u64 {
    let bytes = u128::from(limits.write_rate).saturating_mul(limits.write.as_millis()) / 1000;
    u64::try_from(bytes).unwrap_or(u64::MAX).max(1)
}

async fn on_accept_error(error: &io::Error) {
    use io::ErrorKind as Kind;
    // The client was gone before it was accepted; the next one is not concerned.
    if matches!(error.kind(), Kind::ConnectionRefused | Kind::ConnectionAborted | Kind::ConnectionReset) {
        return;
    }
    // Out of file descriptors or memory: both come back when connections end, so wait for that.
    tracing::warn!(%error, "cannot accept connections for a moment");
    tokio::time::sleep(Duration::from_millis(100)).await;
}
