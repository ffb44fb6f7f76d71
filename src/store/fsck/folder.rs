//! Survey of a folder for entries that are not files: a storage sees none of them.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, accessat};

use super::{Finding, FindingKind, Fsck};
use crate::layout::kinds::{KeyKind, OwnPart, RepositoryPart, kind};
use crate::{StorageError, StoreError, layout};

/// Rights by which some user may read a file.
const READABLE: u32 = 0o444;

/// Name of a folder that file systems make at their root.
const LOST_AND_FOUND: &str = "lost+found";

impl Fsck<'_> {
    /// Visits all entries of a folder. Symbolic links are not followed.
    pub(super) fn survey(&mut self, root: &Path) -> Result<(), StoreError> {
        let failed =
            |path: &Path, source| StorageError::Io { what: "list", key: path.display().to_string(), source };
        let mut folders: Vec<PathBuf> = vec![PathBuf::new()];
        while let Some(folder) = folders.pop() {
            let path = root.join(&folder);
            let listed = match fs::read_dir(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                    self.report_unreadable(&folder.to_string_lossy(), &error.to_string());
                    continue;
                }
                // A registry may remove folders of sessions at any time.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound && folder != Path::new("") => {
                    continue;
                }
                listed => listed.map_err(|error| failed(&path, error))?,
            };
            let mut entries = Vec::new();
            for entry in listed {
                entries.push(entry.map_err(|error| failed(&path, error))?.file_name());
            }
            entries.sort_unstable();
            let mut beneath = Vec::new();
            for name in entries {
                let relative = folder.join(&name);
                if folder == Path::new("") && name == LOST_AND_FOUND {
                    continue;
                }
                if self.survey_entry(root, &relative)? {
                    beneath.push(relative);
                }
            }
            folders.extend(beneath.into_iter().rev());
        }
        Ok(())
    }

    /// Looks at an entry. Returns true if it is a folder to visit.
    fn survey_entry(&mut self, root: &Path, relative: &Path) -> Result<bool, StoreError> {
        let path = root.join(relative);
        let shown = relative.to_string_lossy();
        let found = match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                self.report_unreadable(&shown, &error.to_string());
                return Ok(false);
            }
            found => found.map_err(|source| {
                let key = path.display().to_string();
                StorageError::Io { what: "look at", key, source }
            })?,
        };
        let Some(text) = relative.to_str() else {
            self.report(&Finding::at(FindingKind::ForeignKey, &shown).detail("has a name that is not UTF-8"));
            return Ok(false);
        };
        let of_type = found.file_type();
        if of_type.is_symlink() {
            let target = fs::read_link(&path).unwrap_or_default();
            let detail = format!("leads to {}", target.to_string_lossy());
            self.report(&Finding::at(FindingKind::SymbolicLink, text).detail(detail));
            return Ok(false);
        }
        if !of_type.is_dir() && !of_type.is_file() {
            let detail = match () {
                () if of_type.is_fifo() => "is a FIFO",
                () if of_type.is_socket() => "is a socket",
                () => "is a device",
            };
            self.report(&Finding::at(FindingKind::SpecialFile, text).detail(detail));
            return Ok(false);
        }
        let may_read = accessat(rustix::fs::CWD, &path, Access::READ_OK, AtFlags::EACCESS).is_ok();
        if !may_read || found.permissions().mode() & READABLE == 0 {
            let detail = format!("has mode {:o}", found.permissions().mode() & 0o7777);
            self.report_unreadable(text, &detail);
            return Ok(false);
        }
        let top = layout::top();
        if of_type.is_file() {
            // The scan visits all that lies in the topmost folder.
            if !relative.starts_with(top.as_str()) {
                self.report(&Finding::at(FindingKind::ForeignKey, text));
            } else if text == top.as_str() {
                self.report(&Finding::at(FindingKind::FileForFolder, text));
            }
            return Ok(false);
        }
        if is_file(&kind(text)) {
            self.report(&Finding::at(FindingKind::FolderForFile, text));
        }
        Ok(true)
    }
}

/// Returns true for kinds of keys at which the layout has a file.
fn is_file(kind: &KeyKind) -> bool {
    match kind {
        KeyKind::Content(_) => true,
        KeyKind::Repository(_, part) => match part {
            RepositoryPart::Folder | RepositoryPart::Foreign | RepositoryPart::InvalidTag(_) => false,
            RepositoryPart::Session(_, file) => *file == crate::layout::kinds::SessionFile::Started,
            _ => true,
        },
        KeyKind::Own(part) => matches!(
            part,
            OwnPart::Alias(_)
                | OwnPart::Register(_)
                | OwnPart::RegistersComplete
                | OwnPart::Format
                | OwnPart::Secret
                | OwnPart::Lock
        ),
        _ => false,
    }
}
