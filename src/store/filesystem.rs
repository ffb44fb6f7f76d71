//! Storage on a filesystem, durable: what was written is there after a power failure.
//!
//! Each write goes to a file of its own, which is flushed, renamed, and its folder flushed; so is the folder of every
//! folder that was made for it. Where flushing fails nobody knows what was lost, so nothing is written any more until
//! somebody has looked; reading goes on.

mod folders;
mod lists;
mod placing;
mod root;
mod staged_file;

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use quinistry_oci::Content;
use rustix::fs::{FileType, OFlags, Stat};

use self::folders::{Failure, Folders};
use self::placing::dispose;
use self::root::Root;
use self::staged_file::Gathered;
use super::failpoint::pass;
use super::layout::{self, Key};
use super::storage::{Entry, Identity, Staged, Storage, StorageError};

/// Keeps everything under a folder.
#[derive(Clone, Debug)]
pub struct Filesystem(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    root: Root,
    folders: Folders,
    /// Flushing has failed.
    stopped: AtomicBool,
    /// Of what is being written.
    count: AtomicU64,
    /// Held as long as this lives; none for a reader.
    lock: Option<File>,
}

/// What the folder is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// To read and to write: nobody else of this program may be there.
    Write,
    /// To read: nothing is changed, not even to find out whether that would be possible.
    Read,
}

/// A folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process of this program works there.
    #[error("{} is in use by another quinistry; stop it first", .0.display())]
    InUse(PathBuf),
    /// It is not there, or not a folder, or may not be read or written.
    #[error("cannot use {} as storage", path.display())]
    Io {
        /// The folder, or what is in it.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

// === impl Filesystem ===

impl Filesystem {
    /// Opens a folder, which need not exist if it shall be written.
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
        // It may be new itself; where its own folder may not be opened it is not ours to have made.
        if let (Access::Write, Some(above)) = (access, root.parent())
            && let Err(Failure::Unflushed(error)) = folders::sync(above)
        {
            return Err(refuse(above)(error));
        }
        let lock = match access {
            Access::Read => None,
            Access::Write => Some(Self::prepare(&root)?),
        };
        let folders = Folders::new(root.clone());
        let path = root.clone();
        let root = Root::new(root).map_err(refuse(&path))?;
        let inner = Inner { root, folders, stopped: AtomicBool::new(false), count: AtomicU64::new(0), lock };
        Ok(Self(Arc::new(inner)))
    }

    /// Takes the lock, and removes what a process that was killed was about to write.
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
        // Whoever was here before may have been killed before it had flushed what is seen here from now on.
        File::open(root).and_then(|root| Ok(rustix::fs::syncfs(root)?)).map_err(refuse)?;
        Ok(lock)
    }
}

impl Inner {
    fn path(&self, key: &Key) -> PathBuf {
        self.root.path().join(key.as_str())
    }

    /// A path that nobody else uses, within the same filesystem.
    fn scratch(&self) -> PathBuf {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        self.path(&layout::scratch().child(&count.to_string()))
    }

    /// Refuses to write after a failure to flush.
    fn writable(&self) -> Result<(), StorageError> {
        if self.lock.is_none() {
            Err(StorageError::ReadOnly)
        } else if self.stopped.load(Ordering::Relaxed) {
            Err(StorageError::Stopped)
        } else {
            Ok(())
        }
    }

    /// What came of flushing. A kernel that failed to write forgets what it failed to write, so trying again would
    /// succeed and prove nothing.
    fn flushed(&self, result: Result<(), Failure>, path: &Path) -> Result<(), StorageError> {
        result.map_err(|failure| match failure {
            Failure::Refused(source) => failed("open", path, source),
            Failure::Unflushed(source) => {
                if !is_full(&source) {
                    self.stopped.store(true, Ordering::Relaxed);
                    tracing::error!(error = %source, ?path, "cannot make a write durable; nothing is written any more");
                }
                failed("flush", path, source)
            }
        })
    }

    fn sync_file(&self, file: &File, path: &Path) -> Result<(), StorageError> {
        let synced = pass("file.sync").and_then(|()| file.sync_data());
        self.flushed(synced.map_err(Failure::Unflushed), path)
    }

    fn sync_folder(&self, path: &Path) -> Result<(), StorageError> {
        let synced = pass("folder.sync").map_err(Failure::Unflushed).and_then(|()| folders::sync(path));
        self.flushed(synced, path)
    }
}

/// A point between two steps.
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

/// Nothing, if there is nothing.
fn there<T>(result: io::Result<T>, what: &'static str, path: &Path) -> Result<Option<T>, StorageError> {
    use io::ErrorKind as Kind;
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.kind(), Kind::NotFound | Kind::NotADirectory) => Ok(None),
        Err(error) => Err(failed(what, path, error)),
    }
}

/// Maps the result of a lookup. Returns `None` if the path does not exist, or is a symbolic link that leads
/// out of the root or in circles.
fn looked_up<T>(result: io::Result<T>, what: &'static str, path: &Path) -> Result<Option<T>, StorageError> {
    use rustix::io::Errno;
    let errno = result.as_ref().err().and_then(Errno::from_io_error);
    match result {
        Err(_) if matches!(errno, Some(Errno::XDEV | Errno::LOOP)) => {
            tracing::warn!(?path, "ignoring a symbolic link that leads out of the storage");
            Ok(None)
        }
        result => there(result, what, path),
    }
}

fn identity(stat: &Stat) -> Identity {
    let length = u64::try_from(stat.st_size).unwrap_or_default();
    // Bits that are compared, and not counted with.
    let times = [stat.st_mtime, stat.st_ctime].map(i64::cast_unsigned);
    let [modified, changed] = times;
    let file = [stat.st_dev, stat.st_ino, modified, stat.st_mtime_nsec, changed, stat.st_ctime_nsec];
    Identity::of_file(length, file)
}

