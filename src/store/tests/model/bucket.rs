//! Storage with the manners of a bucket, whose requests are the choices of a
//! [`Scheduler`](super::scheduler::Scheduler).
//!
//! Keys and lists show each change at once, as those of S3, Google Cloud Storage and Azure do. Requests that the
//! store sends at the same time come in any order, each by itself. Every removal is shown to the
//! [`Oracle`](super::oracle::Oracle).
//!
//! In some schedules, objects with the same bytes have the same tag, and a fenced removal that comes too late is
//! refused, as on S3. In the others, each write has a tag of its own, and a fenced removal is one of a version that was
//! looked up in time, as on Google Cloud Storage and Azure.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use quinistry_oci::{Algorithm, Content, Digest, RepositoryName};

use super::oracle::Oracle;
use super::scheduler::{Scheduler, current};
use crate::layout::repositories;
use crate::storage::{
    Abilities, Created, Entry, FENCE_LIFETIME, Fence, LookedUp, Meta, ObjectTag, Removed, ScanPage, Storage,
    StorageError, Upload, UploadStart, Uploads,
};
use crate::{Key, UploadId};

/// Number of lists of a walk of all repositories of which one is a choice.
const WALK_LISTS: usize = 16;

/// Objects by key.
pub(super) type Objects = BTreeMap<Arc<str>, Object>;

#[derive(Clone, Debug)]
pub(super) struct Object {
    pub(super) bytes: Bytes,
    pub(super) modified: Duration,
    /// Hash of the bytes, or number of the write.
    tag: u64,
}

/// Bucket of one schedule; clones share it.
#[derive(Clone)]
pub(super) struct Bucket(Arc<Inner>);

struct Inner {
    objects: Mutex<Objects>,
    scheduler: Arc<Scheduler>,
    oracle: Arc<Oracle>,
    manner: StoreManner,
    /// Number of writes.
    writes: AtomicU64,
}

/// Properties by which stores differ.
#[derive(Clone, Copy, Debug)]
pub(super) struct StoreManner {
    /// Times are whole seconds, as those of HTTP.
    pub(super) has_whole_seconds: bool,
    /// Each write has a tag of its own, which is the condition of fenced removals. If not, these expire.
    pub(super) fences_by_version: bool,
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bucket")
    }
}

/// Returns the time of the storage at a time of the schedule.
pub(super) fn storage_time(time: Duration) -> SystemTime {
    SystemTime::UNIX_EPOCH + time
}

