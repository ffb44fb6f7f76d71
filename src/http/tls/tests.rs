//! Tests of TLS over sockets, with authorities and certificates of their own.

mod client_certificates;
mod exchange;
mod files;
mod hostile;
mod pki;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use rustls::ClientConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::client::TlsStream;

use self::pki::{Authority, Files};
use super::{CertificateName, ClientAuth, LoadedTls, TlsServer, TlsSession, TlsSettings};
use crate::proxy_protocol::ProxyProtocol;
use crate::{Limits, Listener, Peer, Transport, WithPeer, serve_each};

/// Server whose answers tell the peer, and the common name of the client's certificate.
struct Server {
    address: SocketAddr,
    tls: Arc<TlsServer>,
    task: JoinHandle<()>,
}

impl Server {
    fn start(settings: TlsSettings) -> Self {
        Self::with(settings, None, Limits::default())
    }

    fn with(settings: TlsSettings, proxy_protocol: Option<ProxyProtocol>, limits: Limits) -> Self {
        let app = tower::service_fn(|request: Request| async move {
            if request.method() == http::Method::PUT {
                let body = axum::body::to_bytes(request.into_body(), usize::MAX).await;
                return Ok(Response::new(Body::from(body.expect("the body is whole").len().to_string())));
            }
            if request.method() == http::Method::POST {
                // Holds the body without reading it, as a request that waits for memory does.
                std::future::pending::<()>().await;
            }
            let session = request.extensions().get::<TlsSession>().expect("the connection has TLS");
            let names = session.certificate.as_ref().map(|certificate| &certificate.names);
            let name = match names.map(|names| &names.common_name) {
                Some(CertificateName::Name(name)) => name,
                Some(CertificateName::Ambiguous) => "ambiguous",
                Some(CertificateName::Absent) => "nameless",
                None => "anonymous",
            };
            let peer = request.extensions().get::<Peer>().expect("the peer is known").to_string();
            Ok::<_, Infallible>(Response::new(Body::from(format!("{peer} {name}"))))
        });
        let tls = Arc::new(TlsServer::new(LoadedTls::read(settings).unwrap()));
        let transport = Transport { tls: Some(tls.clone()), proxy_protocol: proxy_protocol.map(Arc::new) };
        let listener = Listener::tcp("127.0.0.1:0".parse().unwrap(), limits).unwrap();
        let address = listener.local_address().unwrap().to_string().parse().unwrap();
        let connect = move |client| WithPeer::new(app, client);
        let served = serve_each(listener.with_transport(transport), connect, limits, std::future::pending());
        Self { address, tls, task: tokio::spawn(served) }
    }

