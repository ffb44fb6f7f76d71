//! Changes: writes in stages, creations and removals.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use quinistry_oci::WithCauses;
use quinistry_oci::escape::Escaped;
use quinistry_store::{
    Created, Entry, FENCE_LIFETIME, Fence, Key, MAX_CREATED_BYTES, ObjectTag, Removed, Storage as _,
    StorageError, content_digest,
};

use super::{Bucket, REQUESTS_AT_ONCE, collect, failed, tag};
use crate::governed::Repetition;
use crate::objects::present;
use crate::{Condition, ObjectError, ObjectErrorKind, Payload, RemovalFence, RepetitionPolicy, StoreTime};

/// Greatest number of keys that are removed by one request.
const REMOVALS_AT_ONCE: usize = 1000;

/// Attempts to create an object that another process removes each time before it is read.
const CREATIONS: RepetitionPolicy =
    RepetitionPolicy { max_repetitions: 8, first_pause: Duration::from_millis(5) };

impl Bucket {
    /// Writes stages one after the other, the entries of each side by side.
    pub(super) async fn write_stages(&self, stages: &[&[Entry<'_>]]) -> Result<(), StorageError> {
        for stage in stages {
            let writes = stage.iter().map(|(key, bytes)| self.write_entry(key, bytes));
            stream::iter(writes).buffer_unordered(REQUESTS_AT_ONCE).try_collect::<()>().await?;
        }
        Ok(())
    }

    async fn write_entry(&self, key: &Key, bytes: &[u8]) -> Result<(), StorageError> {
        let body = Payload::from(Bytes::copy_from_slice(bytes));
        let sha256 = content_digest(key.as_str());
        let written = self.objects().put_hashed(key.as_str(), body, Condition::Always, sha256.as_ref()).await;
        written.map(drop).map_err(failed("write", key))
    }

    /// Creates an object. Of a creation that is repeated because its answer was lost, equal bytes are its own
    /// success: writers of which only one may win write a number that no other has.
    pub(super) async fn create_object(&self, key: &Key, bytes: &[u8]) -> Result<Created, StorageError> {
        let body = Payload::from(Bytes::copy_from_slice(bytes));
        let mut repetition = Repetition::new(CREATIONS);
        loop {
            match self.objects().put(key.as_str(), body.clone(), Condition::Absent).await {
                Ok(_) => return Ok(Created::New),
                Err(error) if error.kind == ObjectErrorKind::Precondition => {}
                Err(error) => return Err(failed("create", key)(error)),
            }
            let found = self.objects().get(key.as_str(), None, None).await;
            if let Some(object) = present(found).map_err(failed("read", key))? {
                return collect(object, MAX_CREATED_BYTES, key).await.map(Created::Exists);
            }
            // Removed in between: creates it again.
            let Some(pause) = repetition.pause(ObjectErrorKind::Conflict) else {
                return Err(failed("create", key)(contradiction(repetition.attempts())));
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Removes an object. A store does not tell whether there was one, so that it is looked up first.
    pub(super) async fn remove_object(&self, key: &Key) -> Result<bool, StorageError> {
        if present(self.objects().head(key.as_str()).await).map_err(failed("look up", key))?.is_none() {
            return Ok(false);
        }
        let removed = self.objects().delete(key.as_str(), Condition::Always, None).await;
        removed.map(|()| true).map_err(failed("remove", key))
    }

    /// Removes an object that has a version. If there is a fence, the store refuses the request ten seconds after its time,
    /// or for all other versions. Returns `None` if there is a fence and the removal failed, or its outcome is unknown.
    pub(super) async fn remove_version(
        &self,
        key: &Key,
        expected: &ObjectTag,
        fence: Option<Fence>,
    ) -> Result<Option<Removed>, StorageError> {
        let found = present(self.objects().head(key.as_str()).await).map_err(failed("look up", key))?;
        let Some(found) = found else { return Ok(Some(Removed::Absent)) };
        if tag(&found) != *expected {
            return Ok(Some(Removed::Changed));
        }
        let version = Condition::Version(&found.version);
        let signed_at = fence.map(|Fence(at)| StoreTime(at));
        let removed = match fence.map_or(Ok(()), |fence| self.check_time(key, fence)) {
            Ok(()) => self.objects().delete(key.as_str(), version, signed_at).await,
            late => late,
        };
        match removed {
            Ok(()) => Ok(Some(Removed::Removed)),
            Err(error) if error.kind == ObjectErrorKind::NotFound => Ok(Some(Removed::Absent)),
            Err(error) if error.kind == ObjectErrorKind::Precondition => {
                let found =
                    present(self.objects().head(key.as_str()).await).map_err(failed("look up", key))?;
                Ok(Some(if found.is_some() { Removed::Changed } else { Removed::Absent }))
            }
            Err(error) if fence.is_some() => {
                note_failed_within_fence(&error, key);
                Ok(None)
            }
            Err(error) => Err(failed("remove", key)(error)),
        }
    }

    /// Removes objects by requests that keep what is written later than ten seconds after the time of the fence. Returns
    /// the keys of those whose removal failed, or whose outcome is unknown.
    pub(super) async fn remove_fenced_objects(
        &self,
        keys: &[Key],
        fence: Fence,
    ) -> Result<Vec<Key>, StorageError> {
        let remove = |key: &Key| {
            let key = key.clone();
            async move {
                let Err(error) = self.remove_fenced_object(&key, fence).await else { return None };
                // A version that is not there was removed; what was written since then stays.
                if matches!(error.kind, ObjectErrorKind::NotFound | ObjectErrorKind::Precondition) {
                    return None;
                }
                note_failed_within_fence(&error, &key);
                Some(key)
            }
        };
        let removals = keys.iter().map(remove);
        let left: Vec<Option<Key>> =
            stream::iter(removals).buffer_unordered(REQUESTS_AT_ONCE).collect().await;
        Ok(left.into_iter().flatten().collect())
    }

    /// Removes an object within a fence: by a request that expires, or the version that the object has within the fence.
    ///
    /// A version that is looked up later may be that of the same content, which a client has pushed after another process
    /// had ended the removal. So the time is compared behind the look-up. The removal itself may come at any time: a
    /// version never returns.
    async fn remove_fenced_object(&self, key: &Key, fence: Fence) -> Result<(), ObjectError> {
        let found;
        let condition = match self.objects().removal_fence() {
            RemovalFence::Expiry => Condition::Always,
            RemovalFence::Version => {
                found = self.objects().head(key.as_str()).await?;
                self.check_time(key, fence)?;
                Condition::Version(&found.version)
            }
        };
        self.objects().delete(key.as_str(), condition, Some(StoreTime(fence.0))).await
    }

    /// Returns an error if the time of a fence has passed. Where removals expire, their store checks that.
    fn check_time(&self, key: &Key, Fence(at): Fence) -> Result<(), ObjectError> {
        if self.objects().removal_fence() == RemovalFence::Expiry || self.now() <= at + FENCE_LIFETIME {
            return Ok(());
        }
        let message = format!("DELETE {}: the time of the removal has passed", Escaped(key.as_str()));
        Err(ObjectError::new(ObjectErrorKind::Denied, message))
    }

    /// Copies an object of any length within the bucket, as uploads are copied.
    pub(super) async fn copy_object(&self, from: &Key, to: &Key) -> Result<bool, StorageError> {
        let found = present(self.objects().head(from.as_str()).await).map_err(failed("look up", from))?;
        let Some(found) = found else { return Ok(false) };
        match self.0.uploads.copy(from.as_str(), to.as_str(), found.length).await {
            Ok(()) => Ok(true),
            Err(error) => {
                // The object may have been removed in between. An upload in parts that is gone answers the same.
                let again = self.objects().head(from.as_str()).await;
                let is_there = present(again).map_err(failed("look up", from))?.is_some();
                if is_there { Err(error) } else { Ok(false) }
            }
        }
    }

    /// Removes all objects beneath a folder, a page at a time.
    pub(super) async fn clear_folder(&self, folder: &Key) -> Result<bool, StorageError> {
        let (mut is_removed, mut after) = (false, None);
        loop {
            let page = self.scan_folder(folder, after.as_ref(), REMOVALS_AT_ONCE).await?;
            let keys: Vec<String> = page.entries.iter().map(|(key, _)| key.to_string()).collect();
            if !keys.is_empty() {
                let lost = self.objects().delete_many(&keys).await.map_err(failed("remove", folder))?;
                if let Some((_, error)) = lost.into_iter().next() {
                    return Err(failed("remove", folder)(error));
                }
                is_removed = true;
            }
            after = page.next;
            if after.is_none() {
                return Ok(is_removed);
            }
        }
    }
}

/// Returns the error of a creation that the store refuses again and again, although there is no object.
fn contradiction(attempts: u32) -> ObjectError {
    let message = format!(
        "the store refused to create the object because there is one (412), and then found none (404), {attempts} times \
         in a row; run quinistry storage probe, and use a store whose reads show each write at once"
    );
    ObjectError::new(ObjectErrorKind::Refused, message)
}

fn note_failed_within_fence(error: &ObjectError, key: &Key) {
    tracing::debug!(error = %WithCauses(error), %key, "cannot remove object within its fence");
}
