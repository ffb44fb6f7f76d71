//! Errors of certificates and keys.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Certificate, key or authority that cannot be used. Each message begins with the file.
#[derive(Debug, Error)]
pub enum TlsError {
    /// The file cannot be read.
    #[error("failed to read {}", path.display())]
    Read {
        /// File.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// The file has no bytes.
    #[error("{} is empty", .0.display())]
    Empty(PathBuf),
    /// The file has the binary form.
    #[error(
        "{} is DER, and not PEM; convert it: openssl {command} -inform der -in {} -out PEM-FILE",
        path.display(),
        path.display()
    )]
    Der {
        /// File.
        path: PathBuf,
        /// Subcommand of OpenSSL that reads it.
        command: &'static str,
    },
    /// The file is not valid PEM.
    #[error("{} is not valid PEM: {problem}", path.display())]
    Pem {
        /// File.
        path: PathBuf,
        /// Problem, without any content of the file.
        problem: &'static str,
    },
    /// The file has no certificate.
    #[error("{} has no certificate (no BEGIN CERTIFICATE)", .0.display())]
    NoCertificate(PathBuf),
    /// A certificate cannot be used.
    #[error("{}: certificate {position} cannot be used: {problem}", path.display())]
    Certificate {
        /// File.
        path: PathBuf,
        /// Place of the certificate in the file, from 1.
        position: usize,
        /// Problem.
        problem: String,
    },
    /// The file has no private key.
    #[error("{} has no private key (no BEGIN PRIVATE KEY)", .0.display())]
    NoKey(PathBuf),
    /// Every user of the machine can replace the key.
    #[error("every user can write the key {}; run `chmod 600` on it", .0.display())]
    Writable(PathBuf),
    /// The key is encrypted.
    #[error("{} is encrypted, and the registry asks for no passphrase; decrypt it: openssl pkey -in {} -out NEW-FILE", .0.display(), .0.display())]
    EncryptedKey(PathBuf),
    /// The key is of a kind or size that is not supported.
    #[error("{} is not supported ({problem}); use RSA with 2048 to 8192 bits, P-256, P-384 or Ed25519", path.display())]
    UnsupportedKey {
        /// File.
        path: PathBuf,
        /// Problem.
        problem: String,
    },
    /// The key is that of another certificate.
    #[error("{} is not the key of the certificate in {}", key.display(), certificate.display())]
    KeyMismatch {
        /// File of the certificate.
        certificate: PathBuf,
        /// File of the key.
        key: PathBuf,
    },
    /// The key is that of a later certificate of the chain.
    #[error(
        "{} is in the wrong order: the key belongs to certificate {position}, which must be the first",
        path.display()
    )]
    WrongOrder {
        /// File of the certificate.
        path: PathBuf,
        /// Place of the key's certificate, from 1.
        position: usize,
    },
    /// The new certificate has expired, and the one in use has not.
    #[error("{} expired at {expiry}, keeping the certificate in use, which has not", path.display())]
    Expired {
        /// File of the certificate.
        path: PathBuf,
        /// End of its validity.
        expiry: String,
    },
    /// The settings do not fit together.
    #[error("TLS cannot be set up: {0}")]
    Settings(String),
}

impl TlsError {
    /// Returns the file at fault; `None` if the settings are.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Read { path, .. }
            | Self::Empty(path)
            | Self::Der { path, .. }
            | Self::Pem { path, .. }
            | Self::NoCertificate(path)
            | Self::Certificate { path, .. }
            | Self::NoKey(path)
            | Self::Writable(path)
            | Self::EncryptedKey(path)
            | Self::UnsupportedKey { path, .. }
            | Self::WrongOrder { path, .. }
            | Self::Expired { path, .. }
            | Self::KeyMismatch { key: path, .. } => Some(path),
            Self::Settings(_) => None,
        }
    }
}
