//! Session of a connection, and the end of the verification of its client.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use super::client_certificate::ClientCertificate;
use super::fields::has_ended;

/// Session of a connection with TLS. The extensions of each of its requests have one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSession {
    /// Certificate of the client, if its chain was verified in the handshake.
    pub certificate: Option<Arc<ClientCertificate>>,
    verification: Verification,
}

/// Verification of clients by one demand and one list of authorities. Ends when a reload changes either.
#[derive(Clone, Debug, Default)]
pub(super) struct Verification {
    has_ended: Arc<AtomicBool>,
}

// === impl TlsSession ===

impl TlsSession {
    pub(super) fn new(certificate: Option<ClientCertificate>, verification: Verification) -> Self {
        Self { certificate: certificate.map(Arc::new), verification }
    }

    /// Returns true if a handshake at `now` could have another result: the client's certificate has expired, or the
    /// demand or the authorities have changed.
    pub(crate) fn is_stale(&self, now: SystemTime) -> bool {
        let has_expired =
            self.certificate.as_ref().is_some_and(|certificate| has_ended(certificate.not_after, now));
        has_expired || self.verification.has_ended.load(Ordering::Acquire)
    }

    /// Returns the session of a client without a certificate.
    pub(crate) fn without_certificate(&self) -> Self {
        Self { certificate: None, verification: self.verification.clone() }
    }
}

// === impl Verification ===

impl Verification {
    pub(super) fn end(&self) {
        self.has_ended.store(true, Ordering::Release);
    }
}

impl PartialEq for Verification {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.has_ended, &other.has_ended)
    }
}

impl Eq for Verification {}
