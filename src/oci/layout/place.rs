//! Files and folders that are written beside their destination, and moved into it at the end.
//!
//! Files and folders only; their content belongs to `layout::write`.

use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::{NamedTempFile, TempDir};

use super::{INDEX, LayoutError, MARKER};

/// Destination of an archive's bytes.
#[derive(Debug)]
pub(super) enum Out {
    /// A regular file to be, and its destination.
    File(NamedTempFile, PathBuf),
    /// A pipe or a device, which cannot be taken back.
    Stream(File),
}

/// A file that several writers fill, each its own part.
#[derive(Clone, Debug)]
pub(super) struct Handle {
    file: Arc<File>,
    /// Offsets count for nothing: the writer alone knows the order.
    pub(super) is_stream: bool,
}

/// A folder whose files are not yet in their place.
#[derive(Debug)]
pub(super) struct Staging {
    /// Beside the destination if that does not exist yet, in it if it does: a mount point cannot be replaced.
    folder: TempDir,
    pub(super) destination: PathBuf,
    /// The destination existed before.
    pub(super) exists: bool,
}

// === impl Out ===

impl Out {
    /// Standard output, around the buffer of `std::io::Stdout`, which flushes at every line feed in the
    /// image.
    pub(super) fn stdout() -> io::Result<Self> {
        Ok(Self::Stream(io::stdout().as_fd().try_clone_to_owned()?.into()))
    }

    /// Opens a file beside `path`, or `path` itself if that is no regular file.
    pub(super) fn open(path: &Path) -> Result<Self, LayoutError> {
        let path = match fs::metadata(path) {
            Ok(meta) if meta.is_dir() => return Err(LayoutError::IsFolder(path.into())),
            // The file that a link points at is meant, not the link.
            Ok(meta) if meta.is_file() => fs::canonicalize(path).map_err(LayoutError::write(path))?,
            // A pipe or /dev/null: renaming a file over it would destroy it.
            Ok(_) => {
                let file = File::options().write(true).open(path).map_err(LayoutError::write(path))?;
                return Ok(Self::Stream(file));
            }
            Err(_) => path.to_owned(),
        };
        let file = tempfile::Builder::new()
            .prefix(".quinistry-")
            // As any new file: the umask decides.
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(parent(&path))
            .map_err(LayoutError::write(&path))?;
        Ok(Self::File(file, path))
    }

    /// Checks that a file can be written: `path` is not a folder, and its folder takes files. Opens no pipe, which has no
    /// reader yet.
    pub(super) fn check(path: &Path) -> Result<(), LayoutError> {
        match fs::metadata(path) {
            Ok(meta) if !meta.is_dir() && !meta.is_file() => Ok(()),
            _ => Self::open(path).map(drop),
        }
    }

    /// Opens another handle of the same file.
    pub(super) fn handle(&self) -> io::Result<Handle> {
        Ok(match self {
            Self::File(file, _) => Handle { file: Arc::new(file.as_file().try_clone()?), is_stream: false },
            Self::Stream(file) => Handle { file: Arc::new(file.try_clone()?), is_stream: true },
        })
    }

    /// Puts the file in its place.
    pub(super) fn finish(self) -> io::Result<()> {
        match self {
            Self::Stream(_) => Ok(()),
            Self::File(file, path) => {
                file.as_file().sync_all()?;
                file.persist(&path).map_err(|error| error.error)?;
                sync_folder(parent(&path))
            }
        }
    }
}

// === impl Handle ===

impl Handle {
    /// Writes all of `bytes` at `offset`; in a stream, after what was written last.
    pub(super) fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if self.is_stream { (&*self.file).write_all(bytes) } else { self.file.write_all_at(bytes, offset) }
    }
}

// === impl Staging ===

impl Staging {
    /// Opens a folder beside `path`, or in it if it is there and is empty or a layout.
    pub(super) fn open(path: &Path) -> Result<Self, LayoutError> {
        let exists = match fs::metadata(path) {
            Ok(meta) if !meta.is_dir() => return Err(LayoutError::IsFile(path.into())),
            Ok(_) => {
                let mut entries = fs::read_dir(path).map_err(LayoutError::read(path))?;
                let marked = fs::symlink_metadata(path.join(MARKER)).is_ok_and(|meta| meta.is_file());
                if !marked && entries.next().is_some() {
                    return Err(LayoutError::Occupied(path.into()));
                }
                true
            }
            Err(_) => false,
        };
        let folder = tempfile::Builder::new()
            .prefix(".quinistry-")
            .permissions(Permissions::from_mode(0o777))
            .tempdir_in(if exists { path } else { parent(path) })
            .map_err(LayoutError::write(path))?;
        Ok(Self { folder, destination: path.into(), exists })
    }

    /// Creates a file, and the folders that its name has.
    pub(super) fn create_file(&self, name: &str) -> io::Result<File> {
        let path = self.folder.path().join(name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        File::create(path)
    }

    /// Puts everything in its place.
    pub(super) fn finish(self) -> io::Result<()> {
        let staged = self.folder.path();
        if !self.exists {
            for folder in folders(staged)? {
                sync_folder(&folder)?;
            }
            fs::rename(staged, &self.destination)?;
            // Nothing is there any more under the temporary name.
            let _ = self.folder.keep();
            return sync_folder(parent(&self.destination));
        }
        // Blobs first, the list last: a process that is killed in between leaves a valid layout with spare
        // blobs.
        for folder in folders(staged)? {
            let there = self.destination.join(folder.strip_prefix(staged).expect("found below it"));
            if folder == staged {
                continue;
            }
            fs::create_dir_all(&there)?;
            for file in fs::read_dir(&folder)? {
                let file = file?;
                if file.file_type()?.is_file() {
                    fs::rename(file.path(), there.join(file.file_name()))?;
                }
            }
            sync_folder(&there)?;
        }
        for file in [MARKER, INDEX] {
            fs::rename(staged.join(file), self.destination.join(file))?;
        }
        sync_folder(&self.destination)
    }
}

/// A folder and all folders below it, parents first.
fn folders(top: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = vec![top.to_owned()];
    let mut next = 0;
    while next < found.len() {
        for entry in fs::read_dir(&found[next])? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                found.push(entry.path());
            }
        }
        next += 1;
    }
    Ok(found)
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
