//! Uploads of blobs: in one request, in several, or mounted from another repository.
//!
//! Endpoints end-4 to end-6, end-11, end-13 and end-14 of the distribution-spec.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use http::header::{CONTENT_RANGE, LOCATION, RANGE};
use http::request::Parts;
use http::{HeaderName, StatusCode};
use quinistry_oci::{Digest, RepositoryName};
use quinistry_store::{Claimed, Receiver, Session, Store, StoreError, UploadId};

use crate::api::access;
use crate::api::query::Query;
use crate::api::request_body::{Batch, RequestBody, content_length};
use crate::api::response::body;
use crate::api::response::error::Error;
use crate::api::response::served_content::{DIGEST, ascii};
use crate::auth::Right;
use crate::auth::caller::Caller;
use crate::{LimitedStore, Settings, run_blocking, run_to_completion};

const UPLOAD_UUID: HeaderName = HeaderName::from_static("docker-upload-uuid");

/// Answers POST: opens an upload session, mounts a blob, or receives a whole blob.
pub(crate) async fn post(
    stored: &LimitedStore,
    settings: &Settings,
    (caller, has_builtin): (&Caller, bool),
    name: RepositoryName,
    request: &Parts,
    body: &mut Body,
) -> Result<Response, Error> {
    let query = Query::from_uri(&request.uri);
    if let Some(mount) = query.first("mount") {
        // If the mount fails, for any reason, the client uploads the blob.
        let from = query.first("from").map(|from| from.parse::<RepositoryName>());
        if let (Ok(digest), Ok(from)) = (mount.parse::<Digest>(), from.transpose())
            && access::permits_mount(from.as_ref(), has_builtin)
            && may_read_source(caller, from.as_ref())
        {
            let (target, wanted) = (name.clone(), digest.clone());
            let mount = move |store: &Store| store.mount(&target, &wanted, from.as_ref());
            if stored.write(mount).await? {
                return Ok(created_response(&name, &digest));
            }
        }
    }
    let announced = query.algorithm()?;
    if let Some(digest) = query.digest()? {
        return upload_whole_blob(stored, settings, name, digest, request, body).await;
    }
    let of = name.clone();
    let session = stored.run(move |store| store.begin(&of, announced)).await?;
    Ok(session_response(StatusCode::ACCEPTED, &name, &session))
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
    settings: &Settings,
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
    let (of, wanted) = (name.clone(), digest.clone());
    stored.write(move |store| store.commit(&of, &mut receiver, &wanted)).await?;
    Ok(created_response(&name, &digest))
}

/// Answers GET and HEAD: responds with the progress of an upload session.
pub(crate) async fn get(stored: &LimitedStore, name: RepositoryName, id: &str) -> Result<Response, Error> {
    let session = find(stored, &name, id).await?;
    if let Ok(claimed) = session.try_claim() {
        acknowledge_received(stored, &session, claimed).await?;
    }
    Ok(session_response(StatusCode::NO_CONTENT, &name, &session))
}

