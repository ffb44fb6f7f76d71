//! Manifests and tags of the store (distribution-spec, end-3, end-7 and end-9).

use std::collections::HashSet;
use std::ops::ControlFlow;

use axum::body::Body;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_TYPE, LOCATION};
use http::request::Parts;
use http::{HeaderName, Method, StatusCode};
use quinistry_http::memory_budget::{MemoryBudget, PERMIT_TIMEOUT, Permit, UNBUDGETED_BYTES};
use quinistry_oci::{Algorithm, Content, Digest, Manifest, Reference, ReferenceError, RepositoryName, Tag};
use quinistry_store::{Store, StoreError, StoredManifest, Tagged};
use tokio::time::Instant;

use super::blobs::sends_content;
use crate::api::authorization::unless_permitted;
use crate::api::query::Query;
use crate::api::references;
use crate::api::request_body::{RequestBody, content_length};
use crate::api::response::body;
use crate::api::response::error::Error;
use crate::api::response::served_content::{DIGEST, ServedContent, ascii};
use crate::api::validation;
use crate::auth::Right;
use crate::auth::caller::Caller;
use crate::memory_budgets::{
    LONG_MANIFEST_BUDGETS, MANIFEST_BEGINNINGS, MANIFEST_REMAINDERS, MAX_MANIFEST_BEGINNING_BYTES,
    SHORT_MANIFEST_BUDGETS,
};
use crate::notifications::{AnnouncedManifest, Announcer, References};
use crate::{LimitedStore, Settings, run_blocking};

const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
const TAG: HeaderName = HeaderName::from_static("oci-tag");

/// Most tags that one PUT may set.
const MAX_TAGS_PER_PUT: usize = 100;

/// Longest manifest that is hashed and parsed on the event loop, in bytes. A longer one would delay other
/// connections.
const MAX_INLINE_CHECK_BYTES: usize = 16 * 1024;

/// Answers GET and HEAD.
pub(crate) async fn get(
    stored: &LimitedStore,
    (settings, caller, announcer): (&Settings, &Caller, &Announcer),
    name: RepositoryName,
    reference: &str,
    request: &Parts,
) -> Result<Response, Error> {
    let reference = references::reference(reference)?.ok_or(Error::ManifestUnknown)?;
    let mut permit = None;
    loop {
        let (pulled, served) = load(stored, &name, &reference, request.method == Method::HEAD).await?;
        match served.respond_within_budget(request, permit)? {
            ControlFlow::Break(response) => {
                // A client that has the manifest already, and is told so, pulls nothing.
                if sends_content(&response) {
                    let tag = match &reference {
                        Reference::Tag(tag) => Some(tag),
                        Reference::Digest(_) => None,
                    };
                    if settings.pulls.as_ref().is_some_and(|pulls| pulls.counts(request, caller)) {
                        stored.store.note_pull(&name, &pulled.digest, tag);
                    }
                    let StoredManifest { digest, media_type, content } = &pulled;
                    let (repository, size) = (&name, content.len());
                    let manifest = AnnouncedManifest { repository, digest, media_type, size };
                    announce_pull(stored, announcer, manifest, content, tag).await;
                }
                return Ok(response);
            }
            ControlFlow::Continue(wait) => {
                // Clients that wait hold no copy of the bytes.
                drop(pulled);
                permit = Some(wait.permit().await?);
            }
        }
    }
}

/// Announces a pull of a manifest with this content.
pub(super) async fn announce_pull(
    stored: &LimitedStore,
    announcer: &Announcer,
    manifest: AnnouncedManifest<'_>,
    content: &Content,
    tag: Option<&Tag>,
) {
    let references = if announcer.wants_references() {
        read_references(stored, content).await
    } else {
        References::default()
    };
    announcer.pulled_manifest(manifest, references, tag);
}

