//! TLS to an API server, as its configuration says. Called by the connector.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use kube::Config;
use kube::client::RustlsTlsError as TlsError;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::credentials::Credentials;

/// Time for which a file of authorities is not read again. A cluster that replaces its authority writes the
/// new one into the file of each pod.
const AUTHORITIES_LIFETIME: Duration = Duration::from_mins(1);

/// Returns a connector that encrypts the connections of `inner` for `https://` URLs.
pub(crate) fn https<H>(
    config: &Config,
    credentials: &Credentials,
    inner: H,
) -> kube::Result<HttpsConnector<H>> {
    let tls = configuration(config, credentials).map_err(kube::Error::RustlsTls)?;
    let builder = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
    let builder = match &config.tls_server_name {
        Some(name) => {
            let name = name.clone().try_into().map_err(TlsError::InvalidServerName);
            let name: ServerName<'static> = name.map_err(kube::Error::RustlsTls)?;
            builder.with_server_name_resolver(FixedServerNameResolver::new(name))
        }
        None => builder,
    };
    Ok(builder.enable_http1().wrap_connector(inner))
}

fn configuration(config: &Config, credentials: &Credentials) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring supports the versions that rustls enables by default")
        .with_root_certificates(roots(config)?);
    let mut tls = match credentials.identity() {
        Some(pem) => {
            let (chain, key) = identity(pem)?;
            builder.with_client_auth_cert(chain, key).map_err(TlsError::InvalidPrivateKey)?
        }
        None => builder.with_no_client_auth(),
    };
    if config.accept_invalid_certs {
        tls.dangerous().set_certificate_verifier(quinistry_client::verifier_of_nothing());
    } else if let Some(path) = &config.root_cert_file {
        tls.dangerous().set_certificate_verifier(Arc::new(ReloadingVerifier::new(path.clone())?));
    }
    Ok(tls)
}

/// Returns the authorities of the configuration, and without any those of the machine, as client-go does.
fn roots(config: &Config) -> Result<RootCertStore, TlsError> {
    if let Some(authorities) = &config.root_cert {
        return store(authorities.iter().cloned().map(CertificateDer::from));
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(quinistry_client::authorities_of_the_machine().iter().cloned());
    Ok(roots)
}

fn store(authorities: impl IntoIterator<Item = CertificateDer<'static>>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority).map_err(not_trusted)?;
    }
    Ok(roots)
}

fn not_trusted(error: impl std::error::Error + Send + Sync + 'static) -> TlsError {
    TlsError::AddRootCertificate(Box::new(error))
}

/// Reads a certificate and its key.
fn identity(pem: &[u8]) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let chain = chain.map_err(TlsError::InvalidIdentityPem)?;
    if chain.is_empty() {
        return Err(TlsError::MissingCertificate);
    }
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|_| TlsError::MissingPrivateKey)?;
    Ok((chain, key))
}

/// Verifier by the authorities of a file, which is read again each minute. A file that cannot be read leaves
/// the last authorities.
#[derive(Debug)]
struct ReloadingVerifier {
    path: PathBuf,
    current: RwLock<(Arc<WebPkiServerVerifier>, Instant)>,
}

// === impl ReloadingVerifier ===

impl ReloadingVerifier {
    fn new(path: PathBuf) -> Result<Self, TlsError> {
        let current = RwLock::new((Self::load(&path)?, Instant::now()));
        Ok(Self { path, current })
    }

    fn load(path: &Path) -> Result<Arc<WebPkiServerVerifier>, TlsError> {
        let pem = std::fs::read(path).map_err(not_trusted)?;
        let authorities: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        let roots = Arc::new(store(authorities.map_err(not_trusted)?)?);
        let provider = Arc::new(default_provider());
        WebPkiServerVerifier::builder_with_provider(roots, provider).build().map_err(not_trusted)
    }

    fn current(&self, now: Instant) -> Arc<WebPkiServerVerifier> {
        let is_fresh = |read_at| now.saturating_duration_since(read_at) < AUTHORITIES_LIFETIME;
        {
            let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
            if is_fresh(current.1) {
                return current.0.clone();
            }
        }
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if !is_fresh(current.1) {
            match Self::load(&self.path) {
                Ok(verifier) => current.0 = verifier,
                Err(error) => {
                    let path = self.path.display();
                    tracing::warn!(%path, %error, "cannot read authorities, last ones used");
                }
            }
            current.1 = now;
        }
        current.0.clone()
    }
}

impl ServerCertVerifier for ReloadingVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verifier = self.current(Instant::now());
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.current(Instant::now()).verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.current(Instant::now()).verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.current(Instant::now()).supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

    use super::*;

    fn authority() -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        (parameters.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    #[test]
    fn authorities_are_read_again_and_the_last_ones_kept() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), authority().0).unwrap();
        let verifier = ReloadingVerifier::new(file.path().into()).unwrap();
        let begin = Instant::now();
        let first = verifier.current(begin);
        std::fs::write(file.path(), authority().0).unwrap();
        assert!(Arc::ptr_eq(&first, &verifier.current(begin)));
        let second = verifier.current(begin + 2 * AUTHORITIES_LIFETIME);
        assert!(!Arc::ptr_eq(&first, &second));
        std::fs::write(file.path(), "").unwrap();
        assert!(Arc::ptr_eq(&second, &verifier.current(begin + 4 * AUTHORITIES_LIFETIME)));
        assert!(ReloadingVerifier::new(file.path().into()).is_err());
    }

    #[test]
    fn a_certificate_and_its_key_are_read_in_any_order() {
        let (certificate, key) = authority();
        for pem in [format!("{certificate}{key}"), format!("{key}\n{certificate}")] {
            assert_eq!(identity(pem.as_bytes()).unwrap().0.len(), 1);
        }
        assert!(matches!(identity(key.as_bytes()), Err(TlsError::MissingCertificate)));
        assert!(matches!(identity(certificate.as_bytes()), Err(TlsError::MissingPrivateKey)));
    }

    #[test]
    fn malformed_authorities_are_refused_and_none_are_needed() {
        let mut config = Config::new("http://192.0.2.1".parse().unwrap());
        let credentials = Credentials::load(&config.auth_info).unwrap();
        assert!(configuration(&config, &credentials).is_ok());
        config.root_cert = Some(Vec::new());
        assert!(configuration(&config, &credentials).is_ok());
        config.root_cert = Some(vec![b"hunter2".to_vec()]);
        assert!(configuration(&config, &credentials).is_err());
    }
}
