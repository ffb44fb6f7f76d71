//! Uploads: bytes that come in, in one request or in many, and become a blob when they are what was announced.
//!
//! A session is a folder as distribution has it, so that it outlives this process: what was acknowledged is flushed, and
//! when the session is taken up again its bytes are hashed again. It has its folder when the first bytes are about to come
//! that others shall follow; most blobs come whole, in one request, and leave nothing to go on with.

mod expiry;

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use quinistry_oci::{Algorithm, Digest, Hasher, RepositoryName};
use tokio::sync::{Mutex as Claim, Notify, OwnedMutexGuard};
use uuid::Uuid;

use super::blobs::{SHORT, blob_links};
use super::layout::{Place, blob};
use super::storage::{Staged, StorageError};
use super::{Store, StoreError};

/// The name of a session: a UUID of version 4.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UploadId(Box<str>);

/// Age below which a session that has received nothing is left alone: its client is about to send.
const EMPTY_AT_LEAST: Duration = Duration::from_secs(1);

/// Idle time after which a session that has received nothing ends.
pub(super) const EMPTY_AT_MOST: Duration = Duration::from_mins(10);

/// Sessions that this process knows. Others may lie on the storage, from before.
#[derive(Debug)]
pub(super) struct Sessions {
    open: Mutex<HashMap<UploadId, Arc<Session>>>,
    most: usize,
}

/// An upload of several requests.
#[derive(Debug)]
pub struct Session {
    name: RepositoryName,
    id: UploadId,
    /// None once it has ended.
    pub(super) receiver: Arc<Claim<Option<Receiver>>>,
    /// It has a folder, and outlives this process. Changed by whoever has claimed it.
    kept: AtomicBool,
    /// How many bytes have been acknowledged.
    offset: AtomicU64,
    /// Whoever is at it shall stop.
    cancelled: AtomicBool,
    cancel: Notify,
}

/// Where bytes go, and what they hash to.
#[derive(Debug)]
pub struct Receiver {
    staged: Box<dyn Staged>,
    /// Of what is staged; none if bytes lay there before, which are hashed when that is needed.
    canonical: Option<Hasher>,
    /// The same by another algorithm, if it was announced.
    other: Option<Hasher>,
    /// When the last bytes came, or when it was begun or taken up again.
    pub(super) touched: SystemTime,
}

/// A session in use by one request; nothing once the session has ended. When it is dropped the next one may come.
#[derive(Debug)]
pub struct Claimed(OwnedMutexGuard<Option<Receiver>>);

impl std::ops::Deref for Claimed {
    type Target = Option<Receiver>;

    fn deref(&self) -> &Option<Receiver> {
        &self.0
    }
}

impl std::ops::DerefMut for Claimed {
    fn deref_mut(&mut self) -> &mut Option<Receiver> {
        &mut self.0
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        // Whoever was at it may have gone without a word.
        if let Some(receiver) = self.0.as_mut() {
            receiver.staged.release();
        }
    }
}

// === impl UploadId ===

