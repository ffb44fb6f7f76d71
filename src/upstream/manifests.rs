//! Questions for manifests.

use quinistry_fetch::{ManifestHead, SourceError, UpstreamManifest, hops};
use quinistry_oci::{Digest, Reference, RepositoryName};
use reqwest::header::HeaderValue;
use reqwest::{Method, StatusCode};

use crate::answer::{self, MAX_MANIFEST_BYTES, invalid};
use crate::body;
use crate::exchange::{Question, Reply};
use crate::remote::Inner;
use crate::transport::host_of;

/// Types of all manifests that clients of this registry may get, whatever a client accepts: the upstream must not
/// convert a manifest for the first client, which then would be stored for all.
pub(crate) const ACCEPTED_TYPES: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json";

impl Inner {
    pub(crate) async fn head_manifest(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
        known: Option<&Digest>,
    ) -> Result<ManifestHead, SourceError> {
        let mut question = self.manifest_question(Method::HEAD, repository, reference)?;
        question.if_none_match = known.map(|known| {
            HeaderValue::try_from(format!("\"{known}\"")).expect("a digest is ASCII without quotation marks")
        });
        let _connection = self.connections.for_question().await;
        let reply = self.ask(&question).await?;
        if reply.response.status() == StatusCode::NOT_MODIFIED && known.is_some() {
            return Ok(ManifestHead::Unchanged);
        }
        let reply = reply.expect_ok()?;
        Ok(ManifestHead::Found(answer::manifest_headers(reply.response.headers())?))
    }

    pub(crate) async fn get_manifest(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> Result<UpstreamManifest, SourceError> {
        let question = self.manifest_question(Method::GET, repository, reference)?;
        let _connection = self.connections.for_question().await;
        let reply = self.ask(&question).await?.expect_ok()?;
        let headers = answer::manifest_headers(reply.response.headers())?;
        let bytes = body::read(reply.response, MAX_MANIFEST_BYTES).await?;
        if headers.length.is_some_and(|length| length != bytes.len() as u64) {
            return Err(invalid("a manifest of another length than its Content-Length"));
        }
        body::parse(bytes.clone(), answer::check_manifest).await?;
        Ok(UpstreamManifest { headers, bytes })
    }

    fn manifest_question(
        &self,
        method: Method,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> Result<Question, SourceError> {
        let url = self.trust.url(&format!("{repository}/manifests/{reference}"));
        let mut question = Self::question(method, url, repository, hops::current())?;
        question.accept = Some(HeaderValue::from_static(ACCEPTED_TYPES));
        Ok(question)
    }
}

// === impl Reply ===

impl Reply {
    /// Fails unless the status is 200.
    pub(crate) fn expect_ok(self) -> Result<Self, SourceError> {
        if self.response.status() == StatusCode::OK { Ok(self) } else { Err(self.failure()) }
    }

    /// Returns the reason for which the status is no answer.
    pub(crate) fn failure(&self) -> SourceError {
        let host = host_of(self.response.url());
        answer::failure(self.response.status(), self.response.headers(), &host, self.is_own)
    }
}
