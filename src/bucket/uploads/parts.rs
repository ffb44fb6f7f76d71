//! Upload in parts, several of which are sent at the same time.

use std::sync::Arc;

use futures_util::TryStreamExt as _;
use quinistry_oci::{Digest, Hasher};
use quinistry_store::StorageError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;

use super::completion::{self, Completion};
use super::record::StoredUpload;
use super::{Shared, folder};
use crate::storage::failed;
use crate::{Multipart, ObjectError, ObjectErrorKind, Part, Payload};

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
    loss: Option<Loss>,
}

/// Loss of an upload, after which its session cannot continue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// The store has neither the upload, with all bytes, nor an object.
    Gone,
    /// Another process has ended the upload in other bytes.
    Overtaken,
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
            loss: None,
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

    /// Returns the upload as a record names it; `None` if it has not begun.
    pub(super) fn upload(&self) -> Option<StoredUpload> {
        let id = self.upload.as_deref()?;
        Some(StoredUpload { id: id.to_owned(), object: folder::name(&self.key).to_owned() })
    }

    pub(super) fn is_shared(&self) -> bool {
        self.is_shared
    }

    /// Sets whether the upload is left to other processes, too.
    pub(super) fn set_shared(&mut self, is_shared: bool) {
        self.is_shared = is_shared;
    }

    /// Notes that bytes before those of the parts are lost.
    pub(super) fn lose(&mut self) {
        self.loss = Some(Loss::Gone);
    }

    /// Returns the loss of the upload, as far as a request has found it out.
    pub(super) fn loss(&self) -> Option<Loss> {
        self.loss
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
        self.settle_parts().await?.map_err(|error| {
            if error.kind == ObjectErrorKind::NotFound {
                self.loss = Some(Loss::Gone);
            }
            failed("send a part of", &self.key)(error)
        })
    }

    async fn settle_parts(&mut self) -> Result<Result<(), ObjectError>, StorageError> {
        let mut settled = Ok(Ok(()));
        for sent in std::mem::take(&mut self.in_flight) {
            match sent.await {
                Ok(Ok(part)) => self.parts.push(part),
                Ok(Err(error)) if matches!(settled, Ok(Ok(()))) => settled = Ok(Err(error)),
                Ok(Err(_)) => {}
                Err(_) => settled = Err(StorageError::Broken),
            }
        }
        settled
    }

    /// Ends the upload in an object of `length` bytes with this digest. An upload that another process, or an
    /// attempt whose answer was lost, has ended in these bytes is a success, too.
    pub(super) async fn complete(&mut self, length: u64, digest: &Digest) -> Result<(), StorageError> {
        let settled = self.settle_parts().await?;
        let Some(upload) = self.upload.clone() else { return Err(StorageError::Broken) };
        let upload = Multipart { key: &self.key, id: &upload };
        // No other process knows an upload that is not shared, and each shared one has a key of its own.
        let wanted = (!self.is_shared).then_some(length);
        let completed = match settled {
            Ok(()) => completion::complete(&self.shared, upload, &self.parts, wanted).await,
            // The upload may have ended before the part came.
            Err(error) if error.kind == ObjectErrorKind::NotFound => {
                completion::after(&self.shared, &self.key, wanted, error).await
            }
            Err(error) => return Err(failed("send a part of", &self.key)(error)),
        };
        let is_own = match completed {
            Ok(_) if !self.is_shared => true,
            // Another process may have ended the upload with other last bytes. versitygw 1.8 then answers as if it had
            // ended the upload once more.
            Ok(Completion::Answered(Some(version))) => {
                self.version().await? == version || self.has_digest(digest).await?
            }
            Ok(Completion::Answered(None)) => true,
            Ok(Completion::Found(found)) => found == length && self.has_digest(digest).await?,
            Err(error) => {
                if error.kind == ObjectErrorKind::NotFound {
                    self.loss = Some(Loss::Gone);
                }
                return Err(failed("complete", &self.key)(error));
            }
        };
        if !is_own {
            self.loss = Some(Loss::Overtaken);
            return Err(StorageError::Overtaken);
        }
        self.upload = None;
        Ok(())
    }

    async fn version(&self) -> Result<String, StorageError> {
        let meta = self.shared.objects.head(&self.key).await;
        meta.map(|meta| meta.version).map_err(failed("look up", &self.key))
    }

    /// Reads the object, and returns true if its bytes have the digest.
    async fn has_digest(&self, digest: &Digest) -> Result<bool, StorageError> {
        let object = self.shared.objects.get(&self.key, None, None).await;
        let mut body = object.map_err(failed("read", &self.key))?.body;
        let mut hasher = Hasher::new(digest.algorithm());
        while let Some(bytes) = body.try_next().await.map_err(failed("read", &self.key))? {
            hasher.update(&bytes);
        }
        Ok(hasher.finish() == *digest)
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
