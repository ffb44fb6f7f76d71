//! Construction of the client, with or without a proxy.

use kube::client::ConfigExt as _;
use kube::{Client, Config};
use tower::timeout::Timeout;

use crate::api::client::{CONNECT_TIMEOUT, RESPONSE_TIMEOUT, client as over, connections, tcp};
use crate::connector::connector;

/// Creates a client with time limits for connections and answers. Not for watches, which would run into them.
pub(super) fn client(mut config: Config) -> kube::Result<Client> {
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.read_timeout = Some(RESPONSE_TIMEOUT);
    if config.proxy_url.is_none() {
        return Client::try_from(config);
    }
    let connector = connector(&mut config, tcp(CONNECT_TIMEOUT, RESPONSE_TIMEOUT))?;
    let connections = connections(config.rustls_https_connector_with_connector(connector)?);
    over(&config, Timeout::new(connections, RESPONSE_TIMEOUT))
}
