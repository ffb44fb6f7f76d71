//! What every subcommand that speaks to a registry takes: the name of an image, and how to connect.

use std::path::PathBuf;

use anyhow::Context as _;

use crate::client::{Client, DockerConfig, Options};
use crate::escape;
use crate::oci::ImageReference;

/// The name of an image or repository, as typed. Parsed when it is used and not by clap, because a wrong name is a
/// mistake in what is asked for and not in how: one line, exit code 1.
#[derive(Debug, clap::Args)]
pub(super) struct Name {
    #[arg(
        value_name = "REF",
        help = "HOST[:PORT]/NAME[:TAG][@DIGEST], for example localhost:5000/quinistry:latest"
    )]
    reference: String,
}

impl Name {
    pub(super) fn parse(&self) -> anyhow::Result<ImageReference> {
        parse_name(&self.reference)
    }
}

/// The name of an image, as typed.
pub(super) fn parse_name(typed: &str) -> anyhow::Result<ImageReference> {
    typed.parse().with_context(|| {
        format!("'{}' is not the name of an image", super::plain(&escape::without_userinfo(typed)))
    })
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Connection")]
pub(super) struct Remote {
    /// Speak plain HTTP, which by default only registries on this machine are spoken to in
    #[arg(long, conflicts_with = "ca")]
    plain_http: bool,
    /// Speak HTTPS, on loopback too, and trust the PEM certificates in this file beside the public authorities
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
}

// === impl Remote ===

impl Remote {
    pub(super) fn client(self) -> anyhow::Result<Client> {
        // Without a home there are no credentials, and none may be needed.
        let config = DockerConfig::from_env().ok();
        Ok(Client::new(Options { plain_http: self.plain_http, ca: self.ca, config, peers: false })?)
    }
}
