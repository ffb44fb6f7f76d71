//! Connections to an API server, directly or through the proxy of the configuration.
//!
//! Built from hyper-util, on which the registry client depends already: kube's features for proxies would add
//! other crates for the same.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::header::PROXY_AUTHORIZATION;
use http::{HeaderName, HeaderValue, Uri};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::proxy::{SocksV5, Tunnel};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use kube::Config;
use quinistry_client::proxy::login;
use reqwest::Url;
use tower::util::BoxCloneSyncService;
use tower::{BoxError, Service, ServiceExt as _};

use crate::api::credentials::{Credentials, basic};
use crate::api::tls;

/// Connector for requests to an API server. One type whatever the transport: a client is generic over its
/// connector, and each further instance of one has a hundred kilobytes in the executable.
pub(crate) type Connector = BoxCloneSyncService<Uri, Stream, BoxError>;

/// Default port of SOCKS (RFC 1928).
const SOCKS_PORT: u16 = 1080;

/// Connection over any transport.
pub(crate) struct Stream {
    inner: Box<dyn Transport>,
    /// True if the proxy itself reads the requests, so that each names its whole URL. The inner transport may
    /// say so too.
    is_for_proxy: bool,
}

/// Connection that a [`Stream`] can hold.
pub(crate) trait Transport: Read + Write + Connection + Send + Unpin {}

impl<T: Read + Write + Connection + Send + Unpin> Transport for T {}

/// Returns a connector for the configuration over connections of `tcp`. An HTTP proxy receives requests for
/// `http://` URLs itself, with its credentials as a header that is added to the configuration, and tunnels
/// the others.
pub(crate) fn connector(
    config: &mut Config,
    credentials: &Credentials,
    tcp: HttpConnector,
) -> kube::Result<Connector> {
    let Some(proxy) = config.proxy_url.take() else { return Ok(boxed(tcp, false)) };
    let refused = |why: &str| {
        kube::Error::Service(format!("{why}; want http://, https:// or socks5://HOST[:PORT] as proxy").into())
    };
    let url: Url = proxy.to_string().parse().map_err(|_| refused("the proxy's address is not a URL"))?;
    let login = login(&url);
    let host = url.host_str().filter(|host| !host.is_empty());
    let host = host.ok_or_else(|| refused("the proxy's address names no host"))?;
    let port = url.port_or_known_default().unwrap_or(SOCKS_PORT);
    // Without user and password, which must not reach an error.
    let place: Uri = format!("{}://{host}:{port}", url.scheme())
        .parse()
        .map_err(|_| refused("the proxy's address is not understood"))?;
    let header = login.as_ref().map(|(user, password)| basic(user, password));
    let is_plain = config.cluster_url.scheme_str() != Some("https");
    Ok(match url.scheme() {
        "http" => through(config, boxed(tcp, false), place, header, is_plain),
        "https" => {
            // The proxy's certificate has the proxy's own name.
            let mut own = config.clone();
            own.tls_server_name = None;
            let tls = with_tls(&own, credentials, boxed(tcp, false))?;
            through(config, tls, place, header, is_plain)
        }
        "socks5" | "socks5h" => {
            let socks = SocksV5::new(place, tcp);
            let socks = match login {
                Some((user, password)) if user.len() <= 255 && password.len() <= 255 => {
                    socks.with_auth(user, password)
                }
                Some(_) => return Err(refused("the proxy's user or password is longer than 255 bytes")),
                None => socks,
            };
            boxed(socks.map_request(with_port), false)
        }
        _ => return Err(refused("the proxy's protocol is not supported")),
    })
}

/// Returns a connector that encrypts the connections of `inner` for `https://` URLs, as the configuration
/// says.
pub(crate) fn with_tls(
    config: &Config,
    credentials: &Credentials,
    inner: Connector,
) -> kube::Result<Connector> {
    Ok(boxed(tls::https(config, credentials, inner)?, false))
}

/// Returns a connector that wraps the connections of `inner`.
pub(crate) fn wrapped<T: Transport + 'static>(
    inner: Connector,
    wrap: impl Fn(Stream) -> T + Clone + Send + Sync + 'static,
) -> Connector {
    boxed(inner.map_response(wrap), false)
}

fn through(
    config: &mut Config,
    inner: Connector,
    place: Uri,
    header: Option<HeaderValue>,
    is_plain: bool,
) -> Connector {
    if is_plain {
        let field: Option<(HeaderName, HeaderValue)> = header.map(|header| (PROXY_AUTHORIZATION, header));
        config.headers.extend(field);
        return boxed(inner.map_request(move |_| place.clone()), true);
    }
    let tunnel = Tunnel::new(place, inner);
    let tunnel = match header {
        Some(header) => tunnel.with_auth(header),
        None => tunnel,
    };
    boxed(tunnel.map_request(with_port), false)
}

fn boxed<S>(service: S, is_for_proxy: bool) -> Connector
where
    S: Service<Uri> + Clone + Send + Sync + 'static,
    S::Response: Transport + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
{
    let service = service.map_response(move |inner| Stream { inner: Box::new(inner), is_for_proxy });
    BoxCloneSyncService::new(service.map_err(Into::into))
}

