//! Connections to the API server. Made by the driver.
//!
//! A connection to the API server, as kube makes it but for four things. Requests are not tried again in
//! here: the caller decides that, and may have changed its mind. A peer that does not acknowledge is given up
//! within seconds, in the midst of a request as well as in a watch in which nothing happens. Requests other
//! than watches have a [deadline](super::deadline). Writes have connections of their own, and pass a guard
//! and a fence (see [`leader`](super::leader)).

use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, Uri};
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

use super::deadline::{ANSWER, Timely};
use super::error::OperatorError;
use super::kubeconfig;
use super::leader::{Fenced, Guarded, Leadership, UNDELIVERED};
use crate::connector::connector;

/// How long a connection may take to be there, encryption included.
const ESTABLISHED: Duration = Duration::from_secs(10);

/// After how long a silent connection is asked whether it is still there. A watch may be silent for minutes.
const SILENCE: Duration = Duration::from_secs(10);

/// A client whose writes pass only as long as this operator leads.
pub(super) fn client(config: &Config, leadership: Arc<Leadership>) -> Result<Client, OperatorError> {
    make(config.clone(), leadership)
        .map_err(|error| OperatorError::Cluster(kubeconfig::describe_client(&error)))
}

fn make(mut config: Config, leadership: Arc<Leadership>) -> kube::Result<Client> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(UNDELIVERED));
    tcp.set_tcp_user_timeout(Some(UNDELIVERED));
    tcp.set_keepalive(Some(SILENCE));
    tcp.set_keepalive_interval(Some(UNDELIVERED / 5));
    let tcp = connector(&mut config, tcp)?;
    let fence = leadership.clone();
    let fenced = tcp.clone().map_response(move |stream| Fenced::new(stream, fence.clone()));
    let reads = connections(config.rustls_https_connector_with_connector(tcp)?);
    let writes = connections(config.rustls_https_connector_with_connector(fenced)?);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(Timely::new(Guarded::new(reads, writes, leadership), ANSWER));
    Ok(Client::new(service.boxed(), config.default_namespace.clone()))
}

/// Connections that are opened as they are needed.
fn connections<C>(
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
    let patient = MapFuture::new(Timeout::new(connector, ESTABLISHED), Box::pin);
    legacy::Client::builder(TokioExecutor::new()).build::<_, Body>(patient)
}
