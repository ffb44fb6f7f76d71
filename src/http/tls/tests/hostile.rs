//! Clients that do not finish what they began: the bounds of connections hold over TLS, too.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::net::TcpSocket;
use tokio::time::timeout;

use super::pki::{Authority, Files};
use super::*;
use crate::tls::TLS_WRITES;

/// Longest time that a test waits for something that must happen.
const PATIENCE: Duration = Duration::from_mins(1);

#[tokio::test]
async fn row_138_a_request_in_clear_is_answered_once_and_closed() {
    let (authority, files) = (Authority::new("ca"), Files::new());
    let server = Server::start(files.pair(&authority.leaf("registry.test")));
    let mut stream = server.tcp().await;
    stream
        .write_all(b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\nGET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
    assert!(answer.ends_with("this port speaks HTTPS, and the request came in clear: use TLS"), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
}

#[tokio::test]
async fn row_138_bytes_that_are_neither_are_closed_without_an_answer_in_clear() {
    let (authority, files) = (Authority::new("ca"), Files::new());
    let server = Server::start(files.pair(&authority.leaf("registry.test")));
    for bytes in
        [&b"\x80\x2e\x01\x03\x01\x00\x15\x00\x00\x00\x10"[..], b"\0\0\0\0\0\0\0\0", &vec![22; 100_000]]
    {
        let mut stream = server.tcp().await;
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("the connection ends");
        assert!(!answer.starts_with(b"HTTP"), "{}", answer.escape_ascii());
    }
    assert!(server.ask(&authority.trusted()).await.is_ok());
}

#[tokio::test]
async fn row_137_a_handshake_that_does_not_go_on_is_ended() {
    let (authority, files) = (Authority::new("ca"), Files::new());
    assert_eq!(Limits::default().handshake, Duration::from_secs(10));
    let limits = Limits { handshake: Duration::from_millis(200), ..Limits::default() };
    let server = Server::with(files.pair(&authority.leaf("registry.test")), None, limits);
    for begin in [&b""[..], b"\x16", b"\x16\x03\x01\x02\x00\x01"] {
        let mut stream = server.tcp().await;
        stream.write_all(begin).await.unwrap();
        let mut answer = Vec::new();
        let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("the connection ends");
        assert_eq!(answer, b"");
    }
}

#[tokio::test]
async fn row_137_clients_that_do_not_finish_handshakes_leave_room_to_those_that_did() {
    let (authority, files) = (Authority::new("ca"), Files::new());
    let limits = Limits { connections: 4, ..Limits::default() };
    let server = Server::with(files.pair(&authority.leaf("registry.test")), None, limits);
    let mut open = server.connect(&authority.trusted()).await.unwrap();
    let _silent = [server.tcp().await, server.tcp().await, server.tcp().await, server.tcp().await];
    assert!(request(&mut open).await.unwrap().ends_with(" anonymous"));
}

#[tokio::test]
async fn row_137_silent_clients_do_not_delay_a_handshake() {
    let (authority, files) = (Authority::new("ca"), Files::new());
    let limits = Limits { connections: 8, handshake: Duration::from_hours(1), ..Limits::default() };
    let server = Server::with(files.pair(&authority.leaf("registry.test")), None, limits);
    for count in [7, 40] {
        let mut silent = Vec::new();
        for _ in 0..count {
            silent.push(server.tcp().await);
        }
        let answer =
            timeout(PATIENCE, server.ask(&authority.trusted())).await.expect("silent clients give way");
        assert!(answer.unwrap().ends_with(" anonymous"), "{count} silent clients");
    }
}

#[tokio::test]
async fn row_137_handshakes_that_do_not_go_on_leave_room_to_other_networks() {
    let (authority, files) = (Authority::new("ca"), Files::new());
    let trusted = crate::client_address::TrustedProxies::parse(["127.0.0.1"]).unwrap();
    let limits = Limits { connections: 16, handshake: Duration::from_hours(1), ..Limits::default() };
    let settings = files.pair(&authority.leaf("registry.test"));
    let server = Server::with(settings, Some(ProxyProtocol::new(trusted)), limits);
    let mut stalled = Vec::new();
    for port in 1..=40 {
        let mut stream = server.tcp().await;
        let begin = format!("PROXY TCP4 192.0.2.66 10.0.0.1 {port} 443\r\n\x16\x03");
        stream.write_all(begin.as_bytes()).await.unwrap();
        stalled.push(stream);
    }
    let other = async {
        let mut stream = server.tcp().await;
        stream.write_all(b"PROXY TCP4 192.0.2.7 10.0.0.1 56324 443\r\n").await.unwrap();
        request(&mut handshake(stream, &authority.trusted()).await.unwrap()).await.unwrap()
    };
    let answer = timeout(PATIENCE, other).await.expect("other networks have handshakes of their own");
    assert_eq!(answer, "192.0.2.7:56324 anonymous");
}

#[tokio::test]
async fn the_place_of_a_client_that_left_while_its_request_waited_is_free() {
    let (authority, files) = (Authority::new("ca"), Files::new());
    let limits = Limits { connections: 1, ..Limits::default() };
    let server = Server::with(files.pair(&authority.leaf("registry.test")), None, limits);
    let config = authority.trusted();
    let mut leaves = server.connect(&config).await.unwrap();
    leaves.write_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n").await.unwrap();
    leaves.write_all(&vec![b'x'; 100_000]).await.unwrap();
    leaves.flush().await.unwrap();
    drop(leaves);
    let answer = timeout(PATIENCE, server.ask(&config)).await.expect("the place is free");
    assert!(answer.unwrap().ends_with(" anonymous"));
}

/// Endless body that counts the bytes it gave.
struct EndlessBody(Arc<AtomicUsize>);

impl http_body::Body for EndlessBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        const PIECE: Bytes = Bytes::from_static(&[b'x'; 32 * 1024]);
        self.0.fetch_add(PIECE.len(), Ordering::SeqCst);
        Poll::Ready(Some(Ok(Frame::data(PIECE))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

/// Serves an endless body over TLS. Returns a client that has asked for it, with a small buffer, and the bytes given.
async fn endless(limits: Limits) -> (TlsStream<TcpStream>, Arc<AtomicUsize>, JoinHandle<()>, Files) {
    let (authority, files) = (Authority::new("ca"), Files::new());
    let given = Arc::new(AtomicUsize::new(0));
    let app = tower::service_fn({
        let given = given.clone();
        move |_: Request| {
            let body = Body::new(EndlessBody(given.clone()));
            async move { Ok::<_, Infallible>(Response::new(body)) }
        }
    });
    let settings = files.pair(&authority.leaf("registry.test"));
    let tls = Some(Arc::new(TlsServer::new(LoadedTls::read(settings).unwrap())));
    let listener = Listener::tcp("127.0.0.1:0".parse().unwrap(), limits).unwrap();
    let address: SocketAddr = listener.local_address().unwrap().to_string().parse().unwrap();
    let listener = listener.with_transport(Transport { tls, proxy_protocol: None });
    let server = tokio::spawn(crate::serve(listener, app, limits, std::future::pending()));
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut client = handshake(socket.connect(address).await.unwrap(), &authority.trusted()).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    client.flush().await.unwrap();
    (client, given, server, files)
}

#[tokio::test]
async fn little_is_encrypted_of_a_response_that_the_client_does_not_read() {
    let (client, given, server, _files) = endless(Limits::default()).await;
    while given.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut last = 0;
    while given.load(Ordering::SeqCst) > last {
        last = given.load(Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(last < 1024 * 1024, "{last} bytes were taken from the body");
    assert!(TLS_WRITES.free_bytes() < TLS_WRITES.size(), "encrypted bytes wait within their budget");
    drop(client);
    server.abort();
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_off() {
    let limits = Limits { connections: 1, write: Duration::from_millis(500), ..Limits::default() };
    let (client, given, server, _files) = endless(limits).await;
    let mut next = TcpStream::connect(client.get_ref().0.peer_addr().unwrap()).await.unwrap();
    // The only place is free once the first client is cut off.
    next.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, next.read_to_string(&mut answer)).await.expect("the place is free").unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(given.load(Ordering::SeqCst) > 0);
    drop(client);
    server.abort();
}

#[tokio::test]
async fn a_client_that_reads_slowly_but_steadily_is_served() {
    let limits = Limits { write: Duration::from_secs(3), write_rate: 1024, ..Limits::default() };
    let (mut client, _, server, _files) = endless(limits).await;
    let mut buffer = vec![0; 64 * 1024];
    // About 600 kB per second, for three windows: the kernel reports room in steps of some 100 KiB.
    for _ in 0..100 {
        client.read_exact(&mut buffer).await.expect("the client is served");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    server.abort();
}

#[tokio::test]
async fn an_idle_client_and_one_with_half_a_head_are_closed() {
    let (authority, files) = (Authority::new("ca"), Files::new());
    let brief = Duration::from_millis(200);
    // Half a head that did not end a connection would outlast the patience of this test.
    let limits = Limits { idle: brief, head: brief, ..Limits::default() };
    let server = Server::with(files.pair(&authority.leaf("registry.test")), None, limits);
    let mut idle = server.connect(&authority.trusted()).await.unwrap();
    let mut rest = Vec::new();
    let _ = timeout(PATIENCE, idle.read_to_end(&mut rest)).await.expect("the connection ends");
    let mut slow = server.connect(&authority.trusted()).await.unwrap();
    slow.write_all(b"GET / HT").await.unwrap();
    let _ = timeout(PATIENCE, slow.read_to_end(&mut rest)).await.expect("the connection ends");
}

#[test]
fn a_connection_without_tls_is_not_larger() {
    #[expect(dead_code, reason = "only its size is of interest")]
    enum Plain {
        Tcp(TcpStream),
        Unix(tokio::net::UnixStream),
    }
    assert_eq!(size_of::<crate::stream::SocketStream>(), size_of::<Plain>());
}
