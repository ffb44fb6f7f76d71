//! Stored manifests and tags (distribution-spec, end-3, end-7 and end-9).

use axum::body::Body;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_TYPE, LOCATION};
use http::request::Parts;
use http::{HeaderName, StatusCode};
use tokio::sync::OwnedSemaphorePermit;

use super::entity::{DIGEST, Entity, ascii};
use super::error::Error;
use super::intake::{Intake, length_of};
use super::query::Query;
use super::{Stored, asked, body};
use crate::oci::{Algorithm, Digest, Manifest, Reference, ReferenceError, RepositoryName, Tag};
use crate::segments::Segments;
use crate::store::{StoreError, Tagged};

const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
const TAG: HeaderName = HeaderName::from_static("oci-tag");

/// Most tags that one request may set.
const MAX_TAGS: usize = 100;

/// GET and HEAD.
pub(super) async fn get(
    stored: &Stored,
    name: RepositoryName,
    reference: &str,
    request: &Parts,
) -> Result<Response, Error> {
    let reference = asked::reference(reference)?.ok_or(Error::ManifestUnknown)?;
    let manifest = match stored.store.manifest_at_hand(&name, &reference) {
        Some(manifest) => manifest,
        None => stored.run(move |store| store.manifest(&name, &reference)).await?,
    };
    let content = Segments::from([manifest.bytes]);
    Entity::manifest(&manifest.digest, manifest.media_type, &content).answer(request)
}

/// PUT, by tag or digest, with further tags in the query.
pub(super) async fn put(
    stored: &Stored,
    name: RepositoryName,
    reference: &str,
    request: &Parts,
    body: &mut Body,
) -> Result<Response, Error> {
    let reference: Reference = reference.parse().map_err(|error| match error {
        ReferenceError::Digest(error) => Error::Digest(error),
        ReferenceError::Tag(error) => Error::Tag(error),
    })?;
    let more: Vec<Tag> = Query::of(&request.uri)
        .all("tag")
        .take(MAX_TAGS + 1)
        .map(|tag| tag.parse())
        .collect::<Result<_, _>>()
        .map_err(Error::Tag)?;
    if more.len() > MAX_TAGS {
        return Err(Error::TooManyTags(MAX_TAGS));
    }
    let (bytes, room) = receive(stored, request, body).await?;
    let digest = match &reference {
        Reference::Digest(digest) if digest.matches(&bytes) => digest.clone(),
        Reference::Digest(wanted) => {
            let found = Digest::of(wanted.algorithm(), &bytes);
            return Err(StoreError::Differs { wanted: wanted.clone(), found }.into());
        }
        Reference::Tag(_) => Digest::of(Algorithm::Sha256, &bytes),
    };
    let content_type = request.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let content_type = content_type.map(|value| value.split(';').next().unwrap_or_default().trim());
    let manifest = Manifest::parse(&bytes, content_type)?;

    let mut response = body::empty(StatusCode::CREATED);
    let headers = response.headers_mut();
    headers.insert(LOCATION, ascii(format!("/v2/{name}/manifests/{digest}")));
    headers.insert(DIGEST, ascii(digest.to_string()));
    if let Some(subject) = &manifest.subject {
        headers.insert(SUBJECT, ascii(subject.to_string()));
    }
    for tag in &more {
        headers.append(TAG, ascii(tag.to_string()));
    }
    let mut tags = more;
    if let Reference::Tag(tag) = reference {
        tags.insert(0, tag);
    }
    let repository = name.clone();
    stored
        .change(&repository, move |store| {
            // Also if the client is gone meanwhile, the bytes are there until this is done.
            let _room = room;
            store.put_manifest(&name, &bytes, &manifest, Tagged { digest: &digest, tags: &tags })
        })
        .await?;
    Ok(response)
}

/// DELETE: of a tag the tag alone, of a digest the manifest and all of its tags.
pub(super) async fn delete(
    stored: &Stored,
    name: RepositoryName,
    reference: &str,
) -> Result<Response, Error> {
    let reference = asked::reference(reference)?.ok_or(Error::ManifestUnknown)?;
    let repository = name.clone();
    stored
        .change(&repository, move |store| match &reference {
            Reference::Tag(tag) => store.delete_tag(&name, tag),
            Reference::Digest(digest) => store.delete_manifest(&name, digest),
        })
        .await?;
    Ok(body::empty(StatusCode::ACCEPTED))
}

/// All of a manifest, which must fit into memory: with the room that it takes there.
async fn receive(
    stored: &Stored,
    request: &Parts,
    body: &mut Body,
) -> Result<(Bytes, Option<OwnedSemaphorePermit>), Error> {
    if length_of(request).is_some_and(|length| length > Manifest::MAX_LEN as u64) {
        return Err(Error::ManifestTooLong);
    }
    let mut intake = Intake::new(body, &stored.options);
    let mut bytes = BytesMut::new();
    let mut room: Option<OwnedSemaphorePermit> = None;
    while let Some(data) = intake.next().await? {
        if bytes.len() + data.len() > Manifest::MAX_LEN {
            return Err(Error::ManifestTooLong);
        }
        let more = u32::try_from(data.len()).expect("no longer than a manifest");
        let permit =
            stored.manifests.clone().try_acquire_many_owned(more).map_err(|_| Error::TooMuchAtOnce)?;
        match &mut room {
            Some(room) => room.merge(permit),
            None => room = Some(permit),
        }
        bytes.extend_from_slice(&data);
    }
    Ok((bytes.freeze(), room))
}