/// Answers DELETE: stops the request that uses the session, if any, and discards the session. Completes even
/// if the client leaves before, because a cancelled session accepts no more bytes.
pub(crate) async fn delete(stored: &LimitedStore, name: RepositoryName, id: &str) -> Result<Response, Error> {
    let session = find(stored, &name, id).await?;
    let stored = stored.clone();
    run_to_completion(async move {
        let claimed = session.cancel().await?;
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
    let session = find(stored, &name, id).await?;
    let (mut claimed, expected) =
        claim_at_offset(stored, &name, &session, request, session.try_claim()).await?;
    let claimed = stored.run(move |_| claimed.persist().map(|()| claimed)).await?;
    let mut request_body = RequestBody::new(body, settings);
    let (claimed, received) = receive_body(&mut request_body, claimed, Some(&session), expected).await;
    // Bytes that were received before an error are kept, and the client learns of them when it queries the
    // session.
    let acknowledged = acknowledge_received(stored, &session, claimed).await;
    received?;
    acknowledged?;
    Ok(session_response(StatusCode::ACCEPTED, &name, &session))
}

/// Answers PUT: completes the blob, possibly with a last chunk.
pub(crate) async fn put(
    stored: &LimitedStore,
    settings: &Settings,
    name: RepositoryName,
    id: &str,
    request: &Parts,
    body: &mut Body,
) -> Result<Response, Error> {
    let session = find(stored, &name, id).await?;
    let digest = Query::from_uri(&request.uri).digest()?.ok_or(Error::MissingDigest)?;
    let (claimed, expected) =
        claim_at_offset(stored, &name, &session, request, session.claim().await).await?;
    let mut request_body = RequestBody::new(body, settings);
    let (claimed, received) = receive_body(&mut request_body, claimed, Some(&session), expected).await;
    if let Err(error) = received {
        // The error of the request is reported. If acknowledging fails too, a later request for the session
        // reports that.
        let _ = acknowledge_received(stored, &session, claimed).await;
        return Err(error);
    }
    let wanted = digest.clone();
    stored.write(move |store| store.finish(&session, claimed, &wanted)).await?;
    Ok(created_response(&name, &digest))
}

async fn find(stored: &LimitedStore, name: &RepositoryName, id: &str) -> Result<Arc<Session>, Error> {
    let id: UploadId = id.parse().map_err(|_| StoreError::UploadUnknown)?;
    if let Some(known) = stored.store.cached_session(name, &id) {
        return Ok(known?);
    }
    let of = name.clone();
    // A session that only the storage knows is resumed under the repository's lock.
    stored.write_locked(name, move |store| store.session(&of, &id)).await
}

/// Claims the session if the request continues at its offset. Also returns the announced number of bytes, if
/// any.
async fn claim_at_offset(
    stored: &LimitedStore,
    name: &RepositoryName,
    session: &Arc<Session>,
    request: &Parts,
    claimed: Result<Claimed, StoreError>,
) -> Result<(Claimed, Option<u64>), Error> {
    let out_of_order = || Error::OutOfOrder { location: location(name, session), range: range(session) };
    let claimed = match claimed {
        // Two requests at once would append at the same offset.
        Err(StoreError::UploadBusy) => return Err(out_of_order()),
        // The previous request may have ended before it acknowledged all the bytes that were received.
        claimed => acknowledge_received(stored, session, claimed?).await?,
    };
    let offset = claimed.length();
    match parse_content_range(request)? {
        Some(chunk) if chunk.start != offset => Err(out_of_order()),
        Some(chunk) => Ok((claimed, Some(chunk.end - chunk.start))),
        None => Ok((claimed, content_length(request))),
    }
}

/// Receives a body to its end, or until the session is cancelled. While one batch is written and hashed, the
/// next one is read. Always returns the receiver with the bytes that it has; if the client leaves, the
/// receiver stays with its session.
async fn receive_body<R>(
    request_body: &mut RequestBody<'_>,
    mut receiver: R,
    session: Option<&Session>,
    expected: Option<u64>,
) -> (R, Result<(), Error>)
where
    R: AppendBytes + Send + 'static,
{
    let start = receiver.length();
    let mut next = next_batch(request_body, session).await;
    loop {
        let (batch, end) = std::mem::replace(&mut next, (Batch::default(), Ok(())));
        if batch.len() == 0 {
            let total = receiver.length() - start;
            let end = match expected {
                Some(expected) if end.is_ok() && total != expected => {
                    Err(Error::LengthMismatch { expected, received: total })
                }
                _ => end,
            };
            return (receiver, end);
        }
        let length = batch.len();
        let total = receiver.length() - start + length;
        if let Some(expected) = expected.filter(|expected| total > *expected) {
            return (receiver, Err(Error::LengthMismatch { expected, received: total }));
        }
        let write = run_blocking(move || {
            let written = batch.try_for_each(|data| receiver.append(&data));
            (receiver, written)
        });
        let written;
        if end.is_ok() {
            let read = next_batch(request_body, session);
            ((receiver, written), next) = futures_util::future::join(write, read).await;
        } else {
            (receiver, written) = write.await;
            next = (Batch::default(), end);
        }
        if let Err(error) = written {
            return (receiver, Err(error.into()));
        }
    }
}

/// Reads the next batch of a body, unless the session is cancelled.
async fn next_batch(
    request_body: &mut RequestBody<'_>,
    session: Option<&Session>,
) -> (Batch, Result<(), Error>) {
    let Some(session) = session else { return request_body.batch().await };
    tokio::select! {
        batch = request_body.batch() => batch,
        () = session.cancelled() => (Batch::default(), Err(StoreError::UploadUnknown.into())),
    }
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

/// Receiver of bytes: one without a session, or that of a session.
trait AppendBytes {
    fn length(&self) -> u64;
    fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError>;
}

impl AppendBytes for Option<Receiver> {
    fn length(&self) -> u64 {
        self.as_ref().map_or(0, Receiver::len)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.as_mut().ok_or(StoreError::UploadUnknown)?.append(bytes)
    }
}

impl AppendBytes for Claimed {
    fn length(&self) -> u64 {
        self.receiver().map_or(0, Receiver::len)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.receiver_mut().ok_or(StoreError::UploadUnknown)?.append(bytes)
    }
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

/// Makes a response with the location of a session, which never changes, and its progress.
fn session_response(status: StatusCode, name: &RepositoryName, session: &Session) -> Response {
    let mut response = body::empty(status);
    let headers = response.headers_mut();
    headers.insert(LOCATION, ascii(location(name, session)));
    headers.insert(RANGE, ascii(range(session)));
    headers.insert(UPLOAD_UUID, ascii(session.id().to_string()));
    response
}

fn location(name: &RepositoryName, session: &Session) -> String {
    format!("/v2/{name}/blobs/uploads/{}", session.id())
}

/// Returns the first and last byte of a session. This form cannot express an empty session; all registries
/// send `0-0` then, since clients refuse a range that ends before its start.
fn range(session: &Session) -> String {
    format!("0-{}", session.offset().saturating_sub(1))
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
            let mut response = std::pin::pin!(delete(&stored, name.clone(), session.id().as_str()));
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
