//! Trusted certificate authorities: the public ones that are built in, and those in a file.
//!
//! The machine's own store is not read: an image of one file has none, and the same command must trust the
//! same authorities everywhere.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

use super::{Cause, ClientError};

pub(super) fn configuration(ca: Option<&Path>) -> Result<ClientConfig, ClientError> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(path) = ca {
        add(&mut roots, path)
            .map_err(|source| ClientError::Certificates { path: path.display().to_string(), source })?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring supports the versions that rustls enables by default")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn add(roots: &mut RootCertStore, path: &Path) -> Result<(), Cause> {
    let pem = fs::read(path).map_err(|error| Cause::of(&error))?;
    let mut found = false;
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| Cause::text(error.to_string()))?;
        roots.add(certificate).map_err(|error| Cause::of(&error))?;
        found = true;
    }
    if found { Ok(()) } else { Err(Cause::text("it holds no PEM certificate")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_an_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = configuration(Some(file.path())).unwrap_err();
        assert!(error.to_string().starts_with("failed to read certificates from "), "{error}");
        assert!(configuration(Some(Path::new("/missing.pem"))).is_err());
        assert!(configuration(None).is_ok());
    }
}
