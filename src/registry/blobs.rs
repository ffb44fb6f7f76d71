//! Stored blobs (distribution-spec, end-2 and end-10).

use axum::response::Response;
use http::StatusCode;
use http::request::Parts;

use super::entity::Entity;
use super::error::Error;
use super::{Stored, asked, body};
use crate::oci::RepositoryName;

/// GET and HEAD.
pub(super) async fn get(
    stored: &Stored,
    name: RepositoryName,
    digest: &str,
    request: &Parts,
) -> Result<Response, Error> {
    let digest = asked::digest(digest)?.ok_or(Error::BlobUnknown)?;
    let content = if let Some(content) = stored.store.blob_at_hand(&name, &digest) {
        content
    } else {
        let wanted = digest.clone();
        stored.run(move |store| store.blob(&name, &wanted)).await?
    };
    Entity::blob(&digest, &content).on_disk().answer(request)
}

/// DELETE.
pub(super) async fn delete(stored: &Stored, name: RepositoryName, digest: &str) -> Result<Response, Error> {
    let digest = asked::digest(digest)?.ok_or(Error::BlobUnknown)?;
    stored.run(move |store| store.delete_blob(&name, &digest)).await?;
    Ok(body::empty(StatusCode::ACCEPTED))
}
