//! Certificates whose owners sign tokens, and chains to them (`x5c`; RFC 7515, 4.1.6). Pure.

use std::ops::RangeInclusive;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter};
use x509_cert::Certificate;
use x509_cert::der::Decode as _;

use super::key::{KeyError, VerificationKey, libtrust_id};

/// Most certificates of a bundle.
const MAX_CERTIFICATES: usize = 1000;

/// Most certificates of a chain in a token.
const MAX_CHAIN: usize = 8;

/// Certificates of a bundle.
#[derive(Clone, Debug, Default)]
pub(super) struct CertificateBundle(Vec<BundleCertificate>);

#[derive(Clone, Debug)]
struct BundleCertificate {
    der: CertificateDer<'static>,
    anchor: TrustAnchor<'static>,
    /// Seconds since the epoch in which the certificate is valid.
    validity: RangeInclusive<u64>,
}

/// Key of a bundle's certificate, with the ids by which tokens name it.
pub(super) struct CertificateKey {
    pub(super) libtrust_id: String,
    pub(super) key: VerificationKey,
}

/// Error of a bundle of certificates.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// PEM that cannot be read.
    #[error("is not PEM: {0}")]
    Pem(String),
    /// Bundle without a certificate.
    #[error("has no PEM section CERTIFICATE")]
    Empty,
    /// Bundle with too many certificates.
    #[error("has more than {MAX_CERTIFICATES} certificates")]
    TooManyCertificates,
    /// Certificate that cannot be parsed.
    #[error("certificate {0} is malformed")]
    Certificate(usize),
    /// Certificate with a key that is not safe.
    #[error("certificate {number}: {reason}")]
    Key {
        /// Place in the bundle, from 1.
        number: usize,
        /// Reason.
        reason: KeyError,
    },
}

/// Reason for which a chain of a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// Chain that is empty, too long, or not of certificates.
    #[error("x5c is not a list of 1 to {MAX_CHAIN} certificates")]
    Malformed,
    /// Chain that does not lead to the bundle, or is not valid now.
    #[error("x5c does not lead to a valid certificate of the bundle")]
    Untrusted,
    /// Key of the first certificate that cannot be used.
    #[error("x5c: {0}")]
    Key(KeyError),
}

// === impl CertificateBundle ===

impl CertificateBundle {
    /// Parses PEM. Also returns the keys of the certificates; a certificate whose type of key is not
    /// supported can still have issued others.
    pub(super) fn parse(pem: &[u8]) -> Result<(Self, Vec<CertificateKey>), BundleError> {
        let (mut certificates, mut keys) = (Vec::new(), Vec::new());
        for (index, der) in CertificateDer::pem_slice_iter(pem).enumerate() {
            let der = der.map_err(|error| BundleError::Pem(error.to_string()))?;
            let number = index + 1;
            if number > MAX_CERTIFICATES {
                return Err(BundleError::TooManyCertificates);
            }
            let certificate = BundleCertificate::new(der).ok_or(BundleError::Certificate(number))?;
            let public_key_info = certificate.public_key_info().ok_or(BundleError::Certificate(number))?;
            match VerificationKey::of_public_key_info(&public_key_info) {
                Ok(key) => keys.push(CertificateKey { libtrust_id: libtrust_id(&public_key_info), key }),
                Err(KeyError::Unsupported) => {}
                Err(reason) => return Err(BundleError::Key { number, reason }),
            }
            certificates.push(certificate);
        }
        if certificates.is_empty() {
            return Err(BundleError::Empty);
        }
        Ok((Self(certificates), keys))
    }

    /// Returns the key of a chain's first certificate, if the chain leads to the bundle at `now`, in seconds
    /// since the epoch.
    pub(super) fn key_of_chain(&self, chain: &[String], now: u64) -> Result<VerificationKey, ChainError> {
        if !(1..=MAX_CHAIN).contains(&chain.len()) {
            return Err(ChainError::Malformed);
        }
        let decode = |text: &String| STANDARD.decode(text).map(CertificateDer::from);
        let chain: Vec<CertificateDer<'static>> =
            chain.iter().map(decode).collect::<Result<_, _>>().map_err(|_| ChainError::Malformed)?;
        let (first, others) = chain.split_first().ok_or(ChainError::Malformed)?;
        // An anchor's own validity is not looked at when a chain is built.
        let valid = || self.0.iter().filter(|certificate| certificate.validity.contains(&now));
        let leaf = EndEntityCert::try_from(first).map_err(|_| ChainError::Malformed)?;
        // A certificate of an authority is refused as the end of a chain, though a bundle often has just the
        // one that signs itself.
        if !valid().any(|certificate| certificate.der == *first) {
            let anchors: Vec<TrustAnchor<'_>> =
                valid().map(|certificate| certificate.anchor.clone()).collect();
            let time = UnixTime::since_unix_epoch(Duration::from_secs(now));
            leaf.verify_for_usage(ALL_VERIFICATION_ALGS, &anchors, others, time, AnyUsage, None, None)
                .map_err(|_| ChainError::Untrusted)?;
        }
        VerificationKey::of_public_key_info(&leaf.subject_public_key_info()).map_err(ChainError::Key)
    }
}

// === impl BundleCertificate ===

impl BundleCertificate {
    fn new(der: CertificateDer<'static>) -> Option<Self> {
        let certificate = Certificate::from_der(&der).ok()?;
        let validity = certificate.tbs_certificate().validity();
        let seconds = |time: x509_cert::time::Time| time.to_unix_duration().as_secs();
        let validity = seconds(validity.not_before)..=seconds(validity.not_after);
        let anchor = webpki::anchor_from_trusted_cert(&der).ok()?.to_owned();
        Some(Self { der, anchor, validity })
    }

    fn public_key_info(&self) -> Option<Vec<u8>> {
        let certificate = EndEntityCert::try_from(&self.der).ok()?;
        Some(certificate.subject_public_key_info().to_vec())
    }
}

/// Acceptance of any extended key usage: no usage is defined for tokens.
struct AnyUsage;

impl ExtendedKeyUsageValidator for AnyUsage {
    fn validate(&self, _: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        Ok(())
    }
}
