//! Connections to the API server, as far as the operator's and those of `up` are the same: how long each step may take,
//! and what is done to every request. Made by the operator's `connection` and by `up`'s `connect`.

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

/// Time for a connection to be there, encryption and proxies included.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Time for an answer: as long as an API server itself takes before it gives a request up, but for lists that it cannot
/// give in that time either.
pub(crate) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);

/// Silence of a connection after which TCP asks whether its peer is still there. A watch may be silent for minutes.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);

/// Returns what opens TCP connections, within `connect`; one whose bytes stay without acknowledgement for
/// `undelivered` is given up.
pub(crate) fn tcp(connect: Duration, undelivered: Duration) -> HttpConnector {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_connect_timeout(Some(connect));
    tcp.set_tcp_user_timeout(Some(undelivered));
    tcp.set_keepalive(Some(KEEPALIVE_IDLE));
    tcp
}

/// Returns a pool of connections that are opened as they are needed.
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
    // Also limits a peer that takes a connection and then stays silent.
    let patient = MapFuture::new(Timeout::new(connector, CONNECT_TIMEOUT), Box::pin);
    legacy::Client::builder(TokioExecutor::new()).build::<_, Body>(patient)
}

/// Returns a client whose requests go to the configuration's cluster with its credentials, by `service`. Nothing is
/// tried again in here: the caller decides that, and may have changed its mind.
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
