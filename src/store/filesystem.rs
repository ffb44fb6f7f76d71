//! Storage on a filesystem: a completed write survives a power failure.
//!
//! Each write goes to a file of its own, which is flushed and renamed; then its folder is flushed, and the
//! parent of every folder that was created for it. After a failed flush the state of the disk is unknown, so
//! that writes are refused until a restart; reads go on.

mod folders;
mod lists;
mod locking;
mod objects;
mod placing;
mod root;
mod scan;
mod staged_file;
mod uploads;

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, RwLock};
use std::time::Instant;

use rustix::fs::OFlags;

use self::folders::{Folders, SyncError};
use self::objects::meta;
use self::root::RootFolder;
use super::failpoint::pass;
use super::layout::{self, Key};
use super::observed::StorageObserver;
use super::storage::StorageError;

pub use self::locking::{FilesystemKind, Locking};

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
    /// Receiver of the durations of flushes.
    observer: OnceLock<Arc<dyn StorageObserver>>,
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
            observer: OnceLock::new(),
        };
        Ok(Self(Arc::new(inner)))
    }

    /// Reports the duration of each flush to `observer`, for the life of the storage; its calls are measured by
    /// [`ObservedStorage`](crate::ObservedStorage). A second observer is ignored.
    pub fn observe_flushes(&self, observer: Arc<dyn StorageObserver>) {
        let _ = self.0.observer.set(observer);
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
        let synced = self.observe(|| pass("file.sync").and_then(|()| file.sync_data()));
        self.flush_result(synced.map_err(SyncError::Unflushed), path)
    }

    fn sync_folder(&self, path: &Path) -> Result<(), StorageError> {
        let sync = || pass("folder.sync").map_err(SyncError::Unflushed).and_then(|()| folders::sync(path));
        self.flush_result(self.observe(sync), path)
    }

    /// Flushes, and reports the duration.
    fn observe<T>(&self, flush: impl FnOnce() -> T) -> T {
        let Some(observer) = self.observer.get() else { return flush() };
        let begun = Instant::now();
        let flushed = flush();
        observer.flushed(begun.elapsed());
        flushed
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
