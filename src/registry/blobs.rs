//! Stored blobs (distribution-spec, end-2 and end-10).

use axum::response::Response;
use http::StatusCode;
use http::request::Parts;

use super::entity::Entity;
use super::error::Error;
use super::{Stored, asked, body};
use crate::oci::RepositoryName;
use crate::segments::Segments;

/// Shorter ones are read where they were found, and not in pieces.
const SHORT: u64 = 64 * 1024;

/// GET and HEAD.
pub(super) async fn get(
    stored: &Stored,
    name: RepositoryName,
    digest: &str,
    request: &Parts,
) -> Result<Response, Error> {
    let digest = asked::digest(digest)?.ok_or(Error::BlobUnknown)?;
    let wanted = digest.clone();
    let head = request.method == http::Method::HEAD;
    let content = stored.run(move |store| {
        let content = store.blob(&name, &wanted)?;
        // If it cannot be read now, it is told when it is sent.
        let short = !head && content.len() <= SHORT;
        let read = if short { content.to_bytes().ok() } else { None };
        Ok(read.map_or(content, |bytes| Segments::from([bytes])))
    });
    Entity::blob(&digest, &content.await?).on_disk().answer(request)
}

/// DELETE.
pub(super) async fn delete(stored: &Stored, name: RepositoryName, digest: &str) -> Result<Response, Error> {
    let digest = asked::digest(digest)?.ok_or(Error::BlobUnknown)?;
    stored.run(move |store| store.delete_blob(&name, &digest)).await?;
    Ok(body::empty(StatusCode::ACCEPTED))
}
