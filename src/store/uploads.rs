//! Uploads: bytes that are received in one request or in many, and become a blob if they have the announced
//! digest.
//!
//! A session is a folder in distribution's form, and so survives a restart: acknowledged bytes are flushed,
//! and are hashed again when the session continues in another process. The folder is created when the first
//! of several requests begins to send; most blobs are received whole in one request and need no folder.

mod expiry;

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use quinistry_oci::{Algorithm, Digest, Hasher, RepositoryName};
use tokio::sync::{Mutex as Claim, Notify, OwnedMutexGuard};
use uuid::Uuid;

use super::blobs::{MAX_SHORT_BLOB_BYTES, blob_links};
use super::layout::blob;
use super::storage::{Upload, UploadStart};
use super::{Store, StoreError};

/// Name of an upload session: a UUID of version 4.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UploadId(Box<str>);

/// Least idle time of an empty session that makes place for another: the client of a younger one is about to
/// send.
const MIN_EMPTY_IDLE_TIME: Duration = Duration::from_secs(1);

/// Idle time after which an empty session ends.
pub(super) const MAX_EMPTY_IDLE_TIME: Duration = Duration::from_mins(10);

/// Sessions of this process. The storage may hold others, of earlier processes.
#[derive(Debug)]
pub(super) struct Sessions {
    open: Mutex<HashMap<UploadId, Arc<Session>>>,
    capacity: usize,
}

/// An upload of several requests.
#[derive(Debug)]
pub struct Session {
    name: RepositoryName,
    id: UploadId,
    /// Receiver of the bytes; `None` once the session has ended.
    pub(super) receiver: Arc<Claim<Option<Receiver>>>,
    /// Number of acknowledged bytes.
    offset: AtomicU64,
    /// The request that has claimed the session shall stop.
    is_cancelled: AtomicBool,
    cancel: Notify,
}

/// Receiver of an upload's bytes, which are hashed as they come.
#[derive(Debug)]
pub struct Receiver {
    upload: Box<dyn Upload>,
    /// SHA-256 of the received bytes; `None` if an earlier process has received some, so that the backend tells
    /// the digest.
    canonical: Option<Hasher>,
    /// Hash of the received bytes by another algorithm, if the client announced one.
    other: Option<Hasher>,
    /// Time of the last bytes, or of the beginning or continuation of the session.
    pub(super) touched: SystemTime,
}

/// Exclusive claim of one request on a session. Dropping the claim lets the next request in.
#[derive(Debug)]
pub struct Claimed(OwnedMutexGuard<Option<Receiver>>);

// === impl Claimed ===

impl Claimed {
    /// Returns the receiver; `None` once the session has ended.
    #[must_use]
    pub fn receiver(&self) -> Option<&Receiver> {
        self.0.as_ref()
    }

    /// Returns the receiver to append to; `None` once the session has ended.
    pub fn receiver_mut(&mut self) -> Option<&mut Receiver> {
        self.0.as_mut()
    }

    /// Persists the session, with its received and future bytes, for the time after a restart. Call before the
    /// bytes of a request that others will follow.
    pub fn persist(&mut self) -> Result<(), StoreError> {
        let receiver = self.receiver_mut().ok_or(StoreError::UploadUnknown)?;
        Ok(receiver.upload.persist()?)
    }

    /// Ends the session and returns its receiver; `None` if the session had ended before.
    pub(super) fn take(&mut self) -> Option<Receiver> {
        self.0.take()
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        // The client may have disconnected in the middle of a request.
        if let Some(receiver) = self.receiver_mut() {
            receiver.upload.release();
        }
    }
}

// === impl UploadId ===

impl UploadId {
    /// Creates a name that cannot be guessed.
    fn random() -> Self {
        Self(Uuid::new_v4().to_string().into())
    }

    /// Returns the name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Error of a string that is not an [`UploadId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an upload session's name")]
pub struct UploadIdError;

impl FromStr for UploadId {
    type Err = UploadIdError;

