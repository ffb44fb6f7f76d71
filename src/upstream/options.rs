//! Options of an upstream, as a configuration gives them, and their errors.

use std::path::PathBuf;
use std::time::Duration;

use quinistry_client::{ClientError, Secret};
use quinistry_oci::escape::Escaped;

/// Connections to one upstream at a time, by default.
pub const DEFAULT_MAX_CONNECTIONS: usize = 16;

/// Options of an upstream.
#[derive(Clone, Debug)]
pub struct RemoteOptions {
    /// Name for the log and for metrics, without secrets.
    pub name: String,
    /// Address of the upstream. Its path up to the last slash stands before `/v2/`, as in distribution.
    pub remote_url: String,
    /// Credentials for the upstream and its token server.
    pub credentials: RemoteCredentials,
    /// File with PEM certificates to trust beside the built-in and the machine's.
    pub ca: Option<PathBuf>,
    /// Permission for plain HTTP and for certificates that are not verified.
    pub insecure: Insecure,
    /// Hosts, `HOST` or `HOST:PORT`, that are trusted like the upstream's own: token servers that get the credentials,
    /// and targets of redirects at private addresses.
    pub realms: Vec<String>,
    /// Connections to the upstream at a time.
    pub max_connections: usize,
}

/// Credentials for an upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RemoteCredentials {
    /// All requests are anonymous.
    #[default]
    None,
    /// User and password.
    Password {
        /// Name of the user.
        username: String,
        /// Password of the user.
        password: Secret,
    },
    /// A program that prints them (docker credential helper protocol).
    Exec {
        /// Path or name of the program.
        command: PathBuf,
        /// Time for which an answer holds; `None`: until the upstream refuses the credentials, zero: for one use.
        lifetime: Option<Duration>,
    },
}

/// Permission for connections without protection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Insecure {
    /// HTTPS with verified certificates alone.
    #[default]
    No,
    /// Plain HTTP and unverified certificates at private addresses.
    Private,
    /// Plain HTTP and unverified certificates everywhere.
    Public,
}

/// Reasons why options are refused.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// The address is not that of a registry.
    #[error("upstream {name}: remote URL is not valid: {reason}")]
    Url {
        /// Name of the upstream.
        name: String,
        /// Mistake in the address.
        reason: &'static str,
    },
    /// A listed host is not a host.
    #[error("upstream {name}: realm '{}' is not HOST or HOST:PORT", Escaped(host))]
    Realm {
        /// Name of the upstream.
        name: String,
        /// Entry of the list.
        host: String,
    },
    /// No connection is allowed.
    #[error("upstream {name}: the number of connections is 0; allow at least 1")]
    NoConnections {
        /// Name of the upstream.
        name: String,
    },
    /// The certificates cannot be read, or the HTTP client cannot be made.
    #[error("upstream {name}: failed to set up TLS")]
    Tls {
        /// Name of the upstream.
        name: String,
        /// Reason.
        #[source]
        source: ClientError,
    },
}

// === impl RemoteOptions ===

impl RemoteOptions {
    /// Returns the options of an anonymous upstream with verified HTTPS.
    #[must_use]
    pub fn new(name: impl Into<String>, remote_url: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            remote_url: remote_url.into(),
            credentials: RemoteCredentials::None,
            ca: None,
            insecure: Insecure::No,
            realms: Vec::new(),
            max_connections: DEFAULT_MAX_CONNECTIONS,
        }
    }
}
