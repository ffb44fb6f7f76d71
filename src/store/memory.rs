//! Storage in memory, bounded: for tests, caches, and registries that live as long as a job.

mod received;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use quinistry_oci::{Algorithm, Content, Digest};

use self::received::Received;
use super::key_map::{self, prefix_of};
use super::layout::Key;
use super::storage::{
    Abilities, Created, Entry, ListingVersion, MAX_CREATED_BYTES, Meta, ObjectTag, Removed, ScanPage, Space,
    Storage, StorageError, Upload, UploadStart, Uploads,
};

/// Storage in memory, of bounded size. Clones share it.
#[derive(Clone, Debug)]
pub struct Memory(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    objects: BTreeMap<String, StoredObject>,
    /// Bytes of objects and of uploads.
    used_bytes: u64,
    capacity_bytes: u64,
    /// Number of objects that were inserted.
    generation: u64,
}

#[derive(Clone, Debug)]
struct StoredObject {
    /// Content in the chunks in which it was received.
    content: Content,
    modified: SystemTime,
    generation: u64,
}

impl StoredObject {
    fn meta(&self) -> Meta {
        Meta { length: self.content.len(), modified: self.modified, tag: self.tag() }
    }

    fn tag(&self) -> ObjectTag {
        ObjectTag::of_generation(self.generation)
    }
}

// === impl Memory ===

