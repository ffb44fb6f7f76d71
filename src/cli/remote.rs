//! Arguments of every subcommand that uses a registry: the name of an image, and the connection.

use std::path::PathBuf;

use super::output::complain;
use crate::client::{Client, ClientCertificate, ClientOptions, DockerConfig, TlsOptions, host_folders};
use crate::oci::{Digest, ImageReference, ImageReferenceError, is_host};

/// Argument with the reference of an image or repository.
#[derive(Debug, clap::Args)]
pub(super) struct ImageArg {
    #[arg(
        value_name = "REF",
        value_parser = reference,
        help = "HOST[:PORT]/NAME[:TAG][@DIGEST], for example localhost:5000/quinistry:latest"
    )]
    pub(super) image: ImageReference,
}

/// Parses a reference; a malformed one is a usage error.
pub(super) fn reference(typed: &str) -> Result<ImageReference, String> {
    typed.parse().map_err(|error: ImageReferenceError| format!("not the name of an image: {error}"))
}

/// Parses `HOST[:PORT]`; a malformed one is a usage error.
pub(super) fn host(typed: &str) -> Result<String, &'static str> {
    if is_host(typed) { Ok(typed.into()) } else { Err("want HOST[:PORT], for example localhost:5000") }
}

/// Returns the reference that was written to, with the digest that it resolves to.
pub(super) fn pinned(image: &ImageReference, digest: &Digest) -> String {
    let tag = image.tag().map(|tag| format!(":{tag}")).unwrap_or_default();
    format!("{}/{}{tag}@{digest}", image.host(), image.repository())
}

#[derive(Debug, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "Connection")]
pub(super) struct ConnectionArgs {
    /// Use plain HTTP for every registry [default: only for registries on this machine]
    #[arg(long, conflicts_with_all = ["ca", "cert", "insecure_skip_tls_verify"])]
    pub(super) plain_http: bool,
    #[command(flatten)]
    pub(super) tls: TlsArgs,
}

/// Arguments of TLS connections. Each of them means HTTPS, on loopback, too.
#[derive(Debug, Default, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "Connection")]
pub(super) struct TlsArgs {
    /// Use HTTPS, on loopback too, and trust the PEM certificates in this file beside the public authorities and
    /// the machine's
    #[arg(long, value_name = "FILE")]
    pub(super) ca: Option<PathBuf>,
    /// Present the PEM certificate in this file
    #[arg(long, value_name = "FILE", requires = "key")]
    pub(super) cert: Option<PathBuf>,
    /// Private key of --cert, in PEM
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub(super) key: Option<PathBuf>,
    /// Accept every certificate: an attacker on the way can then read and change everything
    #[arg(long)]
    pub(super) insecure_skip_tls_verify: bool,
}

// === impl ConnectionArgs ===

impl ConnectionArgs {
    /// Returns true if none of the arguments is given.
    pub(super) fn is_default(&self) -> bool {
        !self.plain_http && self.tls == TlsArgs::default()
    }

    /// Creates a client, and warns of what makes it insecure.
    pub(super) fn client(self) -> anyhow::Result<Client> {
        if self.tls.insecure_skip_tls_verify {
            warn_unverified("registries");
        }
        client(self.plain_http, self.tls.options())
    }
}

// === impl TlsArgs ===

impl TlsArgs {
    pub(super) fn options(self) -> TlsOptions {
        let home = std::env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
        TlsOptions {
            ca: self.ca,
            client_certificate: match (self.cert, self.key) {
                (Some(certificate), Some(key)) => Some(ClientCertificate { certificate, key }),
                _ => None,
            },
            skip_verify: self.insecure_skip_tls_verify,
            host_folders: host_folders(home.as_deref()),
        }
    }
}

pub(super) fn client(plain_http: bool, tls: TlsOptions) -> anyhow::Result<Client> {
    // Without a home folder there are no credentials, and the registry may need none.
    let config = DockerConfig::from_env().ok();
    Ok(Client::new(ClientOptions { plain_http, tls, config, peers: false })?)
}

/// Warns that certificates are not checked, each time.
pub(super) fn warn_unverified(of: &str) {
    complain(&format!(
        "warning: the certificates of {of} are not checked (--insecure-skip-tls-verify): an attacker on the way can \
         read passwords and change content; pass --ca FILE instead"
    ));
}
