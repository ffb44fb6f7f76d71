//! Uploads of blobs: whether a blob is there, and the session by which it is sent. distribution-spec, section Pushing
//! Blobs.

use quinistry_oci::{Descriptor, ImageReference, RepositoryName};
use reqwest::header::{CONTENT_LENGTH, LOCATION};
use reqwest::{Method, Response, StatusCode, Url};

use super::endpoint::Endpoint;
use super::manifest::text;
use super::request::{self, Call};
use super::{Client, ClientError, retry};

/// Blob of a repository, there or to be uploaded.
pub(super) struct BlobTarget<'a> {
    client: &'a Client,
    pub(super) endpoint: Endpoint,
    pub(super) repository: String,
    blob: &'a Descriptor,
    /// True if a failed request, except for one with bytes, is sent again at once.
    is_repeatable: bool,
    /// Completes "failed to …".
    pub(super) what: String,
}

/// Session that was opened.
pub(super) struct OpenedSession {
    /// URL of the session.
    pub(super) url: Url,
    /// Least length of a chunk, in bytes, that the registry asks for.
    pub(super) min_chunk_bytes: u64,
}

/// Header by which a registry asks for chunks of some length.
const MIN_CHUNK_HEADER: &str = "oci-chunk-min-length";

/// Returns true if a session was opened, or a blob mounted.
fn is_opened(status: StatusCode) -> bool {
    matches!(status, StatusCode::CREATED | StatusCode::ACCEPTED)
}

// === impl BlobTarget ===

impl<'a> BlobTarget<'a> {
    /// Creates the target of a blob in the image's repository.
    pub(super) fn new(
        client: &'a Client,
        image: &ImageReference,
        blob: &'a Descriptor,
    ) -> Result<Self, ClientError> {
        let endpoint = client.endpoint(image.host())?;
        let repository = endpoint.repository(image);
        let what = format!("push blob {} to {}/{repository}", blob.digest, image.host());
        Ok(Self { client, endpoint, repository, blob, is_repeatable: true, what })
    }

    /// Makes each request once, for a caller that repeats requests itself.
    pub(super) fn once(self) -> Self {
        Self { is_repeatable: false, ..self }
    }

    /// Creates a request that pushes to the repository.
    pub(super) fn call(&self, method: Method, url: Url) -> Call<'_> {
        let call = Call::new(&self.what, &self.endpoint, method, url).scope(&self.repository, "pull,push");
        Call { is_repeatable: self.is_repeatable, ..call }
    }

    /// Returns true if the response to a HEAD confirms that the registry has the blob. Any other response is no
    /// failure: some stores support GET only, and the upload reports errors.
    pub(super) async fn is_there(&self) -> bool {
        let url = self.endpoint.url(&format!("/v2/{}/blobs/{}", self.repository, self.blob.digest));
        let Ok(answer) = self.client.send(&self.call(Method::HEAD, url)).await else { return false };
        let length =
            text(answer.headers(), CONTENT_LENGTH.as_str()).and_then(|length| length.parse::<u64>().ok());
        answer.status() == StatusCode::OK && length.is_none_or(|length| length == self.blob.size)
    }

    /// Opens an upload session. With `from`, the registry is asked to mount the blob from that repository of its own;
    /// `None` if it did.
    pub(super) async fn open_session(
        &self,
        from: Option<&RepositoryName>,
    ) -> Result<Option<OpenedSession>, ClientError> {
        let answer = self.request_session(from).await?;
        self.opened(answer, from.is_some()).await
    }

    /// Makes the request of [`open_session`](Self::open_session), and returns its answer, whatever that is.
    pub(super) async fn request_session(
        &self,
        from: Option<&RepositoryName>,
    ) -> Result<Response, ClientError> {
        let url = self.endpoint.url(&format!("/v2/{}/blobs/uploads/", self.repository));
        let mut call = self.call(Method::POST, url);
        let Some(from) = from else { return self.client.send(&call).await };
        let query = [("mount", self.blob.digest.as_str()), ("from", from.as_str())];
        call.url.query_pairs_mut().extend_pairs(query);
        call = call.scope(from.as_str(), "pull");
        let answer = self.client.send(&call).await;
        let is_refused = match &answer {
            // A caller that repeats requests itself repeats the mount.
            Ok(answer) if retry::is_transient(answer.status()) => self.is_repeatable,
            Ok(answer) => !is_opened(answer.status()),
            Err(error) => matches!(
                error,
                ClientError::Status { .. } | ClientError::Refused { .. } | ClientError::NoCredentials { .. }
            ),
        };
        if !is_refused {
            return answer;
        }
        // A client without access to the other repository may still send the bytes.
        call.url.set_query(None);
        call.scopes.truncate(1);
        self.client.send(&call).await
    }

    /// Returns the session that an answer opens; `None` if the registry mounted the blob as it was asked to.
    pub(super) async fn opened(
        &self,
        answer: Response,
        is_mount: bool,
    ) -> Result<Option<OpenedSession>, ClientError> {
        if !is_opened(answer.status()) {
            return Err(request::failure(&self.what, answer).await);
        }
        if answer.status() == StatusCode::CREATED && is_mount {
            return Ok(None);
        }
        let url = self.location(&answer)?.ok_or_else(|| self.protocol("an upload without a Location"))?;
        let min_chunk_bytes = text(answer.headers(), MIN_CHUNK_HEADER).and_then(|bytes| bytes.parse().ok());
        Ok(Some(OpenedSession { url, min_chunk_bytes: min_chunk_bytes.unwrap_or_default() }))
    }

    /// Returns the URL of the session in a response, if there is one. `Authorization` is sent there only if it is at
    /// the registry's own origin.
    pub(super) fn location(&self, answer: &Response) -> Result<Option<Url>, ClientError> {
        let Some(field) = answer.headers().get(LOCATION) else { return Ok(None) };
        let invalid = || self.protocol("an upload at an invalid URL");
        // The base is the last address of a chain of redirects.
        let from = answer.url();
        let url = field.to_str().ok().and_then(|field| from.join(field).ok()).ok_or_else(invalid)?;
        if !matches!(url.scheme(), "http" | "https") || (from.scheme() == "https" && url.scheme() != "https")
        {
            return Err(self.protocol("an upload at an unprotected address"));
        }
        Ok(Some(url))
    }

    /// Returns the URL that completes a session.
    pub(super) fn completing(&self, session: &Url) -> Url {
        let mut url = session.clone();
        url.query_pairs_mut().append_pair("digest", self.blob.digest.as_str());
        url
    }

    pub(super) fn protocol(&self, reason: impl Into<String>) -> ClientError {
        ClientError::Protocol { what: self.what.clone(), reason: reason.into() }
    }
}
