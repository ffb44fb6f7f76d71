//! Lists of the names in a folder.

use rustix::fs::{AtFlags, Dir, FileType, statat};

use super::root::RootFolder;
use super::{failed, lookup_result};
use crate::layout::Key;
use crate::storage::StorageError;

/// Returns all names, sorted by their bytes; `None` if the folder does not exist.
pub(super) fn names(root: &RootFolder, key: &Key) -> Result<Option<Vec<String>>, StorageError> {
    let path = root.path().join(key.as_str());
    let Some(folder) = lookup_result(root.folder(key.as_str()), "list", &path)? else { return Ok(None) };
    let unreadable = |error: rustix::io::Errno| failed("list", &path, error.into());
    let mut names = Vec::new();
    for entry in Dir::new(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        // Neither this program nor distribution writes names that are not UTF-8.
        let Ok(name) = entry.file_name().to_str() else { continue };
        if !matches!(name, "." | "..") {
            names.push(name.to_owned());
        }
    }
    names.sort_unstable();
    Ok(Some(names))
}

/// Returns the names that satisfy `wanted` and have a file at `beneath`. Each file is looked up from the
/// folder itself: resolving the whole path for each of a hundred thousand would take twice as long.
pub(super) fn names_with(
    root: &RootFolder,
    key: &Key,
    beneath: &str,
    wanted: fn(&str) -> bool,
) -> Result<Option<Vec<String>>, StorageError> {
    let Some(mut names) = names(root, key)? else { return Ok(None) };
    let path = root.path().join(key.as_str());
    let Some(folder) = lookup_result(root.folder(key.as_str()), "list", &path)? else { return Ok(None) };
    let path = &path;
    let mut relative = String::new();
    let mut unreadable = None;
    names.retain(|name| {
        // The process may lack the right to look at other programs' files.
        if !wanted(name) {
            return false;
        }
        relative.clear();
        relative.extend([name, "/", beneath]);
        let meta = statat(&folder, &relative, AtFlags::empty()).map_err(Into::into);
        match lookup_result(meta, "look at", path) {
            Ok(meta) => meta.is_some_and(|meta| FileType::from_raw_mode(meta.st_mode).is_file()),
            Err(error) => {
                unreadable = Some(error);
                false
            }
        }
    });
    unreadable.map_or(Ok(Some(names)), Err)
}