impl UploadId {
    /// One that nobody can guess.
    fn random() -> Self {
        Self(Uuid::new_v4().to_string().into())
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A string is no [`UploadId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an upload session's name")]
pub struct UploadIdError;

impl FromStr for UploadId {
    type Err = UploadIdError;

    fn from_str(text: &str) -> Result<Self, UploadIdError> {
        // In one spelling only: it becomes a folder's name.
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
    pub(super) fn new(most: usize) -> Self {
        Self { open: Mutex::default(), most }
    }

    pub(super) fn open(&self) -> MutexGuard<'_, HashMap<UploadId, Arc<Session>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Session ===

impl Session {
    fn new(name: &RepositoryName, id: &UploadId, receiver: Receiver, kept: bool) -> Arc<Self> {
        let offset = receiver.staged.len().into();
        Arc::new(Self {
            name: name.clone(),
            id: id.clone(),
            receiver: Arc::new(Claim::new(Some(receiver))),
            kept: kept.into(),
            offset,
            cancelled: AtomicBool::new(false),
            cancel: Notify::new(),
        })
    }

    /// The repository that it is of.
    pub(super) fn name(&self) -> &RepositoryName {
        &self.name
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> &UploadId {
        &self.id
    }

    /// How many bytes have come, and are there to stay.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset.load(Ordering::Acquire)
    }

    /// Claims it, if nobody else is at it.
    pub fn try_claim(&self) -> Result<Claimed, StoreError> {
        let claimed = self.receiver.clone().try_lock_owned().map_err(|_| StoreError::UploadBusy)?;
        if claimed.is_some() { Ok(Claimed(claimed)) } else { Err(StoreError::UploadUnknown) }
    }

    /// Claims it when nobody else is at it any more.
    pub async fn claim(&self) -> Result<Claimed, StoreError> {
        let claimed = self.receiver.clone().lock_owned().await;
        if claimed.is_some() { Ok(Claimed(claimed)) } else { Err(StoreError::UploadUnknown) }
    }

    /// Has whoever is at it stop, and claims it.
    pub async fn cancel(&self) -> Result<Claimed, StoreError> {
        self.cancelled.store(true, Ordering::Release);
        self.cancel.notify_waiters();
        self.claim().await
    }

    /// Resolves when it is cancelled.
    pub async fn cancelled(&self) {
        loop {
            let notified = self.cancel.notified();
            if self.cancelled.load(Ordering::Acquire) {
                return;
            }
            notified.await;
        }
    }
}

// === impl Receiver ===

impl Receiver {
    fn new(staged: Box<dyn Staged>, announced: Option<Algorithm>) -> Self {
        let canonical = staged.is_empty().then(|| Hasher::new(Algorithm::Sha256));
        let other = announced.filter(|algorithm| *algorithm != Algorithm::Sha256 && staged.is_empty());
        Self { staged, canonical, other: other.map(Hasher::new), touched: SystemTime::now() }
    }

    /// How many bytes have come.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.staged.len()
    }

    /// Whether none have.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes in the next bytes; all, or none.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.staged.append(bytes)?;
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
        let read = self.staged.content()?.digest(algorithm);
        read.map_err(|source| {
            StorageError::Io { what: "read", key: "what was uploaded".into(), source }.into()
        })
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
        if self.0.sessions.open().len() >= self.0.sessions.most && !self.end_empty_sessions() {
            return Err(StoreError::TooManyUploads);
        }
        let id = UploadId::random();
        let session = Session::new(name, &id, Receiver::new(self.storage().stage(None)?, announced), false);
        self.0.sessions.open().insert(id, session.clone());
        Ok(session)
    }

    /// Ends the oldest sessions that have received nothing, a tenth of all that there may be; whether there
    /// were any. So a client that opens sessions and leaves them takes the place of no other for long.
    fn end_empty_sessions(&self) -> bool {
        let Sessions { most, .. } = &self.0.sessions;
        let now = SystemTime::now();
        let mut open = self.0.sessions.open();
        let mut empty: Vec<(SystemTime, UploadId)> = open
            .values()
            .filter_map(|session| {
                let receiver = session.receiver.try_lock().ok()?;
                let touched = receiver.as_ref().filter(|receiver| receiver.is_empty())?.touched;
                let idle = now.duration_since(touched).unwrap_or_default();
                (idle >= EMPTY_AT_LEAST).then(|| (touched, session.id.clone()))
            })
            .collect();
        empty.sort_unstable();
        empty.truncate((most / 10).max(1));
        let ended: Vec<_> = empty
            .iter()
            .filter_map(|(_, id)| {
                let receiver = open.get(id)?.receiver.clone().try_lock_owned().ok()?.take();
                open.remove(id);
                receiver
            })
            .collect();
        drop(open);
        // Staged content is dropped outside of the lock.
        !ended.is_empty()
    }

    /// A session of a repository, of this process or from before.
    pub fn session(&self, name: &RepositoryName, id: &UploadId) -> Result<Arc<Session>, StoreError> {
        if let Some(known) = self.cached_session(name, id) {
            return known;
        }
        // One at a time, or one that is taken up again by somebody else, and ended, could be found once more.
        self.0.locks.with(name, || {
            if let Some(known) = self.cached_session(name, id) {
                return known;
            }
            let place = Place(name);
            if !self.storage().exists(&place.upload_started(id.as_str()))? {
                return Err(StoreError::UploadUnknown);
            }
            let mut staged = self.storage().stage(Some(&place.upload_data(id.as_str())))?;
            // What lies there may not have been flushed by who wrote it, and is acknowledged from now on.
            staged.sync()?;
            let session = Session::new(name, id, Receiver::new(staged, None), true);
            self.0.sessions.open().insert(id.clone(), session.clone());
            Ok(session)
        })
    }

    /// Returns a session that this process knows, if it belongs to the repository. Never waits for a storage.
    #[must_use]
    pub fn cached_session(
        &self,
        name: &RepositoryName,
        id: &UploadId,
    ) -> Option<Result<Arc<Session>, StoreError>> {
        let session = self.0.sessions.open().get(id)?.clone();
        Some(if session.name == *name { Ok(session) } else { Err(StoreError::UploadUnknown) })
    }

    /// Where bytes go that come in one request.
    pub fn receive(&self, announced: Algorithm) -> Result<Receiver, StoreError> {
        Ok(Receiver::new(self.storage().stage(None)?, Some(announced)))
    }

    /// Makes what was received a blob, if it is what it should be.
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
        // What was found there before may be torn, by another program's crash: this goes in its place.
        self.0.blob_cache.invalidate_during(name, || {
            self.linking(&canonical, || {
                receiver.staged.publish(&blob(&canonical), &blob_links(name, wanted, &canonical))?;
                // A shorter one is hashed whenever it is read.
                if length > SHORT {
                    self.note_sound(&canonical, wanted);
                }
                Ok(())
            })
        })
    }

    /// Has a session, and what it has received and will, be found again after a restart: to be asked before bytes come that
    /// others are to follow.
    pub fn keep_session(&self, session: &Session, claimed: &mut Claimed) -> Result<(), StoreError> {
        let receiver = claimed.as_mut().ok_or(StoreError::UploadUnknown)?;
        if !self.storage().is_persistent() || session.kept.load(Ordering::Relaxed) {
            return Ok(());
        }
        let (place, id) = (Place(&session.name), session.id.as_str());
        let now = format!("{:.0}", Timestamp::now());
        let begun = self.storage().write_lazily(&place.upload_started(id), now.as_bytes());
        if let Err(error) = begun.and_then(|()| receiver.staged.persist(&place.upload_data(id))) {
            // Nobody shall find half of it when it has ended; if this fails too, it is swept.
            let _ = self.storage().remove_lazily(&place.upload(id));
            return Err(error.into());
        }
        session.kept.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Acknowledges what has come: it is flushed, and the next request goes on from there. If the flush fails
    /// the session ends, as what is left of it is unknown.
    pub fn acknowledge(&self, session: &Session, claimed: &mut Claimed) -> Result<u64, StoreError> {
        if let Err(error) = self.keep_session(session, claimed) {
            // Where there was no room, it may be kept later.
            if claimed.as_ref().is_some_and(|receiver| receiver.staged.is_spent()) {
                self.end(session, claimed);
            }
            return Err(error);
        }
        let receiver = claimed.as_mut().ok_or(StoreError::UploadUnknown)?;
        if let Err(error) = receiver.staged.sync() {
            if receiver.staged.is_spent() {
                self.end(session, claimed);
            }
            return Err(error.into());
        }
        let offset = receiver.staged.len();
        session.offset.store(offset, Ordering::Release);
        Ok(offset)
    }

    /// Ends a session by making a blob of what it has received. If that is not what it should be, nothing is
    /// left of it; if the storage refuses it for now, the session stays as it is.
    pub fn finish(&self, session: &Session, mut claimed: Claimed, wanted: &Digest) -> Result<(), StoreError> {
        let receiver = claimed.as_mut().ok_or(StoreError::UploadUnknown)?;
        let committed = self.commit(&session.name, receiver, wanted);
        let later = matches!(committed, Err(StoreError::Storage(_)));
        if later && !receiver.staged.is_spent() {
            return committed;
        }
        claimed.take();
        let removed = self.forget(session);
        committed.and(removed)
    }

    /// Ends a session that was claimed, and drops what it has received.
    pub fn discard(&self, session: &Session, mut claimed: Claimed) -> Result<(), StoreError> {
        claimed.take().ok_or(StoreError::UploadUnknown)?;
        self.forget(session)
    }

    /// Ends a session of which nobody knows what is left.
    fn end(&self, session: &Session, claimed: &mut Claimed) {
        claimed.take();
        if let Err(error) = self.forget(session) {
            tracing::warn!(%error, "what is left of an upload session stays until it is swept");
        }
    }

    fn forget(&self, session: &Session) -> Result<(), StoreError> {
        let removed = if session.kept.load(Ordering::Relaxed) {
            self.storage().remove_lazily(&Place(&session.name).upload(session.id.as_str()))
        } else {
            Ok(false)
        };
        self.0.sessions.open().remove(&session.id);
        removed?;
        Ok(())
    }
}
