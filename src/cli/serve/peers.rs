//! Options of `serve` that name peers, and the file of names.

use std::path::PathBuf;
use std::sync::Arc;

use clap::ValueHint;

use crate::cli::exit::UsageError;
use crate::oci::WithCauses;
use crate::registry::{Peer, Peers};
use crate::upstream::{HttpPeer, PeerAddress};

#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub(super) struct PeerArgs {
    /// Ask these registries of the same cluster, in this order and by digest, for what this one does not have
    #[arg(long, value_name = "http://ADDRESS:PORT", value_delimiter = ',')]
    peers: Vec<PeerAddress>,

    /// Answer tags from this file: {"names":[{"name":"HOST/NAME:TAG","digest":"sha256:…"}]}, read again when it changes
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "peers")]
    names: Option<PathBuf>,
}

impl PeerArgs {
    /// Returns true if an option is given.
    pub(super) fn are_given(&self) -> bool {
        !self.peers.is_empty()
    }

    /// Returns the peers, if there are any. Reads no file, and sends no request.
    pub(super) fn peers(&self) -> Result<Option<Arc<Peers>>, UsageError> {
        if self.peers.is_empty() {
            return Ok(None);
        }
        let mut peers: Vec<Arc<dyn Peer>> = Vec::new();
        for (index, address) in self.peers.iter().enumerate() {
            if self.peers[..index].contains(address) {
                return Err(UsageError(format!("--peers names {address} twice")));
            }
            let peer = HttpPeer::new(*address).map_err(|error| UsageError(WithCauses(&error).to_string()))?;
            peers.push(Arc::new(peer));
        }
        Ok(Some(Arc::new(Peers::new(peers, self.names.clone()))))
    }
}