/// Reads the parts that a manifest names; of a long one away from the event loop, which it would delay.
async fn read_references(stored: &LimitedStore, content: &Content) -> References {
    let permits = match content.as_bytes() {
        Some(bytes) if bytes.len() <= MAX_INLINE_CHECK_BYTES => return Announcer::read_references(bytes),
        Some(_) => &stored.manifest_check_permits,
        None => &stored.manifest_read_permits,
    };
    let _permit = permits.acquire().await.expect("the semaphore is never closed");
    let content = content.clone();
    // The client gets its answer, also if the content cannot be read.
    let read = move || content.to_bytes().map(|bytes| Announcer::read_references(&bytes));
    run_blocking(read).await.unwrap_or_default()
}

/// Loads a manifest. A client that asks for a digest by HEAD may skip the push, so that the manifest is held against
/// collection.
async fn load(
    stored: &LimitedStore,
    name: &RepositoryName,
    reference: &Reference,
    is_held: bool,
) -> Result<(StoredManifest, ServedContent), Error> {
    let manifest = if let Some(manifest) = stored.store.cached_manifest(name, reference) {
        manifest
    } else {
        let _permit = stored.manifest_read_permits.acquire().await.expect("the semaphore is never closed");
        let (name, reference) = (name.clone(), reference.clone());
        let look_up = move |store: &Store| {
            let look_up = || store.manifest(&name, &reference);
            match &reference {
                Reference::Digest(digest) if is_held => store.holding_manifest(&name, digest, look_up),
                _ => look_up(),
            }
        };
        stored.run(look_up).await?
    };
    let served = ServedContent::manifest(&manifest.digest, manifest.media_type, &manifest.content);
    Ok((manifest, served.with_blocking_reads()))
}

/// Answers PUT, by tag or digest, with further tags in the query.
pub(crate) async fn put(
    stored: &LimitedStore,
    (settings, caller, announcer): (&Settings, &Caller, &Announcer),
    name: RepositoryName,
    reference: &str,
    request: &Parts,
    body: &mut Body,
) -> Result<Response, Error> {
    let reference: Reference = reference.parse().map_err(|error| match error {
        ReferenceError::Digest(error) => Error::Digest(error),
        ReferenceError::Tag(error) => Error::Tag(error),
    })?;
    let mut more_tags: Vec<Tag> = Query::from_uri(&request.uri)
        .all("tag")
        .take(MAX_TAGS_PER_PUT + 1)
        .map(|tag| tag.parse())
        .collect::<Result<_, _>>()
        .map_err(Error::Tag)?;
    if more_tags.len() > MAX_TAGS_PER_PUT {
        return Err(Error::TooManyTags(MAX_TAGS_PER_PUT));
    }
    let mut seen = HashSet::new();
    more_tags.retain(|tag| seen.insert(tag.clone()));
    let (bytes, permits) = receive(settings, request, body).await?;
    let content_type = request.headers.get(CONTENT_TYPE).and_then(|value| strip_parameters(value.as_bytes()));
    let (digest, mut manifest) = if bytes.len() <= MAX_INLINE_CHECK_BYTES {
        digest_and_parse(&bytes, &reference, content_type)?
    } else {
        let _permit = stored.manifest_check_permits.acquire().await.expect("the semaphore is never closed");
        let content_type = content_type.map(ToOwned::to_owned);
        let (bytes, reference) = (bytes.clone(), reference.clone());
        run_blocking(move || digest_and_parse(&bytes, &reference, content_type.as_deref())).await?
    };
    validation::check_class(&settings.classes, &manifest)?;
    settings.validation.apply(&mut manifest)?;

    let mut response = body::empty(StatusCode::CREATED);
    let headers = response.headers_mut();
    headers.insert(LOCATION, ascii(format!("/v2/{name}/manifests/{digest}")));
    headers.insert(DIGEST, ascii(digest.to_string()));
    if let Some(subject) = &manifest.subject {
        headers.insert(SUBJECT, ascii(subject.to_string()));
    }
    for tags in tag_fields(&more_tags) {
        headers.append(TAG, ascii(tags));
    }
    let mut tags = more_tags;
    if let Reference::Tag(tag) = reference {
        tags.retain(|other| *other != tag);
        tags.insert(0, tag);
    }
    let repository = name.clone();
    let may_overwrite = caller.has(&name, Right::Overwrite);
    let announcer = announcer.clone();
    let written = stored
        .write_locked(&repository, move |store| {
            // The bytes stay in memory until this call ends, even if the client leaves before.
            let _permits = permits;
            let tagged = Tagged { digest: &digest, tags: &tags };
            if may_overwrite {
                store.put_manifest(&name, &bytes, &manifest, tagged)?;
            } else {
                store.put_manifest_without_overwrite(&name, &bytes, &manifest, tagged)?;
            }
            // In the repository's turn, so that events are in the order of the changes.
            let (repository, media_type, size) = (&name, manifest.media_type, bytes.len() as u64);
            let pushed = AnnouncedManifest { repository, digest: &digest, media_type, size };
            announcer.pushed_manifest(pushed, &bytes, &tags);
            Ok(())
        })
        .await;
    match written {
        Ok(()) => Ok(response),
        Err(Error::Store(refusal @ (StoreError::TagExists(_) | StoreError::TypeExists(_)))) => {
            unless_permitted(caller, request, &repository, &[Right::Overwrite])?;
            Err(refusal.into())
        }
        Err(error) => Err(error),
    }
}

