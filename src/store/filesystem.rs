//! Storage on a filesystem: a completed write survives a power failure.
//!
//! Each write goes to a file of its own, which is flushed and renamed; then its folder is flushed, and the
//! parent of every folder that was created for it. After a failed flush the state of the disk is unknown, so
//! that writes are refused until a restart; reads go on.

mod folders;
mod lists;
mod placing;
mod root;
mod scan;
mod staged_file;
mod uploads;

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use quinistry_oci::Content;
use rustix::fs::{FileType, OFlags, Stat};

use self::folders::{Folders, MAX_CREATE_ATTEMPTS, SyncError};
use self::placing::dispose;
use self::root::RootFolder;
use self::staged_file::StagedFile;
use super::failpoint::pass;
use super::layout::{self, Key};
use super::storage::{
    Abilities, Created, Entry, ListingVersion, MAX_CREATED_BYTES, Meta, ObjectTag, Removed, ScanPage,
    Storage, StorageError, Uploads,
};

/// Storage under a folder. Clones share it.
#[derive(Clone, Debug)]
pub struct Filesystem(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    root: RootFolder,
    folders: Folders,
    /// A flush has failed.
    refuses_writes: AtomicBool,
    /// Number of scratch paths that were given out.
    scratch_count: AtomicU64,
    /// Lock that is shared by moves into place, and exclusive for a removal that depends on a file's tag.
    replacing: RwLock<()>,
    /// Lock on the folder, held while the storage lives; `None` for a reader.
    lock: Option<File>,
}

/// Mode in which a folder is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading and writing: no other process of this program may write there.
    Write,
    /// Reading only: nothing is changed, not even to test for write access.
    Read,
}

/// Reasons why a folder cannot be used as storage.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process of this program holds the lock of the folder.
    #[error("{} is in use by another quinistry; stop it first", .0.display())]
    InUse(PathBuf),
    /// The folder does not exist, is not a folder, or may not be read or written.
    #[error("cannot use {} as storage", path.display())]
    Io {
        /// Path of the folder, or of a file in it.
        path: PathBuf,
        /// Error of the operating system.
        #[source]
        source: io::Error,
    },
}

// === impl Filesystem ===

impl Filesystem {
    /// Opens a folder; with [`Access::Write`] it is created if it does not exist.
    pub fn open(root: &Path, access: Access) -> Result<Self, OpenError> {
        let refuse = |path: &Path| {
            let path = path.to_path_buf();
            move |source| OpenError::Io { path, source }
        };
        if access == Access::Write {
            fs::create_dir_all(root).map_err(refuse(root))?;
        }
        let root = root.canonicalize().map_err(refuse(root))?;
        fs::read_dir(&root).map_err(refuse(&root))?;
        // The folder may be new; if its parent may not be opened, this process cannot have created it.
        if let (Access::Write, Some(above)) = (access, root.parent())
            && let Err(SyncError::Unflushed(error)) = folders::sync(above)
        {
            return Err(refuse(above)(error));
        }
        let lock = match access {
            Access::Read => None,
            Access::Write => Some(Self::prepare(&root)?),
        };
        let folders = Folders::new(root.clone());
        let path = root.clone();
        let root = RootFolder::new(root).map_err(refuse(&path))?;
        let inner = Inner {
            root,
            folders,
            refuses_writes: AtomicBool::new(false),
            scratch_count: AtomicU64::new(0),
            replacing: RwLock::default(),
            lock,
        };
        Ok(Self(Arc::new(inner)))
    }

    /// Takes the lock, and removes the scratch files of a process that was killed.
    fn prepare(root: &Path) -> Result<File, OpenError> {
        let scratch = root.join(layout::scratch().as_str());
        let path = root.join(layout::lock().as_str());
        let refuse = |source| OpenError::Io { path: path.clone(), source };
        fs::create_dir_all(&scratch).map_err(refuse)?;
        // Opened without waiting: a FIFO in the file's place may have no reader.
        let no_waiting = OFlags::NONBLOCK.bits().cast_signed();
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).custom_flags(no_waiting);
        let lock = options.open(&path).map_err(refuse)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => OpenError::InUse(root.into()),
            TryLockError::Error(error) => refuse(error),
        })?;
        fs::remove_dir_all(&scratch).and_then(|()| fs::create_dir(&scratch)).map_err(refuse)?;
        // An earlier process may have been killed before it had flushed files that are visible from now on.
        File::open(root).and_then(|root| Ok(rustix::fs::syncfs(root)?)).map_err(refuse)?;
        Ok(lock)
    }
}

impl Inner {
    fn path(&self, key: &Key) -> PathBuf {
        self.root.path().join(key.as_str())
    }

