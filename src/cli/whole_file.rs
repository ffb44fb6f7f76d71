//! Files that are written as a whole: no reader sees a part of one, and a crash leaves either the former file or the
//! new one.

use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// File whose content is on the disk, under a temporary name beside its path.
pub(super) struct StagedFile<'a> {
    temporary: NamedTempFile,
    path: &'a Path,
}

/// Writes the content of a file, which [`place`](StagedFile::place) then puts at its path. The permissions do not
/// depend on the umask. Several files are staged before the first one is placed, so that a full disk changes none.
pub(super) fn stage<'a>(path: &'a Path, content: &[u8], mode: u32) -> io::Result<StagedFile<'a>> {
    let mut temporary = NamedTempFile::new_in(folder_of(path))?;
    temporary.write_all(content)?;
    temporary.as_file().set_permissions(Permissions::from_mode(mode))?;
    temporary.as_file().sync_all()?;
    Ok(StagedFile { temporary, path })
}

/// Makes a folder and those above it that are missing, durably: a crash removes none that a file was placed in.
pub(super) fn make_folder(folder: &Path) -> io::Result<()> {
    let missing: Vec<PathBuf> = folder
        .ancestors()
        .take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists())
        .map(Path::to_path_buf)
        .collect();
    fs::create_dir_all(folder)?;
    missing.iter().rev().try_for_each(|made| sync(folder_of(made)))
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

// === impl StagedFile ===

impl<'a> StagedFile<'a> {
    /// Returns the path that the file will have.
    pub(super) fn path(&self) -> &'a Path {
        self.path
    }

    /// Puts the file at its path, in place of a former one, and waits until a crash cannot undo that.
    pub(super) fn place(self) -> io::Result<()> {
        self.temporary.persist(self.path)?;
        sync(folder_of(self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_appears_whole_with_its_mode_and_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for (content, mode) in [("old", 0o644), ("new", 0o600)] {
            let former = fs::read(&path).ok();
            let staged = stage(&path, content.as_bytes(), mode).unwrap();
            assert_eq!((staged.path(), fs::read(&path).ok()), (path.as_path(), former));
            staged.place().unwrap();
            assert_eq!(fs::read(&path).unwrap(), content.as_bytes());
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, mode);
        }
        drop(stage(&path, b"other", 0o600).unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "a file that was not placed is gone");
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn missing_folders_are_made() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("a/b");
        make_folder(&inner).unwrap();
        make_folder(&inner).unwrap();
        assert!(inner.is_dir());
    }
}