    fn from_str(text: &str) -> Result<Self, UploadIdError> {
        // Only the canonical spelling, because the text becomes a folder's name.
        let uuid: Uuid = text.parse().map_err(|_| UploadIdError)?;
        let spelled = uuid.to_string();
        if spelled == text { Ok(Self(spelled.into())) } else { Err(UploadIdError) }
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// === impl Sessions ===

impl Sessions {
    pub(super) fn new(capacity: usize) -> Self {
        Self { open: Mutex::default(), capacity }
    }

    pub(super) fn open(&self) -> MutexGuard<'_, HashMap<UploadId, Arc<Session>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Session ===

impl Session {
    fn new(name: &RepositoryName, id: &UploadId, receiver: Receiver) -> Arc<Self> {
        let offset = receiver.len().into();
        Arc::new(Self {
            name: name.clone(),
            id: id.clone(),
            receiver: Arc::new(Claim::new(Some(receiver))),
            offset,
            is_cancelled: AtomicBool::new(false),
            cancel: Notify::new(),
        })
    }

    /// Returns the repository of the session.
    pub(super) fn name(&self) -> &RepositoryName {
        &self.name
    }

    /// Returns the name of the session.
    #[must_use]
    pub fn id(&self) -> &UploadId {
        &self.id
    }

    /// Returns the number of acknowledged bytes, which are durable.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset.load(Ordering::Acquire)
    }

    /// Claims the session, unless another request has claimed it.
    pub fn try_claim(&self) -> Result<Claimed, StoreError> {
        let claimed = self.receiver.clone().try_lock_owned().map_err(|_| StoreError::UploadBusy)?;
        if claimed.is_some() { Ok(Claimed(claimed)) } else { Err(StoreError::UploadUnknown) }
    }

    /// Claims the session once no other request has claimed it.
    pub async fn claim(&self) -> Result<Claimed, StoreError> {
        let claimed = self.receiver.clone().lock_owned().await;
        if claimed.is_some() { Ok(Claimed(claimed)) } else { Err(StoreError::UploadUnknown) }
    }

    /// Stops the request that has claimed the session, and claims it.
    pub async fn cancel(&self) -> Result<Claimed, StoreError> {
        self.is_cancelled.store(true, Ordering::Release);
        self.cancel.notify_waiters();
        self.claim().await
    }

    /// Resolves when the session is cancelled.
    pub async fn cancelled(&self) {
        loop {
            let notified = self.cancel.notified();
            if self.is_cancelled.load(Ordering::Acquire) {
                return;
            }
            notified.await;
        }
    }
}

// === impl Receiver ===

impl Receiver {
    fn new(upload: Box<dyn Upload>, announced: Option<Algorithm>) -> Self {
        let is_empty = upload.offset() == 0;
        let canonical = is_empty.then(|| Hasher::new(Algorithm::Sha256));
        let other = announced.filter(|algorithm| *algorithm != Algorithm::Sha256 && is_empty);
        Self { upload, canonical, other: other.map(Hasher::new), touched: SystemTime::now() }
    }

    /// Returns the number of received bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.upload.offset()
    }

    /// Returns true if no bytes were received.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends the next bytes; all, or none.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.upload.append(bytes)?;
        self.touched = SystemTime::now();
        for hasher in [&mut self.canonical, &mut self.other].into_iter().flatten() {
            hasher.update(bytes);
        }
        Ok(())
    }

    fn digest(&self, algorithm: Algorithm) -> Result<Digest, StoreError> {
        let known = match algorithm {
            Algorithm::Sha256 => &self.canonical,
            Algorithm::Sha512 => &self.other,
        };
        if let Some(hasher) = known {
            return Ok(hasher.clone().finish());
        }
        Ok(self.upload.digest(algorithm)?)
    }
}

// === impl Store ===

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
        let id = UploadId::random();
        let upload = self.storage().uploads().begin(UploadStart::Session { repository: name, id: &id })?;
        let session = Session::new(name, &id, Receiver::new(upload, announced));
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
            let session = Session::new(name, id, Receiver::new(upload, None));
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
        let upload = self.storage().uploads().begin(UploadStart::Whole { digest, length })?;
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
        let length = receiver.len();
        // Existing bytes are replaced: another program's crash may have torn them.
        self.0.blob_cache.invalidate_during(name, || {
            self.add_links(&canonical, || {
                receiver.upload.finish(&blob(&canonical), &[&blob_links(name, wanted, &canonical)])?;
                // A shorter blob is hashed whenever it is read.
                if length > MAX_SHORT_BLOB_BYTES {
                    self.note_sound(&canonical, wanted);
                }
                Ok(())
            })
        })
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
                // On a full storage the bytes may be acknowledged later.
                if receiver.upload.is_spent() {
                    self.end(session, claimed);
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
        let may_retry = matches!(committed, Err(StoreError::Storage(_)));
        if may_retry && !receiver.upload.is_spent() {
            return committed;
        }
        let removed = self.forget(session, claimed.take());
        committed.and(removed)
    }

    /// Ends a claimed session, and drops its bytes.
    pub fn discard(&self, session: &Session, mut claimed: Claimed) -> Result<(), StoreError> {
        let receiver = claimed.take().ok_or(StoreError::UploadUnknown)?;
        self.forget(session, Some(receiver))
    }

    /// Ends a session whose content is unknown.
    fn end(&self, session: &Session, claimed: &mut Claimed) {
        if let Err(error) = self.forget(session, claimed.take()) {
            tracing::warn!(%error, session = %session.id, "cannot remove upload session, leaving it until it expires");
        }
    }

    fn forget(&self, session: &Session, receiver: Option<Receiver>) -> Result<(), StoreError> {
        let removed = receiver.map_or(Ok(()), |mut receiver| receiver.upload.abort());
        self.0.sessions.open().remove(&session.id);
        Ok(removed?)
    }
}
