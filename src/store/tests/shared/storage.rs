//! Storage in memory that behaves as a bucket does: shared, without folders, with requests that are counted.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use quinistry_oci::{Algorithm, Content, Digest, RepositoryName};

use crate::storage::{
    Abilities, Created, Entry, FENCE_LIFETIME, Fence, LookedUp, Meta, ObjectTag, Removed, ScanPage, Storage,
    StorageError, Upload, UploadStart, Uploads,
};
use crate::{Key, Memory, UploadId};

/// Requests of an operation, and how many of them had to wait for one another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Requests {
    pub(crate) all: usize,
    pub(crate) rounds: usize,
}

type Hook = Box<dyn FnOnce() + Send>;

/// Call for each look-up of one key.
type HeadHook = Arc<dyn Fn(&Key) + Send + Sync>;

/// A view of one storage; clones have the same bytes and the same counts.
#[derive(Clone)]
pub(crate) struct SharedMemory {
    memory: Memory,
    state: Arc<State>,
    /// Ages by which keys are older than they are, of all views.
    ages: Arc<Mutex<HashMap<String, Duration>>>,
    clock: Arc<Mutex<Clock>>,
    /// Equal bytes have equal tags, as where tags are hashes of the bytes.
    has_content_tags: bool,
}

/// Clock of a storage. Time passes as on this machine until a test stops the clock.
#[derive(Default)]
struct Clock {
    stopped_at: Option<SystemTime>,
    /// Times of writes since the clock was stopped.
    written: HashMap<String, SystemTime>,
}

#[derive(Default)]
struct State {
    requests: Mutex<Requests>,
    /// Call before the round of this number, counted from now.
    hook: Mutex<Option<(usize, Hook)>>,
    /// Call after a write of a key that contains this text.
    after_write: Mutex<Option<(&'static str, Hook)>>,
    /// Call after a fenced removal was sent, before it arrives.
    before_removal: Mutex<Option<Hook>>,
    /// Call before the creation, or the removal, of a key that ends with this text.
    before_change: Mutex<Option<(String, Hook)>>,
    /// Call for each look-up of one key.
    on_head: Mutex<Option<HeadHook>>,
    is_unfenced: AtomicBool,
    is_read_only: AtomicBool,
    redirects: AtomicBool,
    /// Most bytes that one call has read.
    most_bytes: AtomicUsize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for SharedMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedMemory")
    }
}

impl SharedMemory {
    pub(crate) fn new() -> Self {
        Self {
            memory: Memory::new(1 << 30),
            state: Arc::default(),
            ages: Arc::default(),
            clock: Arc::default(),
            has_content_tags: false,
        }
    }

    /// Returns a storage whose tags are hashes of the bytes, as those of S3 without encryption by keys of its own.
    pub(crate) fn with_content_tags() -> Self {
        Self { has_content_tags: true, ..Self::new() }
    }

    pub(crate) fn has_content_tags(&self) -> bool {
        self.has_content_tags
    }

    /// Returns a view of the same bytes with counts of its own.
    pub(crate) fn view(&self) -> Self {
        Self { state: Arc::default(), ..self.clone() }
    }

    /// Stops the clock of the storage.
    pub(crate) fn stop_clock(&self) {
        lock(&self.clock).stopped_at = Some(SystemTime::UNIX_EPOCH + Duration::from_hours(24));
    }

    /// Moves the stopped clock forward.
    pub(crate) fn advance(&self, by: Duration) {
        let mut clock = lock(&self.clock);
        clock.stopped_at = clock.stopped_at.map(|at| at + by);
    }

    /// Notes the time of a write.
    fn note_write(&self, key: &Key) {
        lock(&self.ages).remove(key.as_str());
        let mut clock = lock(&self.clock);
        if let Some(at) = clock.stopped_at {
            clock.written.insert(key.to_string(), at);
        }
    }

    pub(crate) fn read_only_view(&self) -> Self {
        let view = self.view();
        view.set_read_only(true);
        view
    }

