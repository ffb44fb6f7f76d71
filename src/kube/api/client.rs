//! Parts of the connections to the API server that the operator and the installer share: time limits, and the
//! layers of every request. Used by the operator's `connection` and the installer's `connect`.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body::Body as HttpBody;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::{Body, ConfigExt as _};
use kube::{Client, Config};
use tower::timeout::Timeout;
use tower::util::MapFuture;
use tower::{BoxError, Service, ServiceBuilder, ServiceExt as _};

use super::credentials::{Credentials, WithCredentials};
use crate::connector::Connector;

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

/// Pool of connections that are opened on demand.
pub(crate) type Connections = legacy::Client<LimitedConnector, Body>;

type LimitedConnector = MapFuture<Timeout<Connector>, fn(Connecting) -> Pin<Box<Connecting>>>;

type Connecting = <Timeout<Connector> as Service<Uri>>::Future;

/// Returns a pool of connections of `connector`.
pub(crate) fn connections(connector: Connector) -> Connections {
    // Also limits a peer that accepts a connection and then stays silent.
    let limited = MapFuture::new(Timeout::new(connector, CONNECT_TIMEOUT), Box::pin as _);
    legacy::Client::builder(TokioExecutor::new()).build(limited)
}

/// Returns a client that sends requests through `service`, with the address and credentials of the
/// configuration. Repeats nothing: only the caller knows if a request is still wanted.
pub(crate) fn client<S, B>(config: &Config, credentials: &Credentials, service: S) -> kube::Result<Client>
where
    S: Service<Request<Body>, Response = Response<B>, Error = BoxError> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .layer(config.extra_headers_layer()?)
        .service(WithCredentials::new(service, credentials));
    Ok(Client::new(service.boxed(), config.default_namespace.clone()))
}
