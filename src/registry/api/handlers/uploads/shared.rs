//! Sessions that each replica of a registry continues.

use std::sync::Arc;
use std::time::Duration;

use quinistry_oci::{Digest, RepositoryName};
use quinistry_store::{Claimed, Session, StorageError, Store, StoreError, UploadId};

use super::place::{STATE, out_of_order};
use crate::api::query::Query;
use crate::api::response::error::Error;
use crate::api::upload_state::UploadState;
use crate::{LimitedStore, Settings};

/// Least time for which replicas recognise a session that none of them has written down.
const MIN_STATE_AGE: Duration = Duration::from_hours(1);

/// Returns the text that the client has sent, and its content, if a replica of this registry has made it for
/// the session. Older ones than the idle time after which sessions end are not recognised: nothing tells
/// whether the session has ended.
pub(super) async fn recognised(
    stored: &LimitedStore,
    settings: &Settings,
    name: &RepositoryName,
    id: &UploadId,
    query: Query<'_>,
) -> Result<Option<(String, UploadState)>, Error> {
    // A registry that is read-only has no sessions, and creates no secret.
    let Some(text) = query.first(STATE).filter(|_| !settings.read_only) else { return Ok(None) };
    let Some(state) = stored.upload_secret(settings).await?.open(name, id, &text) else { return Ok(None) };
    let age = stored.store.shared_time().duration_since(state.begun).unwrap_or_default();
    Ok((age < settings.upload_expiry.age.max(MIN_STATE_AGE)).then(|| (text.into_owned(), state)))
}

/// Reads how far other replicas have continued a session, if they can.
pub(super) async fn refresh(
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

/// Prepares a session that other replicas may have continued for a request.
pub(super) async fn continue_shared(
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

/// Makes the answer to a request whose offset another replica has passed; other errors stay.
pub(super) fn unless_overtaken(error: Error, name: &RepositoryName, session: &Session) -> Error {
    if matches!(error, Error::Store(StoreError::Storage(StorageError::Overtaken))) {
        return out_of_order(name, session);
    }
    error
}
