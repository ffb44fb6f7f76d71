//! Construction of the client, with or without a proxy.

use kube::{Client, Config};
use tower::timeout::Timeout;

use crate::api::client::{CONNECT_TIMEOUT, RESPONSE_TIMEOUT, client as over, connections, tcp};
use crate::api::credentials::Credentials;
use crate::connector::{connector, with_tls};

/// Creates a client with time limits for connections and answers. Not for watches, which would run into them.
pub(super) fn client(mut config: Config) -> kube::Result<Client> {
    let credentials = Credentials::load(&config.auth_info)?;
    let mut tcp = tcp(CONNECT_TIMEOUT, RESPONSE_TIMEOUT);
    // The last packet of a chunk through a port-forward would else wait for an acknowledgement.
    tcp.set_nodelay(true);
    let connector = connector(&mut config, &credentials, tcp)?;
    let connections = connections(with_tls(&config, &credentials, connector)?);
    over(&config, &credentials, Timeout::new(connections, RESPONSE_TIMEOUT))
}