/// Returns the time of the schedule at a time of the storage.
pub(super) fn schedule_time(time: SystemTime) -> Duration {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

// === impl Object ===

impl Object {
    pub(super) fn new(bytes: Bytes, modified: Duration) -> Self {
        // FNV-1a: tells the few short objects of a schedule apart.
        let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        let tag = bytes.iter().fold(0xcbf2_9ce4_8422_2325, fold);
        Self { bytes, modified, tag }
    }

    fn meta(&self) -> Meta {
        let tag = ObjectTag::of_version(&format!("{:x}", self.tag));
        Meta { length: self.bytes.len() as u64, modified: storage_time(self.modified), tag }
    }
}

// === impl Bucket ===

impl Bucket {
    pub(super) fn new(
        objects: Objects,
        scheduler: Arc<Scheduler>,
        oracle: Arc<Oracle>,
        manner: StoreManner,
    ) -> Self {
        let (objects, writes) = (Mutex::new(objects), AtomicU64::new(0));
        Self(Arc::new(Inner { objects, scheduler, oracle, manner, writes }))
    }

    fn written(&self, bytes: &[u8], now: Duration) -> Object {
        let object = Object::new(Bytes::copy_from_slice(bytes), now);
        if !self.0.manner.fences_by_version {
            return object;
        }
        Object { tag: self.0.writes.fetch_add(1, Ordering::Relaxed), ..object }
    }

    /// Returns the objects, to look at them between two steps.
    pub(super) fn objects(&self) -> MutexGuard<'_, Objects> {
        self.0.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn time(&self) -> Duration {
        let now = self.0.scheduler.now();
        if self.0.manner.has_whole_seconds { Duration::from_secs(now.as_secs()) } else { now }
    }

    /// Sends one request: waits for the turn of this actor, and then changes or reads the objects.
    fn request<T>(&self, what: &str, key: &Key, perform: impl FnOnce(&mut Objects, Duration) -> T) -> T {
        let Some((scheduler, actor)) = current() else {
            self.0.scheduler.note(|| format!("at rest      {what} {}", self.0.oracle.readable(key.as_str())));
            return perform(&mut self.objects(), self.time());
        };
        let describe = || format!("{what} {}", self.0.oracle.readable(key.as_str()));
        // A walk of all repositories lists once for each first character of names.
        if what != "LIST" || *key != repositories() || scheduler.draw(WALK_LISTS) == 0 {
            scheduler.turn(actor, &format!("{key} {what}"), describe);
        }
        let time = self.time();
        let done = perform(&mut self.objects(), time);
        scheduler.answer(actor);
        done
    }

    fn put(&self, key: &Key, bytes: &[u8]) {
        self.request("PUT", key, |objects, now| {
            objects.insert(key.as_str().into(), self.written(bytes, now));
        });
        self.0.scheduler.wake_for(key.as_str());
    }

    fn get(&self, key: &Key) -> Option<Object> {
        self.request("GET", key, |objects, _| objects.get(key.as_str()).cloned())
    }

    /// Removes an object under a condition, and shows the removal to the oracle.
    fn remove_under(&self, what: &str, key: &Key, condition: impl FnOnce(&Object) -> bool) -> Removed {
        let removed = self.request(what, key, |objects, _| {
            let Some(found) = objects.get(key.as_str()) else { return Removed::Absent };
            if !condition(found) {
                return Removed::Changed;
            }
            objects.remove(key.as_str());
            if let Some((scheduler, _)) = current()
                && let Some(loss) = self.0.oracle.loss(key.as_str(), scheduler.now(), objects)
            {
                scheduler.note(|| loss.clone());
                self.0.oracle.report(&loss);
            }
            Removed::Removed
        });
        if let Some((scheduler, _)) = current()
            && let Some(loss) = self.0.oracle.reported()
        {
            scheduler.fail(loss);
        }
        removed
    }

    /// Removes an object by a request that does no harm when it comes late. Returns false if the object may still be there.
    fn remove_within(&self, key: &Key, fence: Fence) -> bool {
        let latest = schedule_time(fence.0) + FENCE_LIFETIME;
        if !self.0.manner.fences_by_version {
            let is_in_time = |_: &Object| self.0.scheduler.now() <= latest;
            return self.remove_under("DELETE-FENCED", key, is_in_time) != Removed::Changed;
        }
        let look_up = |objects: &mut Objects, _| objects.get(key.as_str()).map(|found| found.tag);
        let Some(tag) = self.request("DELETE-LOOK-UP", key, look_up) else { return true };
        if self.time() > latest {
            return false;
        }
        self.remove_under("DELETE-VERSION", key, |found| found.tag == tag);
        true
    }

    /// Writes the entries of stages: those of one in an order that the scheduler chooses.
    fn put_stages(&self, stages: &[&[Entry<'_>]]) {
        for stage in stages {
            let mut left: Vec<&Entry<'_>> = stage.iter().collect();
            while !left.is_empty() {
                let at = current().map_or(0, |(scheduler, _)| scheduler.draw(left.len()));
                let (key, bytes) = left.remove(at);
                self.put(key, bytes);
            }
        }
    }
}

impl Storage for Bucket {
    fn abilities(&self) -> Abilities {
        Abilities { is_persistent: true, clears_at_once: false, has_listing_versions: false, is_shared: true }
    }

    fn open(&self, key: &Key) -> Result<Option<(Content, ObjectTag)>, StorageError> {
        Ok(self.get(key).map(|found| (Content::from([found.bytes.clone()]), found.meta().tag)))
    }

    fn head(&self, key: &Key) -> Result<Option<Meta>, StorageError> {
        Ok(self.request("HEAD", key, |objects, _| objects.get(key.as_str()).map(Object::meta)))
    }

    fn look_up(&self, pairs: &[(Key, Key)], max_bytes: u64) -> Result<Vec<LookedUp>, StorageError> {
        let look_up = |(link, target): &(Key, Key)| {
            let target = self.head(target)?;
            let link = self.get(link).map(|found| found.bytes);
            Ok(LookedUp { link: link.filter(|bytes| bytes.len() as u64 <= max_bytes), target })
        };
        pairs.iter().map(look_up).collect()
    }

    fn open_known(&self, key: &Key, _: &Meta) -> Result<Option<Content>, StorageError> {
        Ok(self.objects().get(key.as_str()).map(|found| [found.bytes.clone()].into()))
    }

    fn write(&self, stages: &[&[Entry<'_>]]) -> Result<(), StorageError> {
        self.put_stages(stages);
        Ok(())
    }

    fn create(&self, key: &Key, bytes: &[u8]) -> Result<Created, StorageError> {
        let created = self.request("CREATE", key, |objects, now| {
            if let Some(found) = objects.get(key.as_str()) {
                return Created::Exists(found.bytes.clone());
            }
            objects.insert(key.as_str().into(), self.written(bytes, now));
            Created::New
        });
        self.0.scheduler.wake_for(key.as_str());
        Ok(created)
    }

    fn remove(&self, key: &Key) -> Result<bool, StorageError> {
        Ok(self.remove_under("DELETE", key, |_| true) == Removed::Removed)
    }

    fn remove_if(&self, key: &Key, tag: &ObjectTag) -> Result<Removed, StorageError> {
        Ok(self.remove_under("DELETE-IF", key, |found| found.meta().tag == *tag))
    }

    fn fence(&self) -> Option<Fence> {
        // Of the whole seconds of a date, the signature keeps the begin.
        Some(Fence(self.now()))
    }

    fn remove_if_fenced(
        &self,
        key: &Key,
        tag: &ObjectTag,
        fence: Fence,
    ) -> Result<Option<Removed>, StorageError> {
        let latest = schedule_time(fence.0) + FENCE_LIFETIME;
        if self.0.manner.fences_by_version {
            return (self.time() <= latest).then(|| self.remove_if(key, tag)).transpose();
        }
        let mut is_late = false;
        let removed = self.remove_under("DELETE-IF-FENCED", key, |found| {
            is_late = self.0.scheduler.now() > latest;
            !is_late && found.meta().tag == *tag
        });
        Ok((!is_late).then_some(removed))
    }

    fn remove_fenced(&self, keys: &[Key], fence: Fence) -> Result<Vec<Key>, StorageError> {
        Ok(keys.iter().filter(|key| !self.remove_within(key, fence)).cloned().collect())
    }

    fn clear(&self, folder: &Key) -> Result<bool, StorageError> {
        let mut is_changed = false;
        for (key, _) in self.scan(folder, None, usize::MAX)?.entries {
            is_changed |= self.remove(&key)?;
        }
        Ok(is_changed)
    }

    fn scan(&self, folder: &Key, after: Option<&Key>, limit: usize) -> Result<ScanPage, StorageError> {
        Ok(self.request("LIST", folder, |objects, _| {
            let folder = format!("{folder}/");
            let from = match after {
                Some(after) if after.as_str() >= folder.as_str() => Bound::Excluded(after.as_str()),
                _ => Bound::Included(folder.as_str()),
            };
            let keys = objects.range::<str, _>((from, Bound::Unbounded));
            let mut rest = keys.take_while(|(key, _)| key.starts_with(&folder)).peekable();
            let mut entries = Vec::new();
            while let Some((key, object)) = rest.next_if(|_| entries.len() < limit) {
                entries.extend(Key::of_path(key.to_string()).map(|key| (key, object.meta())));
            }
            let last = entries.last().map(|(key, _)| key.clone());
            ScanPage { next: rest.next().and(last), entries }
        }))
    }

    fn exists(&self, key: &Key) -> Result<bool, StorageError> {
        Ok(self.request("EXISTS", key, |objects, _| {
            let folder = format!("{key}/");
            objects.contains_key(key.as_str())
                || objects
                    .range::<str, _>((Bound::Included(&*folder), Bound::Unbounded))
                    .next()
                    .is_some_and(|(key, _)| key.starts_with(&folder))
        }))
    }

    fn now(&self) -> SystemTime {
        storage_time(self.time())
    }

    fn uploads(&self) -> &dyn Uploads {
        self
    }
}

impl Uploads for Bucket {
    fn begin(&self, _: UploadStart<'_>) -> Result<Box<dyn Upload>, StorageError> {
        Ok(Box::new(WholeUpload { bucket: self.clone(), bytes: Vec::new() }))
    }

    fn resume(&self, _: &RepositoryName, _: &UploadId) -> Result<Option<Box<dyn Upload>>, StorageError> {
        Ok(None)
    }
}

/// Upload whose bytes go to their final key by one request.
#[derive(Debug)]
struct WholeUpload {
    bucket: Bucket,
    bytes: Vec<u8>,
}

impl Upload for WholeUpload {
    fn offset(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn acknowledge(&mut self) -> Result<u64, StorageError> {
        Ok(self.offset())
    }

    fn digest(&mut self, algorithm: Algorithm) -> Result<Digest, StorageError> {
        Ok(Digest::of(algorithm, &self.bytes))
    }

    fn finish(&mut self, key: &Key, then: &[&[Entry<'_>]]) -> Result<(), StorageError> {
        self.bucket.put(key, &self.bytes);
        self.bucket.put_stages(then);
        Ok(())
    }

    fn abort(&mut self) -> Result<(), StorageError> {
        Ok(())
    }
}
