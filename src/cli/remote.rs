//! Arguments of every subcommand that uses a registry: the name of an image, and the connection.

use std::path::PathBuf;

use crate::client::{Client, ClientOptions, DockerConfig};
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

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Connection")]
pub(super) struct ConnectionArgs {
    /// Use plain HTTP for every registry [default: only for registries on this machine]
    #[arg(long, conflicts_with = "ca")]
    plain_http: bool,
    /// Use HTTPS, on loopback too, and trust the PEM certificates in this file beside the public authorities
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
}

// === impl ConnectionArgs ===

impl ConnectionArgs {
    pub(super) fn client(self) -> anyhow::Result<Client> {
        // Without a home folder there are no credentials, and the registry may need none.
        let config = DockerConfig::from_env().ok();
        Ok(Client::new(ClientOptions { plain_http: self.plain_http, ca: self.ca, config, peers: false })?)
    }
}