    pub(crate) fn set_read_only(&self, is_read_only: bool) {
        self.state.is_read_only.store(is_read_only, Ordering::Relaxed);
    }

    pub(crate) fn redirecting_view(&self) -> Self {
        let view = self.view();
        view.state.redirects.store(true, Ordering::Relaxed);
        view
    }

    /// Returns the bytes, to write and read as another program does.
    pub(crate) fn bytes(&self) -> &Memory {
        &self.memory
    }

    /// Returns the requests since the last call.
    pub(crate) fn take_requests(&self) -> Requests {
        std::mem::take(&mut lock(&self.state.requests))
    }

    /// Returns the most bytes that one call has read.
    pub(crate) fn most_bytes(&self) -> usize {
        self.state.most_bytes.load(Ordering::Relaxed)
    }

    /// Calls `hook` before the round of a number, from 0.
    pub(crate) fn before_round(&self, number: usize, hook: impl FnOnce() + Send + 'static) {
        *lock(&self.state.hook) = Some((number, Box::new(hook)));
    }

    /// Calls `hook` for each look-up of one key, on the thread that asks.
    pub(in crate::tests) fn on_head(&self, hook: impl Fn(&Key) + Send + Sync + 'static) {
        *lock(&self.state.on_head) = Some(Arc::new(hook));
    }

    /// Calls `hook` right after the next write of a key that contains a text.
    pub(crate) fn after_write(&self, part: &'static str, hook: impl FnOnce() + Send + 'static) {
        *lock(&self.state.after_write) = Some((part, Box::new(hook)));
    }

    /// Calls `hook` while the next fenced removal is on its way.
    pub(in crate::tests) fn before_removal(&self, hook: impl FnOnce() + Send + 'static) {
        *lock(&self.state.before_removal) = Some(Box::new(hook));
    }

    /// Calls `hook` before the next creation of a key that ends with a text.
    pub(in crate::tests) fn before_create(&self, end: &str, hook: impl FnOnce() + Send + 'static) {
        *lock(&self.state.before_change) = Some((end.to_owned(), Box::new(hook)));
    }

    /// Calls `hook` before the next removal of a key.
    pub(in crate::tests) fn before_remove(&self, key: &Key, hook: impl FnOnce() + Send + 'static) {
        self.before_create(key.as_str(), hook);
    }

    fn call_before_change(&self, key: &Key) {
        let hook = lock(&self.state.before_change).take_if(|(end, _)| key.as_str().ends_with(end.as_str()));
        if let Some((_, hook)) = hook {
            hook();
        }
    }

    /// Returns a view of the same bytes that cannot refuse late removals.
    pub(in crate::tests) fn unfenced_view(&self) -> Self {
        let view = self.view();
        view.state.is_unfenced.store(true, Ordering::Relaxed);
        view
    }

    /// Returns true if a hook was not called yet, and forgets it.
    pub(crate) fn forget_hook(&self) -> bool {
        lock(&self.state.hook).take().is_some()
    }

    /// Makes the bytes under all present keys that contain a text older.
    pub(crate) fn age(&self, part: &str, by: Duration) {
        let mut after = None;
        loop {
            let page = self.memory.scan(&crate::layout::root(), after.as_ref(), 1000).unwrap();
            for (key, _) in page.entries.iter().filter(|(key, _)| key.as_str().contains(part)) {
                lock(&self.ages).insert(key.to_string(), by);
            }
            after = page.next;
            if after.is_none() {
                return;
            }
        }
    }

    fn count(&self, requests: usize) {
        let hook = {
            let mut hook = lock(&self.state.hook);
            match &mut *hook {
                Some((0, _)) => hook.take().map(|(_, hook)| hook),
                Some((number, _)) => {
                    *number -= 1;
                    None
                }
                None => None,
            }
        };
        if let Some(hook) = hook {
            hook();
        }
        let mut counted = lock(&self.state.requests);
        counted.all += requests;
        counted.rounds += 1;
    }

