//! Flags for TLS.

use std::path::PathBuf;

use clap::ValueHint;

use crate::http::tls::TlsSettings;

/// Certificate and key of the listener.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct TlsArgs {
    /// Serve HTTPS with this certificate chain in PEM, leaf first
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// Private key of the certificate, in PEM
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "tls_cert")]
    tls_key: Option<PathBuf>,
}

impl TlsArgs {
    /// Returns the settings that the flags ask for.
    pub(super) fn settings(&self) -> Option<TlsSettings> {
        let (certificate, key) = self.tls_cert.clone().zip(self.tls_key.clone())?;
        Some(TlsSettings::new(certificate, key))
    }
}
