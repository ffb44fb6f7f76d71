//! Sessions that each of several processes continues. They are in the storage alone: a session begins without
//! a request to the storage, and the processes recognise it by a text that the client sends with each
//! request.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use bytes::Bytes;
use quinistry_oci::{Algorithm, Digest, RepositoryName};

use super::{Claimed, Receiver, Session, UploadId, known_key};
use crate::layout::secret;
use crate::storage::{Created, NextRequest, UploadStart};
use crate::{Store, StoreError};

/// Longest secret that processes share, in bytes.
const MAX_SECRET_BYTES: u64 = 1024;

/// Identity of a session that the registry has recognised.
#[derive(Clone, Copy, Debug)]
pub struct SharedSession<'a> {
    /// Name of the session.
    pub id: &'a UploadId,
    /// Time of the session's begin.
    pub begun: SystemTime,
    /// Algorithm by which the blob will be named, if the client has announced one.
    pub announced: Option<Algorithm>,
    /// Text that the client sends with each request.
    pub state: &'a str,
}

impl Store {
    /// Returns true if several processes continue the sessions of this storage.
    #[must_use]
    pub fn has_shared_sessions(&self) -> bool {
        self.storage().uploads().are_shared()
    }

    /// Returns the present time by the clock that all processes of the storage share.
    #[must_use]
    pub fn shared_time(&self) -> SystemTime {
        self.storage().now()
    }

    /// Returns the secret that all processes of the storage share. The first process creates it of the bytes
    /// `new`, which cannot be guessed.
    pub fn shared_secret(&self, new: &[u8]) -> Result<Bytes, StoreError> {
        if let Some(found) = self.storage().read(&secret(), MAX_SECRET_BYTES)? {
            return Ok(found);
        }
        match self.storage().create(&secret(), new)? {
            Created::New => Ok(Bytes::copy_from_slice(new)),
            Created::Exists(found) => Ok(found),
        }
    }

    /// Returns a session that the registry has recognised, without a request to the storage: another process
    /// may have continued or ended it.
    pub fn shared_session(
        &self,
        name: &RepositoryName,
        shared: SharedSession<'_>,
    ) -> Result<Arc<Session>, StoreError> {
        let SharedSession { id, begun, announced, state } = shared;
        if let Some(known) = self.cached_session(name, id) {
            return known;
        }
        self.make_place()?;
        let start = UploadStart::Session { repository: name, id, begun, announced };
        let upload = self.storage().uploads().begin(start)?;
        let session = Session::new(name, id, Some(state), Receiver::new(upload, announced));
        // Another request may have added it.
        Ok(self.0.sessions.open().entry(id.clone()).or_insert(session).clone())
    }

    /// Prepares a session for a request whose body begins at `offset` and has `length` bytes, as far as the
    /// client has told. With `digest`, the request is the last one, and all bytes shall have the digest.
    /// Returns the offset at which the bytes will be appended.
    pub fn continue_session(
        &self,
        session: &Session,
        claimed: &mut Claimed,
        (offset, length): (Option<u64>, Option<u64>),
        digest: Option<&Digest>,
    ) -> Result<u64, StoreError> {
        let receiver = claimed.receiver_mut().ok_or(StoreError::UploadUnknown)?;
        let key = digest.and_then(known_key);
        let next = NextRequest { offset, length, digest, key: key.as_ref() };
        match receiver.upload.continue_with(next)? {
            Some(offset) => {
                session.offset.store(offset, Ordering::Release);
                Ok(offset)
            }
            None => Err(self.forget_ended(session, claimed)),
        }
    }

    /// Reads how far other processes have continued a session.
    pub fn refresh_session(&self, session: &Session, claimed: &mut Claimed) -> Result<(), StoreError> {
        let receiver = claimed.receiver_mut().ok_or(StoreError::UploadUnknown)?;
        if !receiver.upload.refresh()? {
            return Err(self.forget_ended(session, claimed));
        }
        session.offset.store(receiver.len(), Ordering::Release);
        Ok(())
    }

    /// Returns true if a blob is linked to a repository.
    pub fn has_blob_link(&self, name: &RepositoryName, digest: &Digest) -> Result<bool, StoreError> {
        Ok(self.linked(name, digest)?.is_some())
    }

    /// Forgets a session that another process has ended, and leaves the storage as it is.
    fn forget_ended(&self, session: &Session, claimed: &mut Claimed) -> StoreError {
        claimed.take();
        self.0.sessions.open().remove(&session.id);
        StoreError::UploadUnknown
    }

    /// Forgets sessions that no request uses, if there are too many: they are in the storage.
    fn make_place(&self) -> Result<(), StoreError> {
        let capacity = self.0.sessions.capacity;
        let mut open = self.0.sessions.open();
        if open.len() < capacity {
            return Ok(());
        }
        let mut idle: Vec<(SystemTime, UploadId)> = open
            .values()
            .filter_map(|session| {
                let receiver = session.receiver.try_lock().ok()?;
                Some((
                    receiver.as_ref().map_or(SystemTime::UNIX_EPOCH, |known| known.touched),
                    session.id.clone(),
                ))
            })
            .collect();
        idle.sort_unstable();
        idle.truncate((capacity / 10).max(1));
        let forgotten: Vec<_> = idle.iter().filter_map(|(_, id)| open.remove(id)).collect();
        drop(open);
        if forgotten.is_empty() { Err(StoreError::TooManyUploads) } else { Ok(()) }
    }
}