    fn check_writable(&self) -> Result<(), StorageError> {
        if self.state.is_read_only.load(Ordering::Relaxed) { Err(StorageError::ReadOnly) } else { Ok(()) }
    }

    fn aged(&self, key: &Key, mut meta: Meta) -> Meta {
        if let Some(written) = lock(&self.clock).written.get(key.as_str()) {
            meta.modified = *written;
        }
        if let Some(age) = lock(&self.ages).get(key.as_str()) {
            meta.modified -= *age;
        }
        if self.has_content_tags
            && let Some((content, _)) = self.memory.open(key).unwrap()
        {
            let hash = content.digest(Algorithm::Sha256).unwrap();
            meta.tag = ObjectTag::of_version(hash.as_str());
        }
        meta
    }

    fn write_stages(&self, stages: &[&[Entry<'_>]]) -> Result<(), StorageError> {
        for stage in stages.iter().filter(|stage| !stage.is_empty()) {
            self.count(stage.len());
            self.check_writable()?;
            for (key, _) in *stage {
                self.note_write(key);
            }
            self.memory.write(&[stage])?;
            let is_awaited = |(part, _): &mut (&'static str, Hook)| {
                stage.iter().any(|(key, _)| key.as_str().contains(*part))
            };
            let hook = lock(&self.state.after_write).take_if(is_awaited);
            if let Some((_, hook)) = hook {
                hook();
            }
        }
        Ok(())
    }
}

impl Storage for SharedMemory {
    fn abilities(&self) -> Abilities {
        Abilities { is_persistent: true, clears_at_once: false, has_listing_versions: false, is_shared: true }
    }

    fn open(&self, key: &Key) -> Result<Option<(Content, ObjectTag)>, StorageError> {
        self.count(1);
        let Some((content, tag)) = self.memory.open(key)? else { return Ok(None) };
        let content_tag = || ObjectTag::of_version(content.digest(Algorithm::Sha256).unwrap().as_str());
        let tag = if self.has_content_tags { content_tag() } else { tag };
        Ok(Some((content, tag)))
    }

    fn head(&self, key: &Key) -> Result<Option<Meta>, StorageError> {
        let hook = lock(&self.state.on_head).clone();
        if let Some(hook) = hook {
            hook(key);
        }
        self.count(1);
        Ok(self.memory.head(key)?.map(|meta| self.aged(key, meta)))
    }

    fn look_up(&self, pairs: &[(Key, Key)], max_bytes: u64) -> Result<Vec<LookedUp>, StorageError> {
        self.count(2 * pairs.len());
        let mut found = self.memory.look_up(pairs, max_bytes)?;
        for (found, (_, target)) in found.iter_mut().zip(pairs) {
            found.target = found.target.take().map(|meta| self.aged(target, meta));
        }
        Ok(found)
    }

    fn read_all(&self, keys: &[Key], max_bytes: u64) -> Result<Vec<Option<Bytes>>, StorageError> {
        if !keys.is_empty() {
            self.count(keys.len());
        }
        let read = self.memory.read_all(keys, max_bytes)?;
        let bytes = read.iter().flatten().map(Bytes::len).sum();
        self.state.most_bytes.fetch_max(bytes, Ordering::Relaxed);
        Ok(read)
    }

    fn open_known(&self, key: &Key, _: &Meta) -> Result<Option<Content>, StorageError> {
        Ok(self.memory.open(key)?.map(|(content, _)| content))
    }

    fn redirect(&self, key: &Key, _: Duration) -> Option<String> {
        self.state.redirects.load(Ordering::Relaxed).then(|| format!("https://bucket.example/{key}"))
    }

    fn write(&self, stages: &[&[Entry<'_>]]) -> Result<(), StorageError> {
        self.write_stages(stages)
    }

    fn create(&self, key: &Key, bytes: &[u8]) -> Result<Created, StorageError> {
        self.call_before_change(key);
        self.count(1);
        self.check_writable()?;
        let created = self.memory.create(key, bytes)?;
        if created == Created::New {
            self.note_write(key);
        }
        Ok(created)
    }

    fn remove(&self, key: &Key) -> Result<bool, StorageError> {
        self.call_before_change(key);
        self.count(1);
        self.check_writable()?;
        self.memory.remove(key)
    }

    fn remove_if(&self, key: &Key, tag: &ObjectTag) -> Result<Removed, StorageError> {
        self.count(1);
        self.check_writable()?;
        let Some(found) = self.memory.head(key)? else { return Ok(Removed::Absent) };
        let has_tag = self.aged(key, found.clone()).tag == *tag;
        if has_tag { self.memory.remove_if(key, &found.tag) } else { Ok(Removed::Changed) }
    }

    fn fence(&self) -> Option<Fence> {
        (!self.state.is_unfenced.load(Ordering::Relaxed)).then(|| Fence(self.now()))
    }

    fn remove_if_fenced(
        &self,
        key: &Key,
        tag: &ObjectTag,
        fence: Fence,
    ) -> Result<Option<Removed>, StorageError> {
        let hook = lock(&self.state.before_removal).take();
        if let Some(hook) = hook {
            hook();
        }
        if self.now() > fence.0 + FENCE_LIFETIME { Ok(None) } else { self.remove_if(key, tag).map(Some) }
    }

    /// Refuses removals after their time, as a store does that checks the time of their signatures.
    fn remove_fenced(&self, keys: &[Key], fence: Fence) -> Result<Vec<Key>, StorageError> {
        let hook = lock(&self.state.before_removal).take();
        if let Some(hook) = hook {
            hook();
        }
        let mut left = Vec::new();
        for key in keys {
            if self.now() > fence.0 + FENCE_LIFETIME {
                left.push(key.clone());
            } else {
                self.remove(key)?;
            }
        }
        Ok(left)
    }

    fn clear(&self, folder: &Key) -> Result<bool, StorageError> {
        let mut is_changed = false;
        for (key, _) in self.scan(folder, None, 1000)?.entries {
            is_changed |= self.remove(&key)?;
        }
        Ok(is_changed)
    }

    fn scan(&self, folder: &Key, after: Option<&Key>, limit: usize) -> Result<ScanPage, StorageError> {
        self.count(1);
        let mut page = self.memory.scan(folder, after, limit)?;
        for (key, meta) in &mut page.entries {
            *meta = self.aged(key, meta.clone());
        }
        Ok(page)
    }

    fn exists(&self, key: &Key) -> Result<bool, StorageError> {
        self.count(1);
        self.memory.exists(key)
    }

    fn now(&self) -> SystemTime {
        lock(&self.clock).stopped_at.unwrap_or_else(SystemTime::now)
    }

    fn uploads(&self) -> &dyn Uploads {
        self
    }
}

impl Uploads for SharedMemory {
    fn begin(&self, start: UploadStart<'_>) -> Result<Box<dyn Upload>, StorageError> {
        Ok(Box::new(CountedUpload { storage: self.clone(), upload: self.memory.begin(start)? }))
    }

    fn resume(&self, _: &RepositoryName, _: &UploadId) -> Result<Option<Box<dyn Upload>>, StorageError> {
        Ok(None)
    }
}

#[derive(Debug)]
struct CountedUpload {
    storage: SharedMemory,
    upload: Box<dyn Upload>,
}

impl Upload for CountedUpload {
    fn offset(&self) -> u64 {
        self.upload.offset()
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        self.upload.append(bytes)
    }

    fn acknowledge(&mut self) -> Result<u64, StorageError> {
        self.upload.acknowledge()
    }

    fn digest(&mut self, algorithm: Algorithm) -> Result<Digest, StorageError> {
        self.upload.digest(algorithm)
    }

    fn finish(&mut self, key: &Key, then: &[&[Entry<'_>]]) -> Result<(), StorageError> {
        self.storage.count(1);
        self.storage.check_writable()?;
        self.upload.finish(key, &[])?;
        self.storage.note_write(key);
        self.storage.write_stages(then)
    }

    fn abort(&mut self) -> Result<(), StorageError> {
        self.upload.abort()
    }
}
