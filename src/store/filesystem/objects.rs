//! The calls of [`Storage`] on files.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::PoisonError;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use quinistry_oci::Content;
use rustix::fs::{Advice, FileType, Stat};

use super::folders::{Folders, MAX_CREATE_ATTEMPTS};
use super::placing::dispose;
use super::staged_file::StagedFile;
use super::{Filesystem, failed, failpoint, lists, lookup_result, scan};
use crate::failpoint::pass;
use crate::layout::Key;
use crate::storage::{
    Abilities, Created, Entry, ListingVersion, MAX_CREATED_BYTES, Meta, ObjectTag, Removed, ScanPage, Space,
    Storage, StorageError, Uploads,
};

pub(super) fn meta(stat: &Stat) -> Meta {
    Meta { length: length(stat), modified: modified(stat), tag: tag(stat) }
}

fn tag(stat: &Stat) -> ObjectTag {
    // These values are only compared, so that the sign does not matter.
    let times = [stat.st_mtime, stat.st_ctime].map(i64::cast_unsigned);
    let [modified, changed] = times;
    let attributes = [stat.st_dev, stat.st_ino, modified, stat.st_mtime_nsec, changed, stat.st_ctime_nsec];
    ObjectTag::of_file(length(stat), attributes)
}

/// Returns the listing version of a folder. `now` is a time before the folder was looked at: a change that comes after
/// the look must not make the version seem older than it was.
pub(super) fn listing_version(stat: &Stat, now: SystemTime) -> ListingVersion {
    // A program that copies folders sets the time of the last change back, but no program sets `ctime`.
    let times = [(stat.st_mtime, stat.st_mtime_nsec), (stat.st_ctime, stat.st_ctime_nsec)];
    let [modified_at, changed] = times.map(|(seconds, nanoseconds)| format!("{seconds}.{nanoseconds:09}"));
    let text = format!("{modified_at} {changed} {}", stat.st_ino);
    ListingVersion { text, age: now.duration_since(modified(stat)).ok() }
}

fn length(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or_default()
}

fn modified(stat: &Stat) -> SystemTime {
    let base = match u64::try_from(stat.st_mtime) {
        Ok(seconds) => SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
        Err(_) => SystemTime::UNIX_EPOCH - Duration::from_secs(stat.st_mtime.unsigned_abs()),
    };
    base + Duration::from_nanos(stat.st_mtime_nsec)
}

impl Filesystem {
    fn stat(&self, key: &Key) -> Result<Option<Stat>, StorageError> {
        lookup_result(self.0.root.stat(key.as_str()), "look at", &self.0.path(key))
    }

    fn file(&self, key: &Key) -> Result<Option<(File, Stat)>, StorageError> {
        Ok(lookup_result(self.0.root.file(key.as_str()), "open", &self.0.path(key))?.flatten())
    }

    /// Removes a name by `take`, durably. Returns what `take` does; `None` if there was nothing to remove.
    fn remove_durably<T>(
        &self,
        key: &Key,
        take: impl FnOnce(&Path) -> Result<Option<T>, StorageError>,
    ) -> Result<Option<T>, StorageError> {
        let path = self.0.path(key);
        let folder = path.parent().expect("a key has a folder");
        let pending = self.0.folders.begin(&Folders::names_in(folder));
        let taken = match take(&path) {
            Ok(Some(taken)) => taken,
            nothing => {
                self.0.folders.finish(pending);
                // An earlier removal may not have been flushed yet.
                return nothing.and_then(|_| self.sync_parents(std::slice::from_ref(key))).map(|()| None);
            }
        };
        let flushed = failpoint("removed", &path).and_then(|()| self.0.sync_folder(folder));
        self.0.finish_pending(pending, flushed).map(|()| Some(taken))
    }
}

impl Storage for Filesystem {
    fn abilities(&self) -> Abilities {
        Abilities { is_persistent: true, clears_at_once: true, has_listing_versions: true, is_shared: false }
    }

    fn open(&self, key: &Key) -> Result<Option<(Content, ObjectTag)>, StorageError> {
        let Some((file, stat)) = self.file(key)? else { return Ok(None) };
        let content = Content::of_guarded_file(file, length(&stat));
        let content = content.map_err(|error| failed("look at", &self.0.path(key), error))?;
        Ok(Some((content, tag(&stat))))
    }

