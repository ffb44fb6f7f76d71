//! Reads of repositories that peers may have: this registry's own content first, and else that of a peer.

use std::sync::Arc;

use axum::response::Response;
use http::Method;
use http::request::Parts;
use quinistry_fetch::hops::MAX_HOPS;
use quinistry_oci::{Content, Digest, Reference, RepositoryName};
use quinistry_store::StoreError;

use super::{blobs, listing, manifests, upstreams};
use crate::api::query::Query;
use crate::api::references;
use crate::api::response::error::Error;
use crate::api::response::served_content::ServedContent;
use crate::api::route::Route;
use crate::auth::caller::Caller;
use crate::notifications::Announcer;
use crate::peers::{PeerRepository, Peers};
use crate::{LimitedStore, Settings};

/// Read of a repository that peers may have.
#[derive(Clone, Copy)]
pub(crate) struct PeerRequest<'a> {
    pub(crate) peers: &'a Arc<Peers>,
    pub(crate) repository: &'a PeerRepository,
    /// Content of this registry, if it has any beside the built-in repository.
    pub(crate) own: Option<OwnContent<'a>>,
    pub(crate) settings: &'a Settings,
    pub(crate) request: &'a Parts,
    /// Number of caches and registries that the request has passed.
    pub(crate) hops: u32,
}

/// Content of this registry, and for whom it is.
#[derive(Clone, Copy)]
pub(crate) struct OwnContent<'a> {
    pub(crate) stored: &'a LimitedStore,
    pub(crate) caller: &'a Caller,
    pub(crate) announcer: &'a Announcer,
}

impl PeerRequest<'_> {
    /// Returns true if a route is answered with the help of peers or names.
    pub(crate) const fn answers(route: &Route) -> bool {
        matches!(route, Route::Manifest { .. } | Route::Blob { .. } | Route::Tags { .. })
    }

    /// Answers GET and HEAD.
    pub(crate) async fn read(self, route: Route) -> Result<Response, Error> {
        match route {
            Route::Manifest { name, reference } => self.manifest(name, &reference).await,
            Route::Blob { name, digest } => self.blob(name, &digest).await,
            Route::Tags { name } => self.tags(name).await,
            _ => Err(Error::NameUnknown),
        }
    }

    /// Returns true if this request may be passed on. One of a peer may not: peers that ask each other would do so
    /// without end.
    const fn asks_peers(self) -> bool {
        self.hops < MAX_HOPS
    }

    async fn manifest(self, name: RepositoryName, text: &str) -> Result<Response, Error> {
        let reference = references::reference(text)?.ok_or(Error::ManifestUnknown)?;
        let digest = match (&reference, &self.repository.tags) {
            (Reference::Digest(digest), _) => digest,
            (Reference::Tag(tag), Some(tags)) => tags.get(tag).ok_or(Error::ManifestUnknown)?,
            (Reference::Tag(_), None) => {
                let OwnContent { stored, caller, announcer } = self.own.ok_or(Error::ManifestUnknown)?;
                let of = (self.settings, caller, announcer);
                return manifests::get(stored, of, name, text, self.request).await;
            }
        };
        if let Some(OwnContent { stored, caller, announcer }) = self.own {
            let of = (self.settings, caller, announcer);
            let found = manifests::get(stored, of, name.clone(), digest.as_str(), self.request).await;
            if !is_absence(&found) {
                return found;
            }
        }
        if !self.asks_peers() {
            return Err(Error::ManifestUnknown);
        }
        let own = self.own.map(|own| own.stored);
        let manifest = self.peers.complete_manifest(own, &name, digest).await?;
        let manifest = manifest.ok_or(Error::ManifestUnknown)?;
        let content: Content = [manifest.bytes].into();
        let served = ServedContent::manifest(digest, manifest.media_type, &content);
        upstreams::send(&served.unstored(), self.request).await
    }

    async fn blob(self, name: RepositoryName, text: &str) -> Result<Response, Error> {
        let digest: Digest = references::digest(text)?.ok_or(Error::BlobUnknown)?;
        if let Some(OwnContent { stored, announcer, .. }) = self.own {
            let of = (self.settings.redirects, announcer);
            let found = blobs::get(stored, of, name.clone(), text, self.request).await;
            if !is_absence(&found) {
                return found;
            }
        }
        if !self.asks_peers() {
            return Err(Error::BlobUnknown);
        }
        if self.request.method == Method::HEAD {
            let length = self.peers.blob_length(&name, &digest, None).await?.ok_or(Error::BlobUnknown)?;
            return ServedContent::blob_of_length(&digest, length).respond(self.request);
        }
        let opened = self.peers.open_blob(&name, &digest).await?.ok_or(Error::BlobUnknown)?;
        let observer = opened.observer(self.peers);
        upstreams::stream(opened.fetched, &digest, self.request, observer)
    }

    async fn tags(self, name: RepositoryName) -> Result<Response, Error> {
        let (query, pages) = (Query::from_uri(&self.request.uri), self.settings.pages);
        match (&self.repository.tags, self.own) {
            (Some(tags), _) => listing::known_tags(&name, &tags.sorted(), query, pages).await,
            (None, Some(own)) => listing::tags(own.stored, name, query, pages).await,
            (None, None) => Err(Error::NameUnknown),
        }
    }
}

/// Returns true if the store does not have the content, or only damaged bytes of it.
fn is_absence(found: &Result<Response, Error>) -> bool {
    matches!(
        found,
        Err(Error::Store(
            StoreError::RepositoryUnknown
                | StoreError::ManifestUnknown
                | StoreError::BlobUnknown
                | StoreError::Damaged(_)
        ))
    )
}
