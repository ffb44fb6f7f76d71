//! TLS of a listener: certificates, client certificates, handshakes, and the stream above the socket.
//!
//! TLS 1.2 and 1.3 by rustls. Session tickets are issued unless clients authenticate by certificates: a resumed
//! session would skip the check of the chain. Early data (0-RTT) is off, since an attacker can replay it, and rustls
//! knows no renegotiation.

mod client_auth;
mod client_certificate;
mod error;
mod fields;
mod files;
mod handshake;
mod read_ahead;
mod server;
mod session;
mod settings;
mod socket;
#[cfg(test)]
mod tests;

pub use self::client_certificate::{CertificateName, CertificateNames, ClientCertificate};
pub use self::error::TlsError;
pub use self::fields::CertificateFields;
pub use self::files::{parse_certificates, parse_client_cas, parse_pair};
pub use self::handshake::HANDSHAKES;
pub use self::read_ahead::TLS_READS;
pub use self::server::{AcceptedTls, LoadedTls, TlsServer};
pub use self::session::TlsSession;
pub use self::settings::{CipherSuites, ClientAuth, TlsSettings, UnusableCipherSuite};
pub use self::socket::TLS_WRITES;

pub(crate) use self::handshake::accept;
pub(crate) use self::socket::TlsSocket;