    /// Returns an unused path within this filesystem.
    fn scratch(&self) -> PathBuf {
        let count = self.scratch_count.fetch_add(1, Ordering::Relaxed);
        self.path(&layout::scratch().child(&count.to_string()))
    }

    /// Returns an error if the storage is read-only, or refuses writes after a failed flush.
    fn check_writable(&self) -> Result<(), StorageError> {
        if self.lock.is_none() {
            Err(StorageError::ReadOnly)
        } else if self.refuses_writes.load(Ordering::Relaxed) {
            Err(StorageError::WritesRefused)
        } else {
            Ok(())
        }
    }

    /// Maps the result of a flush, and refuses further writes after a failure. A kernel that failed to write
    /// drops the dirty pages, so that a second flush would succeed and prove nothing.
    fn flush_result(&self, result: Result<(), SyncError>, path: &Path) -> Result<(), StorageError> {
        result.map_err(|failure| match failure {
            SyncError::Refused(source) => failed("open", path, source),
            SyncError::Unflushed(source) => {
                if !is_full(&source) {
                    self.refuse_writes(&source, path);
                }
                failed("flush", path, source)
            }
        })
    }

    fn refuse_writes(&self, error: &io::Error, path: &Path) {
        self.refuses_writes.store(true, Ordering::Relaxed);
        tracing::error!(%error, ?path, "flush failed, writes refused until a restart");
    }

    fn sync_file(&self, file: &File, path: &Path) -> Result<(), StorageError> {
        let synced = pass("file.sync").and_then(|()| file.sync_data());
        self.flush_result(synced.map_err(SyncError::Unflushed), path)
    }

    fn sync_folder(&self, path: &Path) -> Result<(), StorageError> {
        let synced = pass("folder.sync").map_err(SyncError::Unflushed).and_then(|()| folders::sync(path));
        self.flush_result(synced, path)
    }
}

/// Passes a failpoint between two steps.
fn failpoint(name: &'static str, path: &Path) -> Result<(), StorageError> {
    pass(name).map_err(|error| failed("pass", path, error))
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn failed(what: &'static str, path: &Path, source: io::Error) -> StorageError {
    if is_full(&source) {
        return StorageError::Full;
    }
    StorageError::Io { what, key: path.display().to_string(), source }
}

/// Maps the result of an operation on a path. Returns `None` if the path does not exist.
fn if_exists<T>(result: io::Result<T>, what: &'static str, path: &Path) -> Result<Option<T>, StorageError> {
    use io::ErrorKind as Kind;
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.kind(), Kind::NotFound | Kind::NotADirectory) => Ok(None),
        Err(error) => Err(failed(what, path, error)),
    }
}

/// Maps the result of a lookup. Returns `None` if the path does not exist, or is a symbolic link that leads
/// out of the root or in circles.
fn lookup_result<T>(
    result: io::Result<T>,
    what: &'static str,
    path: &Path,
) -> Result<Option<T>, StorageError> {
    use rustix::io::Errno;
    let errno = result.as_ref().err().and_then(Errno::from_io_error);
    match result {
        Err(_) if matches!(errno, Some(Errno::XDEV | Errno::LOOP)) => {
            tracing::warn!(?path, "ignoring symbolic link out of the storage");
            Ok(None)
        }
        result => if_exists(result, what, path),
    }
}

fn meta(stat: &Stat) -> Meta {
    Meta { length: length(stat), modified: modified(stat), tag: tag(stat) }
}

fn tag(stat: &Stat) -> ObjectTag {
    // These values are only compared, so that the sign does not matter.
    let times = [stat.st_mtime, stat.st_ctime].map(i64::cast_unsigned);
    let [modified, changed] = times;
    let attributes = [stat.st_dev, stat.st_ino, modified, stat.st_mtime_nsec, changed, stat.st_ctime_nsec];
    ObjectTag::of_file(length(stat), attributes)
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
        Abilities { is_persistent: true, clears_at_once: true, has_listing_versions: true }
    }

    fn open(&self, key: &Key) -> Result<Option<(Content, ObjectTag)>, StorageError> {
        let Some((file, stat)) = self.file(key)? else { return Ok(None) };
        Ok(Some((Content::of_file(file, length(&stat)), tag(&stat))))
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

    fn exists(&self, key: &Key) -> Result<bool, StorageError> {
        Ok(self.stat(key)?.is_some())
    }

    fn listing_version(&self, folder: &Key) -> Result<ListingVersion, StorageError> {
        let stat = self.stat(folder)?;
        let text = stat.as_ref().map_or_else(
            || "none".into(),
            |stat| format!("{}.{:09} {}", stat.st_mtime, stat.st_mtime_nsec, stat.st_ino),
        );
        Ok(ListingVersion { text, modified: stat.as_ref().map(modified) })
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

    fn uploads(&self) -> &dyn Uploads {
        self
    }
}
