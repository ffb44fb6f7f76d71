//! Blobs of the store (distribution-spec, end-2 and end-10).

use std::ops::ControlFlow;

use axum::response::Response;
use http::request::Parts;
use http::{Method, StatusCode};
use quinistry_oci::Content;
use quinistry_oci::{Digest, RepositoryName};

use super::remote_blobs;
use crate::api::references;
use crate::api::response::body;
use crate::api::response::error::Error;
use crate::api::response::served_content::ServedContent;
use crate::{LimitedStore, Redirects};

/// Answers GET and HEAD.
pub(crate) async fn get(
    stored: &LimitedStore,
    redirects: Option<Redirects>,
    name: RepositoryName,
    digest: &str,
    request: &Parts,
) -> Result<Response, Error> {
    let digest = references::digest(digest)?.ok_or(Error::BlobUnknown)?;
    if stored.store.is_shared() {
        return Box::pin(remote_blobs::get(stored, redirects, name, digest, request)).await;
    }
    let mut permit = None;
    loop {
        let content = match stored.store.cached_blob(&name, &digest) {
            Some(content) => content,
            None => look_up(stored, name.clone(), digest.clone(), request.method == Method::HEAD).await?,
        };
        let served = ServedContent::blob(&digest, &content).with_blocking_reads();
        // Freed before the request waits for a permit.
        drop(content);
        match served.respond_within_budget(request, permit)? {
            ControlFlow::Break(response) => return Ok(response),
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
    name: RepositoryName,
    digest: &str,
) -> Result<Response, Error> {
    let digest = references::digest(digest)?.ok_or(Error::BlobUnknown)?;
    let repository = name.clone();
    stored.write_locked(&repository, move |store| store.delete_blob(&name, &digest)).await?;
    Ok(body::empty(StatusCode::ACCEPTED))
}
