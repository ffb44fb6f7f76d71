//! Certificates and keys in files.

use std::fs;
use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::ClientCertificate;
use crate::{Cause, ClientError};

/// Content of the files that a connection needs.
#[derive(Debug, Default)]
pub(super) struct Material {
    /// Certificates to trust.
    pub(super) authorities: Vec<CertificateDer<'static>>,
    /// The client's own certificate.
    pub(super) identity: Option<Identity>,
}

/// A client's certificate with its key. `Debug` shows no key, because the key's own does not.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
    /// Path of the key, for errors.
    pub(super) path: std::path::PathBuf,
}

// === impl Material ===

impl Material {
    /// Adds the certificates of a file. Fails if it holds none, or one that is not a certificate.
    pub(super) fn add_authorities(&mut self, path: &Path) -> Result<(), ClientError> {
        let certificates = certificates(path)?;
        let mut checked = RootCertStore::empty();
        for (number, certificate) in certificates.iter().enumerate() {
            if checked.add(certificate.clone()).is_err() {
                return Err(failed(path, format!("its certificate number {} is malformed", number + 1)));
            }
        }
        self.authorities.extend(certificates);
        Ok(())
    }

    /// Sets the client's own certificate, unless there is one already.
    pub(super) fn set_identity(&mut self, files: &ClientCertificate) -> Result<(), ClientError> {
        if self.identity.is_none() {
            let chain = certificates(&files.certificate)?;
            self.identity = Some(Identity { chain, key: key(&files.key)?, path: files.key.clone() });
        }
        Ok(())
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ClientError> {
    let pem = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err(failed(path, "it holds no PEM certificate")),
        Ok(found) => Ok(found),
        Err(_) => Err(failed(path, "its PEM is malformed")),
    }
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, ClientError> {
    let pem = read(path)?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|_| {
        let is_encrypted = pem.windows(9).any(|text| text == b"ENCRYPTED");
        failed(
            path,
            if is_encrypted {
                "its private key is encrypted, which is not supported; decrypt it (openssl pkey -in … -out …)"
            } else {
                "it holds no PEM private key"
            },
        )
    })
}

fn read(path: &Path) -> Result<Vec<u8>, ClientError> {
    fs::read(path).map_err(|error| failed(path, Cause::of(&error).to_string()))
}

/// Returns the error of a file.
pub(super) fn failed(path: &Path, reason: impl Into<String>) -> ClientError {
    ClientError::Certificates { path: path.display().to_string(), source: Cause::text(reason) }
}
