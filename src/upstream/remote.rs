//! Upstream registry over HTTP: the parts that all of its questions share.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use quinistry_fetch::{ManifestHead, Source, SourceError, Told, Upstream, UpstreamManifest, hops};
use quinistry_oci::{Descriptor, Digest, Reference, RepositoryName, Tag};
use reqwest::{Method, Url};

use crate::blobs::RemoteBlobs;
use crate::connections::Connections;
use crate::credentials::CredentialSource;
use crate::error::AskError;
use crate::exchange::Question;
use crate::network::Network;
use crate::options::{Insecure, RemoteError, RemoteOptions};
use crate::tokens::Tokens;
use crate::transport::Transports;
use crate::trust::Trust;

/// Time limit for a question other than one for a blob, with its token and redirects. The caller has shorter ones where
/// clients wait.
const QUESTION_TIMEOUT: Duration = Duration::from_mins(1);

/// Upstream registry. Clones share connections and tokens.
#[derive(Clone)]
pub struct Remote {
    inner: Arc<Inner>,
}

/// State of an upstream.
pub(crate) struct Inner {
    pub(crate) name: Box<str>,
    pub(crate) trust: Trust,
    pub(crate) transports: Transports,
    pub(crate) credentials: CredentialSource,
    pub(crate) tokens: Tokens,
    /// True once the upstream has asked for credentials without a token server.
    pub(crate) wants_basic: AtomicBool,
    pub(crate) connections: Connections,
}

// === impl Remote ===

impl Remote {
    /// Creates an upstream, which is connected to when it is asked. Fails if the options contradict each other, or name
    /// a file that cannot be read.
    pub fn new(options: RemoteOptions) -> Result<Self, RemoteError> {
        Self::in_network(options, Network::of_the_machine())
    }

    pub(crate) fn in_network(options: RemoteOptions, network: Network) -> Result<Self, RemoteError> {
        if options.max_connections == 0 {
            return Err(RemoteError::NoConnections { name: options.name });
        }
        let trust = Trust::new(&options)?;
        let transports = Transports::new(&options, network)?;
        if trust.insecure() == Insecure::Public {
            tracing::warn!(upstream = %options.name, "upstream is reached without verified HTTPS");
        }
        let credentials = CredentialSource::new(options.credentials, &trust.host());
        let inner = Inner {
            name: options.name.into(),
            trust,
            transports,
            credentials,
            tokens: Tokens::default(),
            wants_basic: AtomicBool::new(false),
            connections: Connections::new(options.max_connections),
        };
        Ok(Self { inner: Arc::new(inner) })
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("name", &self.name).finish_non_exhaustive()
    }
}

// === impl Inner ===

impl Inner {
    /// Creates a question about a repository, on behalf of a request that has passed `hops` caches. Fails if these are
    /// too many.
    pub(crate) fn question(
        method: Method,
        url: Url,
        repository: &RepositoryName,
        hops: u32,
    ) -> Result<Question, SourceError> {
        let Some(hops) = hops::next(hops) else {
            return Err(SourceError::Unavailable(Box::new(AskError::Hops)));
        };
        let scope = format!("repository:{repository}:pull");
        Ok(Question { method, url, scope, accept: None, if_none_match: None, part: None, hops })
    }
}

/// Carries out a question within its time limit.
fn bounded<'a, T: 'a>(question: impl Future<Output = Result<T, SourceError>> + Send + 'a) -> Told<'a, T> {
    Box::pin(async {
        tokio::time::timeout(QUESTION_TIMEOUT, question).await.unwrap_or(Err(SourceError::Silent))
    })
}

impl Upstream for Remote {
    fn name(&self) -> &str {
        &self.inner.name
    }

    fn head_manifest<'a>(
        &'a self,
        repository: &'a RepositoryName,
        reference: &'a Reference,
        known: Option<&'a Digest>,
    ) -> Told<'a, ManifestHead> {
        bounded(self.inner.head_manifest(repository, reference, known))
    }

    fn get_manifest<'a>(
        &'a self,
        repository: &'a RepositoryName,
        reference: &'a Reference,
    ) -> Told<'a, UpstreamManifest> {
        bounded(self.inner.get_manifest(repository, reference))
    }

    fn head_blob<'a>(&'a self, repository: &'a RepositoryName, digest: &'a Digest) -> Told<'a, Option<u64>> {
        bounded(self.inner.head_blob(repository, digest))
    }

    fn tags<'a>(&'a self, repository: &'a RepositoryName, limit: usize) -> Told<'a, Vec<Tag>> {
        bounded(self.inner.tags(repository, limit))
    }

    fn referrers<'a>(
        &'a self,
        repository: &'a RepositoryName,
        subject: &'a Digest,
    ) -> Told<'a, Vec<Descriptor>> {
        bounded(self.inner.referrers(repository, subject))
    }

    fn blobs(&self, repository: &RepositoryName) -> Arc<dyn Source> {
        Arc::new(RemoteBlobs::new(self.inner.clone(), repository.clone(), hops::current()))
    }
}
