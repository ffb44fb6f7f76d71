//! A bucket as the storage of a registry.
//!
//! Calls block, as those of every storage: they wait for requests on the runtime of the program, and so must not be
//! made from its asynchronous tasks. What can be sent side by side is.

mod batches;
mod changes;
mod content;
mod reading;
mod scans;

use std::fmt;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use quinistry_oci::{Content, Digest};
use quinistry_store::{
    Abilities, Created, Entry, Fence, Key, LookedUp, Meta, ObjectTag, Removed, ScanPage, Storage,
    StorageError, Uploads,
};
use tokio::runtime::Handle;

use crate::objects::present;
use crate::probe::FORMAT;
use crate::{
    BucketUploads, Object, ObjectError, ObjectErrorKind, ObjectMeta, Objects, RemovalFence, StoreAbilities,
    StoreTime, TransferMemory,
};

/// Greatest number of requests of one call that are in flight at the same time.
const REQUESTS_AT_ONCE: usize = 32;

/// Storage in a bucket. Clones share it.
#[derive(Clone)]
pub struct Bucket(Arc<Inner>);

struct Inner {
    objects: Arc<dyn Objects>,
    runtime: Handle,
    abilities: StoreAbilities,
    /// Memory for bytes that are read ahead, shared with uploads.
    memory: TransferMemory,
    uploads: BucketUploads,
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bucket").field("objects", &self.0.objects).finish_non_exhaustive()
    }
}

// === impl Bucket ===

impl Bucket {
    /// Makes a storage of a bucket, whose requests [`Governed`](crate::Governed) sends.
    pub fn new(
        objects: Arc<dyn Objects>,
        runtime: Handle,
        abilities: StoreAbilities,
        memory: TransferMemory,
        uploads: BucketUploads,
    ) -> Self {
        Self(Arc::new(Inner { objects, runtime, abilities, memory, uploads }))
    }

    /// Returns the abilities of the store.
    #[must_use]
    pub fn store_abilities(&self) -> &StoreAbilities {
        &self.0.abilities
    }

    fn objects(&self) -> &dyn Objects {
        &*self.0.objects
    }

    /// Waits for requests.
    fn wait<T>(&self, requests: impl Future<Output = Result<T, StorageError>>) -> Result<T, StorageError> {
        self.0.runtime.block_on(requests)
    }
}

/// Returns the error of a request to do something with a key.
pub(crate) fn failed<K: fmt::Display + ?Sized>(
    what: &'static str,
    key: &K,
) -> impl FnOnce(ObjectError) -> StorageError + use<K> {
    let key = key.to_string();
    move |error| StorageError::Io { what, key, source: io_error(error) }
}

/// Returns the error of a request, whose kind tells what may help.
fn io_error(error: ObjectError) -> io::Error {
    let kind = match error.kind {
        ObjectErrorKind::NotFound => io::ErrorKind::NotFound,
        ObjectErrorKind::Denied | ObjectErrorKind::Expired => io::ErrorKind::PermissionDenied,
        ObjectErrorKind::Throttled | ObjectErrorKind::Conflict => io::ErrorKind::ResourceBusy,
        ObjectErrorKind::Unknown => io::ErrorKind::TimedOut,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, error)
}

fn tag(meta: &ObjectMeta) -> ObjectTag {
    ObjectTag::of_version(&meta.version)
}

fn meta(meta: &ObjectMeta) -> Meta {
    Meta { length: meta.length, modified: meta.modified, tag: tag(meta) }
}

/// Reads the body of an object that is not too long.
async fn collect(object: Object, max_bytes: u64, key: &Key) -> Result<Bytes, StorageError> {
    let length = object.meta.length;
    if length > max_bytes {
        return Err(StorageError::TooLong { key: key.clone(), length });
    }
    let chunks: Vec<Bytes> = object.body.try_collect().await.map_err(failed("read", key))?;
    Ok(match &chunks[..] {
        [one] => one.clone(),
        all => all.concat().into(),
    })
}

impl Storage for Bucket {
    fn abilities(&self) -> Abilities {
        Abilities { is_persistent: true, clears_at_once: false, has_listing_versions: false, is_shared: true }
    }

    fn open(&self, key: &Key) -> Result<Option<(Content, ObjectTag)>, StorageError> {
        self.wait(self.open_object(key))
    }

    fn read(&self, key: &Key, max_bytes: u64) -> Result<Option<Bytes>, StorageError> {
        self.wait(async {
            let found =
                present(self.objects().get(key.as_str(), None, None).await).map_err(failed("read", key))?;
            match found {
                Some(object) => collect(object, max_bytes, key).await.map(Some),
                None => Ok(None),
            }
        })
    }

    fn head(&self, key: &Key) -> Result<Option<Meta>, StorageError> {
        self.wait(self.look_up_one(key))
    }

