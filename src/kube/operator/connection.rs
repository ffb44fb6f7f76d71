//! Connections to the API server. Created by the driver.
//!
//! They are kube's own except for four things. Requests are not repeated here: the caller decides that. A
//! peer that does not acknowledge is given up within seconds, in the middle of a request as well as in an
//! idle watch. Requests other than watches have a [deadline](super::deadline). Writes have connections of
//! their own, and pass a guard and a fence (see [`leader`](super::leader)).

use std::sync::Arc;

use kube::{Client, Config};

use super::deadline::WithDeadline;
use super::error::OperatorError;
use super::leader::{Leadership, UNACKNOWLEDGED_LIMIT, WriteFence, WriteGuard};
use crate::api::client::{RESPONSE_TIMEOUT, client as over, connections, tcp};
use crate::api::credentials::Credentials;
use crate::api::kubeconfig;
use crate::connector::{connector, with_tls, wrapped};

/// Creates a client whose writes pass only while this operator leads.
pub(super) fn client(config: &Config, leadership: Arc<Leadership>) -> Result<Client, OperatorError> {
    make(config.clone(), leadership)
        .map_err(|error| OperatorError::Cluster(kubeconfig::describe_client(&error)))
}

fn make(mut config: Config, leadership: Arc<Leadership>) -> kube::Result<Client> {
    let mut tcp = tcp(UNACKNOWLEDGED_LIMIT, UNACKNOWLEDGED_LIMIT);
    tcp.set_nodelay(true);
    tcp.set_keepalive_interval(Some(UNACKNOWLEDGED_LIMIT / 5));
    let credentials = Credentials::load(&config.auth_info)?;
    let tcp = connector(&mut config, &credentials, tcp)?;
    let fence = leadership.clone();
    let fenced = wrapped(tcp.clone(), move |stream| WriteFence::new(stream, fence.clone()));
    let reads = connections(with_tls(&config, &credentials, tcp)?);
    let writes = connections(with_tls(&config, &credentials, fenced)?);
    over(
        &config,
        &credentials,
        WithDeadline::new(WriteGuard::new(reads, writes, leadership), RESPONSE_TIMEOUT),
    )
}
