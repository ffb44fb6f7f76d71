//! Registry client: pull, push, list and verify, against any registry.
//!
//! All content is checked against its digest before it counts, every body and loop has a bound, and
//! credentials go to no host but the registry's own and the token server that it names. Writes files only
//! through [`layout`](quinistry_oci::layout), prints nothing, keeps no state between programs. Called by
//! `chain`, the operator and the command line; `upstream` uses its grammar, TLS, proxies and credentials alone.
//!
//! Manifests are read first, within bounds that hold against a hostile registry; then blobs are transferred,
//! several at once, over HTTP/1.1.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use quinistry_oci::{Digest, ImageReference, RepositoryName};

mod auth;
mod blob;
mod bounds;
mod bundle;
pub mod challenge;
mod chunked;
mod copy;
mod credentials;
mod endpoint;
mod error;
pub mod headers;
mod lists;
mod load;
mod login;
mod manifest;
mod parallel;
mod probe;
mod progress;
pub mod proxy;
mod pull;
mod push;
pub mod redirect;
mod referrers;
mod referrers_tag;
mod request;
mod retry;
mod selection;
mod source;
mod tls;
mod token_response;
mod transport;
mod tree;
mod unpack;
mod upload;
mod verify;

pub use blob::BlobStream;
pub use bundle::{Missing, MissingReason, NotServed, NotServedReason, Survey, SurveyedImage, TagConflict};
pub use copy::CopyReport;
pub use credentials::{CredentialError, Credentials, DockerConfig, Secret};
pub use endpoint::Resolver;
pub use error::{BoxError, Cause, ClientError, Hint};
pub use lists::next_page;
pub use load::{Bundle, BundleFault, BundleFaultReason, BundleReadError, BundledImage, LoadReport};
pub use login::LoginCheck;
pub use manifest::{Document, MAX_MANIFEST_BYTES, Manifest};
pub use parallel::BLOBS_AT_ONCE;
pub use progress::{Outcome, Progress};
pub use pull::Selected;
pub use push::PushReport;
pub use selection::{InvalidSelection, Selection};
pub use source::{BlobLocation, LayoutSource, PushSource, RemoteSource};
pub use tls::{
    ClientCertificate, TlsFault, TlsOptions, authorities_of_the_machine, default_configuration, host_folders,
    tls_configuration, verifier_of_nothing,
};
pub use token_response::TokenResponse;
pub use transport::{USER_AGENT, client_builder};
pub use verify::VerifyReport;

use endpoint::{Endpoint, Scheme};
use transport::Transports;

/// Options for reaching registries.
#[derive(Clone, Debug, Default)]
pub struct ClientOptions {
    /// Use plain HTTP for every registry; without it only for those on this machine's loopback.
    pub plain_http: bool,
    /// Certificates to trust and to present.
    pub tls: TlsOptions,
    /// Configuration with credentials. Without one, all requests are anonymous.
    pub config: Option<DockerConfig>,
    /// Treat hosts as pods of the operator's own cluster, whose addresses come and go and whose content is
    /// not trusted: requests go without a proxy, once and with short time limits, follow no redirects or
    /// challenges, and leave nothing in caches.
    pub peers: bool,
}

/// Registry client. Clones share connections, tokens and knowledge of registries.
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    transports: Transports,
    scheme: Scheme,
    peers: bool,
    auth: auth::Auth,
    /// Repository in which a blob of a host has been seen, to mount the blob from there.
    seen: Mutex<HashMap<(String, Digest), RepositoryName>>,
}

// === impl Client ===

impl Client {
    /// Creates a client, which connects to registries when it is used.
    pub fn new(options: ClientOptions) -> Result<Self, ClientError> {
        let scheme = match (options.plain_http, options.tls.demands_tls()) {
            (true, _) => Scheme::Http,
            (false, true) => Scheme::Https,
            (false, false) => Scheme::ByHost,
        };
        let transports = Transports::new(options.tls, options.peers)?;
        Ok(Self::over(transports, scheme, options.peers, options.config))
    }

    /// Creates a client of one registry that listens on a Unix socket, and is reached under any host: by plain HTTP, without
    /// credentials and without a proxy.
    pub fn over_socket(path: &Path) -> Result<Self, ClientError> {
        Ok(Self::over(Transports::over_socket(path)?, Scheme::Http, false, None))
    }

    fn over(transports: Transports, scheme: Scheme, peers: bool, config: Option<DockerConfig>) -> Self {
        let (auth, seen) = (auth::Auth::new(config), Mutex::default());
        Self { shared: Arc::new(Shared { transports, scheme, peers, auth, seen }) }
    }

    fn endpoint(&self, host: &str) -> Result<Endpoint, ClientError> {
        let shared = &self.shared;
        let mut endpoint = Endpoint::new(host, shared.scheme)?;
        // Certificates for a registry on loopback are there because it speaks TLS.
        if shared.transports.prepare(host)? && shared.scheme == Scheme::ByHost {
            endpoint = Endpoint::new(host, Scheme::Https)?;
        }
        endpoint.is_unverified = shared.transports.options().skip_verify;
        Ok(endpoint)
    }

    fn remember(&self, image: &ImageReference, digest: &Digest) {
        if self.shared.peers {
            return;
        }
        let mut seen = self.shared.seen.lock().expect("nothing panics while it is held");
        seen.insert((image.host().into(), digest.clone()), image.repository().clone());
    }

    fn seen(&self, image: &ImageReference, digest: &Digest) -> Option<RepositoryName> {
        let seen = self.shared.seen.lock().expect("nothing panics while it is held");
        seen.get(&(image.host().into(), digest.clone())).filter(|name| *name != image.repository()).cloned()
    }
}