    async fn tcp(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn connect(&self, config: &Arc<ClientConfig>) -> std::io::Result<TlsStream<TcpStream>> {
        handshake(self.tcp().await, config).await
    }

    /// Returns the body of an answer.
    async fn ask(&self, config: &Arc<ClientConfig>) -> std::io::Result<String> {
        request(&mut self.connect(config).await?).await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn handshake(stream: TcpStream, config: &Arc<ClientConfig>) -> std::io::Result<TlsStream<TcpStream>> {
    let name = "registry.test".try_into().unwrap();
    tokio_rustls::TlsConnector::from(config.clone()).connect(name, stream).await
}

async fn request(stream: &mut TlsStream<TcpStream>) -> std::io::Result<String> {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await?;
    let mut response = String::new();
    stream.read_to_string(&mut response).await?;
    Ok(response.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}

#[tokio::test]
async fn a_client_is_served_over_both_versions_and_only_by_http_1() {
    let (authority, files) = (Authority::new("ca"), Files::new());
    let server = Server::start(files.pair(&authority.leaf("registry.test")));
    for versions in [&[&rustls::version::TLS12][..], &[&rustls::version::TLS13]] {
        let config = authority.trusted_by(versions, &[b"h2", b"http/1.1"], None);
        let mut stream = server.connect(&config).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        assert!(request(&mut stream).await.unwrap().ends_with(" anonymous"));
    }
    assert!(server.ask(&authority.trusted_by(rustls::ALL_VERSIONS, &[b"h2"], None)).await.is_err());
    assert_eq!(server.tls.handshakes().0, 2);
}

#[tokio::test]
async fn tls_1_3_alone_refuses_tls_1_2() {
    let (authority, files) = (Authority::new("ca"), Files::new());
    let settings = TlsSettings { requires_tls13: true, ..files.pair(&authority.leaf("registry.test")) };
    let server = Server::start(settings);
    assert!(server.ask(&authority.trusted_by(&[&rustls::version::TLS12], &[], None)).await.is_err());
    assert!(server.ask(&authority.trusted_by(&[&rustls::version::TLS13], &[], None)).await.is_ok());
}

#[tokio::test]
async fn row_139_early_data_is_off_and_tickets_are_issued_unless_clients_have_certificates() {
    let (authority, files) = (Authority::new("ca"), Files::new());
    let settings = files.pair(&authority.leaf("registry.test"));
    let (config, ..) = TlsServer::new(LoadedTls::read(settings.clone()).unwrap()).config();
    assert_eq!(config.max_early_data_size, 0);
    assert!(config.ticketer.enabled());
    let client_cas = vec![files.write("clients.crt", authority.pem())];
    let settings = TlsSettings { client_cas, client_auth: ClientAuth::VerifyIfGiven, ..settings };
    let (config, ..) = TlsServer::new(LoadedTls::read(settings).unwrap()).config();
    assert!(!config.ticketer.enabled() && !config.session_storage.can_cache());
}

#[tokio::test]
async fn row_146_the_proxy_protocol_comes_before_tls_and_names_the_peer() {
    let (authority, files) = (Authority::new("ca"), Files::new());
    let trusted = crate::client_address::TrustedProxies::parse(["127.0.0.1"]).unwrap();
    let settings = files.pair(&authority.leaf("registry.test"));
    let server = Server::with(settings, Some(ProxyProtocol::new(trusted)), Limits::default());
    let config = authority.trusted();
    let mut stream = server.tcp().await;
    stream.write_all(b"PROXY TCP4 192.0.2.7 10.0.0.1 56324 443\r\n").await.unwrap();
    let mut stream = handshake(stream, &config).await.unwrap();
    assert_eq!(request(&mut stream).await.unwrap(), "192.0.2.7:56324 anonymous");
    assert!(server.ask(&config).await.is_err(), "a connection without the header");
    let mut twice = server.tcp().await;
    twice.write_all(b"PROXY TCP4 192.0.2.7 10.0.0.1 56324 443\r\nPROXY UNKNOWN\r\n").await.unwrap();
    assert!(handshake(twice, &config).await.is_err(), "the header twice");
}

#[tokio::test]
async fn a_long_body_arrives_whole_in_large_and_in_small_records() {
    let (authority, files) = (Authority::new("ca"), Files::new());
    let server = Server::start(files.pair(&authority.leaf("registry.test")));
    for (bytes, piece) in [(8 << 20, 1 << 20), (20_000, 1)] {
        let mut stream = server.connect(&authority.trusted()).await.unwrap();
        let head =
            format!("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: {bytes}\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        for _ in 0..bytes / piece {
            stream.write_all(&vec![b'x'; piece]).await.unwrap();
        }
        stream.flush().await.unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).await.unwrap();
        assert!(response.ends_with(&format!("\r\n\r\n{bytes}")), "{response}");
    }
}

#[tokio::test]
async fn row_142_every_server_name_gets_the_one_certificate() {
    let (authority, files) = (Authority::new("ca"), Files::new());
    let leaf = authority.leaf("registry.test");
    let server = Server::start(files.pair(&leaf));
    let mut without_name = (*authority.trusted()).clone();
    without_name.enable_sni = false;
    let mut stream = server.connect(&Arc::new(without_name)).await.unwrap();
    assert!(request(&mut stream).await.unwrap().ends_with(" anonymous"));
    for name in ["127.0.0.1", "unknown.test"] {
        let connector = tokio_rustls::TlsConnector::from(authority.trusted());
        let refused = connector.connect(name.try_into().unwrap(), server.tcp().await).await.unwrap_err();
        assert!(
            refused.to_string().contains("not valid for name"),
            "{refused}: the client saw the certificate"
        );
    }
}
