//! Uploads of blobs: in one request, in several, or mounted from another repository.
//!
//! Endpoints end-4 to end-6, end-11, end-13 and end-14 of the distribution-spec.

mod place;
mod receive;
mod shared;

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use http::StatusCode;
use http::header::{CONTENT_RANGE, LOCATION};
use http::request::Parts;
use http_body::Body as _;
use quinistry_oci::{Digest, RepositoryName};
use quinistry_store::{Claimed, Session, SharedSession, StorageError, Store, StoreError, UploadId};

use self::place::{Place, out_of_order, session_response};
use self::receive::{AppendBytes as _, receive_body};
use self::shared::{continue_shared, recognised, refresh, unless_overtaken};
use crate::api::access;
use crate::api::query::Query;
use crate::api::request_body::{RequestBody, content_length};
use crate::api::response::body;
use crate::api::response::error::Error;
use crate::api::response::served_content::{DIGEST, ascii};
use crate::api::upload_state::UploadState;
use crate::auth::Right;
use crate::auth::caller::Caller;
use crate::notifications::Announcer;
use crate::{LimitedStore, Settings, run_to_completion};

/// Answers POST: opens an upload session, mounts a blob, or receives a whole blob.
pub(crate) async fn post(
    stored: &LimitedStore,
    settings: &Settings,
    (caller, has_builtin, announcer): (&Caller, bool, &Announcer),
    name: RepositoryName,
    request: &Parts,
    body: &mut Body,
) -> Result<Response, Error> {
    let query = Query::from_uri(&request.uri);
    if let Some(mount) = query.first("mount") {
        // If the mount fails, for any reason, the client uploads the blob.
        let upstreams = settings.upstreams.as_deref();
        let from = query.first("from").map(|from| from.parse::<RepositoryName>());
        let from = from.map(|from| from.map(|from| upstreams.map_or(from.clone(), |all| all.name_of(from))));
        if let (Ok(digest), Ok(from)) = (mount.parse::<Digest>(), from.transpose())
            && access::permits_mount(from.as_ref(), has_builtin, upstreams)
            && may_read_source(caller, from.as_ref())
        {
            let (target, wanted) = (name.clone(), digest.clone());
            let announcer = announcer.clone();
            let mount = move |store: &Store| {
                let mounted = store.mount(&target, &wanted, from.as_ref())?;
                if let Some(size) = mounted {
                    announcer.mounted_blob(&target, &wanted, size, from.as_ref());
                }
                Ok(mounted)
            };
            if stored.write(mount).await?.is_some() {
                return Ok(created_response(&name, &digest));
            }
        }
    }
    let algorithm = query.algorithm()?;
    let digest = query.digest()?;
    if stored.store.has_quota(&name) {
        let length = digest.as_ref().and_then(|_| content_length(request));
        let of = name.clone();
        stored.run(move |store| store.check_quota(&of, length)).await?;
    }
    if let Some(digest) = digest {
        return upload_whole_blob(stored, (settings, announcer), name, digest, request, body).await;
    }
    if stored.store.has_shared_sessions() {
        let (id, state) =
            (UploadId::random(), UploadState { begun: stored.store.shared_time(), announced: algorithm });
        let state = stored.upload_secret(settings).await?.seal(&name, &id, state);
        let place = Place { id: &id, state: Some(&state), offset: 0 };
        return Ok(session_response(StatusCode::ACCEPTED, &name, place));
    }
    let of = name.clone();
    let session = stored.run(move |store| store.begin(&of, algorithm)).await?;
    Ok(session_response(StatusCode::ACCEPTED, &name, Place::of(&session)))
}

/// Returns true if the client may read the source of a mount. Without a source, the time of a search would
/// tell whether the blob lies in a repository that the client may not read, so that a registry with users
/// does not search.
fn may_read_source(caller: &Caller, source: Option<&RepositoryName>) -> bool {
    match source {
        Some(source) => caller.has(source, Right::Pull),
        None => caller.known().is_none(),
    }
}

/// Receives a whole blob in one request.
async fn upload_whole_blob(
    stored: &LimitedStore,
    (settings, announcer): (&Settings, &Announcer),
    name: RepositoryName,
    digest: Digest,
    request: &Parts,
    body: &mut Body,
) -> Result<Response, Error> {
    let (wanted, length) = (digest.clone(), content_length(request));
    let receiver = stored.run(move |store| store.receive(&wanted, length)).await?;
    let mut request_body = RequestBody::new(body, settings);
    let (receiver, outcome) = receive_body(&mut request_body, Some(receiver), None, length).await;
    outcome?;
    let mut receiver = receiver.ok_or(StoreError::UploadUnknown)?;
    let (of, wanted, announcer) = (name.clone(), digest.clone(), announcer.clone());
    let commit = move |store: &Store| {
        store.commit(&of, &mut receiver, &wanted)?;
        announcer.pushed_blob(&of, &wanted, receiver.len());
        Ok(())
    };
    stored.write(commit).await?;
    Ok(created_response(&name, &digest))
}

