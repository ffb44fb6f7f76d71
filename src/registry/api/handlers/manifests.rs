//! Stored manifests and tags (distribution-spec, end-3, end-7 and end-9).

use std::ops::ControlFlow;

use axum::body::Body;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_TYPE, LOCATION};
use http::request::Parts;
use http::{HeaderName, StatusCode};
use quinistry_http::memory_budget::{MemoryBudget, PERMIT_TIMEOUT, Permit};
use quinistry_oci::{Algorithm, Digest, Manifest, Reference, ReferenceError, RepositoryName, Tag};
use quinistry_store::{StoreError, Tagged};
use tokio::time::Instant;

use crate::api::query::Query;
use crate::api::references;
use crate::api::request_body::{Intake, length_of};
use crate::api::response::body;
use crate::api::response::error::Error;
use crate::api::response::served_content::{DIGEST, Entity, ascii};
use crate::memory_budgets::{LONG_MANIFESTS, SHORT_MANIFEST, SHORT_MANIFESTS};
use crate::{Stored, blocking};

const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
const TAG: HeaderName = HeaderName::from_static("oci-tag");

/// Most tags that one request may set.
const MAX_TAGS: usize = 100;

/// Longest manifest that is hashed and parsed where the request is answered, in bytes. Longer ones would let
/// other connections wait.
const MAX_INLINE: usize = 16 * 1024;

/// GET and HEAD.
pub(crate) async fn get(
    stored: &Stored,
    name: RepositoryName,
    reference: &str,
    request: &Parts,
) -> Result<Response, Error> {
    let reference = references::reference(reference)?.ok_or(Error::ManifestUnknown)?;
    let mut share = None;
    loop {
        let entity = find(stored, &name, &reference).await?;
        match entity.answer_with_room(request, share)? {
            ControlFlow::Break(response) => return Ok(response),
            ControlFlow::Continue(wait) => share = Some(wait.share().await?),
        }
    }
}

async fn find(stored: &Stored, name: &RepositoryName, reference: &Reference) -> Result<Entity, Error> {
    let manifest = if let Some(manifest) = stored.store.manifest_at_hand(name, reference) {
        manifest
    } else {
        let _turn = stored.reads.acquire().await.expect("the semaphore is never closed");
        let (name, reference) = (name.clone(), reference.clone());
        stored.run(move |store| store.manifest(&name, &reference)).await?
    };
    Ok(Entity::manifest(&manifest.digest, manifest.media_type, &manifest.content).on_disk())
}

