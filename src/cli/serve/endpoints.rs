//! Endpoints of events: their authorities, and the address by which receivers know this registry.

use std::sync::Arc;

use anyhow::Context as _;

use crate::client::{TlsFault, TlsOptions, default_configuration, tls_configuration};
use crate::http::LocalAddress;
use crate::oci::escape::Escaped;
use crate::registry::ClientTls;
use crate::registry::config::{EndpointSettings, NotificationsConfig};
use crate::registry::notifications::PreparedEndpoint;

/// Makes the endpoints of a configuration ready to be used. Reads files of authorities, and may block.
pub(super) fn prepare(config: &NotificationsConfig) -> anyhow::Result<Vec<Arc<PreparedEndpoint>>> {
    config.endpoints.iter().map(endpoint).collect()
}

fn endpoint(settings: &EndpointSettings) -> anyhow::Result<Arc<PreparedEndpoint>> {
    let failed = || format!("failed to prepare endpoint {} of notifications", Escaped(&settings.name));
    let tls = client_tls();
    let tls = match &settings.ca {
        Some(ca) => {
            let options = TlsOptions { ca: Some(ca.clone()), ..TlsOptions::default() };
            ClientTls { configuration: tls_configuration(&options).with_context(failed)?, ..tls }
        }
        None => tls,
    };
    Ok(Arc::new(PreparedEndpoint::new(settings.clone(), &tls).with_context(failed)?))
}

/// Returns the TLS of the registry's own requests: authorities as every client of this program has them.
pub(super) fn client_tls() -> ClientTls {
    ClientTls {
        configuration: default_configuration(),
        explain: |error| TlsFault::find(error).map(|fault| fault.to_string()),
    }
}

/// Returns the address by which receivers know this registry: host name and port, as in distribution.
pub(super) fn source(address: &LocalAddress) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim();
    match address {
        LocalAddress::Tcp(address) => format!("{host}:{}", address.port()),
        LocalAddress::Unix(_) => host.to_owned(),
    }
}
