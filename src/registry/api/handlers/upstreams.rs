//! Reads of repositories of upstreams: content that is stored is sent as that of any repository; other content is
//! fetched, or only its headers are.

mod lists;

use std::ops::ControlFlow;

use axum::body::Body;
use axum::response::Response;
use futures_util::StreamExt as _;
use http::header::{CONTENT_LENGTH, WARNING};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method};
use quinistry_fetch::{FetchError, Fetched};
use quinistry_oci::{Content, Digest, Reference, WithCauses};
use quinistry_store::StoreError;

use super::blobs::sends_content;
use super::{blobs, manifests};
use crate::api::query::Query;
use crate::api::references;
use crate::api::response::error::Error;
use crate::api::response::served_content::{DIGEST, ServedContent};
use crate::api::route::Route;
use crate::auth::caller::Caller;
use crate::metrics::ContentCounts;
use crate::notifications::{AnnouncedManifest, Announcer, References};
use crate::upstreams::{BlobAnswer, Located, ManifestAnswer, Namespace, is_absence};
use crate::{LimitedStore, Settings};

/// Namespace that an answer is of (distribution-spec, section Registry Proxying).
const NAMESPACE: HeaderName = HeaderName::from_static("oci-namespace");

/// Warning of an answer that the upstream has not confirmed (RFC 7234, 5.5.1).
const STALE: HeaderValue = HeaderValue::from_static("110 - \"Response is Stale\"");

/// Request for a repository of an upstream.
#[derive(Clone, Copy)]
pub(crate) struct UpstreamRequest<'a> {
    pub(crate) stored: &'a LimitedStore,
    pub(crate) settings: &'a Settings,
    pub(crate) caller: &'a Caller,
    pub(crate) announcer: &'a Announcer,
    pub(crate) located: &'a Located,
    pub(crate) request: &'a Parts,
}

/// Adds the namespace to an answer, if the client has named one.
pub(crate) fn note_namespace(response: &mut Response, namespace: Option<&Namespace>) {
    let namespace = namespace.map(|namespace| HeaderValue::try_from(namespace.as_str()));
    if let Some(Ok(namespace)) = namespace {
        response.headers_mut().insert(NAMESPACE, namespace);
    }
}

