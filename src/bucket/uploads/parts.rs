//! Upload in parts, several of which are sent at the same time.

use std::sync::Arc;

use quinistry_store::StorageError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;

use super::Shared;
use super::failure::{self, failed};
use crate::{Condition, Multipart, ObjectError, ObjectErrorKind, Part, Payload};

/// Permit to send a part.
pub(super) type SendPermit = OwnedSemaphorePermit;

/// Upload in parts.
#[derive(Debug)]
pub(super) struct PartWriter {
    shared: Arc<Shared>,
    key: String,
    /// Name of the upload, once it has begun.
    upload: Option<Arc<str>>,
    /// Parts that the store has, in order; after them, those in flight.
    parts: Vec<Part>,
    in_flight: Vec<JoinHandle<Result<Part, ObjectError>>>,
    permits: Arc<Semaphore>,
    /// Another process may continue the upload, so that it stays when this value is dropped.
    is_shared: bool,
}

impl PartWriter {
    /// Makes the writer of an upload that has not begun.
    pub(super) fn new(shared: &Arc<Shared>, key: String) -> Self {
        let permits = Arc::new(Semaphore::new(shared.transfers.parts_at_once.max(1)));
        Self {
            shared: shared.clone(),
            key,
            upload: None,
            parts: Vec::new(),
            in_flight: Vec::new(),
            permits,
            is_shared: false,
        }
    }

    /// Makes the writer of an upload that another process may have begun.
    pub(super) fn resumed(shared: &Arc<Shared>, key: String, upload: &str, parts: Vec<Part>) -> Self {
        let mut writer = Self::new(shared, key);
        (writer.upload, writer.parts, writer.is_shared) = (Some(upload.into()), parts, true);
        writer
    }

    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// Returns the name of the upload; `None` if it has not begun.
    pub(super) fn upload(&self) -> Option<&str> {
        self.upload.as_deref()
    }

    /// Leaves the upload to other processes, too.
    pub(super) fn share(&mut self) {
        self.is_shared = true;
    }

    /// Returns the tags of all parts, in order. Call after [`settle`](Self::settle).
    pub(super) fn tags(&self) -> Vec<String> {
        self.parts.iter().map(|part| part.tag.clone()).collect()
    }

    /// Returns the permits to send a part.
    pub(super) fn permits(&self) -> Arc<Semaphore> {
        self.permits.clone()
    }

    /// Begins to send the next part.
    pub(super) async fn send(
        &mut self,
        number: u32,
        body: Payload,
        permit: Option<SendPermit>,
    ) -> Result<(), StorageError> {
        let upload = if let Some(upload) = &self.upload {
            upload.clone()
        } else {
            let begun = self.shared.objects.create_multipart(&self.key).await;
            let upload = begun.map_err(failed("begin the upload of", &self.key))?;
            self.upload.insert(upload.into()).clone()
        };
        let permit = match permit {
            Some(permit) => permit,
            None => self.permits.clone().acquire_owned().await.expect("the semaphore is never closed"),
        };
        let (objects, key) = (self.shared.objects.clone(), self.key.clone());
        self.in_flight.push(self.shared.runtime.spawn(async move {
            let upload = Multipart { key: &key, id: &upload };
            let sent = objects.put_part(upload, number, body).await;
            drop(permit);
            sent
        }));
        Ok(())
    }

    /// Waits until the store has all parts.
    pub(super) async fn settle(&mut self) -> Result<(), StorageError> {
        let mut lost = None;
        for sent in std::mem::take(&mut self.in_flight) {
            match sent.await {
                Ok(Ok(part)) => self.parts.push(part),
                Ok(Err(error)) => lost = lost.or(Some(failed("send a part of", &self.key)(error))),
                Err(_) => lost = lost.or(Some(StorageError::Broken)),
            }
        }
        lost.map_or(Ok(()), Err)
    }

    /// Ends the upload in an object of `length` bytes. An upload that another process, or an attempt whose
    /// answer was lost, has ended in such an object is a success, too.
    pub(super) async fn complete(&mut self, length: u64) -> Result<(), StorageError> {
        let settled = self.settle().await;
        let Some(upload) = self.upload.clone() else { return Err(StorageError::Broken) };
        let completed = match settled {
            Ok(()) => {
                let upload = Multipart { key: &self.key, id: &upload };
                let completed = self.shared.objects.complete(upload, &self.parts, Condition::Always).await;
                completed.map(drop).map_err(failed("complete", &self.key))
            }
            Err(error) => Err(error),
        };
        if let Err(error) = completed {
            let may_have_ended = matches!(
                failure::kind(&error),
                Some(ObjectErrorKind::NotFound | ObjectErrorKind::Refused | ObjectErrorKind::Unknown)
            );
            if !may_have_ended || self.length_of_object().await? != Some(length) {
                return Err(error);
            }
        }
        self.upload = None;
        Ok(())
    }

    async fn length_of_object(&self) -> Result<Option<u64>, StorageError> {
        match self.shared.objects.head(&self.key).await {
            Ok(meta) => Ok(Some(meta.length)),
            Err(error) if error.kind == ObjectErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("look up", &self.key)(error)),
        }
    }

    /// Ends the upload without an object.
    pub(super) async fn abort(&mut self) -> Result<(), StorageError> {
        for sent in std::mem::take(&mut self.in_flight) {
            sent.abort();
            // A part that arrives after the end would stay.
            let _ = sent.await;
        }
        let Some(upload) = self.upload.take() else { return Ok(()) };
        let aborted = self.shared.objects.abort(Multipart { key: &self.key, id: &upload }).await;
        aborted.map_err(failed("abort the upload of", &self.key))
    }
}

impl Drop for PartWriter {
    fn drop(&mut self) {
        let in_flight = std::mem::take(&mut self.in_flight);
        in_flight.iter().for_each(JoinHandle::abort);
        if let Some(upload) = self.upload.take().filter(|_| !self.is_shared) {
            let (objects, key) = (self.shared.objects.clone(), std::mem::take(&mut self.key));
            self.shared.runtime.spawn(async move {
                for sent in in_flight {
                    let _ = sent.await;
                }
                if let Err(error) = objects.abort(Multipart { key: &key, id: &upload }).await {
                    tracing::warn!(%error, key, "cannot abort upload, leaving it until it expires");
                }
            });
        }
    }
}
