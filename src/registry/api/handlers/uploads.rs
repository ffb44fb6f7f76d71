//! Uploads (distribution-spec, end-4 to end-6, end-11, end-13 and end-14): blobs in one request, in many, or from another
//! repository.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use http::header::{CONTENT_RANGE, LOCATION, RANGE};
use http::request::Parts;
use http::{HeaderName, StatusCode};
use quinistry_oci::{Digest, RepositoryName};
use quinistry_store::{Claimed, Receiver, Session, StoreError, UploadId};

use crate::api::query::Query;
use crate::api::request_body::{Batch, Intake, length_of};
use crate::api::response::body;
use crate::api::response::error::Error;
use crate::api::response::served_content::{DIGEST, ascii};
use crate::{Stored, blocking, to_the_end};

const ID: HeaderName = HeaderName::from_static("docker-upload-uuid");

/// POST: opens a session, mounts a blob, or takes one in at once.
pub(crate) async fn post(
    stored: &Stored,
    name: RepositoryName,
    request: &Parts,
    body: &mut Body,
) -> Result<Response, Error> {
    let query = Query::of(&request.uri);
    if let Some(mount) = query.first("mount") {
        // What cannot be mounted is uploaded, for whatever reason it cannot.
        let from = query.first("from").map(|from| from.parse::<RepositoryName>());
        if let (Ok(digest), None | Some(Ok(_))) = (mount.parse::<Digest>(), &from) {
            let (into, wanted) = (name.clone(), digest.clone());
            let from = from.and_then(Result::ok);
            if stored.write(move |store| store.mount(&into, &wanted, from.as_ref())).await? {
                return Ok(created(&name, &digest));
            }
        }
    }
    let announced = query.algorithm()?;
    if let Some(digest) = query.digest()? {
        return whole(stored, name, digest, request, body).await;
    }
    let of = name.clone();
    let session = stored.run(move |store| store.begin(&of, announced)).await?;
    Ok(progress(StatusCode::ACCEPTED, &name, &session))
}

/// A blob that comes in one request.
async fn whole(
    stored: &Stored,
    name: RepositoryName,
    digest: Digest,
    request: &Parts,
    body: &mut Body,
) -> Result<Response, Error> {
    let algorithm = digest.algorithm();
    let receiver = stored.run(move |store| store.receive(algorithm)).await?;
    let mut intake = Intake::new(body, &stored.options);
    let (receiver, end) = fill(&mut intake, Some(receiver), None, length_of(request)).await;
    end?;
    let mut receiver = receiver.ok_or(StoreError::UploadUnknown)?;
    let (of, wanted) = (name.clone(), digest.clone());
    stored.write(move |store| store.commit(&of, &mut receiver, &wanted)).await?;
    Ok(created(&name, &digest))
}

/// GET and HEAD: how far it is.
pub(crate) async fn get(stored: &Stored, name: RepositoryName, id: &str) -> Result<Response, Error> {
    let session = find(stored, &name, id).await?;
    if let Ok(claimed) = session.try_claim() {
        settle(stored, &session, claimed).await?;
    }
    Ok(progress(StatusCode::NO_CONTENT, &name, &session))
}

/// DELETE: whoever is at it is stopped. Carried out also if the client leaves meanwhile, since a session that was told to
/// stop takes nothing any more.
pub(crate) async fn delete(stored: &Stored, name: RepositoryName, id: &str) -> Result<Response, Error> {
    let session = find(stored, &name, id).await?;
    let stored = stored.clone();
    to_the_end(async move {
        let claimed = session.cancel().await?;
        stored.run(move |store| store.discard(&session, claimed)).await
    })
    .await?;
    Ok(body::empty(StatusCode::NO_CONTENT))
}

