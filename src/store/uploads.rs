//! Uploads: bytes that are received in one request or in many, and become a blob if they have the announced
//! digest.
//!
//! A session is a folder in distribution's form, and so survives a restart: acknowledged bytes are flushed,
//! and are hashed again when the session continues in another process. The folder is created when the first
//! of several requests begins to send; most blobs are received whole in one request and need no folder. Where
//! several processes share a storage, sessions are in the storage alone ([`shared`]).

mod expiry;
mod id;
mod session;
mod shared;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use quinistry_oci::{Algorithm, Digest, RepositoryName, WithCauses};

use super::blobs::{MAX_SHORT_BLOB_BYTES, blob_links};
use super::gc::online::subject::Subject;
use super::gc::online::touch::{Cause, Needed};
use super::layout::{Key, blob};
use super::shared::LinkKind;
use super::storage::{Entry, StorageError, UploadStart};
use super::{Store, StoreError};

pub use self::expiry::IdleUpload;
pub use self::id::UploadId;
pub(super) use self::session::Sessions;
pub use self::session::{Claimed, Receiver, Session};
pub use self::shared::SharedSession;

/// Least idle time of an empty session that makes place for another: the client of a younger one is about to
/// send.
const MIN_EMPTY_IDLE_TIME: Duration = Duration::from_secs(1);

/// Idle time after which an empty session ends.
pub(super) const MAX_EMPTY_IDLE_TIME: Duration = Duration::from_mins(10);

impl Store {
    /// Opens a session. `announced` is the algorithm by which the blob will be named, if the client says so.
    pub fn begin(
        &self,
        name: &RepositoryName,
        announced: Option<Algorithm>,
    ) -> Result<Arc<Session>, StoreError> {
        if self.0.sessions.open().len() >= self.0.sessions.capacity && !self.end_empty_sessions() {
            return Err(StoreError::TooManyUploads);
        }
        self.check_room()?;
        let id = UploadId::random();
        let upload = self.storage().uploads().begin(UploadStart::Session {
            repository: name,
            id: &id,
            begun: SystemTime::now(),
            announced,
        })?;
        let session = Session::new(name, &id, None, Receiver::new(upload, announced));
        self.0.sessions.open().insert(id, session.clone());
        Ok(session)
    }

    /// Ends the oldest empty sessions, at most a tenth of the capacity; returns true if there were any. A
    /// client that opens sessions and leaves them therefore keeps no other client out for long.
    fn end_empty_sessions(&self) -> bool {
        let Sessions { capacity, .. } = &self.0.sessions;
        let now = SystemTime::now();
        let mut open = self.0.sessions.open();
        let mut empty: Vec<(SystemTime, UploadId)> = open
            .values()
            .filter_map(|session| {
                let receiver = session.receiver.try_lock().ok()?;
                let touched = receiver.as_ref().filter(|receiver| receiver.is_empty())?.touched;
                let idle = now.duration_since(touched).unwrap_or_default();
                (idle >= MIN_EMPTY_IDLE_TIME).then(|| (touched, session.id.clone()))
            })
            .collect();
        empty.sort_unstable();
        empty.truncate((capacity / 10).max(1));
        let ended: Vec<_> = empty
            .iter()
            .filter_map(|(_, id)| {
                let receiver = open.get(id)?.receiver.clone().try_lock_owned().ok()?.take();
                open.remove(id);
                receiver
            })
            .collect();
        drop(open);
        // Received bytes are dropped outside of the lock.
        !ended.is_empty()
    }

    /// Returns a session of a repository, of this process or of an earlier one.
    pub fn session(&self, name: &RepositoryName, id: &UploadId) -> Result<Arc<Session>, StoreError> {
        if let Some(known) = self.cached_session(name, id) {
            return known;
        }
        // Under the lock, because another request may continue the session and end it at the same time.
        self.0.locks.with(name, || {
            if let Some(known) = self.cached_session(name, id) {
                return known;
            }
            let upload = self.storage().uploads().resume(name, id)?.ok_or(StoreError::UploadUnknown)?;
            let session = Session::new(name, id, None, Receiver::new(upload, None));
            self.0.sessions.open().insert(id.clone(), session.clone());
            Ok(session)
        })
    }

    /// Returns a session of this process, if it belongs to the repository. Never waits for the storage.
    #[must_use]
    pub fn cached_session(
        &self,
        name: &RepositoryName,
        id: &UploadId,
    ) -> Option<Result<Arc<Session>, StoreError>> {
        let session = self.0.sessions.open().get(id)?.clone();
        Some(if session.name == *name { Ok(session) } else { Err(StoreError::UploadUnknown) })
    }

    /// Creates a receiver for a blob that one request brings, with the number of bytes if the client has
    /// declared it.
    pub fn receive(&self, digest: &Digest, length: Option<u64>) -> Result<Receiver, StoreError> {
        self.check_room()?;
        let key = known_key(digest);
        let start = UploadStart::Whole { digest, length, key: key.as_ref() };
        let upload = self.storage().uploads().begin(start)?;
        Ok(Receiver::new(upload, Some(digest.algorithm())))
    }

