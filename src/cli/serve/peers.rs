//! Options of `serve` that name peers and the file of names, and what they are made into.

use std::path::PathBuf;
use std::sync::Arc;

use clap::ValueHint;

use crate::cli::exit::UsageError;
use crate::oci::WithCauses;
use crate::registry::{NamedImages, Peer, Peers};
use crate::upstream::{HttpPeer, PeerAddress, PeerError};

#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub(super) struct PeerArgs {
    /// Ask these registries of the same cluster, in this order and by digest, for what this one does not have
    #[arg(long, value_name = "http://ADDRESS:PORT", value_delimiter = ',')]
    peers: Vec<PeerAddress>,

    /// Answer tags from this file: {"names":[{"name":"HOST/NAME:TAG","digest":"sha256:…"}]}, read again when it changes
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "peers")]
    names: Option<PathBuf>,

    /// Copy from the peers what --names names and the storage lacks, tell at /readyz whether it is all here,
    /// and remove what no name needs any more
    #[arg(long, requires_all = ["storage", "names"], conflicts_with = "read_only")]
    keep_named: bool,
}

/// Peers of a registry, and the images that it copies from them.
#[derive(Clone, Debug, Default)]
pub(super) struct PeerSettings {
    pub(super) peers: Option<Arc<Peers>>,
    pub(super) named: Option<Arc<NamedImages>>,
}

impl PeerArgs {
    /// Returns true if an option is given.
    pub(super) fn are_given(&self) -> bool {
        !self.peers.is_empty()
    }

    /// Returns true if the storage holds what the file of names names.
    pub(super) fn keeps_named(&self) -> bool {
        self.keep_named
    }

    /// Returns the peers, and the images to copy, if there are any. Reads no file, and sends no request.
    pub(super) fn settings(&self) -> Result<PeerSettings, UsageError> {
        if self.peers.is_empty() {
            return Ok(PeerSettings::default());
        }
        for (index, address) in self.peers.iter().enumerate() {
            if self.peers[..index].contains(address) {
                return Err(UsageError(format!("--peers names {address} twice")));
            }
        }
        let peers = Arc::new(Peers::new(self.connect(HttpPeer::new)?, self.names.clone()));
        let named = if self.keep_named {
            let stores = self.connect(HttpPeer::connecting_each_time)?;
            Some(Arc::new(NamedImages::new(peers.clone(), stores)))
        } else {
            None
        };
        Ok(PeerSettings { peers: Some(peers), named })
    }

    fn connect(
        &self,
        connect: fn(PeerAddress) -> Result<HttpPeer, PeerError>,
    ) -> Result<Vec<Arc<dyn Peer>>, UsageError> {
        let connected = self.peers.iter().map(|address| match connect(*address) {
            Ok(peer) => Ok(Arc::new(peer) as Arc<dyn Peer>),
            Err(error) => Err(UsageError(WithCauses(&error).to_string())),
        });
        connected.collect()
    }
}
