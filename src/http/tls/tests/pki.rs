//! Authorities and certificates.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tempfile::TempDir;

use crate::tls::TlsSettings;

/// Authority that signs the certificates of a test.
pub(super) struct Authority {
    certificate: rcgen::Certificate,
    issuer: Issuer<'static, KeyPair>,
}

/// Certificate with its key.
pub(super) struct Leaf {
    pub(super) certificate: rcgen::Certificate,
    pub(super) key: KeyPair,
}

impl Authority {
    pub(super) fn new(name: &str) -> Self {
        let mut params = named(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self { certificate: params.self_signed(&key).unwrap(), issuer: Issuer::new(params, key) }
    }

    pub(super) fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// Signs a certificate with this common name, which is also its DNS name.
    pub(super) fn leaf(&self, name: &str) -> Leaf {
        let mut params = named(name);
        params.subject_alt_names = vec![rcgen::SanType::DnsName(name.try_into().unwrap())];
        self.sign(&params)
    }

    pub(super) fn sign(&self, params: &CertificateParams) -> Leaf {
        let key = KeyPair::generate().unwrap();
        Leaf { certificate: params.signed_by(&key, &self.issuer).unwrap(), key }
    }

    /// Returns the configuration of a client that trusts the authority.
    pub(super) fn trusted(&self) -> Arc<ClientConfig> {
        self.trusted_by(rustls::ALL_VERSIONS, &[], None)
    }

    pub(super) fn trusted_by(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        protocols: &[&[u8]],
        identity: Option<&Leaf>,
    ) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match identity {
            None => config.with_no_client_auth(),
            Some(leaf) => {
                let key = PrivateKeyDer::try_from(leaf.key.serialize_der()).unwrap();
                let chain: Vec<CertificateDer<'static>> = vec![leaf.certificate.der().clone()];
                // The client does not check what it sends.
                let key = rustls::crypto::ring::sign::any_supported_type(&key).unwrap();
                let pair = rustls::sign::CertifiedKey::new(chain, key);
                config.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(pair)))
            }
        };
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Arc::new(config)
    }
}

/// Returns the parameters of a certificate that is valid, with this common name.
pub(super) fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

/// Folder with PEM files.
pub(super) struct Files(TempDir);

impl Files {
    pub(super) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(super) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// Writes a certificate and its key.
    pub(super) fn pair(&self, leaf: &Leaf) -> TlsSettings {
        let certificate = self.write("tls.crt", leaf.certificate.pem());
        TlsSettings::new(certificate, self.write("tls.key", leaf.key.serialize_pem()))
    }
}