    fn kept_sha256(&self, key: &Key) -> Result<Option<Digest>, StorageError> {
        self.wait(async {
            let found = present(self.objects().kept_sha256(key.as_str()).await);
            Ok(found.map_err(failed("look up", key))?.flatten())
        })
    }

    fn look_up(&self, pairs: &[(Key, Key)], max_bytes: u64) -> Result<Vec<LookedUp>, StorageError> {
        self.wait(self.look_up_pairs(pairs, max_bytes))
    }

    fn head_all(&self, keys: &[Key]) -> Result<Vec<Option<Meta>>, StorageError> {
        self.wait(self.look_up_all(keys))
    }

    fn read_all(&self, keys: &[Key], max_bytes: u64) -> Result<Vec<Option<Bytes>>, StorageError> {
        self.wait(self.read_side_by_side(keys, max_bytes))
    }

    fn open_known(&self, key: &Key, meta: &Meta) -> Result<Option<Content>, StorageError> {
        Ok(self.open_unread(key, meta))
    }

    fn redirect(&self, key: &Key, lifetime: Duration) -> Option<String> {
        self.signed_url(key, lifetime)
    }

    fn write(&self, stages: &[&[Entry<'_>]]) -> Result<(), StorageError> {
        self.wait(self.write_stages(stages))
    }

    fn create(&self, key: &Key, bytes: &[u8]) -> Result<Created, StorageError> {
        self.wait(self.create_object(key, bytes))
    }

    fn remove(&self, key: &Key) -> Result<bool, StorageError> {
        self.wait(self.remove_object(key))
    }

    fn remove_if(&self, key: &Key, tag: &ObjectTag) -> Result<Removed, StorageError> {
        let removed = self.wait(self.remove_version(key, tag, None))?;
        Ok(removed.expect("a removal without a fence has an outcome, or fails"))
    }

    fn remove_if_fenced(
        &self,
        key: &Key,
        tag: &ObjectTag,
        fence: Fence,
    ) -> Result<Option<Removed>, StorageError> {
        self.wait(self.remove_version(key, tag, Some(fence)))
    }

    fn fence(&self) -> Option<Fence> {
        let StoreAbilities { fences_removals, removes_if_unchanged, .. } = self.0.abilities;
        let is_able = fences_removals
            && (removes_if_unchanged || self.objects().removal_fence() == RemovalFence::Expiry);
        is_able.then(|| Fence(self.now()))
    }

    fn remove_fenced(&self, keys: &[Key], fence: Fence) -> Result<Vec<Key>, StorageError> {
        self.wait(self.remove_fenced_objects(keys, fence))
    }

    fn copy(&self, from: &Key, to: &Key) -> Result<bool, StorageError> {
        self.wait(self.copy_object(from, to))
    }

    fn clear(&self, folder: &Key) -> Result<bool, StorageError> {
        self.wait(self.clear_folder(folder))
    }

    fn scan(&self, folder: &Key, after: Option<&Key>, limit: usize) -> Result<ScanPage, StorageError> {
        self.wait(self.scan_folder(folder, after, limit))
    }

    fn exists(&self, key: &Key) -> Result<bool, StorageError> {
        self.wait(async {
            let found =
                async { present(self.objects().head(key.as_str()).await).map_err(failed("look up", key)) };
            let (found, page) = tokio::try_join!(found, self.scan_folder(key, None, 1))?;
            Ok(found.is_some() || !page.entries.is_empty())
        })
    }

    fn now(&self) -> SystemTime {
        self.objects().now().map_or_else(SystemTime::now, |StoreTime(now)| now)
    }

    fn check(&self) -> Result<(), StorageError> {
        self.wait(async {
            let unreachable = |error| StorageError::Io {
                what: "reach",
                key: "the bucket".to_owned(),
                source: io_error(error),
            };
            // The object need not exist.
            present(self.objects().head(FORMAT).await).map(drop).map_err(unreachable)
        })
    }

    fn removal_requests(&self) -> usize {
        match self.objects().removal_fence() {
            RemovalFence::Expiry => 1,
            // The version is looked up.
            RemovalFence::Version => 2,
        }
    }

    fn throttlings(&self) -> u64 {
        self.objects().throttlings()
    }

    fn uploads(&self) -> &dyn Uploads {
        &self.0.uploads
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_a_store_that_may_answer_soon_are_temporary() {
        let key = Key::of_path("a".to_owned()).unwrap();
        for (kind, is_temporary) in [
            (ObjectErrorKind::Throttled, true),
            (ObjectErrorKind::Unknown, true),
            (ObjectErrorKind::Conflict, true),
            (ObjectErrorKind::Denied, false),
            (ObjectErrorKind::Refused, false),
            (ObjectErrorKind::NotFound, false),
        ] {
            let error = failed("write", &key)(ObjectError::new(kind, "PUT a: answered"));
            assert_eq!(error.is_temporary(), is_temporary, "{kind:?}");
        }
    }
}
