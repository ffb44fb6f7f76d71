//! Server loop: accepts connections, bounds them, and ends them at shutdown.
//!
//! HTTP/1.1 only, also with TLS: registries gain little from HTTP/2. Without TLS, detecting the protocol would wait
//! without a deadline for the first bytes of a silent client.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use axum::BoxError;
use axum::extract::Request;
use axum::response::Response;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tower_service::Service;

use super::admission::Admission;
use super::connections::OpenConnection;
use super::listener::Listener;
use super::peer::ConnectedClient;
use super::response_state::TrackedService;
use super::socket::{DeadlineSocket, Deadlines};
use super::stream::{PlainTcp as _, SocketStream};
use super::transport::establish;

/// Bounds on the resources that clients take. The defaults leave time to slow links, and end silent clients.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most connections at once; further ones wait in the listener's backlog, and take the places of silent clients.
    /// Each costs a few tens of KiB.
    pub connections: usize,
    /// Longest time of a TLS handshake, with the wait for its first byte.
    pub handshake: Duration,
    /// Longest time from the first byte of a request's head to its last.
    pub head: Duration,
    /// Longest time between a response and the next request on the same connection.
    pub idle: Duration,
    /// Longest time that a response may progress below `write_rate` before the connection is closed.
    pub write: Duration,
    /// Bytes per second that a client must read on average, once it reads more slowly than the server writes.
    pub write_rate: u64,
    /// Longest time that a shutdown waits for responses in progress; zero cuts them off at once.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(20),
            idle: Duration::from_secs(75),
            write: Duration::from_secs(30),
            write_rate: 1024,
            drain: Duration::from_secs(10),
        }
    }
}

/// Serves `app` until `shutdown` resolves. Then stops accepting, closes idle connections, lets responses in
/// progress finish for at most [`Limits::drain`], and returns.
pub async fn serve<S>(
    listener: impl Into<Listener>,
    app: S,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    serve_each(listener, move |_| app.clone(), limits, shutdown).await;
}

/// Serves as [`serve`] does, each connection by the service that `connect` makes for its client.
pub async fn serve_each<S>(
    listener: impl Into<Listener>,
    connect: impl Fn(ConnectedClient) -> S + Clone + Send + 'static,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    let listener = listener.into();
    if let Err(error) = listener.adopt(limits) {
        tracing::debug!(%error, "cannot set options of the listening socket");
    }
    let graceful = GracefulShutdown::new();
    let admission = Admission::new(limits.connections);
    let transport = listener.transport();
    // Dropped at shutdown, which ends handshakes.
    let (running, _) = tokio::sync::watch::channel(());
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = async {
            let accepted = listener.accept().await?;
            Ok((accepted, admission.take_place().await))
        };
        tokio::select! {
            () = &mut shutdown => break,
            accepted = accepted => match accepted {
                Ok(((stream, peer), place)) if transport.is_some() || admission.is_crowded() => {
                    let (transport, connect, watcher) = (transport.clone(), connect.clone(), graceful.watcher());
                    let (client, eviction) = admission.wait_for();
                    let mut running = running.subscribe();
                    let open = OpenConnection::begin();
                    tokio::spawn(async move {
                        let established = tokio::select! {
                            established = establish(transport.as_deref(), stream, peer, limits, client) => established,
                            error = eviction.ordered() => Err(error),
                            _ = running.changed() => return,
                        };
                        drop((transport, running));
                        let result = match established {
                            Ok((stream, client)) => {
                                let connection = watcher.watch(connection(stream, connect(client), limits));
                                connection.await.map_err(BoxError::from)
                            }
                            Err(error) => Err(error.into()),
                        };
                        if let Err(error) = result {
                            tracing::debug!(%error, "connection ended");
                        }
                        drop((place, open));
                    });
                }
                Ok(((stream, peer), place)) => {
                    let connection = graceful.watch(connection(stream, connect(peer.into()), limits));
                    let open = OpenConnection::begin();
                    tokio::spawn(async move {
                        // The client caused this error: it left, or exceeded a deadline.
                        if let Err(error) = connection.await {
                            tracing::debug!(%error, "connection ended");
                        }
                        drop((place, open));
                    });
                }
                Err(error) => handle_accept_error(&error).await,
            },
        }
    }
    drop((listener, running));
    if tokio::time::timeout(limits.drain, graceful.shutdown()).await.is_err() {
        tracing::warn!(after = ?limits.drain, "shutdown timed out, cutting off responses in progress");
    }
}

/// Most bytes that are read at once, and the longest head of a request. A connection that sends much takes
/// this from the budget that all connections share; the others read by small pieces.
pub(super) const MAX_READ_BUFFER_BYTES: usize = 128 * 1024;

type Connection<S> = hyper::server::conn::http1::Connection<
    TokioIo<DeadlineSocket<SocketStream>>,
    TowerToHyperService<TrackedService<S>>,
