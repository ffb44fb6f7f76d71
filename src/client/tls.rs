//! TLS towards registries: the authorities that are trusted, the client's own certificate, and the reasons of
//! failures.
//!
//! Trusted are the public authorities that are built in, those of the machine (`SSL_CERT_FILE`, `SSL_CERT_DIR`,
//! else the usual places), those in `--ca`, and those in the registry's folder under `certs.d`. An image of one
//! file has no store of its own, which is why some are built in.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::CertificateDer;

use super::ClientError;

mod authorities;
mod fault;
mod host_folder;
mod material;
mod verifier;

pub use fault::TlsFault;
pub use host_folder::host_folders;

pub(super) use host_folder::HostFolder;
use material::Material;
use verifier::Verifier;

/// Options of TLS connections to registries.
#[derive(Clone, Debug, Default)]
pub struct TlsOptions {
    /// File with PEM certificates to trust beside the built-in and the machine's. A server's own certificate in
    /// it is trusted as it is. With one, TLS is used on loopback, too.
    pub ca: Option<PathBuf>,
    /// Certificate to present to registries that demand one. With one, TLS is used on loopback, too.
    pub client_certificate: Option<ClientCertificate>,
    /// Accept every certificate. TLS is then used on loopback, too, and protects from no attacker on the way.
    pub skip_verify: bool,
    /// Folders in which a registry's certificates stand in a folder named `HOST[:PORT]`, first to last. None are
    /// read by default; see [`host_folders`].
    pub host_folders: Vec<PathBuf>,
}

/// Files of a client's certificate, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate, and those that lead from it to an authority that the registry trusts.
    pub certificate: PathBuf,
    /// The private key: PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
}

// === impl TlsOptions ===

impl TlsOptions {
    /// Returns true if the options make no sense for plain HTTP.
    pub(super) const fn demands_tls(&self) -> bool {
        self.ca.is_some() || self.client_certificate.is_some() || self.skip_verify
    }
}

/// Returns the configuration of TLS connections that trust the built-in authorities and the machine's, for HTTP
/// clients other than [`Client`](super::Client).
#[must_use]
pub fn default_configuration() -> ClientConfig {
    configuration(&TlsOptions::default(), None).expect("no file is named that could be missing")
}

/// Returns the configuration of TLS connections with these options, for HTTP clients other than
/// [`Client`](super::Client). Fails if a file that the options name cannot be read.
pub fn tls_configuration(options: &TlsOptions) -> Result<ClientConfig, ClientError> {
    configuration(options, None)
}

/// Returns the certificates of the machine's store, for other TLS than that of [`Client`](super::Client).
#[must_use]
pub fn authorities_of_the_machine() -> &'static [CertificateDer<'static>] {
    &authorities::OF_THE_MACHINE
}

/// Returns a verifier that accepts every certificate, for users who demand that.
#[must_use]
pub fn verifier_of_nothing() -> Arc<dyn ServerCertVerifier> {
    Arc::new(Verifier::new(&rustls::crypto::ring::default_provider(), Vec::new(), true))
}

/// Reads the files that the options and a registry's folder name, and makes the configuration of its
/// connections. The machine's authorities are read at the first TLS connection.
pub(super) fn configuration(
    options: &TlsOptions,
    folder: Option<&HostFolder>,
) -> Result<ClientConfig, ClientError> {
    let mut material = Material::default();
    if let Some(path) = &options.ca {
        material.add_authorities(path)?;
    }
    // A certificate of the command line comes before one of the folder.
    if let Some(identity) = &options.client_certificate {
        material.set_identity(identity)?;
    }
    if let Some(folder) = folder {
        folder.add_to(&mut material)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Verifier::new(&provider, material.authorities, options.skip_verify);
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring supports the versions that rustls enables by default")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match material.identity {
        Some(identity) => {
            let failed = |_| {
                let reason = "the private key does not belong to the certificate, or is of a kind that is not \
                              supported (RSA of at least 2048 bits, P-256, P-384 and Ed25519 are)";
                material::failed(&identity.path, reason)
            };
            builder.with_client_auth_cert(identity.chain, identity.key).map_err(failed)?
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn with_ca(path: &Path) -> Result<ClientConfig, ClientError> {
        configuration(&TlsOptions { ca: Some(path.into()), ..TlsOptions::default() }, None)
    }

    #[test]
    fn a_file_without_certificates_is_an_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = with_ca(file.path()).unwrap_err();
        assert!(error.to_string().starts_with("failed to read certificates from "), "{error}");
        assert!(with_ca(Path::new("/missing.pem")).is_err());
        assert!(configuration(&TlsOptions::default(), None).is_ok());
    }
}
