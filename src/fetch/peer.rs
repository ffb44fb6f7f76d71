//! Peers: registries of the same cluster, which are asked for content by its digest alone.

use std::fmt;

use quinistry_oci::{Digest, RepositoryName};

use crate::source::{Answered, Wanted};
use crate::upstream::{Told, UpstreamManifest};

/// Registry of the same cluster that is asked for content by its digest.
///
/// Each call is one request, which an implementation sends without credentials and without following redirects. The
/// caller decides when to ask, bounds each wait by a deadline, and hashes content, so that a peer may lie or be silent.
/// Answers other than 200, 206, 429 and 5xx, and 508, mean that the peer does not have the content.
pub trait Peer: fmt::Debug + Send + Sync + 'static {
    /// Returns the name of the peer, for the log, for metrics, and to remember which peer has sent wrong content.
    fn name(&self) -> &str;

    /// Returns the peer with a connection of its own for each request. Behind the address of a service are several stores,
    /// and a new connection may lead to another one.
    fn on_new_connections(&self) -> &dyn Peer;

    /// Asks for a manifest, of at most 4 MiB. Its bytes are not hashed yet.
    fn get_manifest<'a>(
        &'a self,
        repository: &'a RepositoryName,
        digest: &'a Digest,
    ) -> Told<'a, UpstreamManifest>;

    /// Asks for the length of a blob in bytes (`HEAD`), if the peer says it.
    fn head_blob<'a>(&'a self, repository: &'a RepositoryName, digest: &'a Digest) -> Told<'a, Option<u64>>;

    /// Asks for a blob from an offset to its end.
    fn open_blob<'a>(&'a self, repository: &'a RepositoryName, wanted: Wanted) -> Answered<'a>;
}
