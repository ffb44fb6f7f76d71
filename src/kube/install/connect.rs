//! Construction of the client, with or without a proxy.

use kube::{Client, Config};
use tower::timeout::Timeout;

use crate::api::client::{CONNECT_TIMEOUT, RESPONSE_TIMEOUT, client as over, connections, tcp};
use crate::connector::{connector, with_tls};

/// Creates a client with time limits for connections and answers. Not for watches, which would run into them.
pub(super) fn client(mut config: Config) -> kube::Result<Client> {
    let connector = connector(&mut config, tcp(CONNECT_TIMEOUT, RESPONSE_TIMEOUT))?;
    let connections = connections(with_tls(&config, connector)?);
    over(&config, Timeout::new(connections, RESPONSE_TIMEOUT))
}
