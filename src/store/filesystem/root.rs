//! Lookups under the root of a storage: never outside of it, and never waiting for a writer.
//!
//! A volume may hold files that another program or a user has put there. A symbolic link that leads out of
//! the root is as good as absent (`openat2(2)`, `RESOLVE_BENEATH`), and a FIFO, socket or device is opened
//! without waiting and is no content. Kernels before 5.6 and some sandboxes have no `openat2`: there the
//! resolved path is compared with the root first, which cannot see a link that is put in place between the
//! two steps.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat, fstat, open, openat2};
use rustix::io::Errno;

use crate::failpoint::pass;

/// Attempts at a path in which folders are moved while it is resolved (`EAGAIN`).
const MAX_RESOLVE_ATTEMPTS: u32 = 32;

/// The root folder of a storage.
#[derive(Debug)]
pub(super) struct RootFolder {
    path: PathBuf,
    folder: OwnedFd,
    /// The kernel keeps look-ups beneath the folder.
    is_guarded: bool,
}

impl RootFolder {
    /// Opens the folder at `path`, which is canonical.
    pub(super) fn new(path: PathBuf) -> io::Result<Self> {
        let folder = open(&path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let is_guarded = beneath(&folder, ".", OFlags::PATH | OFlags::CLOEXEC).is_ok();
        Ok(Self { path, folder, is_guarded })
    }

    /// Returns the root's own path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a regular file for reading, with its attributes; `None` if the path is not a regular file.
    pub(super) fn file(&self, key: &str) -> io::Result<Option<(File, Stat)>> {
        pass("open")?;
        let file = match self.at(key, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY) {
            // A socket, or a device that has no driver.
            Err(error) if error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) => return Ok(None),
            opened => opened?,
        };
        let stat = fstat(&file)?;
        Ok(FileType::from_raw_mode(stat.st_mode).is_file().then(|| (file.into(), stat)))
    }

    /// Returns the attributes of the file or folder under a key.
    pub(super) fn stat(&self, key: &str) -> io::Result<Stat> {
        pass("look")?;
        Ok(fstat(self.at(key, OFlags::PATH)?)?)
    }

    /// Opens a folder for listing.
    pub(super) fn folder(&self, key: &str) -> io::Result<OwnedFd> {
        pass("list")?;
        self.at(key, OFlags::RDONLY | OFlags::DIRECTORY)
    }

    /// Returns an error if a symbolic link leads out of the root on the way to a folder.
    pub(super) fn check_contains(&self, folder: &Path) -> io::Result<()> {
        let relative = folder.strip_prefix(&self.path).map_err(io::Error::other)?;
        let relative = relative.to_str().ok_or(io::ErrorKind::InvalidFilename)?;
        self.at(if relative.is_empty() { "." } else { relative }, OFlags::PATH | OFlags::DIRECTORY).map(drop)
    }

    fn at(&self, key: &str, flags: OFlags) -> io::Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC;
        if !self.is_guarded {
            let path = self.path.join(key).canonicalize()?;
            if !path.starts_with(&self.path) {
                return Err(Errno::XDEV.into());
            }
            return Ok(open(&path, flags | OFlags::NOFOLLOW, Mode::empty())?);
        }
        let mut attempt = 1;
        loop {
            match beneath(&self.folder, key, flags) {
                Err(Errno::AGAIN) if attempt < MAX_RESOLVE_ATTEMPTS => attempt += 1,
                Err(Errno::INTR) => {}
                opened => return Ok(opened?),
            }
        }
    }
}

fn beneath(folder: &OwnedFd, key: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    openat2(folder, key, flags, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    /// Returns one root twice, with the kernel's guard and without.
    fn roots(path: &Path) -> [RootFolder; 2] {
        let unguarded = RootFolder { is_guarded: false, ..RootFolder::new(path.into()).unwrap() };
        [RootFolder::new(path.into()).unwrap(), unguarded]
    }

    #[test]
    fn links_lead_to_what_lies_in_the_root_and_nowhere_else() {
        let (outside, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = root.path().canonicalize().unwrap();
        fs::write(outside.path().join("file"), "secret").unwrap();
        fs::create_dir(path.join("folder")).unwrap();
        fs::write(path.join("folder/file"), "content").unwrap();
        symlink("folder", path.join("inside")).unwrap();
        symlink(outside.path(), path.join("out")).unwrap();
        symlink(outside.path().join("file"), path.join("out-file")).unwrap();
        symlink("..", path.join("up")).unwrap();
        symlink("loop", path.join("loop")).unwrap();
        for root in roots(&path) {
            assert!(root.file("inside/file").unwrap().is_some());
            root.check_contains(&path.join("inside")).unwrap();
            for key in ["out/file", "out-file", "up", "loop"] {
                assert!(root.file(key).is_err(), "{key}");
                assert!(root.stat(key).is_err(), "{key}");
                assert!(root.folder(key).is_err(), "{key}");
                assert!(root.check_contains(&path.join(key)).is_err(), "{key}");
            }
        }
    }

    #[test]
    fn lookups_do_not_wait_for_fifos_and_sockets() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, path.join("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(path.join("socket")).unwrap();
        fs::create_dir(path.join("folder")).unwrap();
        for root in roots(&path) {
            for key in ["fifo", "socket", "folder"] {
                assert!(root.file(key).unwrap().is_none(), "{key}");
                root.stat(key).unwrap();
            }
        }
    }
}
