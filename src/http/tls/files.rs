//! Certificates and keys out of PEM files. Pure.

use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::error::TlsError;

/// Words in the two forms of encrypted keys: PKCS#8 (RFC 5958), and the older one of OpenSSL (RFC 1421).
const ENCRYPTED: [&str; 2] = ["BEGIN ENCRYPTED PRIVATE KEY", "Proc-Type: 4,ENCRYPTED"];

/// Parses a certificate chain and the key of its leaf. The paths are for errors.
pub fn parse_pair(
    (certificate, chain): (&Path, &[u8]),
    (key, bytes): (&Path, &[u8]),
) -> Result<CertifiedKey, TlsError> {
    let chain = parse_certificates(certificate, chain)?;
    let der = parse_key(key, bytes)?;
    let signing_key = rustls::crypto::ring::sign::any_supported_type(&der)
        .map_err(|error| TlsError::UnsupportedKey { path: key.to_owned(), problem: error.to_string() })?;
    let pair = CertifiedKey::new(chain, signing_key);
    match pair.keys_match() {
        Ok(()) => Ok(pair),
        Err(rustls::Error::InconsistentKeys(_)) => Err(mismatch(&pair, certificate, key)),
        Err(error) => Err(unusable(certificate, 1, &error)),
    }
}

/// Parses the certificates of a file, at least one.
pub fn parse_certificates(path: &Path, bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    check_form(path, bytes, "x509")?;
    let parsed = CertificateDer::pem_slice_iter(bytes).collect::<Result<Vec<_>, _>>();
    let certificates = parsed.map_err(|error| malformed(path, &error))?;
    if certificates.is_empty() { Err(TlsError::NoCertificate(path.to_owned())) } else { Ok(certificates) }
}

/// Adds the authorities of a file to those that sign client certificates.
pub fn parse_client_cas(path: &Path, bytes: &[u8], roots: &mut RootCertStore) -> Result<(), TlsError> {
    for (index, certificate) in parse_certificates(path, bytes)?.into_iter().enumerate() {
        roots.add(certificate).map_err(|error| unusable(path, index + 1, &error))?;
    }
    Ok(())
}

fn parse_key(path: &Path, bytes: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    check_form(path, bytes, "pkey")?;
    let text = String::from_utf8_lossy(bytes);
    if ENCRYPTED.iter().any(|words| text.contains(words)) {
        return Err(TlsError::EncryptedKey(path.to_owned()));
    }
    PrivateKeyDer::from_pem_slice(bytes).map_err(|error| match error {
        pem::Error::NoItemsFound => TlsError::NoKey(path.to_owned()),
        error => malformed(path, &error),
    })
}

/// Refuses files without content, and files in the binary form, which begin with an ASN.1 sequence.
fn check_form(path: &Path, bytes: &[u8], command: &'static str) -> Result<(), TlsError> {
    match bytes {
        [] => Err(TlsError::Empty(path.to_owned())),
        [0x30, length, ..] if *length >= 0x80 => Err(TlsError::Der { path: path.to_owned(), command }),
        _ => Ok(()),
    }
}

/// Returns the error of malformed PEM. A line of the file, which the cause may hold, may be part of a key.
fn malformed(path: &Path, error: &pem::Error) -> TlsError {
    let problem = match error {
        pem::Error::MissingSectionEnd { .. } => "a section has no END line",
        pem::Error::IllegalSectionStart { .. } => "a BEGIN line is malformed",
        pem::Error::Base64Decode(_) => "a section is not base64",
        _ => "it cannot be parsed",
    };
    TlsError::Pem { path: path.to_owned(), problem }
}

fn unusable(path: &Path, position: usize, error: &rustls::Error) -> TlsError {
    TlsError::Certificate { path: path.to_owned(), position, problem: error.to_string() }
}

/// Returns the error of a key that does not fit the first certificate.
fn mismatch(pair: &CertifiedKey, certificate: &Path, key: &Path) -> TlsError {
    let fits = |other: &CertificateDer<'static>| {
        CertifiedKey::new(vec![other.clone()], Arc::clone(&pair.key)).keys_match().is_ok()
    };
    match pair.cert.iter().skip(1).position(fits) {
        Some(index) => TlsError::WrongOrder { path: certificate.to_owned(), position: index + 2 },
        None => TlsError::KeyMismatch { certificate: certificate.to_owned(), key: key.to_owned() },
    }
}