impl Filesystem {
    fn stat(&self, key: &Key) -> Result<Option<Stat>, StorageError> {
        looked_up(self.0.root.stat(key.as_str()), "look at", &self.0.path(key))
    }

    fn file(&self, key: &Key) -> Result<Option<(File, Stat)>, StorageError> {
        Ok(looked_up(self.0.root.file(key.as_str()), "open", &self.0.path(key))?.flatten())
    }
}

impl Storage for Filesystem {
    fn open(&self, key: &Key) -> Result<Option<(Content, Identity)>, StorageError> {
        let Some((file, stat)) = self.file(key)? else { return Ok(None) };
        let identity = identity(&stat);
        Ok(Some((Content::of_file(file, identity.length()), identity)))
    }

    fn read(&self, key: &Key, most: u64) -> Result<Option<Bytes>, StorageError> {
        let Some((file, stat)) = self.file(key)? else { return Ok(None) };
        let length = u64::try_from(stat.st_size).unwrap_or_default();
        if length > most {
            return Err(StorageError::TooLong { key: key.clone(), length });
        }
        let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default() + 1);
        let read = file.take(most.saturating_add(1)).read_to_end(&mut bytes);
        read.map_err(|error| failed("read", &self.0.path(key), error))?;
        if bytes.len() as u64 > most {
            return Err(StorageError::TooLong { key: key.clone(), length: bytes.len() as u64 });
        }
        Ok(Some(bytes.into()))
    }

    fn identity(&self, key: &Key) -> Result<Option<Identity>, StorageError> {
        let stat = self.stat(key)?;
        let file = stat.filter(|stat| FileType::from_raw_mode(stat.st_mode).is_file());
        Ok(file.map(|stat| identity(&stat)))
    }

    fn write(&self, entries: &[Entry<'_>]) -> Result<(), StorageError> {
        let mut written = Gathered::of(self, entries)?;
        Gathered::place(written.iter_mut().map(|(one, to)| (one, std::mem::take(to))).collect(), &self.0)
    }

    fn write_lazily(&self, key: &Key, bytes: &[u8]) -> Result<(), StorageError> {
        self.0.writable()?;
        let (path, scratch) = (self.0.path(key), self.0.scratch());
        let folder = path.parent().expect("a key has a folder");
        self.0.make(folder)?;
        pass("lazily")
            .and_then(|()| fs::write(&scratch, bytes))
            .and_then(|()| fs::create_dir_all(folder))
            .and_then(|()| fs::rename(&scratch, &path))
            .map_err(|error| {
                // If this fails as well, the next start removes it.
                let _ = fs::remove_file(&scratch);
                failed("write", &path, error)
            })
    }

    fn remove(&self, key: &Key) -> Result<bool, StorageError> {
        let path = self.0.path(key);
        let folder = path.parent().expect("a key has a folder");
        let owed = self.0.folders.owe(&Folders::changed(folder));
        let scratch = match self.0.out_of_sight(&path) {
            Ok(Some(scratch)) => scratch,
            nothing => {
                self.0.folders.paid(owed);
                // An earlier removal may not have been flushed.
                return nothing.and_then(|_| self.settle(std::slice::from_ref(key))).map(|()| false);
            }
        };
        let flushed = failpoint("removed", &path).and_then(|()| self.0.sync_folder(folder));
        let flushed = self.0.settled(owed, flushed);
        dispose(&scratch);
        flushed.map(|()| true)
    }

    fn remove_lazily(&self, key: &Key) -> Result<bool, StorageError> {
        let Some(scratch) = self.0.out_of_sight(&self.0.path(key))? else { return Ok(false) };
        dispose(&scratch);
        Ok(true)
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

    fn stamp(&self, key: &Key) -> Result<String, StorageError> {
        Ok(self.stat(key)?.map_or_else(
            || "none".into(),
            |stat| format!("{}.{:09} {}", stat.st_mtime, stat.st_mtime_nsec, stat.st_ino),
        ))
    }

    fn modified(&self, key: &Key) -> Result<Option<SystemTime>, StorageError> {
        Ok(self.stat(key)?.map(|stat| {
            let since = |seconds: u64| Duration::from_secs(seconds);
            let base = match u64::try_from(stat.st_mtime) {
                Ok(seconds) => SystemTime::UNIX_EPOCH + since(seconds),
                Err(_) => SystemTime::UNIX_EPOCH - since(stat.st_mtime.unsigned_abs()),
            };
            base + Duration::from_nanos(stat.st_mtime_nsec)
        }))
    }

    fn settle(&self, keys: &[Key]) -> Result<(), StorageError> {
        self.0.writable()?;
        let mut owed = BTreeSet::new();
        for key in keys {
            self.0.folders.owed_above(&self.0.path(key), &mut owed);
        }
        self.0.folders.settle(&owed, |folder| self.0.sync_folder(folder))
    }

    fn flush_all(&self) -> Result<(), StorageError> {
        self.0.writable()?;
        let path = self.0.root.path();
        let flushed =
            pass("flush").and_then(|()| File::open(path)).and_then(|root| Ok(rustix::fs::syncfs(root)?));
        flushed.map_err(|error| failed("flush", path, error))
    }

    fn stage(&self, key: Option<&Key>) -> Result<Box<dyn Staged>, StorageError> {
        self.0.writable()?;
        let path = key.map_or_else(|| self.0.scratch(), |key| self.0.path(key));
        let length = match key {
            Some(key) => self.identity(key)?.map_or(0, |identity| identity.length()),
            None => 0,
        };
        Ok(Box::new(Gathered::new(self, path, length, key.is_some())))
    }
}