impl UpstreamRequest<'_> {
    /// Answers GET and HEAD.
    pub(crate) async fn read(self, route: Route) -> Result<Response, Error> {
        if !self.located.repository.is_allowed {
            return Err(Error::NameUnknown);
        }
        let query = Query::from_uri(&self.request.uri);
        match route {
            Route::Manifest { reference, .. } => self.manifest(&reference).await,
            Route::Blob { digest, .. } => self.blob(&digest).await,
            Route::Tags { .. } => self.tags(query).await,
            Route::Referrers { digest, .. } => self.referrers(&digest, query).await,
            Route::Uploads { .. } | Route::Upload { .. } => Err(Error::UploadUnknown),
            Route::Base | Route::Catalog => Err(Error::NameUnknown),
        }
    }

    /// Answers a peer, which asks by digest, by what is stored; `None` if that is nothing.
    pub(crate) async fn read_stored(self, route: &Route) -> Option<Response> {
        let Self { stored, settings, caller, announcer, located, request } = self;
        if !located.repository.is_allowed {
            return None;
        }
        let found = match route {
            Route::Manifest { reference, .. } => {
                let is_digest = matches!(references::reference(reference), Ok(Some(Reference::Digest(_))));
                let name = is_digest.then(|| located.repository.name.clone())?;
                manifests::get(stored, (settings, caller, announcer), name, reference, request).await
            }
            Route::Blob { digest, .. } => self.stored_blob(digest).await,
            _ => return None,
        };
        found.ok()
    }

    fn is_head(self) -> bool {
        self.request.method == Method::HEAD
    }

    async fn manifest(self, text: &str) -> Result<Response, Error> {
        let Self { stored, settings, announcer, located, request, .. } = self;
        let reference = references::reference(text)?.ok_or(Error::ManifestUnknown)?;
        let repository = &located.repository.name;
        let tag = match &reference {
            Reference::Tag(tag) => Some(tag),
            Reference::Digest(_) => None,
        };
        let counts = &located.upstream.counts(stored).manifests;
        let may_store = !settings.read_only;
        let how = (self.is_head(), may_store);
        let ask = || located.upstream.manifest(stored, &located.repository, &reference, how);
        let answer = ask().await;
        count(counts, matches!(answer, Ok(ManifestAnswer::Stored { is_fetched: false, .. })));
        let mut answer = answer?;
        let mut found = self.stored_manifest(text, &answer).await;
        if matches!(&found, Some(Err(Error::Store(error))) if is_absence(error)) {
            // Evicted, or deleted by a client, since the store was asked.
            answer = ask().await?;
            found = self.stored_manifest(text, &answer).await;
        }
        let response = match answer {
            ManifestAnswer::Stored { is_stale, .. } => {
                let response = found.ok_or(Error::Internal)??;
                self.note_use(&response);
                if is_stale { stale(response) } else { response }
            }
            ManifestAnswer::Head(head) => {
                let (digest, media_type, size) = (&head.digest, head.media_type, head.length);
                let response = ServedContent::manifest_head(digest, media_type, size).respond(request)?;
                if sends_content(&response) {
                    let manifest = AnnouncedManifest { repository, digest, media_type, size };
                    // The parts are not known: only the headers were asked for.
                    announcer.pulled_manifest(manifest, References::default(), tag);
                }
                response
            }
            // Counted by the upstream until the budget of responses counts it.
            ManifestAnswer::Unstored(held) => {
                let fetched = &held.verified;
                let content: Content = [fetched.bytes.clone()].into();
                let (digest, media_type) = (&fetched.digest, fetched.manifest.media_type);
                let served = ServedContent::manifest(digest, media_type, &content);
                let response = send(&served.unstored(), request).await?;
                if sends_content(&response) {
                    let size = content.len();
                    let manifest = AnnouncedManifest { repository, digest, media_type, size };
                    manifests::announce_pull(stored, announcer, manifest, &content, tag).await;
                }
                response
            }
        };
        Ok(self.sent(response, counts))
    }

    /// Answers by the stored manifest, if the upstream's answer is that the store has it.
    async fn stored_manifest(self, text: &str, answer: &ManifestAnswer) -> Option<Result<Response, Error>> {
        let Self { stored, settings, caller, announcer, located, request } = self;
        if !matches!(answer, ManifestAnswer::Stored { .. }) {
            return None;
        }
        let name = located.repository.name.clone();
        Some(manifests::get(stored, (settings, caller, announcer), name, text, request).await)
    }

    /// Notes the use of the manifest that an answer has. A `HEAD` counts: kubelets send no more for an image that their
    /// node has.
    fn note_use(self, response: &Response) {
        let digest = response.headers().get(DIGEST).and_then(|digest| digest.to_str().ok()?.parse().ok());
        if let Some(digest) = digest {
            self.located.upstream.note_use(self.stored, &self.located.repository.name, &digest);
        }
    }

    async fn blob(self, text: &str) -> Result<Response, Error> {
        let Self { stored, settings, located, request, .. } = self;
        let digest = references::digest(text)?.ok_or(Error::BlobUnknown)?;
        let counts = &located.upstream.counts(stored).blobs;
        let found = self.stored_blob(text).await;
        count(counts, found.is_ok());
        if found.is_ok() {
            located.upstream.note_sent(&digest);
        }
        let response = match found {
            Err(Error::Store(StoreError::BlobUnknown | StoreError::RepositoryUnknown)) => {
                if self.is_head()
                    && let Some(length) =
                        located.upstream.blob_length(stored, &located.repository, &digest).await?
                {
                    let response = ServedContent::blob_of_length(&digest, length).respond(request)?;
                    if sends_content(&response) {
                        self.announcer.pulled_blob(&located.repository.name, &digest, length);
                    }
                    return Ok(response);
                }
                let may_store = !settings.read_only;
                let opened = located.upstream.open_blob(stored, &located.repository, &digest, may_store);
                match opened.await? {
                    BlobAnswer::Stored => self.stored_blob(text).await?,
                    BlobAnswer::Fetched(fetched) => {
                        let length = fetched.length();
                        let of = digest.clone();
                        let response = stream(fetched, &digest, request, move |error| {
                            tracing::warn!(digest = %of, error = %WithCauses(error), "failed to fetch blob, response cut off");
                        })?;
                        if sends_content(&response) {
                            self.announcer.pulled_blob(&located.repository.name, &digest, length);
                        }
                        response
                    }
                }
            }
            found => found?,
        };
        Ok(self.sent(response, counts))
    }

    async fn stored_blob(self, digest: &str) -> Result<Response, Error> {
        let name = self.located.repository.name.clone();
        blobs::get(self.stored, (self.settings.redirects, self.announcer), name, digest, self.request).await
    }

    /// Counts the bytes of an answer's body.
    fn sent(self, response: Response, counts: &ContentCounts) -> Response {
        let length = response.headers().get(CONTENT_LENGTH).filter(|_| !self.is_head());
        let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
        if response.status().is_success() {
            counts.pushed_bytes.add(length.unwrap_or_default());
        }
        response
    }
}

fn count(counts: &ContentCounts, is_hit: bool) {
    counts.requests.increment();
    if is_hit { &counts.hits } else { &counts.misses }.increment();
}

/// Marks an answer that the upstream has not confirmed.
fn stale(mut response: Response) -> Response {
    response.headers_mut().insert(WARNING, STALE);
    response
}

/// Sends content in memory, once the memory budget permits it.
pub(super) async fn send(served: &ServedContent, request: &Parts) -> Result<Response, Error> {
    let mut permit = None;
    loop {
        match served.clone().respond_within_budget(request, permit)? {
            ControlFlow::Break(response) => return Ok(response),
            ControlFlow::Continue(wait) => permit = Some(wait.permit().await?),
        }
    }
}

/// Sends a blob, or a range of it, while it is fetched. `note` hears of an error that cuts the response off.
pub(super) fn stream(
    fetched: Fetched,
    digest: &Digest,
    request: &Parts,
    note: impl Fn(&FetchError) + Send + 'static,
) -> Result<Response, Error> {
    let served = ServedContent::blob_of_length(digest, fetched.length());
    served.respond_with(request, move |range| {
        let pieces = fetched.read(range).into_stream();
        // The connection is cut off, so that half a blob does not look like a whole one.
        Body::from_stream(pieces.inspect(move |piece| {
            if let Err(error) = piece {
                note(error);
            }
        }))
    })
}
