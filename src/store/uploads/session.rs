//! Sessions of this process, each with the receiver of its bytes, which one request at a time may claim.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use quinistry_oci::{Algorithm, Content, Digest, Hasher, RepositoryName};
use tokio::sync::{Mutex as Claim, Notify, OwnedMutexGuard};

use super::{UploadId, ended};
use crate::StoreError;
use crate::storage::{RoomFuture, Upload};

/// Sessions of this process. The storage may hold others, of earlier processes.
#[derive(Debug)]
pub(crate) struct Sessions {
    open: Mutex<HashMap<UploadId, Arc<Session>>>,
    pub(super) capacity: usize,
}

/// An upload of several requests.
#[derive(Debug)]
pub struct Session {
    pub(super) name: RepositoryName,
    pub(super) id: UploadId,
    /// Receiver of the bytes; `None` once the session has ended.
    pub(crate) receiver: Arc<Claim<Option<Receiver>>>,
    /// Text that the client of a shared session sends with each request.
    pub(super) state: Option<Box<str>>,
    /// Number of acknowledged bytes.
    pub(super) offset: AtomicU64,
    /// The request that has claimed the session shall stop.
    is_cancelled: AtomicBool,
    cancel: Notify,
}

/// Receiver of an upload's bytes, which are hashed as they come.
#[derive(Debug)]
pub struct Receiver {
    pub(super) upload: Box<dyn Upload>,
    /// SHA-256 of the received bytes; `None` if the backend tells the digest, because an earlier process has
    /// received some bytes, or because the backend hashes them.
    canonical: Option<Hasher>,
    /// Hash of the received bytes by another algorithm, if the client announced one.
    other: Option<Hasher>,
    /// Time of the last bytes, or of the beginning or continuation of the session.
    pub(crate) touched: SystemTime,
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

    /// Persists the session, with its received and future bytes, for the time after a restart. Call before
    /// the bytes of a request that others will follow.
    pub fn persist(&mut self) -> Result<(), StoreError> {
        let receiver = self.receiver_mut().ok_or(StoreError::UploadUnknown)?;
        Ok(receiver.upload.persist()?)
    }

    /// Ends the session and returns its receiver; `None` if the session had ended before.
    pub(crate) fn take(&mut self) -> Option<Receiver> {
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

// === impl Sessions ===

impl Sessions {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { open: Mutex::default(), capacity }
    }

    pub(crate) fn open(&self) -> MutexGuard<'_, HashMap<UploadId, Arc<Session>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Session ===

impl Session {
    pub(super) fn new(
        name: &RepositoryName,
        id: &UploadId,
        state: Option<&str>,
        receiver: Receiver,
    ) -> Arc<Self> {
        let offset = receiver.len().into();
        Arc::new(Self {
            name: name.clone(),
            id: id.clone(),
            state: state.map(Into::into),
            receiver: Arc::new(Claim::new(Some(receiver))),
            offset,
            is_cancelled: AtomicBool::new(false),
            cancel: Notify::new(),
        })
    }

    /// Returns the repository of the session.
    pub(crate) fn name(&self) -> &RepositoryName {
        &self.name
    }

    /// Returns the name of the session.
    #[must_use]
    pub fn id(&self) -> &UploadId {
        &self.id
    }

    /// Returns the text that the client sends with each request, if the session is shared by several
    /// processes.
    #[must_use]
    pub fn state(&self) -> Option<&str> {
        self.state.as_deref()
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
    pub(super) fn new(upload: Box<dyn Upload>, announced: Option<Algorithm>) -> Self {
        let is_hashed_here = upload.offset() == 0 && !upload.is_hashing();
        let canonical = is_hashed_here.then(|| Hasher::new(Algorithm::Sha256));
        let other = announced.filter(|algorithm| *algorithm != Algorithm::Sha256 && is_hashed_here);
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

    /// Returns a wait for the memory that the next `bytes` bytes take; `None` if there is room.
    pub fn room(&mut self, bytes: usize) -> Option<RoomFuture> {
        self.upload.room(bytes)
    }

    /// Appends the next bytes; all, or none.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let appended = self.upload.append(bytes).map_err(StoreError::from);
        appended.map_err(|error| if self.upload.is_spent() { ended(error) } else { error })?;
        self.touched = SystemTime::now();
        for hasher in [&mut self.canonical, &mut self.other].into_iter().flatten() {
            hasher.update(bytes);
        }
        Ok(())
    }

    /// Returns content of `length` bytes, the number that will be received: the bytes so far can be read while others
    /// are appended, and after the receiver was committed or dropped. Reads of others fail. `None` if the storage
    /// cannot read bytes before they are stored.
    pub fn tail(&mut self, length: u64) -> Result<Option<Content>, StoreError> {
        Ok(self.upload.tail(length)?)
    }

    /// Returns the digest of the received bytes. Costs a read of all bytes, unless the receiver was begun with a digest
    /// of this algorithm.
    pub fn digest(&mut self, algorithm: Algorithm) -> Result<Digest, StoreError> {
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