/// Answers GET and HEAD: responds with the progress of an upload session.
pub(crate) async fn get(
    stored: &LimitedStore,
    settings: &Settings,
    name: RepositoryName,
    id: &str,
    request: &Parts,
) -> Result<Response, Error> {
    let session = find(stored, settings, &name, id, request).await?;
    if let Ok(claimed) = session.try_claim() {
        let claimed = acknowledge_received(stored, &session, claimed).await?;
        refresh(stored, &session, claimed).await?;
    }
    Ok(session_response(StatusCode::NO_CONTENT, &name, Place::of(&session)))
}

/// Answers DELETE: stops the request that uses the session, if any, and discards the session. Completes even
/// if the client leaves before, because a cancelled session accepts no more bytes.
pub(crate) async fn delete(
    stored: &LimitedStore,
    settings: &Settings,
    name: RepositoryName,
    id: &str,
    request: &Parts,
) -> Result<Response, Error> {
    let session = find(stored, settings, &name, id, request).await?;
    let stored = stored.clone();
    run_to_completion(async move {
        let claimed = session.cancel().await?;
        let claimed = refresh(&stored, &session, claimed).await?;
        stored.run(move |store| store.discard(&session, claimed)).await
    })
    .await?;
    Ok(body::empty(StatusCode::NO_CONTENT))
}

/// Answers PATCH: appends a chunk to the blob.
pub(crate) async fn patch(
    stored: &LimitedStore,
    settings: &Settings,
    name: RepositoryName,
    id: &str,
    request: &Parts,
    body: &mut Body,
) -> Result<Response, Error> {
    let session = find(stored, settings, &name, id, request).await?;
    let (mut claimed, expected) =
        claim_at_offset(stored, &name, &session, request, session.try_claim(), None).await?;
    let persist = move |store: &Store| {
        store.check_room()?;
        claimed.persist().map(|()| claimed)
    };
    let claimed = stored.run(persist).await?;
    let mut request_body = RequestBody::new(body, settings);
    let (claimed, received) = receive_body(&mut request_body, claimed, Some(&session), expected).await;
    // Bytes that were received before an error are kept, and the client learns of them when it queries the
    // session.
    let acknowledged = acknowledge_received(stored, &session, claimed).await;
    let in_order = |error| unless_overtaken(error, &name, &session);
    received.map_err(in_order)?;
    acknowledged.map_err(in_order)?;
    Ok(session_response(StatusCode::ACCEPTED, &name, Place::of(&session)))
}

/// Answers PUT: completes the blob, possibly with a last chunk.
pub(crate) async fn put(
    stored: &LimitedStore,
    (settings, announcer): (&Settings, &Announcer),
    name: RepositoryName,
    id: &str,
    request: &Parts,
    body: &mut Body,
) -> Result<Response, Error> {
    let completed = complete(stored, (settings, announcer), &name, id, request, body).await;
    // While a session that has become a blob is removed, another replica finds a part of it.
    let is_gone = matches!(
        completed,
        Err(Error::Store(StoreError::UploadUnknown | StoreError::Storage(StorageError::Overtaken)))
    );
    if !is_gone || !stored.store.has_shared_sessions() {
        return completed;
    }
    // The client repeats a request whose answer it has not received.
    let query = Query::from_uri(&request.uri);
    let (Some(digest), Ok(id)) = (query.digest()?, id.parse()) else { return completed };
    if recognised(stored, settings, &name, &id, query).await?.is_none() {
        return completed;
    }
    let (of, wanted) = (name.clone(), digest.clone());
    let is_linked = stored.run(move |store| store.has_blob_link(&of, &wanted)).await?;
    if is_linked { Ok(created_response(&name, &digest)) } else { completed }
}

async fn complete(
    stored: &LimitedStore,
    (settings, announcer): (&Settings, &Announcer),
    name: &RepositoryName,
    id: &str,
    request: &Parts,
    body: &mut Body,
) -> Result<Response, Error> {
    let session = find(stored, settings, name, id, request).await?;
    let digest = Query::from_uri(&request.uri).digest()?.ok_or(Error::MissingDigest)?;
    if !body.is_end_stream() {
        // What was received before may become a blob: it has its room.
        stored.run(|store| Ok(store.check_room()?)).await?;
    }
    let claimed = session.claim().await;
    let (claimed, expected) =
        claim_at_offset(stored, name, &session, request, claimed, Some(&digest)).await?;
    let mut request_body = RequestBody::new(body, settings);
    let (claimed, received) = receive_body(&mut request_body, claimed, Some(&session), expected).await;
    if let Err(error) = received {
        // The error of the request is reported. If acknowledging fails too, a later request for the session
        // reports that.
        let _ = acknowledge_received(stored, &session, claimed).await;
        return Err(unless_overtaken(error, name, &session));
    }
    let (repository, wanted, of) = (name.clone(), digest.clone(), session.clone());
    let announcer = announcer.clone();
    let finish = move |store: &Store| {
        let size = claimed.length();
        store.finish(&of, claimed, &wanted)?;
        announcer.pushed_blob(&repository, &wanted, size);
        Ok(())
    };
    let finished = stored.write(finish).await;
    finished.map_err(|error| unless_overtaken(error, name, &session))?;
    Ok(created_response(name, &digest))
}