    /// Commits the received bytes as a blob, if they have the digest `wanted`.
    pub fn commit(
        &self,
        name: &RepositoryName,
        receiver: &mut Receiver,
        wanted: &Digest,
    ) -> Result<(), StoreError> {
        let found = receiver.digest(wanted.algorithm())?;
        if found != *wanted {
            return Err(StoreError::Differs { wanted: wanted.clone(), found });
        }
        let canonical = match wanted.algorithm() {
            Algorithm::Sha256 => found,
            Algorithm::Sha512 => receiver.digest(Algorithm::Sha256)?,
        };
        // Right before the bytes become visible, also where equal ones seemed to be there: they may be about to go.
        let own = vec![Subject::link(name, &canonical), Subject::bytes(&canonical)];
        let needed = Needed { own, ..Needed::default() };
        self.touching(&needed, Cause::Blob, || self.commit_held(name, receiver, wanted, &canonical))
    }

    fn commit_held(
        &self,
        name: &RepositoryName,
        receiver: &mut Receiver,
        wanted: &Digest,
        canonical: &Digest,
    ) -> Result<(), StoreError> {
        let length = receiver.len();
        let begun = self.begin_link();
        let register: Vec<Entry<'_>> = self.missing_register(name).into_iter().collect();
        // Existing bytes are replaced: another program's crash may have torn them.
        let write = || {
            self.add_links(canonical, || {
                let links = blob_links(name, wanted, canonical);
                let stages: [&[Entry<'_>]; 2] = [&register, &links];
                receiver.upload.finish(&blob(canonical), &stages[usize::from(register.is_empty())..])?;
                // A shorter blob is hashed whenever it is read, and one of a shared storage never.
                if length > MAX_SHORT_BLOB_BYTES && !self.is_shared() {
                    self.note_sound(canonical, wanted);
                }
                Ok(((), true))
            })
        };
        let cost = || self.blob_cost(name, canonical, Some(length));
        self.within_quota(name, Some(canonical), cost, || self.0.blob_cache.invalidate_during(name, write))?;
        self.note_registered(name);
        self.note_linked(begun, LinkKind::Blob, name, (wanted, length));
        Ok(())
    }

    /// Flushes the received bytes, so that the next request continues after them. If the flush fails the
    /// session ends, as its content is unknown.
    pub fn acknowledge(&self, session: &Session, claimed: &mut Claimed) -> Result<u64, StoreError> {
        let receiver = claimed.receiver_mut().ok_or(StoreError::UploadUnknown)?;
        match receiver.upload.acknowledge() {
            Ok(offset) => {
                session.offset.store(offset, Ordering::Release);
                Ok(offset)
            }
            Err(error) => {
                // Another process may have acknowledged bytes.
                if matches!(error, StorageError::Overtaken) {
                    session.offset.store(receiver.len(), Ordering::Release);
                }
                // On a full storage the bytes may be acknowledged later.
                if receiver.upload.is_spent() {
                    self.end(session, claimed);
                    return Err(ended(error.into()));
                }
                Err(error.into())
            }
        }
    }

    /// Ends a session by committing its bytes as a blob. If they have another digest the session ends without
    /// a blob; if the storage fails for now, the session stays as it is.
    pub fn finish(&self, session: &Session, mut claimed: Claimed, wanted: &Digest) -> Result<(), StoreError> {
        let receiver = claimed.receiver_mut().ok_or(StoreError::UploadUnknown)?;
        let committed = self.commit(&session.name, receiver, wanted);
        let may_retry = matches!(committed, Err(StoreError::Storage(_) | StoreError::Unvouched));
        if may_retry && !receiver.upload.is_spent() {
            if self.has_shared_sessions() {
                session.offset.store(receiver.len(), Ordering::Release);
            }
            return committed;
        }
        let removed = self.forget(session, claimed.take());
        committed.map_err(ended).and(removed)
    }

    /// Ends a claimed session, and drops its bytes.
    pub fn discard(&self, session: &Session, mut claimed: Claimed) -> Result<(), StoreError> {
        let receiver = claimed.take().ok_or(StoreError::UploadUnknown)?;
        self.forget(session, Some(receiver))
    }

    /// Ends a session whose content is unknown.
    fn end(&self, session: &Session, claimed: &mut Claimed) {
        if let Err(error) = self.forget(session, claimed.take()) {
            tracing::warn!(error = %WithCauses(&error), session = %session.id, "cannot remove upload session, leaving it until it expires");
        }
    }

    fn forget(&self, session: &Session, receiver: Option<Receiver>) -> Result<(), StoreError> {
        let removed = receiver.map_or(Ok(()), |mut receiver| receiver.upload.abort());
        self.0.sessions.open().remove(&session.id);
        Ok(removed?)
    }
}

/// Returns the key of the bytes of a digest, if the digest tells where they lie.
fn known_key(digest: &Digest) -> Option<Key> {
    (digest.algorithm() == Algorithm::Sha256).then(|| blob(digest))
}

/// Returns the error of a session that cannot continue. If another process has overtaken it, that process has
/// ended the session.
fn ended(error: StoreError) -> StoreError {
    match error {
        StoreError::Storage(StorageError::Overtaken) => StoreError::UploadUnknown,
        error => error,
    }
}