/// PATCH: goes on with the blob.
pub(crate) async fn patch(
    stored: &Stored,
    name: RepositoryName,
    id: &str,
    request: &Parts,
    body: &mut Body,
) -> Result<Response, Error> {
    let session = find(stored, &name, id).await?;
    let (mut claimed, expected) = claim_for(stored, &name, &session, request, session.try_claim()).await?;
    let kept = session.clone();
    let claimed = stored.run(move |store| store.keep_session(&kept, &mut claimed).map(|()| claimed)).await?;
    let mut intake = Intake::new(body, &stored.options);
    let (claimed, received) = fill(&mut intake, claimed, Some(&session), expected).await;
    // What came before it was cut off is kept, and the client told when it asks.
    let settled = settle(stored, &session, claimed).await;
    received?;
    settled?;
    Ok(progress(StatusCode::ACCEPTED, &name, &session))
}

/// PUT: the end of the blob, perhaps with the last of it.
pub(crate) async fn put(
    stored: &Stored,
    name: RepositoryName,
    id: &str,
    request: &Parts,
    body: &mut Body,
) -> Result<Response, Error> {
    let session = find(stored, &name, id).await?;
    let digest = Query::of(&request.uri).digest()?.ok_or(Error::NoDigest)?;
    let (claimed, expected) = claim_for(stored, &name, &session, request, session.claim().await).await?;
    let mut intake = Intake::new(body, &stored.options);
    let (claimed, received) = fill(&mut intake, claimed, Some(&session), expected).await;
    if let Err(error) = received {
        // What is wrong with the request comes first; what could not be kept is told to whoever asks how far it is.
        let _ = settle(stored, &session, claimed).await;
        return Err(error);
    }
    let wanted = digest.clone();
    stored.write(move |store| store.finish(&session, claimed, &wanted)).await?;
    Ok(created(&name, &digest))
}

async fn find(stored: &Stored, name: &RepositoryName, id: &str) -> Result<Arc<Session>, Error> {
    let id: UploadId = id.parse().map_err(|_| StoreError::UploadUnknown)?;
    if let Some(known) = stored.store.session_at_hand(name, &id) {
        return Ok(known?);
    }
    let of = name.clone();
    // One that lies on the storage is taken up under the repository's lock.
    stored.change(name, move |store| store.session(&of, &id)).await
}

/// The session for this request, if it goes on where the session is; and how many bytes are to come, if that is told.
async fn claim_for(
    stored: &Stored,
    name: &RepositoryName,
    session: &Arc<Session>,
    request: &Parts,
    claimed: Result<Claimed, StoreError>,
) -> Result<(Claimed, Option<u64>), Error> {
    let out_of_order = || Error::OutOfOrder { location: location(name, session), range: range(session) };
    let claimed = match claimed {
        // Two at once would go on from the same place.
        Err(StoreError::UploadBusy) => return Err(out_of_order()),
        // Who was at it before may have left without a word, and more is there than was said.
        claimed => settle(stored, session, claimed?).await?,
    };
    let offset = claimed.length();
    match chunk(request)? {
        Some(chunk) if chunk.start != offset => Err(out_of_order()),
        Some(chunk) => Ok((claimed, Some(chunk.end - chunk.start))),
        None => Ok((claimed, length_of(request))),
    }
}

