//! Blobs of the store (distribution-spec, end-2 and end-10).

use std::ops::ControlFlow;

use axum::response::Response;
use http::request::Parts;
use http::{Method, StatusCode};
use quinistry_oci::Content;
use quinistry_oci::{Digest, RepositoryName};
use quinistry_store::Store;

use super::remote_blobs;
use crate::api::references;
use crate::api::response::body;
use crate::api::response::error::Error;
use crate::api::response::served_content::ServedContent;
use crate::notifications::Announcer;
use crate::{LimitedStore, Redirects};

/// Answers GET and HEAD.
pub(crate) async fn get(
    stored: &LimitedStore,
    (redirects, announcer): (Option<Redirects>, &Announcer),
    name: RepositoryName,
    digest: &str,
    request: &Parts,
) -> Result<Response, Error> {
    let digest = references::digest(digest)?.ok_or(Error::BlobUnknown)?;
    if stored.store.is_shared() {
        return Box::pin(remote_blobs::get(stored, (redirects, announcer), name, digest, request)).await;
    }
    let mut permit = None;
    loop {
        let content = match stored.store.cached_blob(&name, &digest) {
            Some(content) => content,
            None => look_up(stored, name.clone(), digest.clone(), request.method == Method::HEAD).await?,
        };
        let served = ServedContent::blob(&digest, &content).with_blocking_reads();
        let size = content.len();
        // Freed before the request waits for a permit.
        drop(content);
        match served.respond_within_budget(request, permit)? {
            ControlFlow::Break(response) => {
                if sends_content(&response) {
                    announcer.pulled_blob(&name, &digest, size);
                }
                return Ok(response);
            }
            ControlFlow::Continue(wait) => permit = Some(wait.permit().await?),
        }
    }
}

/// Looks up a blob. If it must be hashed first, only one of the requests for it does so. A client that asks by HEAD may
/// skip the upload, so that the blob is held against collection.
async fn look_up(
    stored: &LimitedStore,
    name: RepositoryName,
    digest: Digest,
    is_held: bool,
) -> Result<Content, Error> {
    let turn = stored.blob_queue.wait(&digest).await;
    if let Some(content) = stored.store.cached_blob(&name, &digest) {
        return Ok(content);
    }
    let permit = stored.lookup_permits.clone().acquire_owned().await.expect("the semaphore is never closed");
    stored
        .run(move |store| {
            let _held = (turn, permit);
            let look_up = || store.blob(&name, &digest);
            if is_held { store.holding_blob(&name, &digest, look_up) } else { look_up() }
        })
        .await
}

/// Answers `DELETE /v2/<name>/blobs/<digest>`.
pub(crate) async fn delete(
    stored: &LimitedStore,
    announcer: &Announcer,
    name: RepositoryName,
    digest: &str,
) -> Result<Response, Error> {
    let digest = references::digest(digest)?.ok_or(Error::BlobUnknown)?;
    let (repository, announcer) = (name.clone(), announcer.clone());
    let delete = move |store: &Store| {
        store.delete_blob(&name, &digest)?;
        announcer.deleted_content(&name, &digest, &[]);
        Ok(())
    };
    stored.write_locked(&repository, delete).await?;
    Ok(body::empty(StatusCode::ACCEPTED))
}

/// Returns true if an answer is a pull: not if the client has the content already, or asks for a range beyond its
/// end.
pub(super) fn sends_content(response: &Response) -> bool {
    matches!(response.status(), StatusCode::OK | StatusCode::PARTIAL_CONTENT | StatusCode::TEMPORARY_REDIRECT)
}