/// Adds the default port of `http`: tunnels use 443 for every address without a port.
fn with_port(uri: Uri) -> Uri {
    if uri.port().is_some() || uri.scheme_str() != Some("http") {
        return uri;
    }
    let Some(host) = uri.host() else { return uri };
    format!("http://{host}:80/").parse().unwrap_or(uri)
}

// === impl Stream ===

impl Connection for Stream {
    fn connected(&self) -> Connected {
        let inner = self.inner.connected();
        let is_for_proxy = self.is_for_proxy || inner.is_proxied();
        inner.proxy(is_for_proxy)
    }
}

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.inner).poll_read(context, buffer)
    }
}

impl Write for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.inner).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.inner).poll_write_vectored(context, buffers)
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// Opens a connection to a cluster through a proxy that `answers` plays. Returns the bytes that the proxy
    /// received.
    async fn open<F>(
        cluster: &str,
        proxy: &str,
        answers: impl FnOnce(TcpStream) -> F,
    ) -> (Stream, Vec<u8>, Config)
    where
        F: Future<Output = Vec<u8>>,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut config = Config::new(cluster.parse().unwrap());
        config.proxy_url = Some(proxy.replace("PORT", &port.to_string()).parse().unwrap());
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        let credentials = Credentials::load(&config.auth_info).unwrap();
        let connector = connector(&mut config, &credentials, tcp).unwrap();
        let heard = async { answers(listener.accept().await.unwrap().0).await };
        let (stream, heard) = tokio::join!(connector.oneshot(cluster.parse().unwrap()), heard);
        (stream.unwrap(), heard, config)
    }

    async fn tunnel(mut stream: TcpStream) -> Vec<u8> {
        let mut heard = Vec::new();
        while !heard.ends_with(b"\r\n\r\n") {
            heard.push(stream.read_u8().await.unwrap());
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        heard
    }

    /// Plays a SOCKS proxy without a login. Returns the request for a connection.
    async fn socks(mut stream: TcpStream) -> Vec<u8> {
        let mut hello = [0; 3];
        stream.read_exact(&mut hello).await.unwrap();
        assert_eq!(hello, [5, 1, 0]);
        stream.write_all(&[5, 0]).await.unwrap();
        let mut heard = vec![0; 5];
        stream.read_exact(&mut heard).await.unwrap();
        let mut rest = vec![0; usize::from(heard[4]) + 2];
        stream.read_exact(&mut rest).await.unwrap();
        heard.extend(rest);
        stream.write_all(&[5, 0, 0, 1, 127, 0, 0, 1, 0, 80]).await.unwrap();
        heard
    }

    #[tokio::test]
    async fn an_http_proxy_tunnels_with_its_login() {
        let (stream, heard, config) =
            open("https://cluster.test/", "http://us%40er:hunter2@127.0.0.1:PORT", tunnel).await;
        let heard = String::from_utf8(heard).unwrap();
        assert!(heard.starts_with("CONNECT cluster.test:443 HTTP/1.1\r\n"), "{heard}");
        let login = STANDARD.encode("us@er:hunter2");
        assert!(heard.contains(&format!("Proxy-Authorization: Basic {login}\r\n")), "{heard}");
        assert!(!stream.connected().is_proxied() && config.headers.is_empty());
    }

    #[tokio::test]
    async fn an_http_proxy_gets_plain_requests_whole() {
        let nothing = |_| async { Vec::new() };
        let (stream, _, config) = open("http://cluster.test/", "http://u:p@127.0.0.1:PORT", nothing).await;
        assert!(stream.connected().is_proxied());
        assert_eq!(config.headers, [(PROXY_AUTHORIZATION, HeaderValue::from_static("Basic dTpw"))]);
    }

    #[tokio::test]
    async fn a_socks_proxy_resolves_the_name() {
        for scheme in ["socks5", "socks5h"] {
            let proxy = format!("{scheme}://127.0.0.1:PORT");
            let (_, heard, _) = open("https://cluster.test:6443/", &proxy, socks).await;
            assert_eq!(heard[..5], [5, 1, 0, 3, 12], "{scheme}");
            assert_eq!(&heard[5..17], b"cluster.test");
            assert_eq!(heard[17..], 6443_u16.to_be_bytes());
        }
        let (_, heard, _) = open("http://cluster.test/", "socks5://127.0.0.1:PORT", socks).await;
        assert_eq!(heard[17..], 80_u16.to_be_bytes());
    }

    #[test]
    fn other_protocols_are_refused_without_the_password() {
        let mut config = Config::new("https://cluster.test/".parse().unwrap());
        config.proxy_url = Some("ftp://user:hunter2@proxy".parse().unwrap());
        let credentials = Credentials::load(&config.auth_info).unwrap();
        let error = connector(&mut config, &credentials, HttpConnector::new()).err().unwrap().to_string();
        assert!(error.contains("not supported") && !error.contains("hunter2"), "{error}");
    }
}
