//! TLS of the registry's own requests to other servers.

use rustls::ClientConfig;

/// TLS of the registry's own requests: health checks and events. The registry itself knows no authorities:
/// they come with the program that runs it.
#[derive(Clone, Debug)]
pub struct ClientTls {
    /// Authorities to trust.
    pub configuration: ClientConfig,
    /// Returns the sentence for an error that a failed TLS connection is the cause of.
    pub explain: fn(&(dyn std::error::Error + 'static)) -> Option<String>,
}
