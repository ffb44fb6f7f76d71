//! Blobs of one repository of an upstream.

use std::sync::Arc;

use quinistry_fetch::{Answered, Source, SourceError, Turn, TurnWait, Wanted, hops};
use quinistry_oci::{Digest, RepositoryName};
use reqwest::{Method, StatusCode};

use crate::answer;
use crate::body;
use crate::exchange::{Part, target_of};
use crate::remote::Inner;

/// Blobs of a repository, on behalf of one request. A fetch, which other requests share, goes on with its number of
/// hops.
#[derive(Debug)]
pub(crate) struct RemoteBlobs {
    remote: Arc<Inner>,
    repository: RepositoryName,
    hops: u32,
}

// === impl RemoteBlobs ===

impl RemoteBlobs {
    pub(crate) fn new(remote: Arc<Inner>, repository: RepositoryName, hops: u32) -> Self {
        Self { remote, repository, hops }
    }
}

impl Source for RemoteBlobs {
    fn name(&self) -> &str {
        &self.remote.name
    }

    fn turn(&self) -> TurnWait<'_> {
        Box::pin(async { Box::new(self.remote.connections.for_blob().await) as Turn })
    }

    fn open(&self, wanted: Wanted) -> Answered<'_> {
        Box::pin(async move {
            let remote = &self.remote;
            let url = remote.trust.url(&format!("{}/blobs/{}", self.repository, wanted.digest));
            let mut question = Inner::question(Method::GET, url, &self.repository, self.hops)?;
            question.part = match wanted.validator {
                Some(validator) if wanted.from > 0 => Some(Part { from: wanted.from, validator }),
                _ => None,
            };
            let reply = remote.ask(&question).await?;
            let status = reply.response.status();
            if !matches!(status, StatusCode::OK | StatusCode::PARTIAL_CONTENT) {
                return Err(reply.failure());
            }
            let asked_from = reply.has_range.then_some(wanted.from);
            let target = target_of(reply.response.url());
            let head = answer::blob_head(status, reply.response.headers(), &target, asked_from)?;
            Ok((head.answer, body::stream(reply.response, head.part)))
        })
    }
}

impl Inner {
    pub(crate) async fn head_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<u64>, SourceError> {
        let url = self.trust.url(&format!("{repository}/blobs/{digest}"));
        let question = Self::question(Method::HEAD, url, repository, hops::current())?;
        let _connection = self.connections.for_question().await;
        let reply = self.ask(&question).await?.expect_ok()?;
        answer::refuse_encoding(reply.response.headers())?;
        Ok(answer::length(reply.response.headers()))
    }
}
