//! Storage in memory that behaves as a bucket does, and whose steps a test counts, interrupts and uses.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use quinistry_oci::{Algorithm, Content, Digest};

use crate::storage::{
    Abilities, Created, Entry, Meta, ObjectTag, Removed, ScanPage, Storage, StorageError, Upload,
    UploadStart, Uploads,
};
use crate::{Key, Memory};

type Hook = Box<dyn FnMut() + Send>;

/// Storage whose every request is a step. Gives objects the times of their writes.
#[derive(Clone)]
pub(super) struct Stepped {
    pub(super) memory: Memory,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// Number of writes of one object each.
    writes: AtomicUsize,
    /// Number of writes that succeed; the others fail.
    writes_left: Mutex<Option<usize>>,
    /// Objects are not replaced, as append blobs of Azure are not.
    has_other_type: AtomicBool,
    reads: AtomicUsize,
    /// Call before the read of this number.
    hook: Mutex<Option<(usize, Hook)>>,
}

impl fmt::Debug for Stepped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stepped")
    }
}

impl Stepped {
    pub(super) fn new(memory: Memory) -> Self {
        Self { memory, state: Arc::default() }
    }

    /// Lets a number of writes succeed, and fails all others.
    pub(super) fn fail_after(&self, writes: usize) {
        *self.state.writes_left.lock().unwrap() = Some(writes);
    }

    /// Refuses to replace objects from now on, as Azure does with those of another type.
    pub(super) fn refuse_replacements(&self) {
        self.state.has_other_type.store(true, Ordering::Relaxed);
    }

    fn check_replaceable(&self, key: &Key) -> Result<(), StorageError> {
        if !self.state.has_other_type.load(Ordering::Relaxed) || self.memory.head(key)?.is_none() {
            return Ok(());
        }
        let source = io::Error::other("PUT: 409 InvalidBlobType");
        Err(StorageError::Io { what: "write", key: key.to_string(), source })
    }

    /// Returns the number of objects that were written.
    pub(super) fn writes(&self) -> usize {
        self.state.writes.load(Ordering::Relaxed)
    }

    /// Calls `hook` before the read of a number, from 0.
    pub(super) fn before_read(&self, number: usize, hook: impl FnMut() + Send + 'static) {
        *self.state.hook.lock().unwrap() = Some((number, Box::new(hook)));
    }

    /// Returns true if the hook was not called.
    pub(super) fn has_hook(&self) -> bool {
        self.state.hook.lock().unwrap().is_some()
    }

    fn read_step(&self) {
        let number = self.state.reads.fetch_add(1, Ordering::Relaxed);
        let hook =
            self.state.hook.lock().unwrap_or_else(PoisonError::into_inner).take_if(|hook| hook.0 <= number);
        if let Some((_, mut hook)) = hook {
            hook();
        }
    }

    fn write_step(&self) -> Result<(), StorageError> {
        let mut left = self.state.writes_left.lock().unwrap();
        match &mut *left {
            Some(0) => return Err(StorageError::Full),
            Some(left) => *left -= 1,
            None => {}
        }
        self.state.writes.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

impl Storage for Stepped {
    fn abilities(&self) -> Abilities {
        Abilities { is_persistent: true, clears_at_once: false, has_listing_versions: false, is_shared: true }
    }

    fn open(&self, key: &Key) -> Result<Option<(Content, ObjectTag)>, StorageError> {
        self.read_step();
        self.memory.open(key)
    }

    fn head(&self, key: &Key) -> Result<Option<Meta>, StorageError> {
        self.read_step();
        self.memory.head(key)
    }

    fn write(&self, stages: &[&[Entry<'_>]]) -> Result<(), StorageError> {
        // In any order within a stage, and one object after the other.
        for (key, bytes) in stages.iter().flat_map(|stage| stage.iter().rev()) {
            self.write_step()?;
            self.check_replaceable(key)?;
            self.memory.write(&[&[(key.clone(), *bytes)]])?;
        }
        Ok(())
    }

    fn create(&self, key: &Key, bytes: &[u8]) -> Result<Created, StorageError> {
        self.write_step()?;
        self.memory.create(key, bytes)
    }

    fn remove(&self, key: &Key) -> Result<bool, StorageError> {
        self.write_step()?;
        self.memory.remove(key)
    }

    fn remove_if(&self, key: &Key, tag: &ObjectTag) -> Result<Removed, StorageError> {
        self.write_step()?;
        self.memory.remove_if(key, tag)
    }

    fn clear(&self, folder: &Key) -> Result<bool, StorageError> {
        let mut is_removed = false;
        while let Some((key, _)) = self.scan(folder, None, 1)?.entries.first() {
            is_removed |= self.remove(key)?;
        }
        Ok(is_removed)
    }

    fn scan(&self, folder: &Key, after: Option<&Key>, limit: usize) -> Result<ScanPage, StorageError> {
        self.read_step();
        // Short pages, so that a small storage has several.
        self.memory.scan(folder, after, limit.min(7))
    }

    fn uploads(&self) -> &dyn Uploads {
        self
    }
}

impl Uploads for Stepped {
    fn begin(&self, start: UploadStart<'_>) -> Result<Box<dyn Upload>, StorageError> {
        Ok(Box::new(SteppedUpload { storage: self.clone(), upload: self.memory.begin(start)? }))
    }
}

#[derive(Debug)]
struct SteppedUpload {
    storage: Stepped,
    upload: Box<dyn Upload>,
}

impl Upload for SteppedUpload {
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
        self.storage.write_step()?;
        self.storage.check_replaceable(key)?;
        self.upload.finish(key, &[])?;
        self.storage.write(then)
    }

    fn abort(&mut self) -> Result<(), StorageError> {
        self.upload.abort()
    }
}
