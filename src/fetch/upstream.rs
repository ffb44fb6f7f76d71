//! Upstreams: registries that are asked for what this one does not have.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use quinistry_oci::{Descriptor, Digest, Reference, RepositoryName, Tag};

use crate::source::{Source, SourceError};

/// Answer of an upstream.
pub type Told<'a, T> = Pin<Box<dyn Future<Output = Result<T, SourceError>> + Send + 'a>>;

/// Registry that is asked for what this one does not have.
///
/// Each call is one question, which an implementation answers by one request, beside those for its token and along
/// redirects. It repeats nothing and remembers no answers; the caller decides when to ask, shares answers, and hashes
/// content. Repositories are those of the upstream, without the prefix that they have here.
pub trait Upstream: fmt::Debug + Send + Sync + 'static {
    /// Returns the name of the upstream, without credentials, for the log and for metrics.
    fn name(&self) -> &str;

    /// Asks which manifest a reference means (`HEAD`). An upstream that would answer with `known` says only that
    /// (`If-None-Match`).
    fn head_manifest<'a>(
        &'a self,
        repository: &'a RepositoryName,
        reference: &'a Reference,
        known: Option<&'a Digest>,
    ) -> Told<'a, ManifestHead>;

    /// Asks for a manifest, of at most 4 MiB. Its bytes are not hashed yet.
    fn get_manifest<'a>(
        &'a self,
        repository: &'a RepositoryName,
        reference: &'a Reference,
    ) -> Told<'a, UpstreamManifest>;

    /// Asks for the length of a blob in bytes (`HEAD`), if the upstream says it.
    fn head_blob<'a>(&'a self, repository: &'a RepositoryName, digest: &'a Digest) -> Told<'a, Option<u64>>;

    /// Asks for the first tags of a repository, page after page, at most `limit`, in the order of the upstream.
    fn tags<'a>(&'a self, repository: &'a RepositoryName, limit: usize) -> Told<'a, Vec<Tag>>;

    /// Asks for the referrers of a manifest: by the API, else by the fallback tag of the OCI specification.
    fn referrers<'a>(
        &'a self,
        repository: &'a RepositoryName,
        subject: &'a Digest,
    ) -> Told<'a, Vec<Descriptor>>;

    /// Returns the source of the blobs of a repository.
    fn blobs(&self, repository: &RepositoryName) -> Arc<dyn Source>;
}

/// Answer of an upstream about a manifest, without the manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ManifestHead {
    /// The reference means the digest that was given as known.
    Unchanged,
    /// The reference means this manifest.
    Found(ManifestHeaders),
}

/// Headers of a manifest, as far as the upstream says them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ManifestHeaders {
    /// Digest of the bytes (`Docker-Content-Digest`).
    pub digest: Option<Digest>,
    /// Type of the manifest (`Content-Type`).
    pub media_type: Option<String>,
    /// Length of the bytes (`Content-Length`).
    pub length: Option<u64>,
}

/// Manifest as an upstream has sent it; nothing is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamManifest {
    /// Headers of the answer.
    pub headers: ManifestHeaders,
    /// Bytes of the manifest.
    pub bytes: Bytes,
}
