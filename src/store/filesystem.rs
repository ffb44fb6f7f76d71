//! Storage on a filesystem, durable: what was written is there after a power failure.
//!
//! Each write goes to a file of its own, which is flushed, renamed, and its folder flushed; so is the folder of every
//! folder that was made for it. Where flushing fails nobody knows what was lost, so nothing is written any more until
//! somebody has looked; reading goes on.

mod folders;

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::SystemTime;

use bytes::Bytes;

use self::folders::{Failure, Folders};
use super::failpoint::pass;
use super::layout::{self, Key};
use super::storage::{Staged, Storage, StorageError};
use crate::segments::Segments;

/// How often a write begins anew since the folder that it is for was removed meanwhile.
const ATTEMPTS: u32 = 5;

/// Keeps everything under a folder.
#[derive(Clone, Debug)]
pub struct Filesystem(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    root: PathBuf,
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
        let inner = Inner { root, folders, stopped: AtomicBool::new(false), count: AtomicU64::new(0), lock };
        Ok(Self(Arc::new(inner)))
    }

    /// Takes the lock, and removes what a process that was killed was about to write.
    fn prepare(root: &Path) -> Result<File, OpenError> {
        let scratch = root.join(layout::scratch().as_str());
        let path = root.join(layout::lock().as_str());
        let refuse = |source| OpenError::Io { path: path.clone(), source };
        fs::create_dir_all(&scratch).map_err(refuse)?;
        let lock = OpenOptions::new().write(true).create(true).truncate(false).open(&path).map_err(refuse)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => OpenError::InUse(root.into()),
            TryLockError::Error(error) => refuse(error),
        })?;
        fs::remove_dir_all(&scratch).and_then(|()| fs::create_dir(&scratch)).map_err(refuse)?;
        Ok(lock)
    }
}