/// PUT, by tag or digest, with further tags in the query.
pub(crate) async fn put(
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
    let content_type =
        request.headers.get(CONTENT_TYPE).and_then(|value| without_parameters(value.as_bytes()));
    let (digest, manifest) = if bytes.len() <= MAX_INLINE {
        check(&bytes, &reference, content_type)?
    } else {
        let _turn = stored.checks.acquire().await.expect("the semaphore is never closed");
        let content_type = content_type.map(ToOwned::to_owned);
        let (bytes, reference) = (bytes.clone(), reference.clone());
        blocking(move || check(&bytes, &reference, content_type.as_deref())).await?
    };

    let mut response = body::empty(StatusCode::CREATED);
    let headers = response.headers_mut();
    headers.insert(LOCATION, ascii(format!("/v2/{name}/manifests/{digest}")));
    headers.insert(DIGEST, ascii(digest.to_string()));
    if let Some(subject) = &manifest.subject {
        headers.insert(SUBJECT, ascii(subject.to_string()));
    }
    for tags in tag_fields(&more) {
        headers.append(TAG, ascii(tags));
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
pub(crate) async fn delete(
    stored: &Stored,
    name: RepositoryName,
    reference: &str,
) -> Result<Response, Error> {
    let reference = references::reference(reference)?.ok_or(Error::ManifestUnknown)?;
    let repository = name.clone();
    stored
        .change(&repository, move |store| match &reference {
            Reference::Tag(tag) => store.delete_tag(&name, tag),
            Reference::Digest(digest) => store.delete_manifest(&name, digest),
        })
        .await?;
    Ok(body::empty(StatusCode::ACCEPTED))
}

/// Hashes and parses a manifest: returns its digest, which is that of the reference if it names one, and what
/// it says.
fn check(
    bytes: &[u8],
    reference: &Reference,
    content_type: Option<&str>,
) -> Result<(Digest, Manifest), Error> {
    let digest = match reference {
        Reference::Digest(digest) if digest.matches(bytes) => digest.clone(),
        Reference::Digest(wanted) => {
            let found = Digest::of(wanted.algorithm(), bytes);
            return Err(StoreError::Differs { wanted: wanted.clone(), found }.into());
        }
        Reference::Tag(_) => Digest::of(Algorithm::Sha256, bytes),
    };
    Ok((digest, Manifest::parse(bytes, content_type)?))
}

/// Returns the values of the header fields that name these tags: one field each, or where they are many,
/// several tags to a field (RFC 9110, 5.3). Clients refuse an answer of more than 100 fields.
fn tag_fields(tags: &[Tag]) -> impl Iterator<Item = String> {
    const MAX_FIELDS: usize = 50;
    let per_field = tags.len().div_ceil(MAX_FIELDS).max(1);
    tags.chunks(per_field).map(|tags| tags.iter().map(Tag::to_string).collect::<Vec<_>>().join(", "))
}

/// MemoryBudget in memory for a manifest that comes in.
#[derive(Debug, Default)]
struct ManifestRoom {
    short: Option<Permit>,
    long: Option<Permit>,
}

impl ManifestRoom {
    /// Takes room for `more` bytes behind the first `before`, and returns the room of the last of them.
    async fn extend(&mut self, before: usize, more: usize) -> Result<&'static MemoryBudget, Error> {
        let short = SHORT_MANIFEST.saturating_sub(before).min(more);
        for (share, room, bytes) in
            [(&mut self.short, &SHORT_MANIFESTS, short), (&mut self.long, &LONG_MANIFESTS, more - short)]
        {
            if bytes > 0 {
                let taken = room.acquire(bytes, PERMIT_TIMEOUT).await.ok_or(Error::TooMuchAtOnce)?;
                match share {
                    Some(share) => share.merge(taken),
                    None => *share = Some(taken),
                }
            }
        }
        Ok(if more > short { &LONG_MANIFESTS } else { &SHORT_MANIFESTS })
    }
}

/// Receives a manifest, all of which must fit into memory, with the room that it takes there.
async fn receive(stored: &Stored, request: &Parts, body: &mut Body) -> Result<(Bytes, ManifestRoom), Error> {
    if length_of(request).is_some_and(|length| length > Manifest::MAX_LEN as u64) {
        return Err(Error::ManifestTooLong);
    }
    let mut intake = Intake::new(body, &stored.options);
    let mut bytes = BytesMut::new();
    let mut room = ManifestRoom::default();
    while let Some(data) = intake.next().await? {
        if bytes.len() + data.len() > Manifest::MAX_LEN {
            return Err(Error::ManifestTooLong);
        }
        let asked = Instant::now();
        let taken_of = room.extend(bytes.len(), data.len()).await?;
        intake.excuse(asked.elapsed());
        intake.takes_room_of(taken_of);
        bytes.extend_from_slice(&data);
    }
    Ok((bytes.freeze(), room))
}

/// Returns a media type without its parameters, which may hold any bytes (RFC 9110 section 5.5, `obs-text`).
fn without_parameters(value: &[u8]) -> Option<&str> {
    let media_type = value.split(|byte| *byte == b';').next()?;
    std::str::from_utf8(media_type).ok().map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Options;
    use quinistry_store::{Memory, Store};

    async fn push(stored: &Stored, length: usize) -> StatusCode {
        let index = r#"{"schemaVersion":2,"manifests":[]}"#;
        let request = http::Request::put("/").header(CONTENT_TYPE, "application/vnd.oci.image.index.v1+json");
        let (request, ()) = request.body(()).unwrap().into_parts();
        let mut body = Body::from(format!("{index:length$}"));
        put(stored, "a/b".parse().unwrap(), "x", &request, &mut body).await.unwrap().status()
    }

    #[tokio::test]
    async fn long_manifests_are_checked_in_turn_and_short_ones_do_not_wait_for_them() {
        let stored = Stored::new(Store::open(Memory::new(1 << 20), false).unwrap(), Options::default());
        let count = u32::try_from(stored.checks.available_permits()).unwrap();
        let turns = stored.checks.acquire_many(count).await.unwrap();
        let mut long = std::pin::pin!(push(&stored, MAX_INLINE + 1));
        tokio::select! {
            biased;
            status = &mut long => panic!("{status} without a turn"),
            status = push(&stored, MAX_INLINE) => assert_eq!(status, StatusCode::CREATED),
        }
        drop(turns);
        assert_eq!(long.await, StatusCode::CREATED);
    }

    #[test]
    fn many_tags_are_named_in_fewer_fields_than_clients_read() {
        let tags: Vec<Tag> = (0..MAX_TAGS).map(|i| format!("t{i}").parse().unwrap()).collect();
        for count in [0, 1, 50, 51, 99, MAX_TAGS] {
            let fields: Vec<String> = tag_fields(&tags[..count]).collect();
            assert!(fields.len() <= 50, "{count}");
            assert_eq!(count <= 50, fields.len() == count, "{count}");
            let named: Vec<&str> = fields.iter().flat_map(|field| field.split(", ")).collect();
            assert_eq!(named, tags[..count].iter().map(ToString::to_string).collect::<Vec<_>>());
        }
    }

    #[test]
    fn parameters_of_a_media_type_do_not_matter_whatever_they_hold() {
        for value in ["a/b", "a/b ; charset=utf-8", "a/b; char\u{feff}set=x"] {
            assert_eq!(without_parameters(value.as_bytes()), Some("a/b"), "{value:?}");
        }
        assert_eq!(without_parameters(b"a/b;\xff"), Some("a/b"));
        assert_eq!(without_parameters(b"\xff;a/b"), None);
    }
}