async fn find(
    stored: &LimitedStore,
    settings: &Settings,
    name: &RepositoryName,
    id: &str,
    request: &Parts,
) -> Result<Arc<Session>, Error> {
    let id: UploadId = id.parse().map_err(|_| StoreError::UploadUnknown)?;
    if let Some(known) = stored.store.cached_session(name, &id) {
        return Ok(known?);
    }
    if stored.store.has_shared_sessions() {
        let query = Query::from_uri(&request.uri);
        if let Some((text, state)) = recognised(stored, settings, name, &id, query).await? {
            let UploadState { begun, announced } = state;
            let shared = SharedSession { id: &id, begun, announced, state: &text };
            return Ok(stored.store.shared_session(name, shared)?);
        }
    }
    let of = name.clone();
    // A session that only the storage knows is resumed under the repository's lock.
    stored.write_locked(name, move |store| store.session(&of, &id)).await
}

/// Claims the session if the request continues at its offset; with `digest`, the request is the last one. Also
/// returns the announced number of bytes, if any.
async fn claim_at_offset(
    stored: &LimitedStore,
    name: &RepositoryName,
    session: &Arc<Session>,
    request: &Parts,
    claimed: Result<Claimed, StoreError>,
    digest: Option<&Digest>,
) -> Result<(Claimed, Option<u64>), Error> {
    let out_of_order = || out_of_order(name, session);
    let claimed = match claimed {
        // Two requests at once would append at the same offset.
        Err(StoreError::UploadBusy) => return Err(out_of_order()),
        // The previous request may have ended before it acknowledged all the bytes that were received.
        claimed => acknowledge_received(stored, session, claimed?).await?,
    };
    let chunk = parse_content_range(request)?;
    let start = chunk.as_ref().map(|chunk| chunk.start);
    let length = chunk.map_or_else(|| content_length(request), |chunk| Some(chunk.end - chunk.start));
    let (claimed, offset) = if stored.store.has_shared_sessions() {
        continue_shared(stored, session, claimed, (start, length), digest).await?
    } else {
        let offset = claimed.length();
        (claimed, offset)
    };
    if start.is_some_and(|start| start != offset) { Err(out_of_order()) } else { Ok((claimed, length)) }
}

/// Acknowledges the bytes that were received, unless all of them are acknowledged already.
async fn acknowledge_received(
    stored: &LimitedStore,
    session: &Arc<Session>,
    mut claimed: Claimed,
) -> Result<Claimed, Error> {
    if claimed.length() == session.offset() {
        return Ok(claimed);
    }
    let session = session.clone();
    stored.write(move |store| store.acknowledge(&session, &mut claimed).map(|_| claimed)).await
}

/// Parses the `Content-Range` of a chunk: `first-last`, without a unit or a total.
fn parse_content_range(request: &Parts) -> Result<Option<std::ops::Range<u64>>, Error> {
    let Some(header) = request.headers.get(CONTENT_RANGE) else { return Ok(None) };
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| text.parse::<u64>().ok()).flatten()
    };
    let range = header.to_str().ok().and_then(|text| text.split_once('-'));
    let range = range.and_then(|(first, last)| Some(number(first)?..number(last)?.checked_add(1)?));
    let range = range.filter(|range| range.start < range.end).ok_or(Error::ContentRange)?;
    let expected = range.end - range.start;
    match content_length(request) {
        Some(received) if received != expected => Err(Error::LengthMismatch { expected, received }),
        _ => Ok(Some(range)),
    }
}

fn created_response(name: &RepositoryName, digest: &Digest) -> Response {
    let mut response = body::empty(StatusCode::CREATED);
    response.headers_mut().insert(LOCATION, ascii(format!("/v2/{name}/blobs/{digest}")));
    response.headers_mut().insert(DIGEST, ascii(digest.to_string()));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use quinistry_store::Memory;

    #[tokio::test]
    async fn a_session_is_cancelled_even_if_the_client_leaves() {
        let store = Store::open(Memory::new(1 << 20), false).unwrap();
        let stored = LimitedStore::new(store.clone());
        let name: RepositoryName = "a/b".parse().unwrap();
        let session = store.begin(&name, None).unwrap();
        let claimed = session.try_claim().unwrap();
        {
            let (request, ()) = http::Request::new(()).into_parts();
            let settings = Settings::default();
            let id = session.id().as_str();
            let mut response = std::pin::pin!(delete(&stored, &settings, name.clone(), id, &request));
            tokio::select! {
                _ = &mut response => panic!("another request uses the session"),
                () = session.cancelled() => {}
            }
        }
        drop(claimed);
        let is_discarded = async {
            while store.session(&name, session.id()).is_ok() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_mins(1), is_discarded)
            .await
            .expect("the session is discarded");
    }
}