/// Answers DELETE: a tag deletes only that tag, a digest the manifest with all of its tags.
pub(crate) async fn delete(
    stored: &LimitedStore,
    announcer: &Announcer,
    name: RepositoryName,
    reference: &str,
) -> Result<Response, Error> {
    let reference = references::reference(reference)?.ok_or(Error::ManifestUnknown)?;
    let (repository, announcer) = (name.clone(), announcer.clone());
    let delete = move |store: &Store| {
        match &reference {
            Reference::Tag(tag) => {
                store.delete_tag(&name, tag)?;
                announcer.deleted_tag(&name, tag);
            }
            Reference::Digest(digest) => {
                let mut tags = store.delete_manifest(&name, digest)?;
                tags.sort();
                announcer.deleted_content(&name, digest, &tags);
            }
        }
        Ok(())
    };
    stored.write_locked(&repository, delete).await?;
    Ok(body::empty(StatusCode::ACCEPTED))
}

/// Hashes and parses a manifest. Fails if the reference is a digest that the bytes do not have.
fn digest_and_parse(
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

/// Returns the values of the header fields that name `tags`: one tag per field, or several if the tags are
/// many (RFC 9110, 5.3). Clients refuse a response of more than 100 fields.
fn tag_fields(tags: &[Tag]) -> impl Iterator<Item = String> {
    const MAX_TAG_FIELDS: usize = 50;
    let per_field = tags.len().div_ceil(MAX_TAG_FIELDS).max(1);
    tags.chunks(per_field).map(|tags| tags.iter().map(Tag::to_string).collect::<Vec<_>>().join(", "))
}

/// Memory permits of a manifest that is being received.
#[derive(Debug, Default)]
struct ManifestPermits {
    beginning: Option<Permit>,
    remainder: Option<Permit>,
}

impl ManifestPermits {
    /// Acquires memory for `more` bytes behind the first `before`, and returns the budgets that the manifest
    /// uses then. A manifest of at most [`UNBUDGETED_BYTES`] uses none: other clients cannot make it wait.
    async fn extend(
        &mut self,
        before: usize,
        more: usize,
    ) -> Result<&'static [&'static MemoryBudget], Error> {
        let length = before + more;
        if length <= UNBUDGETED_BYTES {
            return Ok(&[]);
        }
        let more = if self.beginning.is_none() { length } else { more };
        let beginning = MAX_MANIFEST_BEGINNING_BYTES.saturating_sub(length - more).min(more);
        for (permit, budget, bytes) in [
            (&mut self.beginning, &MANIFEST_BEGINNINGS, beginning),
            (&mut self.remainder, &MANIFEST_REMAINDERS, more - beginning),
        ] {
            if bytes > 0 {
                let acquired = budget.acquire(bytes, PERMIT_TIMEOUT).await.ok_or(Error::TooManyManifests)?;
                match permit {
                    Some(permit) => permit.merge(acquired),
                    None => *permit = Some(acquired),
                }
            }
        }
        Ok(match self.remainder {
            Some(_) => &LONG_MANIFEST_BUDGETS,
            None => &SHORT_MANIFEST_BUDGETS,
        })
    }
}

