//! Connections to the API server. Made by the driver.
//!
//! A connection to the API server, as kube makes it but for four things. Requests are not tried again in
//! here: the caller decides that, and may have changed its mind. A peer that does not acknowledge is given up
//! within seconds, in the midst of a request as well as in a watch in which nothing happens. Requests other
//! than watches have a [deadline](super::deadline). Writes have connections of their own, and pass a guard
//! and a fence (see [`leader`](super::leader)).

use std::sync::Arc;

use kube::client::ConfigExt as _;
use kube::{Client, Config};
use tower::ServiceExt as _;

use super::deadline::Timely;
use super::error::OperatorError;
use super::leader::{Fenced, Guarded, Leadership, UNDELIVERED};
use crate::api::client::{RESPONSE_TIMEOUT, client as over, connections, tcp};
use crate::api::kubeconfig;
use crate::connector::connector;

/// A client whose writes pass only as long as this operator leads.
pub(super) fn client(config: &Config, leadership: Arc<Leadership>) -> Result<Client, OperatorError> {
    make(config.clone(), leadership)
        .map_err(|error| OperatorError::Cluster(kubeconfig::describe_client(&error)))
}

fn make(mut config: Config, leadership: Arc<Leadership>) -> kube::Result<Client> {
    let mut tcp = tcp(UNDELIVERED, UNDELIVERED);
    tcp.set_nodelay(true);
    tcp.set_keepalive_interval(Some(UNDELIVERED / 5));
    let tcp = connector(&mut config, tcp)?;
    let fence = leadership.clone();
    let fenced = tcp.clone().map_response(move |stream| Fenced::new(stream, fence.clone()));
    let reads = connections(config.rustls_https_connector_with_connector(tcp)?);
    let writes = connections(config.rustls_https_connector_with_connector(fenced)?);
    over(&config, Timely::new(Guarded::new(reads, writes, leadership), RESPONSE_TIMEOUT))
}
