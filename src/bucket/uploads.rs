//! Uploads into a bucket.
//!
//! Bytes whose digest is known before they come go straight to their key. The bytes of a session are
//! acknowledged by records ([`record`]), which any process continues; parts of it gather under a key of the
//! session, and the store copies them. An upload that is not longer than a part needs neither parts nor a
//! copy.

mod assembly;
mod completion;
mod copy;
mod ended;
mod folder;
mod interrupted;
mod parts;
mod progress;
mod record;
mod session;
mod sizes;
mod stages;
#[cfg(test)]
mod tests;
mod whole;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use quinistry_oci::RepositoryName;
use quinistry_store::{
    Leftover, StorageError, Upload, UploadId, UploadStart, Uploads, upload_folder, uploads_folder,
};
use tokio::runtime::Handle;

use self::ended::EndedSessions;
use self::session::SessionUpload;
use self::sizes::PartSizes;
use self::whole::WholeUpload;
use crate::{Objects, TransferMemory, TransferOptions};

/// Properties of the bucket and of its use that decide how uploads are received.
#[derive(Clone, Copy, Debug)]
pub struct UploadOptions {
    /// Sizes of transfers.
    pub transfers: TransferOptions,
    /// True if the parts of an upload may have different sizes.
    pub parts_may_differ: bool,
    /// True if the store copies ranges of objects into parts.
    pub copies_parts: bool,
    /// True if no other process uses the bucket, so that the end of a session need not be written down.
    pub is_exclusive: bool,
}

/// Uploads into a bucket. Clones share the memory for transfers.
#[derive(Clone, Debug)]
pub struct BucketUploads(Arc<Shared>);

/// Things that all uploads share.
struct Shared {
    objects: Arc<dyn Objects>,
    runtime: Handle,
    memory: TransferMemory,
    transfers: TransferOptions,
    parts_may_differ: bool,
    copies_parts: bool,
    is_exclusive: bool,
    ended: EndedSessions,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("objects", &self.objects)
            .field("memory", &self.memory)
            .finish_non_exhaustive()
    }
}

// === impl BucketUploads ===

impl BucketUploads {
    /// Makes the uploads of a bucket. Calls wait on `runtime`, and so must not be made from its asynchronous
    /// tasks.
    #[must_use]
    pub fn new(
        objects: Arc<dyn Objects>,
        runtime: Handle,
        memory: TransferMemory,
        options: UploadOptions,
    ) -> Self {
        let UploadOptions { transfers, parts_may_differ, copies_parts, is_exclusive } = options;
        Self(Arc::new(Shared {
            objects,
            runtime,
            memory,
            transfers,
            parts_may_differ,
            copies_parts,
            is_exclusive,
            ended: EndedSessions::default(),
        }))
    }

    /// Copies an object of `length` bytes within the bucket, of any length and whether or not the store copies objects.
    pub(crate) async fn copy(&self, from: &str, to: &str, length: u64) -> Result<(), StorageError> {
        copy::copy(&self.0, from, to, length).await
    }
}

// === impl Shared ===

impl Shared {
    /// Waits for requests, on a thread that may block.
    fn wait<T>(&self, requests: impl Future<Output = T>) -> T {
        self.runtime.block_on(requests)
    }

    /// Returns the sizes of the parts of an upload.
    fn sizes(&self, length: Option<u64>) -> PartSizes {
        // A configuration with less memory than a part is refused.
        let part_bytes = self.transfers.part_bytes.min(self.memory.size());
        let greatest = PartSizes::greatest(part_bytes, self.memory.size());
        match length {
            Some(length) => PartSizes::of_length(part_bytes, length, greatest),
            None => PartSizes::of_unknown_length(part_bytes, self.parts_may_differ, greatest),
        }
    }

    /// Refuses an upload that tells a length for which there are not enough parts.
    fn check_length(&self, length: Option<u64>) -> Result<(), StorageError> {
        let max_bytes = self.sizes(length).max_bytes();
        if length.is_some_and(|length| length > max_bytes) {
            return Err(StorageError::TooManyParts { max_bytes });
        }
        Ok(())
    }

    /// Returns the time by the clock of the store, or that of this machine before the store has answered.
    fn now(&self) -> SystemTime {
        self.objects.now().map_or_else(SystemTime::now, |now| now.0)
    }
}

impl Uploads for BucketUploads {
    fn are_shared(&self) -> bool {
        true
    }

    fn begin(&self, start: UploadStart<'_>) -> Result<Box<dyn Upload>, StorageError> {
        Ok(match start {
            UploadStart::Whole { digest, length, key } => {
                self.0.check_length(length)?;
                Box::new(WholeUpload::new(&self.0, digest, length, key))
            }
            UploadStart::Session { repository, id, begun, announced } => {
                let folder = upload_folder(repository, id).to_string();
                Box::new(SessionUpload::new(&self.0, folder, repository, (begun, announced)))
            }
        })
    }

    fn resume(
        &self,
        repository: &RepositoryName,
        id: &UploadId,
    ) -> Result<Option<Box<dyn Upload>>, StorageError> {
        let folder = upload_folder(repository, id).to_string();
        let mut session = SessionUpload::new(&self.0, folder, repository, (SystemTime::now(), None));
        let is_found = session.refresh()? && session.has_record();
        Ok(is_found.then(|| Box::new(session) as Box<dyn Upload>))
    }

    fn leftovers(&self, repository: &RepositoryName) -> Result<Vec<Leftover>, StorageError> {
        let folder = uploads_folder(repository).to_string();
        self.0.wait(folder::sessions(&self.0, &folder))
    }

    fn clear_ended(&self, repository: &RepositoryName) -> Result<usize, StorageError> {
        let folder = uploads_folder(repository).to_string();
        self.0.wait(folder::remove_ended(&self.0, &folder))
    }

    fn modified(
        &self,
        repository: &RepositoryName,
        id: &UploadId,
    ) -> Result<Option<SystemTime>, StorageError> {
        let folder = upload_folder(repository, id).to_string();
        Ok(self.0.wait(folder::look(&self.0, &folder))?.modified)
    }

    fn discard(&self, repository: &RepositoryName, id: &UploadId) -> Result<bool, StorageError> {
        let folder = upload_folder(repository, id).to_string();
        self.0.wait(folder::discard(&self.0, &folder))
    }

    fn clear_interrupted(&self, age: Duration, is_dry_run: bool) -> Result<usize, StorageError> {
        self.0.wait(interrupted::clear(&self.0, age, is_dry_run))
    }
}