/// Takes in a body to its end, or until the session is cancelled. While one batch is written and hashed the next one comes.
/// What receives it comes back with what it has taken, whatever happens; if nobody waits for it, since the client is gone,
/// it stays where it was claimed.
async fn fill<R>(
    intake: &mut Intake<'_>,
    mut receiver: R,
    session: Option<&Session>,
    expected: Option<u64>,
) -> (R, Result<(), Error>)
where
    R: AsReceiver + Send + 'static,
{
    let begin = receiver.length();
    let mut next = next_batch(intake, session).await;
    loop {
        let (batch, end) = std::mem::replace(&mut next, (Batch::default(), Ok(())));
        if batch.len() == 0 {
            let came = receiver.length() - begin;
            let end = match expected {
                Some(expected) if end.is_ok() && came != expected => Err(Error::Length { expected, came }),
                _ => end,
            };
            return (receiver, end);
        }
        let length = batch.len();
        let came = receiver.length() - begin + length;
        if let Some(expected) = expected.filter(|expected| came > *expected) {
            return (receiver, Err(Error::Length { expected, came }));
        }
        let write = blocking(move || {
            let written = batch.try_for_each(|data| receiver.append(&data));
            (receiver, written)
        });
        let written;
        if end.is_ok() {
            let read = next_batch(intake, session);
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

/// The next of a body, unless the session is cancelled.
async fn next_batch(intake: &mut Intake<'_>, session: Option<&Session>) -> (Batch, Result<(), Error>) {
    let Some(session) = session else { return intake.batch().await };
    tokio::select! {
        batch = intake.batch() => batch,
        () = session.cancelled() => (Batch::default(), Err(StoreError::UploadUnknown.into())),
    }
}

/// Acknowledges what is there, if that was not done yet.
async fn settle(stored: &Stored, session: &Arc<Session>, mut claimed: Claimed) -> Result<Claimed, Error> {
    if claimed.length() == session.offset() {
        return Ok(claimed);
    }
    let session = session.clone();
    stored.write(move |store| store.acknowledge(&session, &mut claimed).map(|_| claimed)).await
}

/// What takes bytes: a receiver of its own, or that of a session.
trait AsReceiver {
    fn length(&self) -> u64;
    fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError>;
}

impl AsReceiver for Option<Receiver> {
    fn length(&self) -> u64 {
        self.as_ref().map_or(0, Receiver::len)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.as_mut().ok_or(StoreError::UploadUnknown)?.append(bytes)
    }
}

impl AsReceiver for Claimed {
    fn length(&self) -> u64 {
        Option::length(self)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        Option::append(self, bytes)
    }
}

/// The `Content-Range` of a chunk: `first-last`, without a unit or a total.
fn chunk(request: &Parts) -> Result<Option<std::ops::Range<u64>>, Error> {
    let Some(header) = request.headers.get(CONTENT_RANGE) else { return Ok(None) };
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| text.parse::<u64>().ok()).flatten()
    };
    let range = header.to_str().ok().and_then(|text| text.split_once('-'));
    let range = range.and_then(|(first, last)| Some(number(first)?..number(last)?.checked_add(1)?));
    let range = range.filter(|range| range.start < range.end).ok_or(Error::ContentRange)?;
    let expected = range.end - range.start;
    match length_of(request) {
        Some(came) if came != expected => Err(Error::Length { expected, came }),
        _ => Ok(Some(range)),
    }
}

fn created(name: &RepositoryName, digest: &Digest) -> Response {
    let mut response = body::empty(StatusCode::CREATED);
    response.headers_mut().insert(LOCATION, ascii(format!("/v2/{name}/blobs/{digest}")));
    response.headers_mut().insert(DIGEST, ascii(digest.to_string()));
    response
}

/// Where a session is, and how far. The place is the same for as long as it lives.
fn progress(status: StatusCode, name: &RepositoryName, session: &Session) -> Response {
    let mut response = body::empty(status);
    let headers = response.headers_mut();
    headers.insert(LOCATION, ascii(location(name, session)));
    headers.insert(RANGE, ascii(range(session)));
    headers.insert(ID, ascii(session.id().to_string()));
    response
}

fn location(name: &RepositoryName, session: &Session) -> String {
    format!("/v2/{name}/blobs/uploads/{}", session.id())
}

/// The first byte and the last one. That nothing has come cannot be said so; `0-0` is what all registries say, as clients
/// refuse a range that ends before it begins.
fn range(session: &Session) -> String {
    format!("0-{}", session.offset().saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Options;
    use quinistry_store::{Memory, Store};

    #[tokio::test]
    async fn a_session_is_cancelled_also_if_who_asked_for_it_is_gone() {
        let store = Store::open(Memory::new(1 << 20), false).unwrap();
        let stored = Stored::new(store.clone(), Options::default());
        let name: RepositoryName = "a/b".parse().unwrap();
        let session = store.begin(&name, None).unwrap();
        let claimed = session.try_claim().unwrap();
        {
            let mut asked = std::pin::pin!(delete(&stored, name.clone(), session.id().as_str()));
            tokio::select! {
                _ = &mut asked => panic!("somebody is at the session"),
                () = session.cancelled() => {}
            }
        }
        drop(claimed);
        let is_gone = async {
            while store.session(&name, session.id()).is_ok() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_mins(1), is_gone).await.expect("it ends");
    }
}
