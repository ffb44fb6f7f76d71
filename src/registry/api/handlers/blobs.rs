//! Stored blobs (distribution-spec, end-2 and end-10).

use std::ops::ControlFlow;

use axum::response::Response;
use http::StatusCode;
use http::request::Parts;
use quinistry_oci::segments::Segments;
use quinistry_oci::{Digest, RepositoryName};

use crate::Stored;
use crate::api::references;
use crate::api::response::body;
use crate::api::response::error::Error;
use crate::api::response::served_content::Entity;

/// GET and HEAD.
pub(crate) async fn get(
    stored: &Stored,
    name: RepositoryName,
    digest: &str,
    request: &Parts,
) -> Result<Response, Error> {
    let digest = references::digest(digest)?.ok_or(Error::BlobUnknown)?;
    let mut share = None;
    loop {
        let content = match stored.store.blob_at_hand(&name, &digest) {
            Some(content) => content,
            None => look_up(stored, name.clone(), digest.clone()).await?,
        };
        let entity = Entity::blob(&digest, &content).on_disk();
        // Not held while room is waited for.
        drop(content);
        match entity.answer_with_room(request, share)? {
            ControlFlow::Break(response) => return Ok(response),
            ControlFlow::Continue(wait) => share = Some(wait.share().await?),
        }
    }
}

/// Looks a blob up. Of many requests for one that must be hashed first, one hashes it.
async fn look_up(stored: &Stored, name: RepositoryName, digest: Digest) -> Result<Segments, Error> {
    let turn = stored.blobs.wait(&digest).await;
    if let Some(content) = stored.store.blob_at_hand(&name, &digest) {
        return Ok(content);
    }
    let permit = stored.lookups.clone().acquire_owned().await.expect("the semaphore is never closed");
    stored
        .run(move |store| {
            let _held = (turn, permit);
            store.blob(&name, &digest)
        })
        .await
}

/// DELETE.
pub(crate) async fn delete(stored: &Stored, name: RepositoryName, digest: &str) -> Result<Response, Error> {
    let digest = references::digest(digest)?.ok_or(Error::BlobUnknown)?;
    let repository = name.clone();
    stored.change(&repository, move |store| store.delete_blob(&name, &digest)).await?;
    Ok(body::empty(StatusCode::ACCEPTED))
}