impl Memory {
    /// Creates a storage for `capacity_bytes` of content.
    #[must_use]
    pub fn new(capacity_bytes: u64) -> Self {
        let inner = Inner { objects: BTreeMap::new(), used_bytes: 0, capacity_bytes, generation: 0 };
        Self(Arc::new(Mutex::new(inner)))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Nothing below panics between two changes that belong together.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn reserve(&mut self, bytes: u64) -> Result<(), StorageError> {
        if bytes > self.capacity_bytes.saturating_sub(self.used_bytes) {
            return Err(StorageError::Full);
        }
        self.used_bytes += bytes;
        Ok(())
    }

    /// Writes all entries, or none.
    fn write(&mut self, stages: &[&[Entry<'_>]]) -> Result<(), StorageError> {
        let entries = || stages.iter().copied().flatten();
        let content: u64 = entries().map(|(_, bytes)| bytes.len() as u64).sum();
        self.reserve(content + self.overheads(entries()))?;
        for (key, bytes) in entries() {
            self.insert(key, [Bytes::copy_from_slice(bytes)].into());
        }
        Ok(())
    }

    /// Returns the overhead of the keys that do not exist yet. A key that several entries have becomes one
    /// object.
    fn overheads<'a>(&self, entries: impl Iterator<Item = &'a Entry<'a>>) -> u64 {
        let keys: BTreeSet<&str> = entries.map(|(key, _)| key.as_str()).collect();
        keys.into_iter().filter(|key| !self.objects.contains_key(*key)).map(overhead).sum()
    }

    /// Inserts content whose length is counted already.
    fn insert(&mut self, key: &Key, content: Content) {
        self.generation += 1;
        let object = StoredObject { content, modified: SystemTime::now(), generation: self.generation };
        if let Some(before) = self.objects.insert(key.as_str().into(), object) {
            self.used_bytes -= before.content.len();
        }
    }

    fn remove(&mut self, key: &str) -> bool {
        let removed = self.objects.remove(key);
        self.used_bytes -= removed.as_ref().map_or(0, |object| object.content.len() + overhead(key));
        removed.is_some()
    }
}

/// Returns the memory of an object beside its content, in bytes.
fn overhead(key: &str) -> u64 {
    key.len() as u64 + 256
}

impl Storage for Memory {
    fn space(&self) -> Result<Space, StorageError> {
        let inner = self.inner();
        let free = inner.capacity_bytes.saturating_sub(inner.used_bytes);
        Ok(Space { used_bytes: Some(inner.used_bytes), free_bytes: Some(free), total_bytes: None })
    }

    fn abilities(&self) -> Abilities {
        Abilities {
            is_persistent: false,
            clears_at_once: true,
            has_listing_versions: false,
            is_shared: false,
        }
    }

    fn open(&self, key: &Key) -> Result<Option<(Content, ObjectTag)>, StorageError> {
        let inner = self.inner();
        Ok(inner.objects.get(key.as_str()).map(|object| (object.content.clone(), object.tag())))
    }

    fn head(&self, key: &Key) -> Result<Option<Meta>, StorageError> {
        Ok(self.inner().objects.get(key.as_str()).map(StoredObject::meta))
    }

    fn write(&self, stages: &[&[Entry<'_>]]) -> Result<(), StorageError> {
        self.inner().write(stages)
    }

    fn create(&self, key: &Key, bytes: &[u8]) -> Result<Created, StorageError> {
        let existing = {
            let mut inner = self.inner();
            let Some(object) = inner.objects.get(key.as_str()) else {
                return inner.write(&[&[(key.clone(), bytes)]]).map(|()| Created::New);
            };
            object.content.clone()
        };
        if existing.len() > MAX_CREATED_BYTES {
            return Err(StorageError::TooLong { key: key.clone(), length: existing.len() });
        }
        Ok(Created::Exists(existing.to_bytes().expect("memory can be read")))
    }

    fn remove(&self, key: &Key) -> Result<bool, StorageError> {
        Ok(self.inner().remove(key.as_str()))
    }

    fn remove_if(&self, key: &Key, tag: &ObjectTag) -> Result<Removed, StorageError> {
        let mut inner = self.inner();
        let Some(object) = inner.objects.get(key.as_str()) else { return Ok(Removed::Absent) };
        if object.tag() != *tag {
            return Ok(Removed::Changed);
        }
        inner.remove(key.as_str());
        Ok(Removed::Removed)
    }

    fn clear(&self, prefix: &Key) -> Result<bool, StorageError> {
        let mut inner = self.inner();
        let removed: Vec<String> =
            key_map::beneath(&inner.objects, &prefix_of(prefix)).map(|(key, _)| key.clone()).collect();
        for key in &removed {
            inner.remove(key);
        }
        Ok(!removed.is_empty())
    }

    fn scan(&self, prefix: &Key, after: Option<&Key>, limit: usize) -> Result<ScanPage, StorageError> {
        Ok(key_map::scan(&self.inner().objects, prefix, after, limit, StoredObject::meta))
    }

    fn list(&self, key: &Key) -> Result<Option<Vec<String>>, StorageError> {
        Ok(key_map::names_in(&self.inner().objects, key))
    }

    fn list_with(
        &self,
        key: &Key,
        beneath: &str,
        wanted: fn(&str) -> bool,
    ) -> Result<Option<Vec<String>>, StorageError> {
        let Some(mut names) = self.list(key)? else { return Ok(None) };
        let inner = self.inner();
        names.retain(|name| wanted(name) && inner.objects.contains_key(&format!("{key}/{name}/{beneath}")));
        Ok(Some(names))
    }

    fn exists(&self, key: &Key) -> Result<bool, StorageError> {
        let inner = self.inner();
        Ok(inner.objects.contains_key(key.as_str())
            || key_map::beneath(&inner.objects, &prefix_of(key)).next().is_some())
    }

    fn listing_version(&self, _: &Key) -> Result<ListingVersion, StorageError> {
        // No other program can change the memory.
        Ok(ListingVersion { text: "memory".into(), age: None })
    }

    fn set_modified(&self, key: &Key, modified: SystemTime) -> Result<bool, StorageError> {
        let mut inner = self.inner();
        let Some(object) = inner.objects.get_mut(key.as_str()) else { return Ok(false) };
        object.modified = modified;
        Ok(true)
    }

    fn uploads(&self) -> &dyn Uploads {
        self
    }
}

impl Uploads for Memory {
    fn begin(&self, _: UploadStart<'_>) -> Result<Box<dyn Upload>, StorageError> {
        Ok(Box::new(StagedMemory {
            memory: self.clone(),
            received: Received::default(),
            length: 0,
            is_spent: false,
        }))
    }
}

/// Upload in memory, whose bytes count as used.
#[derive(Debug)]
struct StagedMemory {
    memory: Memory,
    received: Received,
    length: u64,
    is_spent: bool,
}

impl StagedMemory {
    fn check_usable(&self) -> Result<(), StorageError> {
        if self.is_spent { Err(StorageError::Broken) } else { Ok(()) }
    }
}

impl Upload for StagedMemory {
    fn offset(&self) -> u64 {
        self.length
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        self.check_usable()?;
        self.memory.inner().reserve(bytes.len() as u64)?;
        self.length += bytes.len() as u64;
        self.received.append(bytes);
        Ok(())
    }

    fn tail(&mut self, length: u64) -> Result<Option<Content>, StorageError> {
        self.check_usable()?;
        Ok(Some(self.received.tail(length)))
    }

    fn acknowledge(&mut self) -> Result<u64, StorageError> {
        self.check_usable()?;
        Ok(self.length)
    }

    fn digest(&mut self, algorithm: Algorithm) -> Result<Digest, StorageError> {
        self.check_usable()?;
        Ok(self.received.content().digest(algorithm).expect("memory can be read"))
    }

    fn finish(&mut self, key: &Key, then: &[&[Entry<'_>]]) -> Result<(), StorageError> {
        self.check_usable()?;
        let content = self.received.content();
        let mut inner = self.memory.inner();
        let own = inner.overheads([(key.clone(), &[][..])].iter());
        inner.reserve(own)?;
        if let Err(error) = inner.write(then) {
            inner.used_bytes -= own;
            return Err(error);
        }
        inner.insert(key, content);
        // The bytes are counted for the object now.
        self.length = 0;
        self.is_spent = true;
        Ok(())
    }

    fn abort(&mut self) -> Result<(), StorageError> {
        // Those who read the bytes keep them.
        self.received = Received::default();
        self.memory.inner().used_bytes -= std::mem::take(&mut self.length);
        self.is_spent = true;
        Ok(())
    }

    fn is_spent(&self) -> bool {
        self.is_spent
    }
}

impl Drop for StagedMemory {
    fn drop(&mut self) {
        self.memory.inner().used_bytes -= self.length;
    }
}

#[cfg(test)]
mod tests {
    use super::super::layout::scratch;
    use super::*;

    #[test]
    fn a_key_that_is_written_twice_at_once_is_freed_whole() {
        let memory = Memory::new(2000);
        let key = scratch().child("one");
        memory.write(&[&[(key.clone(), b"a"), (key.clone(), b"bc")]]).unwrap();
        assert!(memory.remove(&key).unwrap());
        assert_eq!(memory.inner().used_bytes, 0);
    }

    #[test]
    fn where_there_is_no_room_for_all_nothing_is_changed() {
        let memory = Memory::new(2000);
        let [one, two] = ["one", "two"].map(|name| scratch().child(name));
        let used = || memory.inner().used_bytes;
        let digest = Digest::sha256(&[1; 1000]);
        let mut staged =
            memory.begin(UploadStart::Whole { digest: &digest, length: None, key: None }).unwrap();
        staged.append(&[1; 1000]).unwrap();
        let long = [2; 500];
        assert!(matches!(staged.finish(&one, &[&[(two.clone(), &long)]]), Err(StorageError::Full)));
        assert!(matches!(
            memory.write(&[&[(one.clone(), b"x"), (two.clone(), &long)]]),
            Err(StorageError::Full)
        ));
        assert_eq!((used(), staged.offset(), memory.exists(&one).unwrap()), (1000, 1000, false));

        staged.finish(&one, &[&[(two.clone(), b"short")]]).unwrap();
        drop(staged);
        assert_eq!(memory.head(&one).unwrap().unwrap().length, 1000);
        for key in [one, two] {
            assert!(memory.remove(&key).unwrap());
        }
        assert_eq!(used(), 0);
    }
}
