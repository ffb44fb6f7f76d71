//! Uploads of blobs: in one request, in several, or mounted from another repository.
//!
//! Endpoints end-4 to end-6, end-11, end-13 and end-14 of the distribution-spec.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::body::Body;
use axum::response::Response;
use http::header::{CONTENT_RANGE, LOCATION, RANGE};
use http::request::Parts;
use http::{HeaderName, StatusCode};
use quinistry_oci::{Digest, RepositoryName};
use quinistry_store::{
    Claimed, Receiver, RoomFuture, Session, SharedSession, StorageError, Store, StoreError, UploadId,
};
use tokio::time::Instant;

use crate::api::access;
use crate::api::query::Query;
use crate::api::request_body::{Batch, RequestBody, content_length};
use crate::api::response::body;
use crate::api::response::error::Error;
use crate::api::response::served_content::{DIGEST, ascii};
use crate::api::upload_state::UploadState;
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
    if stored.store.has_shared_sessions() {
        let (id, state) = (UploadId::random(), UploadState { begun: SystemTime::now(), announced });
        let state = stored.upload_secret(settings).await?.seal(&name, &id, state);
        let place = Place { id: &id, state: Some(&state), offset: 0 };
        return Ok(session_response(StatusCode::ACCEPTED, &name, place));
    }
    let of = name.clone();
    let session = stored.run(move |store| store.begin(&of, announced)).await?;
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
    let claimed = stored.run(move |_| claimed.persist().map(|()| claimed)).await?;
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
    settings: &Settings,
    name: RepositoryName,
    id: &str,
    request: &Parts,
    body: &mut Body,
) -> Result<Response, Error> {
    let completed = complete(stored, settings, &name, id, request, body).await;
    if !matches!(completed, Err(Error::Store(StoreError::UploadUnknown)))
        || !stored.store.has_shared_sessions()
    {
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
    settings: &Settings,
    name: &RepositoryName,
    id: &str,
    request: &Parts,
    body: &mut Body,
) -> Result<Response, Error> {
    let session = find(stored, settings, name, id, request).await?;
    let digest = Query::from_uri(&request.uri).digest()?.ok_or(Error::MissingDigest)?;
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
    let (wanted, of) = (digest.clone(), session.clone());
    let finished = stored.write(move |store| store.finish(&of, claimed, &wanted)).await;
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

/// Returns the text that the client has sent, and its content, if a replica of this registry has made it for the
/// session. Older ones than the idle time after which sessions end are not recognised: nothing tells whether the
/// session has ended.
async fn recognised(
    stored: &LimitedStore,
    settings: &Settings,
    name: &RepositoryName,
    id: &UploadId,
    query: Query<'_>,
) -> Result<Option<(String, UploadState)>, Error> {
    let Some(text) = query.first(STATE) else { return Ok(None) };
    let Some(state) = stored.upload_secret(settings).await?.open(name, id, &text) else { return Ok(None) };
    let age = SystemTime::now().duration_since(state.begun).unwrap_or_default();
    Ok((age < settings.upload_expiry.age.max(MIN_STATE_AGE)).then(|| (text.into_owned(), state)))
}

/// Reads how far other replicas have continued a session, if they can.
async fn refresh(
    stored: &LimitedStore,
    session: &Arc<Session>,
    mut claimed: Claimed,
) -> Result<Claimed, Error> {
    if !stored.store.has_shared_sessions() {
        return Ok(claimed);
    }
    let session = session.clone();
    stored.run(move |store| store.refresh_session(&session, &mut claimed).map(|()| claimed)).await
}

/// Makes the answer to a request whose offset another replica has passed; other errors stay.
fn unless_overtaken(error: Error, name: &RepositoryName, session: &Session) -> Error {
    if matches!(error, Error::Store(StoreError::Storage(StorageError::Overtaken))) {
        return out_of_order(name, session);
    }
    error
}

fn out_of_order(name: &RepositoryName, session: &Session) -> Error {
    let place = Place::of(session);
    Error::OutOfOrder { location: location(name, place), range: range(place.offset) }
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

/// Prepares a session that other replicas may have continued for a request.
async fn continue_shared(
    stored: &LimitedStore,
    session: &Arc<Session>,
    mut claimed: Claimed,
    body: (Option<u64>, Option<u64>),
    digest: Option<&Digest>,
) -> Result<(Claimed, u64), Error> {
    let (session, digest) = (session.clone(), digest.cloned());
    let prepare = move |store: &Store| {
        let offset = store.continue_session(&session, &mut claimed, body, digest.as_ref())?;
        Ok((claimed, offset))
    };
    stored.run(prepare).await
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
        if let Some(room) = receiver.room(batch.len()) {
            let begun = Instant::now();
            let is_there =
                with_cancellation(session, async { Ok(room.await.map_err(StoreError::from)?) }).await;
            request_body.extend_deadlines(begun.elapsed());
            if let Err(error) = is_there {
                return (receiver, Err(error));
            }
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

/// Waits, unless the session is cancelled.
async fn with_cancellation(
    session: Option<&Session>,
    wait: impl Future<Output = Result<(), Error>>,
) -> Result<(), Error> {
    let Some(session) = session else { return wait.await };
    tokio::select! {
        waited = wait => waited,
        () = session.cancelled() => Err(StoreError::UploadUnknown.into()),
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
    /// Returns a wait for the memory that the next bytes take, if there is no room.
    fn room(&mut self, bytes: u64) -> Option<RoomFuture>;
    fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError>;
}

impl AppendBytes for Option<Receiver> {
    fn length(&self) -> u64 {
        self.as_ref().map_or(0, Receiver::len)
    }

    fn room(&mut self, bytes: u64) -> Option<RoomFuture> {
        self.as_mut()?.room(usize::try_from(bytes).unwrap_or(usize::MAX))
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.as_mut().ok_or(StoreError::UploadUnknown)?.append(bytes)
    }
}

impl AppendBytes for Claimed {
    fn length(&self) -> u64 {
        self.receiver().map_or(0, Receiver::len)
    }

    fn room(&mut self, bytes: u64) -> Option<RoomFuture> {
        self.receiver_mut()?.room(usize::try_from(bytes).unwrap_or(usize::MAX))
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

/// Parameter of the location with the text by which replicas recognise a session.
const STATE: &str = "_state";

/// Least time for which replicas recognise a session that none of them has written down.
const MIN_STATE_AGE: Duration = Duration::from_hours(1);

/// Place of a session, and its progress.
#[derive(Clone, Copy, Debug)]
struct Place<'a> {
    id: &'a UploadId,
    /// Text by which replicas recognise the session.
    state: Option<&'a str>,
    /// Number of acknowledged bytes.
    offset: u64,
}

impl<'a> Place<'a> {
    fn of(session: &'a Session) -> Self {
        Self { id: session.id(), state: session.state(), offset: session.offset() }
    }
}

/// Makes a response with the location of a session, which never changes, and its progress.
fn session_response(status: StatusCode, name: &RepositoryName, place: Place<'_>) -> Response {
    let mut response = body::empty(status);
    let headers = response.headers_mut();
    headers.insert(LOCATION, ascii(location(name, place)));
    headers.insert(RANGE, ascii(range(place.offset)));
    headers.insert(UPLOAD_UUID, ascii(place.id.to_string()));
    response
}

fn location(name: &RepositoryName, place: Place<'_>) -> String {
    match place.state {
        None => format!("/v2/{name}/blobs/uploads/{}", place.id),
        Some(state) => format!("/v2/{name}/blobs/uploads/{}?{STATE}={state}", place.id),
    }
}

/// Returns the first and last byte of a session. This form cannot express an empty session; all registries
/// send `0-0` then, since clients refuse a range that ends before its start.
fn range(offset: u64) -> String {
    format!("0-{}", offset.saturating_sub(1))
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
