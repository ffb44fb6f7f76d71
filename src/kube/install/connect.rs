//! The client that speaks to the API server, straight or through a proxy.

use std::time::Duration;

use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::{Body, ConfigExt as _};
use kube::{Client, Config};
use tower::timeout::Timeout;
use tower::util::MapFuture;
use tower::{BoxError, ServiceBuilder, ServiceExt as _};

use crate::connector::connector;

/// Time that a proxied connection may be silent before TCP asks whether its peer is still there.
const SILENCE: Duration = Duration::from_secs(10);

/// Makes a client that gives a connection and an answer so much time.
pub(super) fn client(mut config: Config, established: Duration, answer: Duration) -> kube::Result<Client> {
    config.connect_timeout = Some(established);
    config.read_timeout = Some(answer);
    if config.proxy_url.is_none() {
        return Client::try_from(config);
    }
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_connect_timeout(Some(established));
    tcp.set_keepalive(Some(SILENCE));
    tcp.set_tcp_user_timeout(Some(answer));
    let connections = connector(&mut config, tcp)?;
    let tls = config.rustls_https_connector_with_connector(connections)?;
    let patient = MapFuture::new(Timeout::new(tls, established), Box::pin);
    let connections = legacy::Client::builder(TokioExecutor::new()).build::<_, Body>(patient);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(Timeout::new(connections, answer));
    Ok(Client::new(service.boxed(), config.default_namespace.clone()))
}