>;

fn connection<S>(stream: SocketStream, service: S, limits: Limits) -> Connection<S>
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone,
{
    let deadlines = Deadlines {
        head: limits.head,
        idle: limits.idle,
        write: limits.write,
        min_write_bytes: min_write_bytes(limits),
    };
    let sends_files = stream.plain_tcp().is_some();
    let socket = DeadlineSocket::new(stream, deadlines);
    let service = TowerToHyperService::new(TrackedService::new(service, socket.state(), sends_files));
    // hyper's own head deadline would also cut idle connections short; the socket's deadlines replace it.
    hyper::server::conn::http1::Builder::new()
        .header_read_timeout(None)
        .max_buf_size(MAX_READ_BUFFER_BYTES)
        .max_header_size(MAX_READ_BUFFER_BYTES)
        .serve_connection(TokioIo::new(socket), service)
}

/// Returns the bytes that a client must read within [`Limits::write`], at least one: a window of less than a
/// second must not round down to zero, which would permit a client to read nothing.
fn min_write_bytes(limits: Limits) -> u64 {
    let bytes = u128::from(limits.write_rate).saturating_mul(limits.write.as_millis()) / 1000;
    u64::try_from(bytes).unwrap_or(u64::MAX).max(1)
}

async fn handle_accept_error(error: &io::Error) {
    use io::ErrorKind as Kind;
    // The client left before its connection was accepted. Other connections are not affected.
    if matches!(error.kind(), Kind::ConnectionRefused | Kind::ConnectionAborted | Kind::ConnectionReset) {
        return;
    }
    // File descriptors or memory are exhausted. Both are freed when connections end, so wait for that.
    tracing::warn!(%error, "cannot accept connection, retrying in 100 ms");
    tokio::time::sleep(Duration::from_millis(100)).await;
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::body::Body;
    use bytes::Bytes;
    use http_body::{Frame, SizeHint};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpSocket, TcpStream, UnixStream};

    use super::*;
    use crate::listener::{MAX_UNSENT_BYTES, bind};
    use crate::{Peer, PeerProcess, WithPeer};

    /// Body of [`BODY_BYTES`] that counts the bytes it gave.
    #[derive(Debug)]
    struct CountedBody(Arc<AtomicUsize>);

    const BODY_BYTES: usize = 64 << 20;

    impl http_body::Body for CountedBody {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            const PIECE: Bytes = Bytes::from_static(&[b'x'; 32 * 1024]);
            let given = self.0.fetch_add(PIECE.len(), Ordering::SeqCst);
            std::task::Poll::Ready((given < BODY_BYTES).then_some(Ok(Frame::data(PIECE))))
        }

        fn size_hint(&self) -> SizeHint {
            SizeHint::with_exact(BODY_BYTES as u64)
        }
    }

    #[tokio::test]
    async fn the_kernel_holds_little_of_a_response_that_the_client_does_not_read() {
        let listener = bind("127.0.0.1:0".parse().unwrap(), Limits::default()).unwrap();
        let address = listener.local_addr().unwrap();
        let given = Arc::new(AtomicUsize::new(0));
        let app = tower::service_fn({
            let given = given.clone();
            move |_: Request| {
                let body = Body::new(CountedBody(given.clone()));
                async move { Ok::<_, Infallible>(Response::new(body)) }
            }
        });
        let server = tokio::spawn(serve(listener, app, Limits::default(), std::future::pending()));
        let client = TcpSocket::new_v4().unwrap();
        client.set_recv_buffer_size(4096).unwrap();
        let mut client = client.connect(address).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        client.readable().await.unwrap();
        // The response stalls once the kernel takes no more.
        let mut last = 0;
        while given.load(Ordering::SeqCst) > last {
            last = given.load(Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        assert!(last < 4 * MAX_UNSENT_BYTES as usize, "{last} bytes were taken from the body");
        server.abort();
    }

    #[tokio::test]
    async fn the_place_of_a_client_that_left_while_its_request_waited_is_free() {
        let listener = bind("127.0.0.1:0".parse().unwrap(), Limits::default()).unwrap();
        let address = listener.local_addr().unwrap();
        let app = tower::service_fn(|request: Request| async move {
            if request.method() == http::Method::POST {
                // Holds the body without reading it, as a request that waits for memory does.
                std::future::pending::<()>().await;
            }
            Ok::<_, Infallible>(Response::new(Body::from("served")))
        });
        let limits = Limits { connections: 1, ..Limits::default() };
        let server = tokio::spawn(serve(listener, app, limits, std::future::pending()));
        let mut leaves = TcpStream::connect(address).await.unwrap();
        leaves.write_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n").await.unwrap();
        leaves.write_all(&vec![b'x'; 50_000]).await.unwrap();
        drop(leaves);
        let mut next = TcpStream::connect(address).await.unwrap();
        next.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut response = Vec::new();
        let answered = next.read_to_end(&mut response);
        tokio::time::timeout(Duration::from_secs(10), answered).await.expect("the place is free").unwrap();
        assert!(response.ends_with(b"served"), "{}", response.escape_ascii());
        server.abort();
    }

    async fn ask(client: &mut (impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin)) -> String {
        client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut response = String::new();
        client.read_to_string(&mut response).await.unwrap();
        response
    }

    #[tokio::test]
    async fn silent_clients_give_way_to_those_that_send_requests() {
        let app = tower::service_fn(|_: Request| async {
            Ok::<_, Infallible>(Response::new(Body::from("served")))
        });
        let listener = bind("127.0.0.1:0".parse().unwrap(), Limits::default()).unwrap();
        let address = listener.local_addr().unwrap();
        let limits = Limits { connections: 4, ..Limits::default() };
        let server = tokio::spawn(serve(listener, app, limits, std::future::pending()));
        let mut silent = Vec::new();
        for _ in 0..8 {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        let mut client = TcpStream::connect(address).await.unwrap();
        let answered = ask(&mut client);
        let answer = tokio::time::timeout(limits.idle / 2, answered).await.expect("silent clients give way");
        assert!(answer.ends_with("served"), "{answer}");
        server.abort();
    }

    #[tokio::test]
    async fn a_handler_is_told_the_process_at_the_other_end_of_a_unix_socket() {
        let app = tower::service_fn(|request: Request| async move {
            let peer = request.extensions().get::<Peer>().copied();
            Ok::<_, Infallible>(Response::new(Body::from(format!("{peer:?}"))))
        });
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("registry.sock");
        let listener = Listener::unix(&path, Limits::default()).unwrap();
        let connect = move |peer| WithPeer::new(app, peer);
        let server = tokio::spawn(serve_each(listener, connect, Limits::default(), std::future::pending()));
        let response = ask(&mut UnixStream::connect(&path).await.unwrap()).await;
        let own = Peer::Unix(Some(PeerProcess {
            pid: i32::try_from(std::process::id()).ok(),
            uid: rustix::process::getuid().as_raw(),
            gid: rustix::process::getgid().as_raw(),
        }));
        assert!(response.ends_with(&format!("{:?}", Some(own))), "{response}");
        server.abort();
    }

    #[tokio::test]
    async fn a_handler_is_told_the_peer_over_tcp_and_over_a_unix_socket() {
        let app = tower::service_fn(|request: Request| async move {
            let peer = request.extensions().get::<Peer>().map(ToString::to_string);
            Ok::<_, Infallible>(Response::new(Body::from(peer.unwrap_or_default())))
        });
        let connect = move |peer| WithPeer::new(app, peer);
        let (stop, stopped) = tokio::sync::watch::channel(());
        let until =
            |mut stopped: tokio::sync::watch::Receiver<()>| async move { drop(stopped.changed().await) };
        let tcp = Listener::tcp("127.0.0.1:0".parse().unwrap(), Limits::default()).unwrap();
        let address = tcp.local_address().unwrap().to_string();
        let over_tcp = tokio::spawn(serve_each(tcp, connect, Limits::default(), until(stopped.clone())));
        let mut client = TcpStream::connect(address).await.unwrap();
        let own = client.local_addr().unwrap().to_string();
        assert!(ask(&mut client).await.ends_with(&own));

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("registry.sock");
        let unix = Listener::unix(&path, Limits::default()).unwrap();
        assert_eq!(unix.local_address().unwrap().to_string(), format!("unix:{}", path.display()));
        let over_unix = tokio::spawn(serve_each(unix, connect, Limits::default(), until(stopped)));
        let response = ask(&mut UnixStream::connect(&path).await.unwrap()).await;
        assert!(response.ends_with("\r\n\r\nunix"), "{response}");
        drop(stop);
        over_tcp.await.unwrap();
        over_unix.await.unwrap();
        assert!(!path.exists(), "the socket is removed at shutdown");
    }

    #[tokio::test]
    async fn no_time_to_drain_cuts_responses_off_at_once() {
        let app = tower::service_fn(|_: Request| async move {
            std::future::pending::<()>().await;
            Ok::<_, Infallible>(Response::new(Body::empty()))
        });
        let listener = bind("127.0.0.1:0".parse().unwrap(), Limits::default()).unwrap();
        let address = listener.local_addr().unwrap();
        let limits = Limits { drain: Duration::ZERO, ..Limits::default() };
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let server = tokio::spawn(serve(listener, app, limits, async { drop(stopped.await) }));
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        drop(stop);
        tokio::time::timeout(Duration::from_secs(10), server).await.expect("the server ends").unwrap();
    }
}
