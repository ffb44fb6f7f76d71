//! Connections to the API server. Made by the driver.
//!
//! As kube makes them, but for three things: nothing is tried again in here, since whoever asked decides that and may
//! have changed their mind; a peer that does not acknowledge is given up within seconds, be it in the midst of a request
//! or of a watch in which nothing happens; and writes pass a [guard](super::leader). Proxies are not supported.

use std::sync::Arc;
use std::time::Duration;

use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::{Body, ConfigExt as _};
use kube::{Client, Config};
use tower::timeout::Timeout;
use tower::util::MapFuture;
use tower::{BoxError, ServiceBuilder, ServiceExt as _};

use super::error::OperatorError;
use super::leader::{Guarded, Leadership, UNDELIVERED};

/// How long a connection may take to be there, encryption included.
const ESTABLISHED: Duration = Duration::from_secs(10);

/// After how long a silent connection is asked whether it is still there. A watch may be silent for minutes.
const SILENCE: Duration = Duration::from_secs(10);

/// A client whose writes pass only as long as this operator leads.
pub(super) fn client(config: &Config, leadership: Arc<Leadership>) -> Result<Client, OperatorError> {
    make(config, leadership).map_err(|error| OperatorError::Cluster(error.to_string()))
}

fn make(config: &Config, leadership: Arc<Leadership>) -> kube::Result<Client> {
    if config.proxy_url.is_some() {
        let text = "proxies are not supported; name the API server itself, or unset the proxy's variables";
        return Err(kube::Error::Service(text.into()));
    }
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(UNDELIVERED));
    tcp.set_tcp_user_timeout(Some(UNDELIVERED));
    tcp.set_keepalive(Some(SILENCE));
    tcp.set_keepalive_interval(Some(UNDELIVERED / 5));
    let tls = config.rustls_https_connector_with_connector(tcp)?;
    // Also for who takes a connection and then says nothing.
    let patient = MapFuture::new(Timeout::new(tls, ESTABLISHED), Box::pin);
    let connections = legacy::Client::builder(TokioExecutor::new()).build::<_, Body>(patient);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(Guarded::new(connections, leadership));
    Ok(Client::new(service.boxed(), config.default_namespace.clone()))
}
