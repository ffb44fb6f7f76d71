//! Verification of a server's certificate.

use std::sync::OnceLock;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::authorities::OF_THE_MACHINE;

/// Verifier that also trusts a server's own certificate if the user, or the machine's store, names that very
/// certificate.
///
/// `openssl req -x509` makes self-signed certificates that are authorities (`CA:TRUE`), which RFC 5280 lets no
/// server present as its own. Engines accept them all the same when they are named, and so do users.
#[derive(Debug)]
pub(super) struct Verifier {
    algorithms: WebPkiSupportedAlgorithms,
    /// Certificates that the user has named.
    given: Vec<CertificateDer<'static>>,
    skip: bool,
    /// All trusted authorities, gathered at the first use.
    roots: OnceLock<RootCertStore>,
}

// === impl Verifier ===

impl Verifier {
    pub(super) const fn new(
        provider: &CryptoProvider,
        given: Vec<CertificateDer<'static>>,
        skip: bool,
    ) -> Self {
        let algorithms = provider.signature_verification_algorithms;
        Self { algorithms, given, skip, roots: OnceLock::new() }
    }

    fn roots(&self) -> &RootCertStore {
        self.roots.get_or_init(|| {
            let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
            roots.add_parsable_certificates(OF_THE_MACHINE.iter().chain(&self.given).cloned());
            roots
        })
    }
}

/// Returns true if an error is about the issuer of a server's certificate, and so says nothing against the
/// certificate itself. The dates have been checked before: rustls-webpki looks at them first.
fn is_about_issuer(error: &Error) -> bool {
    let Error::InvalidCertificate(error) = error else { return false };
    match error {
        CertificateError::UnknownIssuer
        | CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => true,
        CertificateError::Other(other) => is_authority_as_server(other),
        _ => false,
    }
}

/// Returns true if a server has presented the certificate of an authority as its own.
pub(super) fn is_authority_as_server(error: &rustls::OtherError) -> bool {
    matches!(error.0.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.skip {
            return Ok(ServerCertVerified::assertion());
        }
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let is_given = || self.given.iter().chain(&*OF_THE_MACHINE).any(|given| given == end_entity);
        let all = self.algorithms.all;
        let roots = self.roots();
        match verify_server_cert_signed_by_trust_anchor(&certificate, roots, intermediates, now, all) {
            Err(error) if !(is_about_issuer(&error) && is_given()) => return Err(error),
            _ => {}
        }
        verify_server_name(&certificate, server_name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