    fn open_uncached(&self, key: &Key) -> Result<Option<(Content, ObjectTag)>, StorageError> {
        if let Some((file, _)) = self.file(key)? {
            // Pages that were written stay if they are in use; the bytes are then those that clients read.
            let _ = rustix::fs::fadvise(&file, 0, None, Advice::DontNeed);
        }
        self.open(key)
    }

    fn read(&self, key: &Key, max_bytes: u64) -> Result<Option<Bytes>, StorageError> {
        let Some((file, stat)) = self.file(key)? else { return Ok(None) };
        let length = length(&stat);
        if length > max_bytes {
            return Err(StorageError::TooLong { key: key.clone(), length });
        }
        let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default() + 1);
        let read = file.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes);
        read.map_err(|error| failed("read", &self.0.path(key), error))?;
        if bytes.len() as u64 > max_bytes {
            return Err(StorageError::TooLong { key: key.clone(), length: bytes.len() as u64 });
        }
        Ok(Some(bytes.into()))
    }

    fn head(&self, key: &Key) -> Result<Option<Meta>, StorageError> {
        let stat = self.stat(key)?;
        let file = stat.filter(|stat| FileType::from_raw_mode(stat.st_mode).is_file());
        Ok(file.as_ref().map(meta))
    }

    fn write(&self, stages: &[&[Entry<'_>]]) -> Result<(), StorageError> {
        let mut written = StagedFile::write_all(self, stages)?;
        StagedFile::publish_all(
            written.iter_mut().map(|(one, to)| (one, std::mem::take(to))).collect(),
            &self.0,
        )
    }

    fn create(&self, key: &Key, bytes: &[u8]) -> Result<Created, StorageError> {
        let path = self.0.path(key);
        let written = StagedFile::write(self, bytes)?;
        for _ in 0..MAX_CREATE_ATTEMPTS {
            if self.0.link(written.path(), &path)? {
                return Ok(Created::New);
            }
            // Absent if another writer has removed the key since.
            if let Some(existing) = self.read(key, MAX_CREATED_BYTES)? {
                self.sync_parents(std::slice::from_ref(key))?;
                return Ok(Created::Exists(existing));
            }
        }
        Err(failed("create", &path, io::ErrorKind::AlreadyExists.into()))
    }

    fn write_lazily(&self, key: &Key, bytes: &[u8]) -> Result<(), StorageError> {
        self.0.check_writable()?;
        let (path, scratch) = (self.0.path(key), self.0.scratch());
        let folder = path.parent().expect("a key has a folder");
        self.0.create(folder)?;
        pass("lazily")
            .and_then(|()| fs::write(&scratch, bytes))
            .and_then(|()| fs::create_dir_all(folder))
            .and_then(|()| {
                let _shared = self.0.replacing.read().unwrap_or_else(PoisonError::into_inner);
                fs::rename(&scratch, &path)
            })
            .map_err(|error| {
                // If this fails as well, the next start removes it.
                let _ = fs::remove_file(&scratch);
                failed("write", &path, error)
            })
    }

    fn remove(&self, key: &Key) -> Result<bool, StorageError> {
        Ok(self.remove_durably(key, |path| self.0.unlink(path))?.is_some())
    }

    fn remove_if(&self, key: &Key, tag: &ObjectTag) -> Result<Removed, StorageError> {
        let mut kept = Removed::Absent;
        let removed = self.remove_durably(key, |path| {
            // The lock guards no memory, so that a panic under it leaves nothing behind.
            let _exclusive = self.0.replacing.write().unwrap_or_else(PoisonError::into_inner);
            match self.head(key)? {
                Some(found) if found.tag == *tag => self.0.unlink(path),
                Some(_) => {
                    kept = Removed::Changed;
                    Ok(None)
                }
                None => Ok(None),
            }
        })?;
        Ok(removed.map_or(kept, |()| Removed::Removed))
    }

    /// Gives the file a second name. No file is changed in place, so that both keep their bytes.
    fn copy(&self, from: &Key, to: &Key) -> Result<bool, StorageError> {
        if self.head(from)?.is_none() {
            return Ok(false);
        }
        self.0.link(&self.0.path(from), &self.0.path(to))?;
        Ok(true)
    }

    fn clear(&self, folder: &Key) -> Result<bool, StorageError> {
        let mut moved = None;
        let removed = self.remove_durably(folder, |path| {
            moved = self.0.move_to_scratch(path)?;
            Ok(moved.is_some().then_some(()))
        });
        if let Some(scratch) = moved {
            dispose(&scratch);
        }
        Ok(removed?.is_some())
    }

    fn clear_lazily(&self, folder: &Key) -> Result<bool, StorageError> {
        let Some(scratch) = self.0.move_to_scratch(&self.0.path(folder))? else { return Ok(false) };
        dispose(&scratch);
        Ok(true)
    }

    fn scan(&self, folder: &Key, after: Option<&Key>, limit: usize) -> Result<ScanPage, StorageError> {
        scan::page(&self.0.root, folder, after, limit)
    }

    fn list(&self, key: &Key) -> Result<Option<Vec<String>>, StorageError> {
        lists::names(&self.0.root, key)
    }

    fn list_with(
        &self,
        key: &Key,
        beneath: &str,
        wanted: fn(&str) -> bool,
    ) -> Result<Option<Vec<String>>, StorageError> {
        lists::names_with(&self.0.root, key, beneath, wanted)
    }

    fn have_beneath(&self, folder: &Key, names: &[String], beneath: &str) -> Result<Vec<bool>, StorageError> {
        lists::have_beneath(&self.0.root, folder, names, beneath)
    }

    fn exists(&self, key: &Key) -> Result<bool, StorageError> {
        Ok(self.stat(key)?.is_some())
    }

    fn listing_version(&self, folder: &Key) -> Result<ListingVersion, StorageError> {
        let now = SystemTime::now();
        let stat = self.stat(folder)?;
        let absent = || ListingVersion { text: "none".into(), age: None };
        Ok(stat.as_ref().map_or_else(absent, |stat| listing_version(stat, now)))
    }

    fn listing_versions(
        &self,
        folder: &Key,
        names: &[&str],
    ) -> Result<Vec<Option<ListingVersion>>, StorageError> {
        lists::versions(&self.0.root, folder, names)
    }

    fn set_modified(&self, key: &Key, modified: SystemTime) -> Result<bool, StorageError> {
        self.0.check_writable()?;
        let Some((file, _)) = self.file(key)? else { return Ok(false) };
        file.set_modified(modified).map_err(|error| failed("set the time of", &self.0.path(key), error))?;
        Ok(true)
    }

    fn sync_parents(&self, keys: &[Key]) -> Result<(), StorageError> {
        self.0.check_writable()?;
        let mut pending = BTreeSet::new();
        for key in keys {
            self.0.folders.pending_above(&self.0.path(key), &mut pending);
        }
        self.0.folders.sync_pending(&pending, |folder| self.0.sync_folder(folder))
    }

    fn flush_all(&self) -> Result<(), StorageError> {
        self.0.check_writable()?;
        let path = self.0.root.path();
        let flushed =
            pass("flush").and_then(|()| File::open(path)).and_then(|root| Ok(rustix::fs::syncfs(root)?));
        flushed.map_err(|error| failed("flush", path, error))
    }

    fn check(&self) -> Result<(), StorageError> {
        // By its path: a folder that was removed, or covered by another mount, is still open.
        let path = self.0.root.path();
        fs::read_dir(path).map_err(|error| failed("read", path, error))?;
        match self.0.check_writable() {
            // A reader never writes.
            Err(StorageError::ReadOnly) => Ok(()),
            checked => checked,
        }
    }

    fn space(&self) -> Result<Space, StorageError> {
        let path = self.0.root.path();
        let found = pass("space").and_then(|()| Ok(rustix::fs::statvfs(path)?));
        let found = found.map_err(|error| failed("read the free room of", path, error))?;
        // The share of root alone is not counted.
        let free = found.f_bavail.saturating_mul(found.f_frsize);
        let total = found.f_blocks.saturating_mul(found.f_frsize);
        Ok(Space { used_bytes: None, free_bytes: Some(free), total_bytes: Some(total) })
    }

    fn uploads(&self) -> &dyn Uploads {
        self
    }
}