/// Receives a manifest, which must be in memory as a whole, with the permits for that memory.
async fn receive(
    settings: &Settings,
    request: &Parts,
    body: &mut Body,
) -> Result<(Bytes, ManifestPermits), Error> {
    if content_length(request).is_some_and(|length| length > Manifest::MAX_LEN as u64) {
        return Err(Error::ManifestTooLong);
    }
    let mut request_body = RequestBody::new(body, settings);
    let mut bytes = BytesMut::new();
    let mut permits = ManifestPermits::default();
    while let Some(data) = request_body.next().await? {
        if bytes.len() + data.len() > Manifest::MAX_LEN {
            return Err(Error::ManifestTooLong);
        }
        let requested = Instant::now();
        let budgets = permits.extend(bytes.len(), data.len()).await?;
        request_body.extend_deadlines(requested.elapsed());
        request_body.uses_budgets(budgets);
        bytes.extend_from_slice(&data);
    }
    Ok((bytes.freeze(), permits))
}

/// Returns a media type without its parameters, which may contain any bytes (RFC 9110 section 5.5,
/// `obs-text`).
fn strip_parameters(value: &[u8]) -> Option<&str> {
    let media_type = value.split(|byte| *byte == b';').next()?;
    std::str::from_utf8(media_type).ok().map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;
    use quinistry_store::Memory;

    async fn push(stored: &LimitedStore, length: usize) -> StatusCode {
        let index = r#"{"schemaVersion":2,"manifests":[]}"#;
        let request = http::Request::put("/").header(CONTENT_TYPE, "application/vnd.oci.image.index.v1+json");
        let (request, ()) = request.body(()).unwrap().into_parts();
        let mut body = Body::from(format!("{index:length$}"));
        let settings = Settings::default();
        put(
            stored,
            (&settings, &Caller::ANYONE, &Announcer::SILENT),
            "a/b".parse().unwrap(),
            "x",
            &request,
            &mut body,
        )
        .await
        .unwrap()
        .status()
    }

    #[tokio::test]
    async fn short_manifests_do_not_wait_for_the_checks_of_long_ones() {
        let stored = LimitedStore::new(Store::open(Memory::new(1 << 20), false).unwrap());
        let count = u32::try_from(stored.manifest_check_permits.available_permits()).unwrap();
        let permits = stored.manifest_check_permits.acquire_many(count).await.unwrap();
        let mut long = std::pin::pin!(push(&stored, MAX_INLINE_CHECK_BYTES + 1));
        tokio::select! {
            biased;
            status = &mut long => panic!("{status} without a permit"),
            status = push(&stored, MAX_INLINE_CHECK_BYTES) => assert_eq!(status, StatusCode::CREATED),
        }
        drop(permits);
        assert_eq!(long.await, StatusCode::CREATED);
    }

    #[tokio::test]
    async fn the_parts_of_long_manifests_are_read_away_from_the_event_loop() {
        let stored = LimitedStore::new(Store::open(Memory::new(1 << 20), false).unwrap());
        let manifest = |length: usize| -> Content {
            let text = r#"{"config":{"digest":"x"}}"#;
            [Bytes::from(format!("{text:length$}"))].into()
        };
        let (short, long) = (manifest(MAX_INLINE_CHECK_BYTES), manifest(MAX_INLINE_CHECK_BYTES + 1));
        let count = u32::try_from(stored.manifest_check_permits.available_permits()).unwrap();
        let permits = stored.manifest_check_permits.acquire_many(count).await.unwrap();
        let mut of_long = std::pin::pin!(read_references(&stored, &long));
        tokio::select! {
            biased;
            _ = &mut of_long => panic!("read without a permit"),
            of_short = read_references(&stored, &short) => assert_eq!(of_short.len(), 1),
        }
        drop(permits);
        assert_eq!(of_long.await.len(), 1);
    }

    #[tokio::test]
    async fn a_manifest_uses_the_budgets_of_the_bytes_it_has() {
        let mut permits = ManifestPermits::default();
        assert_eq!(permits.extend(0, UNBUDGETED_BYTES).await.unwrap().len(), 0);
        assert!(permits.beginning.is_none());
        assert_eq!(permits.extend(UNBUDGETED_BYTES, 1).await.unwrap().len(), 1);
        let taken = |permit: &Option<Permit>| permit.as_ref().map(Permit::num_permits);
        assert_eq!(taken(&permits.beginning), Some(UNBUDGETED_BYTES + 1));
        let more = MAX_MANIFEST_BEGINNING_BYTES;
        assert_eq!(permits.extend(UNBUDGETED_BYTES + 1, more).await.unwrap().len(), 2);
        assert_eq!(taken(&permits.beginning), Some(MAX_MANIFEST_BEGINNING_BYTES));
        assert_eq!(taken(&permits.remainder), Some(UNBUDGETED_BYTES + 1));
    }

    #[tokio::test]
    async fn a_tag_that_is_named_twice_takes_no_memory_twice() {
        let stored = LimitedStore::new(Store::open(Memory::new(1 << 16), false).unwrap());
        let twice = vec!["tag=x"; MAX_TAGS_PER_PUT].join("&");
        for _ in 0..20 {
            let uri = format!("/v2/a/b/manifests/x?{twice}");
            let request =
                http::Request::put(uri).header(CONTENT_TYPE, "application/vnd.oci.image.index.v1+json");
            let (request, ()) = request.body(()).unwrap().into_parts();
            let mut body = Body::from(r#"{"schemaVersion":2,"manifests":[]}"#);
            let name: RepositoryName = "a/b".parse().unwrap();
            let response = put(
                &stored,
                (&Settings::default(), &Caller::ANYONE, &Announcer::SILENT),
                name.clone(),
                "x",
                &request,
                &mut body,
            )
            .await
            .unwrap();
            assert_eq!(response.headers().get_all(TAG).iter().count(), 1);
            let digest = response.headers()[DIGEST].to_str().unwrap().to_owned();
            delete(&stored, &Announcer::SILENT, name, &digest).await.unwrap();
        }
    }

    #[test]
    fn many_tags_fit_into_the_fields_that_clients_accept() {
        let tags: Vec<Tag> = (0..MAX_TAGS_PER_PUT).map(|i| format!("t{i}").parse().unwrap()).collect();
        for count in [0, 1, 50, 51, 99, MAX_TAGS_PER_PUT] {
            let fields: Vec<String> = tag_fields(&tags[..count]).collect();
            assert!(fields.len() <= 50, "{count}");
            assert_eq!(count <= 50, fields.len() == count, "{count}");
            let named: Vec<&str> = fields.iter().flat_map(|field| field.split(", ")).collect();
            assert_eq!(named, tags[..count].iter().map(ToString::to_string).collect::<Vec<_>>());
        }
    }

    #[test]
    fn parameters_of_a_media_type_are_ignored() {
        for value in ["a/b", "a/b ; charset=utf-8", "a/b; char\u{feff}set=x"] {
            assert_eq!(strip_parameters(value.as_bytes()), Some("a/b"), "{value:?}");
        }
        assert_eq!(strip_parameters(b"a/b;\xff"), Some("a/b"));
        assert_eq!(strip_parameters(b"\xff;a/b"), None);
    }
}