impl Inner {
    fn path(&self, key: &Key) -> PathBuf {
        self.root.join(key.as_str())
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

    /// Makes a change to a folder durable. Where somebody has removed the folder since, the change went with it, and
    /// whoever did so makes that durable.
    fn sync_changed(&self, folder: &Path) -> Result<(), StorageError> {
        match self.sync_folder(folder) {
            Err(StorageError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
            synced => synced,
        }
    }

    /// Moves what is to be removed away, at once, however much it consists of; where to, if there is anything.
    fn out_of_sight(&self, path: &Path) -> Result<Option<PathBuf>, StorageError> {
        self.writable()?;
        let scratch = self.scratch();
        let moved = pass("remove").and_then(|()| fs::rename(path, &scratch));
        let moved = there(moved, "remove", path)?;
        self.folders.forget(path);
        Ok(moved.map(|()| scratch))
    }

    /// Renames `from`, which is durable by itself, to `to`, in place of what is there.
    fn place(&self, from: &Path, to: &Path) -> Result<(), StorageError> {
        let folder = to.parent().expect("a key has a folder");
        let mut attempt = 1;
        loop {
            let made = self.folders.make(folder);
            let placed = match made {
                Ok(()) => pass("rename").and_then(|()| fs::rename(from, to)),
                Err(Failure::Refused(error)) => Err(error),
                Err(failure) => return self.flushed(Err(failure), folder),
            };
            match placed {
                // Somebody removed the folder since it was made.
                Err(error) if error.kind() == io::ErrorKind::NotFound && attempt < ATTEMPTS => {
                    self.folders.forget(folder);
                    attempt += 1;
                }
                Err(error) => return Err(failed("move into place", to, error)),
                Ok(()) => break,
            }
        }
        failpoint("renamed", to)?;
        self.sync_changed(folder)
    }
}

/// Removes what nobody sees any more.
fn dispose(path: &Path) {
    let gone = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    if let Err(error) = gone {
        tracing::warn!(%error, ?path, "what was removed still takes room, until the next start");
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

impl Storage for Filesystem {
    fn open(&self, key: &Key) -> Result<Option<Segments>, StorageError> {
        let path = self.0.path(key);
        let Some(file) = there(File::open(&path), "open", &path)? else { return Ok(None) };
        let meta = file.metadata().map_err(|error| failed("look at", &path, error))?;
        Ok(meta.is_file().then(|| Segments::of_file(file, meta.len())))
    }

    fn read(&self, key: &Key, most: u64) -> Result<Option<Bytes>, StorageError> {
        let path = self.0.path(key);
        let Some(file) = there(File::open(&path), "open", &path)? else { return Ok(None) };
        let unreadable = |error| failed("read", &path, error);
        let meta = file.metadata().map_err(unreadable)?;
        if !meta.is_file() {
            return Ok(None);
        }
        let mut bytes = Vec::with_capacity(usize::try_from(meta.len().min(most)).unwrap_or_default() + 1);
        file.take(most.saturating_add(1)).read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() as u64 > most {
            return Err(StorageError::TooLong { key: key.clone(), length: meta.len() });
        }
        Ok(Some(bytes.into()))
    }

    fn length(&self, key: &Key) -> Result<Option<u64>, StorageError> {
        let path = self.0.path(key);
        let meta = there(fs::metadata(&path), "look at", &path)?;
        Ok(meta.filter(fs::Metadata::is_file).map(|meta| meta.len()))
    }

    fn write(&self, key: &Key, bytes: &[u8]) -> Result<(), StorageError> {
        let mut staged = self.stage(None)?;
        staged.append(bytes)?;
        staged.publish(key)
    }

    fn write_lazily(&self, key: &Key, bytes: &[u8]) -> Result<(), StorageError> {
        self.0.writable()?;
        let (path, scratch) = (self.0.path(key), self.0.scratch());
        let folder = path.parent().expect("a key has a folder");
        fs::write(&scratch, bytes)
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
        let Some(scratch) = self.0.out_of_sight(&path)? else { return Ok(false) };
        failpoint("removed", &path)?;
        self.0.sync_changed(path.parent().expect("a key has a folder"))?;
        dispose(&scratch);
        Ok(true)
    }

    fn remove_lazily(&self, key: &Key) -> Result<bool, StorageError> {
        let Some(scratch) = self.0.out_of_sight(&self.0.path(key))? else { return Ok(false) };
        dispose(&scratch);
        Ok(true)
    }

    fn list(&self, key: &Key) -> Result<Option<Vec<String>>, StorageError> {
        let path = self.0.path(key);
        let Some(entries) = there(fs::read_dir(&path), "list", &path)? else { return Ok(None) };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| failed("list", &path, error))?;
            // What is no text is none of ours, nor of distribution's.
            names.extend(entry.file_name().into_string().ok());
        }
        names.sort_unstable();
        Ok(Some(names))
    }

    fn exists(&self, key: &Key) -> Result<bool, StorageError> {
        let path = self.0.path(key);
        Ok(there(fs::metadata(&path), "look at", &path)?.is_some())
    }

    fn stamp(&self, key: &Key) -> Result<String, StorageError> {
        let path = self.0.path(key);
        let meta = there(fs::metadata(&path), "look at", &path)?;
        Ok(meta.map_or_else(
            || "none".into(),
            |meta| format!("{}.{:09} {}", meta.mtime(), meta.mtime_nsec(), meta.ino()),
        ))
    }

    fn modified(&self, key: &Key) -> Result<Option<SystemTime>, StorageError> {
        let path = self.0.path(key);
        let modified = fs::metadata(&path).and_then(|meta| meta.modified());
        there(modified, "look at", &path)
    }

    fn stop(&self) {
        self.0.stopped.store(true, Ordering::Relaxed);
        tracing::error!("nothing is written any more; restart");
    }

    fn stage(&self, key: Option<&Key>) -> Result<Box<dyn Staged>, StorageError> {
        self.0.writable()?;
        let path = key.map_or_else(|| self.0.scratch(), |key| self.0.path(key));
        let length = match key {
            Some(_) => there(fs::metadata(&path), "look at", &path)?.map_or(0, |meta| meta.len()),
            None => 0,
        };
        let (storage, keep) = (self.clone(), key.is_some());
        Ok(Box::new(Gathered { storage, file: None, path, length, synced: 0, keep, over: false }))
    }
}

/// Bytes in a file.
#[derive(Debug)]
struct Gathered {
    storage: Filesystem,
    /// Open while somebody is at it: there may be thousands that nobody is at.
    file: Option<File>,
    path: PathBuf,
    length: u64,
    /// How much of it is known to be durable.
    synced: u64,
    /// It stays when this is dropped.
    keep: bool,
    /// It could not be flushed or cut back, so that nobody knows what is in it; or it lies elsewhere now.
    over: bool,
}

impl Gathered {
    fn usable(&self) -> Result<(), StorageError> {
        self.storage.0.writable()?;
        if self.over { Err(StorageError::Broken) } else { Ok(()) }
    }

    fn file(&mut self) -> Result<&File, StorageError> {
        if let Some(ref file) = self.file {
            return Ok(file);
        }
        let opened = pass("stage").and_then(|()| {
            if let Some(folder) = self.path.parent().filter(|_| self.keep) {
                fs::create_dir_all(folder)?;
            }
            OpenOptions::new().read(true).append(true).create(true).open(&self.path)
        });
        Ok(self.file.insert(opened.map_err(|error| failed("create", &self.path, error))?))
    }
}

impl Staged for Gathered {
    fn len(&self) -> u64 {
        self.length
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        self.usable()?;
        let length = self.length;
        let mut file = self.file()?;
        if let Err(error) = pass("append").and_then(|()| file.write_all(bytes)) {
            // All or nothing: what is there of it goes again.
            let cut = file.set_len(length);
            self.over = cut.is_err();
            return Err(failed("write", &self.path, error));
        }
        self.length += bytes.len() as u64;
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        self.usable()?;
        if self.synced < self.length {
            self.file()?;
            // Its name counts as well, if somebody is to find it by that.
            let folder = self.path.parent().filter(|_| self.keep && self.synced == 0).map(Path::to_path_buf);
            let named = folder.map_or(Ok(()), |folder| {
                self.storage.0.flushed(self.storage.0.folders.make(&folder), &folder)?;
                self.storage.0.sync_folder(&folder)
            });
            let synced = named.and_then(|()| match &self.file {
                Some(file) => self.storage.0.sync_file(file, &self.path),
                None => Ok(()),
            });
            // Trying again would succeed and prove nothing.
            self.over = synced.is_err();
            synced?;
            self.synced = self.length;
        }
        Ok(())
    }

    fn rest(&mut self) {
        self.file = None;
    }

    fn content(&self) -> Result<Segments, StorageError> {
        let opened = match &self.file {
            Some(file) => file.try_clone(),
            None if self.length == 0 => return Ok(Segments::default()),
            None => File::open(&self.path),
        };
        let file = opened.map_err(|error| failed("read", &self.path, error))?;
        Ok(Segments::of_file(file, self.length))
    }

    fn publish(&mut self, key: &Key) -> Result<(), StorageError> {
        self.usable()?;
        // Nothing at all is a file, too.
        self.file()?;
        if self.keep {
            // Its own name is of no more use.
            let file = self.file()?.try_clone().map_err(|error| failed("write", &self.path, error))?;
            let synced = self.storage.0.sync_file(&file, &self.path);
            self.over = synced.is_err();
            synced?;
            self.synced = self.length;
        } else {
            self.sync()?;
        }
        failpoint("synced", &self.path)?;
        let target = self.storage.0.path(key);
        let placed = self.storage.0.place(&self.path, &target);
        // Whether it was moved or not cannot always be told, and what was moved must not be added to.
        self.over = placed.is_ok() || !self.path.exists();
        if self.over {
            self.file = None;
            self.keep = true;
        }
        placed
    }
}

impl Drop for Gathered {
    fn drop(&mut self) {
        if !self.keep && self.file.is_some() {
            // If this fails, the next start removes it.
            let _ = fs::remove_file(&self.path);
        }
    }
}
