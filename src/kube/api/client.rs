//! Parts of the connections to the API server that the operator and the installer share: time limits, and the
//! layers of every request. Used by the operator's `connection` and the installer's `connect`.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body::Body as HttpBody;
use hyper::body::Incoming;
use hyper::rt::{Read, Write};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::{Connection, HttpConnector};
use hyper_util::rt::TokioExecutor;
use kube::client::{Body, ConfigExt as _};
use kube::{Client, Config};
use tower::timeout::Timeout;
use tower::util::MapFuture;
use tower::{BoxError, Service, ServiceBuilder, ServiceExt as _};

/// Time limit for establishing a connection, with TLS and proxies.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Time limit for a response: an API server gives up most requests after this time itself.
pub(crate) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);

/// Time without data after which TCP sends keepalive probes. A watch may be silent for minutes.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);

/// Returns a connector for TCP connections with the time limit `connect`. A connection whose data is not
/// acknowledged for `undelivered` is closed.
pub(crate) fn tcp(connect: Duration, undelivered: Duration) -> HttpConnector {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_connect_timeout(Some(connect));
    tcp.set_tcp_user_timeout(Some(undelivered));
    tcp.set_keepalive(Some(KEEPALIVE_IDLE));
    tcp
}

/// Returns a pool of connections that are opened on demand.
pub(crate) fn connections<C>(
    connector: C,
) -> impl Service<Request<Body>, Response = Response<Incoming>, Error = legacy::Error, Future: Send + 'static>
+ Clone
+ Send
+ 'static
where
    C: Service<Uri> + Clone + Send + Sync + 'static,
    C::Response: Connection + Read + Write + Send + Unpin + 'static,
    C::Error: Into<BoxError>,
    C::Future: Send + 'static,
{
    // Also limits a peer that accepts a connection and then stays silent.
    let patient = MapFuture::new(Timeout::new(connector, CONNECT_TIMEOUT), Box::pin);
    legacy::Client::builder(TokioExecutor::new()).build::<_, Body>(patient)
}

/// Returns a client that sends requests through `service`, with the address and credentials of the
/// configuration. Repeats nothing: only the caller knows if a request is still wanted.
pub(crate) fn client<S, B>(config: &Config, service: S) -> kube::Result<Client>
where
    S: Service<Request<Body>, Response = Response<B>, Error = BoxError> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(service);
    Ok(Client::new(service.boxed(), config.default_namespace.clone()))
}
