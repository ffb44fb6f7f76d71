//! The names in a folder.

use std::fs::{self, File};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, statat};

use super::{failed, there};
use crate::store::storage::StorageError;

/// All names, sorted by their bytes; `None` if the folder is not there.
pub(super) fn names(path: &Path) -> Result<Option<Vec<String>>, StorageError> {
    let Some(entries) = there(fs::read_dir(path), "list", path)? else { return Ok(None) };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| failed("list", path, error))?;
        // What is no text is none of ours, nor of distribution's.
        names.extend(entry.file_name().into_string().ok());
    }
    names.sort_unstable();
    Ok(Some(names))
}

/// Those that are wanted, and under which there is a file at `beneath`. Each is looked for from the folder itself: to walk
/// the whole path for each of a hundred thousand would take twice as long.
pub(super) fn names_with(
    path: &Path,
    beneath: &str,
    wanted: fn(&str) -> bool,
) -> Result<Option<Vec<String>>, StorageError> {
    let Some(mut names) = names(path)? else { return Ok(None) };
    let Some(folder) = there(File::open(path), "list", path)? else { return Ok(None) };
    let mut relative = String::new();
    let mut unreadable = None;
    names.retain(|name| {
        // What is none of ours need not be ours to look at.
        if !wanted(name) {
            return false;
        }
        relative.clear();
        relative.extend([name, "/", beneath]);
        let meta = statat(&folder, &relative, AtFlags::empty()).map_err(Into::into);
        match there(meta, "look at", path) {
            Ok(meta) => meta.is_some_and(|meta| FileType::from_raw_mode(meta.st_mode).is_file()),
            Err(error) => {
                unreadable = Some(error);
                false
            }
        }
    });
    unreadable.map_or(Ok(Some(names)), Err)
}
