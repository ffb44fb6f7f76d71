//! Files of users and keys: bounded reading, and rewriting that is durable and atomic.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

/// Attempts to find a name for a temporary file that no other process uses.
const MAX_NAMES: u32 = 100;

/// Permission to write for all users.
pub const WRITABLE_BY_ALL: u32 = 0o002;

/// Permission to read for all users.
pub const READABLE_BY_ALL: u32 = 0o004;

/// Content of a file, with its permission bits.
#[derive(Debug)]
pub struct ReadFile {
    /// Content.
    pub bytes: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
}

/// Changes of one file: other programs that lock the folder wait until this value is dropped.
#[derive(Debug)]
pub struct Rewrite {
    /// Path behind symbolic links: a link stays a link.
    path: PathBuf,
    folder: File,
}

/// Reads a regular file of at most `limit` bytes. Pipes and devices, which may never end, are refused.
/// Blocks.
pub fn read(path: &Path, limit: usize) -> io::Result<ReadFile> {
    // A pipe would block as soon as it is opened.
    let is_file = |metadata: &fs::Metadata| {
        if metadata.is_file() { Ok(()) } else { Err(io::Error::other("is not a regular file")) }
    };
    is_file(&path.metadata()?)?;
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    is_file(&metadata)?;
    let mut bytes = Vec::new();
    file.take(limit as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("is longer than {limit} bytes")));
    }
    Ok(ReadFile { bytes, mode: metadata.mode() & 0o7777 })
}

// === impl Rewrite ===

impl Rewrite {
    /// Begins to change a file, which need not exist. Waits for other processes that change files in the
    /// folder.
    pub fn begin(path: &Path) -> io::Result<Self> {
        let path = match path.canonicalize() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
            path => path?,
        };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = File::open(folder.unwrap_or(Path::new(".")))?;
        // Some network file systems cannot lock a folder; two changes at once are rare.
        let _ = folder.lock();
        Ok(Self { path, folder })
    }

    /// Reads the file of now; `None` if there is none.
    pub fn read(&self, limit: usize) -> io::Result<Option<ReadFile>> {
        match read(&self.path, limit) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            read => read.map(Some),
        }
    }

    /// Replaces the file as a whole, keeping its mode and its owner. A new file has mode 0600.
    pub fn write(self, bytes: &[u8]) -> io::Result<()> {
        let (temporary, mut file) = self.temporary_file()?;
        let written = self.fill(&mut file, bytes).and_then(|()| fs::rename(&temporary, &self.path));
        if let Err(error) = written {
            let _ = fs::remove_file(&temporary);
            return Err(explained(error));
        }
        self.folder.sync_all()
    }

    fn fill(&self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        if let Ok(former) = self.path.metadata() {
            let own = file.metadata()?;
            if (own.uid(), own.gid()) != (former.uid(), former.gid()) {
                fchown(&*file, Some(former.uid()), Some(former.gid()))?;
            }
            file.set_permissions(Permissions::from_mode(former.mode() & 0o7777))?;
        }
        file.write_all(bytes)?;
        file.sync_all()
    }

    /// Creates an empty file beside the file, with mode 0600.
    fn temporary_file(&self) -> io::Result<(PathBuf, File)> {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        for number in 0..MAX_NAMES {
            let path = self.path.with_file_name(format!(".{name}.{}.{number}", std::process::id()));
            match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                opened => return Ok((path, opened?)),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }
}

/// Adds the remedy to an error that a file that is mounted by itself causes.
fn explained(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::ResourceBusy {
        let message = format!("{error}; the file is a mount point: change it where it is mounted from");
        return io::Error::new(error.kind(), message);
    }
    error
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn write(path: &Path, text: &str) {
        Rewrite::begin(path).unwrap().write(text.as_bytes()).unwrap();
    }

    #[test]
    fn a_rewritten_file_keeps_its_mode_and_leaves_no_other_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("htpasswd");
        write(&path, "new");
        assert_eq!(read(&path, 10).unwrap().mode, 0o600);
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        write(&path, "changed");
        let now = read(&path, 10).unwrap();
        assert_eq!((now.mode, now.bytes.as_slice()), (0o640, b"changed".as_slice()));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_symbolic_link_stays_and_its_file_changes() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::write(&path, "old").unwrap();
        symlink(&path, &link).unwrap();
        write(&link, "new");
        assert!(link.symlink_metadata().unwrap().is_symlink());
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn the_owner_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("htpasswd");
        fs::write(&path, "old").unwrap();
        if std::os::unix::fs::chown(&path, Some(4711), Some(4712)).is_err() {
            println!("skipped: only uid 0 can give files away");
            return;
        }
        write(&path, "new");
        let metadata = path.metadata().unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (4711, 4712));
    }

    #[test]
    fn folders_devices_and_long_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(read(folder.path(), 10).is_err());
        assert!(read(Path::new("/dev/zero"), 10).is_err());
        let path = folder.path().join("long");
        fs::write(&path, "12345").unwrap();
        assert_eq!(read(&path, 4).unwrap_err().to_string(), "is longer than 4 bytes");
        assert_eq!(read(&path, 5).unwrap().bytes, b"12345");
    }

    #[test]
    fn changes_wait_for_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("count");
        fs::write(&path, "0").unwrap();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let rewrite = Rewrite::begin(&path).unwrap();
                    let bytes = rewrite.read(10).unwrap().unwrap().bytes;
                    let count: u32 = String::from_utf8(bytes).unwrap().parse().unwrap();
                    rewrite.write((count + 1).to_string().as_bytes()).unwrap();
                });
            }
        });
        assert_eq!(fs::read(&path).unwrap(), b"8");
    }
}
